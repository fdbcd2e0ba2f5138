"""``provider:model`` -> an `Endpoint`: which address, which key, at which price.

Decides: which key goes to which host. Invariant: a key that belongs to one
provider is never sent to the host of another. Reads no environment by itself
(`env` is passed in), opens no connection, and knows no prices (`prices`).
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from abyme.core.events import Price
from abyme.errors import ConfigError
from abyme.models.presets import CUSTOM, GENERAL_KEY, LOCAL, OPENAI_KEY, PRESETS, Preset
from abyme.models.prices import FREE, table_entry
from abyme.proxies import proxy_of

UNNAMED: Final = ""
"""Model of a custom endpoint that the user left to the endpoint; `run.build` asks it."""
DEFAULT_LOCAL: Final = "coder-1.5b"
LOCAL_WINDOW_TOKENS: Final = 8192
"""Of each call, whatever else the server is at work on."""
LOCAL_AT_ONCE: Final = 1
"""Sub-calls. Two at once take the same processor time as one after the other (1.5B, 8 prompts
of 90 tokens, replies of 4: 15 to 17 s against 16 to 18 s; of 40: 33 to 35 s against 30 to 33
s), and 230 MB more memory."""
LOOPBACK_ONLY: Final = "none"
"""Scheme of an address that came without one: good for this machine only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a model answers. Its key is in no repr."""

    name: str
    """``provider:model``."""
    base_url: str
    """Without a trailing slash and without ``/chat/completions``. Empty for a local model."""
    model: str
    preset: Preset = CUSTOM
    api_key: str | None = field(default=None, repr=False)
    price: Price | None = None
    """None: unknown."""
    price_source: str = "unknown"
    """``user``, ``loopback``, ``table of DATE`` or ``unknown``."""
    window_tokens: int | None = None
    at_once: int | None = None
    """Calls that it works on at the same time; None: not known."""
    loopback: bool = False
    local: bool = False
    """Served by this package: `abyme.models.local`."""
    proxy: str | None = field(default=None, repr=False)
    """An HTTP proxy, from ``HTTPS_PROXY`` and its kin."""

    @property
    def chat_url(self) -> str:
        """Address of chat completions."""
        return _join(self.base_url, "chat/completions")

    @property
    def models_url(self) -> str:
        """Address of the list of models."""
        return _join(self.base_url, "models")


def resolve(
    name: str | None,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    env: Mapping[str, str],
    price: Price | None = None,
) -> Endpoint:
    """Find the endpoint that a user means.

    With neither a name, nor an address, nor any key it is ``local:coder-1.5b``.

    Raises:
        ConfigError: unknown provider, missing key, no model named, or a bad address.
    """
    name = (name or "").strip() or None
    if name is None and base_url is None:
        name = _default(api_key, env)
    if base_url is not None and (name or "").startswith(f"{LOCAL.name}:"):
        raise ConfigError(f"{name} is served on this machine: leave --base-url out")
    if base_url is not None:
        return _custom(name, base_url, api_key=api_key, env=env, price=price)
    provider, colon, model = (name or "").partition(":")
    if provider == LOCAL.name and colon:
        return _local(model, price)
    preset = PRESETS.get(provider)
    if preset is None or not colon:
        raise ConfigError(_unknown(name or ""))
    if not model:
        raise ConfigError(f"name a model of {provider}, such as {provider}:{preset.example}")
    key = _key(api_key, (*preset.key_names, GENERAL_KEY) if preset.key_names else (), env)
    if key is None and preset.key_names:
        raise ConfigError(
            f"{provider} needs a key: set {preset.key_names[0]} (or {GENERAL_KEY}), "
            "or give --api-key"
        )
    return _endpoint(model, preset, preset.base_url, key=key, price=price, env=env)


def is_known_address(url: str) -> bool:
    """Tell whether an address is that of a listed provider, to the letter."""
    return url.rstrip("/") in {preset.base_url.rstrip("/") for preset in PRESETS.values()}


def origin(name: str | None, base_url: str | None) -> str | None:
    """Scheme, host and port that a name and an address stand for; None if there is no host.

    Raises:
        ConfigError: a bad address.
    """
    if base_url is None:
        preset = PRESETS.get((name or "").partition(":")[0])
        base_url = preset.base_url if preset else None
    if base_url is None:
        return None
    parts = split_url(base_url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def split_url(text: str) -> SplitResult:
    """Bring a base URL into the form that paths are appended to.

    Raises:
        ConfigError: if it is not an http(s) address, or holds credentials.
    """
    text = text.strip()
    if "://" not in text:
        text = f"{LOOPBACK_ONLY}://{text}"
    try:
        parts = urlsplit(text)
        host_name, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"--base-url is not an address: {error}") from None
    if parts.scheme == LOOPBACK_ONLY and _is_loopback(host_name):
        parts = parts._replace(scheme="http")
    if parts.scheme not in {"http", "https"} or not host_name:
        raise ConfigError(
            "--base-url must look like http://127.0.0.1:8000/v1 or https://host.example/v1"
        )
    if parts.username or parts.password:
        raise ConfigError(
            "--base-url holds a user name or password, which would end up in journals; "
            "give the key by --api-key or ABYME_API_KEY"
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/") or "/v1"
    return SplitResult(parts.scheme, parts.netloc, path, parts.query, "")


def _default(api_key: str | None, env: Mapping[str, str]) -> str:
    for preset in PRESETS.values():
        for variable in preset.key_names:
            if env.get(variable, "").strip():
                raise ConfigError(
                    f"{variable} is set, but no model is named: give one, such as "
                    f"--model {preset.name}:{preset.example}, or --model local:{DEFAULT_LOCAL}"
                )
    if api_key or env.get(GENERAL_KEY, "").strip():
        raise ConfigError(
            "there is a key, but no model is named: give --model PROVIDER:MODEL "
            f"({', '.join(PRESETS)}), or --base-url URL --model MODEL"
        )
    return f"{LOCAL.name}:{DEFAULT_LOCAL}"


def _local(model: str, price: Price | None) -> Endpoint:
    return Endpoint(
        name=f"{LOCAL.name}:{model}",
        base_url="",
        model=model,
        preset=LOCAL,
        price=price or FREE,
        price_source="user" if price else "loopback",
        window_tokens=LOCAL_WINDOW_TOKENS,
        at_once=LOCAL_AT_ONCE,
        loopback=True,
        local=True,
    )


def _custom(
    name: str | None,
    base_url: str,
    *,
    api_key: str | None,
    env: Mapping[str, str],
    price: Price | None,
) -> Endpoint:
    parts = split_url(base_url)
    provider, colon, rest = (name or "").partition(":")
    named = PRESETS.get(provider) if colon else None
    model = rest if named or (colon and provider == CUSTOM.name) else name
    model = model or UNNAMED
    owner = _owner(parts.hostname)
    if owner is not None:
        variables = (*owner.key_names, GENERAL_KEY)
    elif named is None or OPENAI_KEY in named.key_names:
        variables = (GENERAL_KEY, OPENAI_KEY)
    else:
        variables = (GENERAL_KEY,)
    key = _key(api_key, variables, env)
    if key is None and owner is not None:
        raise ConfigError(f"{owner.name} needs a key: set {variables[0]}, or give --api-key")
    url = urlunsplit(parts)
    return _endpoint(model, named or owner or CUSTOM, url, key=key, price=price, env=env)


def _endpoint(  # noqa: PLR0913  what an endpoint is made of
    model: str,
    preset: Preset,
    url: str,
    *,
    key: str | None,
    price: Price | None,
    env: Mapping[str, str],
) -> Endpoint:
    loopback = _is_loopback(urlsplit(url).hostname)
    listed, source, window = (FREE, "loopback", None) if loopback else table_entry(preset, model)
    return Endpoint(
        name=f"{preset.name}:{model}",
        base_url=url,
        model=model,
        preset=preset,
        api_key=key,
        price=price or listed,
        price_source="user" if price else source,
        window_tokens=window,
        loopback=loopback,
        proxy=None if loopback else proxy_of(url, env),
    )


def _owner(host: str | None) -> Preset | None:
    """Find the provider whose host this is. Loopback belongs to nobody."""
    if _is_loopback(host):
        return None
    for preset in PRESETS.values():
        if urlsplit(preset.base_url).hostname == host:
            return preset
    return None


def _key(given: str | None, variables: tuple[str, ...], env: Mapping[str, str]) -> str | None:
    for value in (given, *(env.get(variable) for variable in variables)):
        key = (value or "").strip()
        if key:
            if not key.isascii() or not key.isprintable():
                raise ConfigError("the API key has characters that no HTTP header can carry")
            return key
    return None


def _is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unknown(name: str) -> str:
    provider, colon, _ = name.partition(":")
    known = ", ".join((*PRESETS, LOCAL.name))
    if not colon:
        return (
            f"a model is named PROVIDER:MODEL, such as openai:{name}; providers: {known}. "
            "For any other endpoint give --base-url URL"
        )
    return f"unknown provider {provider!r}; known: {known}. For any other give --base-url URL"


def _join(base_url: str, path: str) -> str:
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}"))
