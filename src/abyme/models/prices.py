"""What a model costs, when the user has not said so.

Order: the user's own price, free on loopback, the bundled table of `genai-prices`
(the extra `prices`) where it is installed, else unknown. The table is read offline
and never updated from here; nothing is guessed.
"""

from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from abyme.core.events import Price
from abyme.errors import ConfigError
from abyme.models.presets import Preset

FREE: Final = Price(input_usd_micro=0, output_usd_micro=0)
MILLION: Final = 1_000_000


def parse_price(text: str) -> Price:
    """``IN,OUT`` in dollars for a million tokens -> `Price`.

    Raises:
        ConfigError: if it is not two numbers >= 0.
    """
    parts = [part.strip().removeprefix("$") for part in text.split(",")]
    try:
        dollars = [Decimal(part) for part in parts]
    except ArithmeticError:
        dollars = []
    if len(dollars) != 2 or not all(d.is_finite() and d >= 0 for d in dollars):
        raise ConfigError(
            f"a price is IN,OUT in dollars for a million tokens, such as 0.25,2 (got {text!r})"
        )
    return Price(input_usd_micro=micro(dollars[0]), output_usd_micro=micro(dollars[1]))


def micro(dollars: Decimal) -> int:
    """Dollars -> micro-dollars, rounded up."""
    return int((dollars * MILLION).to_integral_value(ROUND_CEILING))


def table_entry(preset: Preset, model: str) -> tuple[Price | None, str, int | None]:
    """Return price, where it is from and the window, as the bundled table has them."""
    if preset.prices is None:
        return None, "unknown", None
    try:
        import genai_prices  # noqa: PLC0415  an extra, and 25 ms to import
    except ImportError:
        return None, "unknown", None
    source = f"table of genai-prices {_version()}"
    try:
        usage = genai_prices.Usage(input_tokens=MILLION, output_tokens=MILLION)
        found: Any = genai_prices.calc_price(usage, model_ref=model, provider_id=preset.prices)
        price = Price(
            input_usd_micro=micro(Decimal(found.input_price)),
            output_usd_micro=micro(Decimal(found.output_price)),
        )
        window = getattr(found.model, "context_window", None)
    except Exception:  # noqa: BLE001  a table that cannot answer is a price we do not know
        return None, "unknown", None
    return price, source, window if isinstance(window, int) and window > 0 else None


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415

    return version("genai-prices")
