"""The real clock. Tests drive `abyme.testing.FakeClock` in its place."""

import time


class MonotonicClock:
    """Seconds that never go back. Implements `ports.Clock`."""

    def now_s(self) -> float:
        """Read the clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        import asyncio  # noqa: PLC0415  see `api`

        await asyncio.sleep(seconds)
