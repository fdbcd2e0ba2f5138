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
from abyme.core.isolation import DEFAULT, Isolation
from abyme.core.limits import Limits
from abyme.core.profile import Profile
from abyme.errors import ConfigError
from abyme.models.names import Endpoint, origin, resolve
from abyme.models.presets import CUSTOM, PRESETS
from abyme.models.prices import FREE, parse_price, table_is_here
from abyme.run import profiles

HOME_VARIABLE = "ABYME_HOME"
"""A folder for runs and cache in place of the user's own."""

LOCAL_OUTPUT_TOKENS = 1024
"""Of one reply, whatever the profile says. A small model that goes on longer repeats itself."""

MOST_TOKENS = 1_000_000_000
"""Of a setting. What is more is a slip of the pen."""

LEAST_WINDOW_TOKENS = 1024
"""Below it there is no room for the shortest prompt and a reply."""

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
    """Dollars per million tokens of the root model: input, output, cached input."""
    sub_price: str | tuple[float, ...] | None = None
    """The same of the sub-model, where it is another model."""
    max_output_tokens: int | None = None
    """Of one reply, reasoning included. None: what the profile says."""
    window_tokens: int | None = None
    """Of the root model: prompt and reply together. None: what is known of it."""
    sub_window_tokens: int | None = None
    """The same of the sub-model, where it is another model."""
    limits: Limits = field(default_factory=Limits)
    runs_dir: Path | None = None
    isolation: Isolation = DEFAULT
    profile: str | Path | None = None
    """Name of a profile, or path of a ``.toml`` file; None: by the model's name."""
    seed: int | None = None
    cache: bool = False
    """Keep replies on disk, and answer equal requests of any run from there."""
    ingest_cache: bool = True
    """Keep what was read on disk, and map it instead of reading the same files again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A run's settings, settled."""

    root: Endpoint
    sub: Endpoint
    limits: Limits
    profile: str
    sub_profile: str
    """Of sub-calls, and of children whose turns the sub-model takes."""
    runs_dir: Path
    cache_dir: Path
    isolation: Isolation
    seed: int | None
    cache: bool
    ingest_cache: bool
    max_output_tokens: int | None

    def facts(self, endpoint: Endpoint, profile: Profile) -> ModelFacts:
        """Tell what ledger and prompts must know of a model that is spoken to by a profile."""
        cap = self.max_output_tokens or profile.max_output_tokens
        if endpoint.local and self.max_output_tokens is None:
            cap = min(cap, LOCAL_OUTPUT_TOKENS)
        return ModelFacts(
            name=endpoint.name,
            price=endpoint.price,
            window_tokens=endpoint.window_tokens,
            max_output_tokens=cap,
            at_once=endpoint.at_once,
        )


def settle(settings: Settings, env: Mapping[str, str] | None = None) -> Spec:
    """Settle the settings.

    Raises:
        ConfigError: naming what to change.
    """
    env = os.environ if env is None else env
    root = _endpoint(settings, settings.model, settings.base_url, env, _price(settings.price))
    root = _with_window(root, settings.window_tokens, "window_tokens")
    sub = _sub_endpoint(settings, root, env)
    _price_is_known(root, settings.limits, "price")
    _price_is_known(sub, settings.limits, "price" if sub.name == root.name else "sub_price")
    return Spec(
        root=root,
        sub=sub,
        limits=settings.limits,
        profile=_profile(settings, root),
        sub_profile=_sub_profile(settings, root, sub),
        runs_dir=settings.runs_dir or data_dir(env) / "runs",
        cache_dir=cache_dir(env),
        isolation=settings.isolation,
        seed=settings.seed,
        cache=settings.cache,
        ingest_cache=settings.ingest_cache,
        max_output_tokens=_at_least(1, settings.max_output_tokens, "max_output_tokens"),
    )


def _profile(settings: Settings, root: Endpoint) -> str:
    if settings.profile is None:
        return profiles.choose(root.name)
    profiles.load(settings.profile)  # what is wrong with it is said now
    return str(settings.profile)


def _sub_profile(settings: Settings, root: Endpoint, sub: Endpoint) -> str:
    """Choose how the sub-model is spoken to: a profile that the user names is the root's."""
    if settings.profile is not None and sub.name == root.name:
        return str(settings.profile)
    return profiles.choose(sub.name)


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


def surroundings(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Pick what sources need of the environment: where git and its keys are, and ``~``.

    No proxies: a program that wants its URLs fetched through one says so to its command line.
    """
    env = os.environ if env is None else env
    return {name: env[name] for name in ("HOME", "PATH", "SSH_AUTH_SOCK") if name in env}


def new_seed() -> int:
    """Draw a seed for a run that was given none."""
    return secrets.randbits(48)


def _sub_endpoint(settings: Settings, root: Endpoint, env: Mapping[str, str]) -> Endpoint:
    name, url = settings.sub_model, settings.sub_base_url
    if name is None and url is None:
        if settings.sub_price is not None:
            raise ConfigError(
                "there is a price for the sub-model, but it is the root model: "
                "name one by --sub-model, or leave the price out"
            )
        if settings.sub_window_tokens is not None:
            raise ConfigError(
                "there is a window for the sub-model, but it is the root model: "
                "name one by --sub-model, or give --window"
            )
        return root
    if url is None and name is not None:
        provider, colon, _ = name.partition(":")
        if not (colon and (provider in PRESETS or provider == "local")):
            url = settings.base_url
    price = _price(settings.sub_price)
    roots = origin(settings.model, settings.base_url)
    its_key = settings.api_key is None or roots in {None, origin(name, url)}
    keyed = settings if its_key else replace(settings, api_key=None)
    try:
        sub = _endpoint(keyed, name, url, env, price)
    except ConfigError as error:
        if its_key:
            raise
        raise ConfigError(
            f"the sub-model: {error} (the given key is the root model's, and goes to no other host)"
        ) from None
    sub = _with_window(sub, settings.sub_window_tokens, "sub_window_tokens")
    if (sub.name, sub.base_url) != (root.name, root.base_url):
        return sub
    if settings.sub_window_tokens is None:
        sub = replace(sub, window_tokens=root.window_tokens)
    return sub if price else replace(sub, price=root.price, price_source=root.price_source)


def _at_least(least: int, tokens: int | None, setting: str) -> int | None:
    if tokens is None:
        return None
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < least:
        raise ConfigError(f"{setting} must be a whole number >= {least}, got {tokens!r}")
    if tokens > MOST_TOKENS:
        raise ConfigError(f"{setting} must be at most {MOST_TOKENS:,}, got {tokens:,}")
    return tokens


def _with_window(endpoint: Endpoint, window: int | None, setting: str) -> Endpoint:
    window_tokens = _at_least(LEAST_WINDOW_TOKENS, window, setting)
    return endpoint if window_tokens is None else replace(endpoint, window_tokens=window_tokens)


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


def _price_is_known(endpoint: Endpoint, limits: Limits, setting: str) -> None:
    if endpoint.price is not None or limits.max_usd is None:
        return
    table = ""
    if endpoint.preset is not CUSTOM and not table_is_here():
        table = "install abyme[prices] for the bundled table, "
    option = setting.replace("_", "-")
    raise ConfigError(
        f"the price of {endpoint.name} is unknown, so a ceiling of ${limits.max_usd} cannot "
        f"be kept: give --{option} IN,OUT (dollars per million tokens, RLM({setting}=...) in "
        f"Python), {table}or lift the ceiling with --max-usd none"
    )


def _price(price: str | tuple[float, ...] | None) -> Price | None:
    if price is None:
        return None
    return parse_price(price if isinstance(price, str) else ",".join(map(str, price)))
