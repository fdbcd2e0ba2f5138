"""A connection that could not be made or that broke, as a `ModelError` that says what to do.

Decides: which fault it is, whether another attempt can help, and whether anything was sent.
What never reached the provider costs nothing. Invariant: every error of `aiohttp` and of the
operating system has a fault, and no message holds a proxy's address, which may hold a password.
"""

import errno
from dataclasses import dataclass
from typing import Any, Final

from abyme.errors import Fault, ModelError
from abyme.models import faults
from abyme.models.names import Endpoint
from abyme.models.sse import EventTooLong

CUT: Final = "the connection closed before the reply's end"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is said of one kind of error."""

    errors: Any
    fault: Fault
    message: str
    sent: bool = True
    lasts: bool = False
    """The next attempt would meet it again."""


def broken(
    endpoint: Endpoint, error: Exception, *, idle_timeout_s: float, begun: bool
) -> ModelError:
    """Name what happened to a request; `begun` if some of the reply had come."""
    import aiohttp  # noqa: PLC0415  60 ms that a run with another model need not pay

    if getattr(error, "errno", None) in {errno.EMFILE, errno.ENFILE}:
        message = "this process may open no more connections; raise `ulimit -n`"
        return _made(endpoint, _Kind(OSError, "unreachable", message, sent=False))
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _made(endpoint, _of_proxy(error.status))
    kinds = _kinds(aiohttp, endpoint.base_url, idle_timeout_s)
    kind = next((kind for kind in kinds if isinstance(error, kind.errors)), None)
    if kind is None and begun:
        kind = _Kind(Exception, "stream_cut", CUT)
    if kind is None:
        message = f"what came back is not proper HTTP ({type(error).__name__}); check the address"
        kind = _Kind(Exception, "bad_reply", message)
    return _made(endpoint, kind)


def _kinds(aiohttp: Any, where: str, idle_timeout_s: float) -> tuple[_Kind, ...]:
    """List the kinds of error; the first that fits is meant."""
    return (
        _Kind(EventTooLong, "bad_reply", "the reply is longer than any reply can be"),
        _Kind(
            aiohttp.ClientSSLError,
            "unreachable",
            f"TLS with {where} failed; check its certificate, and whether it speaks https",
            sent=False,
            lasts=True,
        ),
        _Kind(
            aiohttp.ConnectionTimeoutError,
            "unreachable",
            f"{where} does not answer; check the address",
            sent=False,
        ),
        _Kind(
            aiohttp.ClientConnectorDNSError,
            "unreachable",
            f"the host of {where} is not known; check the address and the network",
            sent=False,
        ),
        _Kind(
            aiohttp.ClientProxyConnectionError,
            "unreachable",
            "nobody answers at the proxy; check HTTPS_PROXY, or leave this host out by NO_PROXY",
            sent=False,
        ),
        _Kind(
            aiohttp.ClientConnectorError,
            "unreachable",
            f"nobody answers at {where}; is the server running, is the address right?",
            sent=False,
        ),
        _Kind(
            (aiohttp.InvalidURL, UnicodeError),
            "unreachable",
            f"{where} is no address that can be asked; check --base-url",
            sent=False,
            lasts=True,
        ),
        _Kind(
            TimeoutError,
            "timed_out",
            f"no byte for {idle_timeout_s:g} s; the attempt was given up",
        ),
        _Kind(aiohttp.ClientPayloadError, "stream_cut", CUT),
        _Kind((aiohttp.ServerDisconnectedError, OSError), "stream_cut", CUT),
    )


def _of_proxy(status: int) -> _Kind:
    """Say that a proxy would not let a request through: the provider never saw it."""
    if status == 407:
        return _Kind(Exception, "unreachable", faults.PROXY_AUTH, sent=False, lasts=True)
    message = f"the proxy does not let the request through (HTTP {status}); check HTTPS_PROXY"
    return _Kind(Exception, "unreachable", message, sent=False, lasts=status < 500)


def _made(endpoint: Endpoint, kind: _Kind) -> ModelError:
    made = faults.error(endpoint, kind.fault, kind.message)
    made.sent = kind.sent
    made.retryable = made.retryable and not kind.lasts
    return made
