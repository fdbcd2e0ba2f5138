"""What the user set -> one frozen `Spec`, settled once, before anything is spent.

The only place that reads the environment. Decides: which endpoints, at which
price, which profile, which folders. Refuses up front what would fail later:
a missing key, an unknown price under a dollar ceiling, an empty question.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from abyme.core.events import ModelFacts, Price
from abyme.core.limits import Limits
from abyme.errors import ConfigError
from abyme.models.names import Endpoint, origin, resolve
from abyme.models.presets import PRESETS
from abyme.models.prices import FREE, parse_price
from abyme.run import profiles

HOME_VARIABLE = "ABYME_HOME"
"""A folder for runs and cache in place of the user's own."""

OUTPUT_TOKENS = 4096
LOCAL_OUTPUT_TOKENS = 1024
"""Cap on one reply. A small model that goes on longer repeats itself."""

GIVEN = "given"
"""Provider of a `Model` that the caller brought. It costs what `price` says, else nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a user may set. None: the default."""

    model: str | None = None
    sub_model: str | None = None
    base_url: str | None = None
    sub_base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    price: str | tuple[float, ...] | None = None
    """Dollars per million tokens, input, output and, if given, cached input; holds for root and
    sub-model."""
    limits: Limits = field(default_factory=Limits)
    runs_dir: Path | None = None
    sandbox: str = "jail"
    profile: str | None = None
    seed: int | None = None
    cache: bool = False
    """Keep replies on disk, and answer equal requests of any run from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A run's settings, settled."""

    root: Endpoint
    sub: Endpoint
    limits: Limits
    profile: str
    sub_profile: str
    """Of children whose turns the sub-model takes."""
    runs_dir: Path
    cache_dir: Path
    sandbox: str
    seed: int | None
    cache: bool

    def facts(self, endpoint: Endpoint) -> ModelFacts:
        """Tell what ledger and prompts must know of a model."""
        return ModelFacts(
            name=endpoint.name,
            price=endpoint.price,
            window_tokens=endpoint.window_tokens,
            max_output_tokens=LOCAL_OUTPUT_TOKENS if endpoint.local else OUTPUT_TOKENS,
        )


def settle(settings: Settings, env: Mapping[str, str] | None = None) -> Spec:
    """Settle the settings.

    Raises:
        ConfigError: naming what to change.
    """
    env = os.environ if env is None else env
    price = _price(settings.price)
    root = _endpoint(settings, settings.model, settings.base_url, env, price)
    sub = _sub_endpoint(settings, root, env, price)
    for endpoint in (root, sub):
        _price_is_known(endpoint, settings.limits)
    return Spec(
        root=root,
        sub=sub,
        limits=settings.limits,
        profile=profiles.known(settings.profile or profiles.choose(root.name)),
        sub_profile=profiles.known(settings.profile or profiles.choose(sub.name)),
        runs_dir=settings.runs_dir or data_dir(env) / "runs",
        cache_dir=cache_dir(env),
        sandbox=_sandbox(settings.sandbox),
        seed=settings.seed,
        cache=settings.cache,
    )


def data_dir(env: Mapping[str, str] | None = None) -> Path:
    """Folder of this user's runs."""
    env = os.environ if env is None else env
    if home := env.get(HOME_VARIABLE):
        return Path(home)
    import platformdirs  # noqa: PLC0415

    return Path(platformdirs.user_state_dir("abyme"))


def cache_dir(env: Mapping[str, str] | None = None) -> Path:
    """Folder of what can be fetched or made again."""
    env = os.environ if env is None else env
    if home := env.get(HOME_VARIABLE):
        return Path(home) / "cache"
    import platformdirs  # noqa: PLC0415

    return Path(platformdirs.user_cache_dir("abyme"))


def new_seed() -> int:
    """Draw a seed for a run that was given none."""
    return secrets.randbits(48)


def _sub_endpoint(
    settings: Settings, root: Endpoint, env: Mapping[str, str], price: Price | None
) -> Endpoint:
    name, url = settings.sub_model, settings.sub_base_url
    if name is None and url is None:
        return root
    if url is None and name is not None:
        provider, colon, _ = name.partition(":")
        if not (colon and (provider in PRESETS or provider == "local")):
            url = settings.base_url
    roots = origin(settings.model, settings.base_url)
    if settings.api_key is None or roots in {None, origin(name, url)}:
        return _endpoint(settings, name, url, env, price)
    try:
        return _endpoint(replace(settings, api_key=None), name, url, env, price)
    except ConfigError as error:
        raise ConfigError(
            f"the sub-model: {error} (the given key is the root model's, and goes to no other host)"
        ) from None


def _endpoint(
    settings: Settings,
    name: str | None,
    url: str | None,
    env: Mapping[str, str],
    price: Price | None,
) -> Endpoint:
    if name is not None and name.startswith(f"{GIVEN}:"):
        return Endpoint(name=name, base_url="", model=name, price=price or FREE, loopback=True)
    return resolve(name, base_url=url, api_key=settings.api_key, env=env, price=price)


def _price_is_known(endpoint: Endpoint, limits: Limits) -> None:
    if endpoint.price is None and limits.max_usd is not None:
        raise ConfigError(
            f"the price of {endpoint.name} is unknown, so a ceiling of ${limits.max_usd} cannot "
            "be kept: give --price IN,OUT (dollars per million tokens, RLM(price=...) in Python), "
            "install abyme[prices] for the bundled table, or lift the ceiling with --max-usd none"
        )


def _price(price: str | tuple[float, ...] | None) -> Price | None:
    if price is None:
        return None
    return parse_price(price if isinstance(price, str) else ",".join(map(str, price)))


def _sandbox(name: str) -> str:
    if name != "jail":
        raise ConfigError(f"no sandbox {name!r}; there is: jail")
    return name
