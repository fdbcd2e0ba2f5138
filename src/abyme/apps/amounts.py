"""Write money, tokens, sizes and durations the way people read them."""

MICRO = 1_000_000


def usd(micro: int | None) -> str:
    """Micro-dollars: enough digits to see small calls, no more."""
    if micro is None:
        return "cost unknown"
    dollars = micro / MICRO
    return f"${dollars:,.2f}" if dollars >= 1 or micro == 0 else f"${dollars:.4f}"


def money(spent_micro: int | None, unknown_micro: int = 0, overrun_micro: int = 0) -> str:
    """Say what was spent, how much of it may not have been billed, and what nobody allowed."""
    words = usd(spent_micro)
    if unknown_micro:
        words += f", up to {usd(unknown_micro)} of it unknown"
    if overrun_micro:
        words += f", {usd(overrun_micro)} of it billed beyond what the declared price allows"
    return words


def tokens(prompt: int, completion: int, cached: int = 0, reasoning: int = 0) -> str:
    """Tokens in and out, and which of them were of a special kind."""
    kinds = [(cached, "cached"), (reasoning, "reasoning")]
    special = ", ".join(f"{number:,} {kind}" for number, kind in kinds if number)
    return f"{prompt:,} + {completion:,} tokens" + (f" ({special})" if special else "")


def count(number: int, one: str, many: str | None = None) -> str:
    """Say how many, with the noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Seconds, or minutes and hours when it takes long."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def size(size_bytes: int) -> str:
    """Bytes in decimal units, as disks and networks are sold."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
