"""What a model costs, when the user has not said so.

Order: the user's own price, free on loopback, the bundled table of `genai-prices`
(the extra `prices`) where it is installed, else unknown. The table is read offline
and never updated from here; nothing is guessed.
"""

import datetime as dt
from decimal import ROUND_CEILING, Decimal
from importlib.util import find_spec
from typing import Any, Final

from msgspec import structs

from abyme.core.events import Price
from abyme.errors import ConfigError
from abyme.models.presets import Preset

FREE: Final = Price(input_usd_micro=0, output_usd_micro=0)
MILLION: Final = 1_000_000
AHEAD_H: Final = 24
"""Hours from now whose prices are looked at."""


def parse_price(text: str) -> Price:
    """``IN,OUT[,CACHED]`` in dollars for a million tokens -> `Price`.

    CACHED is for input that the provider had in its cache; without it, that costs as other input.

    Raises:
        ConfigError: if it is not two or three numbers >= 0.
    """
    parts = [part.strip().removeprefix("$") for part in text.split(",")]
    try:
        dollars = [Decimal(part) for part in parts]
    except ArithmeticError:
        dollars = []
    if len(dollars) not in {2, 3} or not all(d.is_finite() and d >= 0 for d in dollars):
        raise ConfigError(
            "a price is IN,OUT or IN,OUT,CACHED in dollars for a million tokens, such as 0.25,2 "
            f"or 0.25,2,0.025 (got {text!r})"
        )
    return Price(
        input_usd_micro=micro(dollars[0]),
        output_usd_micro=micro(dollars[1]),
        cached_usd_micro=micro(dollars[2]) if len(dollars) == 3 else None,
    )


def micro(dollars: Decimal) -> int:
    """Dollars -> micro-dollars, rounded up."""
    return int((dollars * MILLION).to_integral_value(ROUND_CEILING))


def table_is_here() -> bool:
    """Tell whether the bundled table is installed."""
    return find_spec("genai_prices") is not None


def table_entry(preset: Preset, model: str) -> tuple[Price | None, str, int | None]:
    """Return price, where it is from and the window, as the bundled table has them.

    A worst case must hold, so it is the dearest price of the next `AHEAD_H` hours (some
    providers are cheaper at night, some prices begin on a day) and of the longest prompts
    (some ask more beyond 200,000 tokens, for every token of such a call). Shorter prompts of
    such a model are counted at more than they cost, unless the provider gives its own figure.
    """
    if preset.prices is None:
        return None, "unknown", None
    try:
        import genai_prices  # noqa: PLC0415  an extra, and 25 ms to import
    except ImportError:
        return None, "unknown", None
    source = f"table of genai-prices {_version()}"
    usage = genai_prices.Usage(input_tokens=MILLION, output_tokens=MILLION)
    cached = genai_prices.Usage(input_tokens=MILLION, cache_read_tokens=MILLION)
    now = dt.datetime.now(dt.UTC)
    try:
        hours = [now + dt.timedelta(hours=hour) for hour in range(AHEAD_H + 1)]
        found = [_calculated(genai_prices, usage, preset, model, at) for at in hours]
        reads = [_calculated(genai_prices, cached, preset, model, at) for at in hours]
        price = Price(
            input_usd_micro=max(micro(Decimal(f.input_price)) for f in found),
            output_usd_micro=max(micro(Decimal(f.output_price)) for f in found),
            cached_usd_micro=max(micro(Decimal(r.input_price)) for r in reads),
        )
        window = getattr(found[0].model, "context_window", None)
    except Exception:  # noqa: BLE001  a table that cannot answer is a price we do not know
        return None, "unknown", None
    if price.cached_usd_micro == price.input_usd_micro:
        price = structs.replace(price, cached_usd_micro=None)
    return price, source, window if isinstance(window, int) and window > 0 else None


def _calculated(table: Any, usage: Any, preset: Preset, model: str, at: dt.datetime) -> Any:
    return table.calc_price(
        usage, model_ref=model, provider_id=preset.prices, genai_request_timestamp=at
    )


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415

    return version("genai-prices")
