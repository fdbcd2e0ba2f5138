"""Which HTTP proxy a URL is fetched through, by the variables that curl and others read.

Decides by the mapping that it is given; it reads no environment itself.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit


def proxy_of(url: str, env: Mapping[str, str]) -> str | None:
    """Choose by ``https_proxy``, ``http_proxy``, ``all_proxy`` and ``no_proxy``, either case."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    for entry in (env.get("no_proxy") or env.get("NO_PROXY") or "").split(","):
        suffix = entry.strip().lstrip(".")
        if suffix == "*" or (suffix and (host == suffix or host.endswith(f".{suffix}"))):
            return None
    for variable in (f"{parts.scheme}_proxy", "all_proxy"):
        value = env.get(variable) or env.get(variable.upper())
        if value and value.startswith(("http://", "https://")):
            return value
    return None
