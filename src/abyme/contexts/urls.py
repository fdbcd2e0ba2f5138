"""http(s) URLs that a user named -> their bytes in memory, under a name of host and path.

Decides what is followed and how much is taken. Invariant: nothing but http and https is
spoken; a redirect never leads from a public host to a private address (the address that is
connected to is the one that was looked at), nor from https to http; user and password go to
the host that they were given for, cookies to none; no more than the limit is held.
Does not look into what came (`load`), and reads no environment. Behind a proxy it is the
proxy that finds hosts: there only addresses that are written out are looked at.
"""

import asyncio
import base64
import ipaddress
import os
import re
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from abyme.contexts.choice import Choice
from abyme.contexts.remote import Elsewhere, Report
from abyme.contexts.sizes import size_words
from abyme.contexts.walk import Found
from abyme.errors import ContextError
from abyme.proxies import proxy_of

if TYPE_CHECKING:
    import aiohttp
    import yarl

MOST_BYTES: Final = 10**9
"""Of one URL, where the user set no other limit."""
IDLE_S: Final = 30.0
REDIRECTS: Final = 10
AT_ONCE: Final = 8
_PIECE_BYTES: Final = 1 << 20
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "text/html": (".html", ".htm", ".xhtml"),
    "application/xhtml+xml": (".html", ".htm", ".xhtml"),
    "text/csv": (".csv",),
    "text/tab-separated-values": (".tsv",),
    "text/markdown": (".md", ".markdown"),
    "message/rfc822": (".eml",),
    "application/x-ipynb+json": (".ipynb",),
    "application/mbox": (".mbox",),
}
"""Formats that are known by their name alone: a name gets the suffix, as of ``wget -E``."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one URL gave."""

    name: str = ""
    spool: int = -1
    size_bytes: int = 0
    failed: str | None = None

    def have(self) -> Elsewhere:
        """Give it as a source.

        Raises:
            ContextError: it could not be fetched.
        """
        if self.failed is not None:
            raise ContextError(self.failed)
        found = Found(self.name, self.name, self.size_bytes, self._open)
        return Elsewhere(name=self.name, found=[found], single=True)

    def _open(self) -> BinaryIO:
        return Path(f"/proc/self/fd/{self.spool}").open("rb", buffering=0)  # its own position


class _Refused(Exception):
    """The words say why."""


def fetch_all(
    urls: Sequence[str],
    *,
    choice: Choice,
    env: Mapping[str, str],
    closing: ExitStack,
    report: Report,
) -> dict[str, Fetched]:
    """Fetch URLs, several at once. Waits; may be called with an event loop in this thread."""
    limit = MOST_BYTES if choice.max_file_bytes is None else choice.max_file_bytes
    loop = asyncio.new_event_loop()
    task = loop.create_task(_all(urls, _Terms(limit, env, closing, report)))
    with ThreadPoolExecutor(1, "abyme-fetch") as pool:
        done = pool.submit(_drive, loop, task)
        try:
            fetched: dict[str, Fetched] = done.result()
        except BaseException:  # Ctrl-C
            if not done.done():
                loop.call_soon_threadsafe(task.cancel)
            raise
    return fetched


def is_public(address: str) -> bool:
    """Tell an address of the internet from one of this machine or its networks."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


def _is_odd_number(host: str) -> bool:
    """Tell an address in what the system reads as one and others do not: 127.1, 0x7f000001."""
    last = host.rstrip(".").rpartition(".")[2].lower()
    if not last.isdigit() and not re.fullmatch("0x[0-9a-f]*", last):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def _drive(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any]") -> Any:
    try:
        return loop.run_until_complete(task)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class _Terms:
    """What holds for all URLs of a load."""

    def __init__(
        self, limit: int, env: Mapping[str, str], closing: ExitStack, report: Report
    ) -> None:
        self.limit = limit
        self.env = env
        self.closing = closing
        self._report = report
        self._done_bytes = self._total_bytes = 0

    def expect(self, size_bytes: int) -> None:
        """Take in what a server announces."""
        self._total_bytes += size_bytes

    def take(self, size_bytes: int) -> None:
        """Tell how much has come, of how much at least."""
        self._done_bytes += size_bytes
        self._report(self._done_bytes, max(self._done_bytes, self._total_bytes))


async def _all(urls: Sequence[str], terms: _Terms) -> dict[str, Fetched]:
    free = asyncio.Semaphore(AT_ONCE)

    async def one(url: str) -> Fetched:
        async with free:
            try:
                return await _Fetch(terms).run(url)
            except _Refused as error:
                return Fetched(failed=str(error))

    return dict(zip(urls, await asyncio.gather(*map(one, urls)), strict=True))


class _Fetch:
    """One URL and what it redirects to."""

    def __init__(self, terms: _Terms) -> None:
        self._terms = terms
        self._env = terms.env
        self._left_public = False
        """A public host has answered: from here on addresses must be public."""
        self._met: list[str] = []
        """Addresses of the hop."""

    async def run(self, url: str) -> Fetched:
        import aiohttp  # noqa: PLC0415  (60 ms that only URLs pay)

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=IDLE_S, sock_read=IDLE_S)
        headers = {"User-Agent": "abyme", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=self._resolver(), use_dns_cache=False),
            timeout=timeout,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            try:
                return await self._follow(session, url)
            except TimeoutError:
                raise _Refused(f"no answer for {IDLE_S:g} s") from None
            except aiohttp.ClientConnectorDNSError:
                raise _Refused("its host is not known") from None
            except aiohttp.ClientConnectorError as error:
                raise _Refused(error.strerror or "its host cannot be reached") from None
            except aiohttp.ClientPayloadError:
                raise _Refused("the reply was cut short") from None
            except ValueError:  # aiohttp.InvalidURL is one
                raise _Refused("it is no URL") from None
            except (aiohttp.ClientError, OSError) as error:
                raise _Refused(f"it cannot be fetched ({type(error).__name__})") from None

    async def _follow(self, session: "aiohttp.ClientSession", given: str) -> Fetched:
        from yarl import URL  # noqa: PLC0415

        first = url = URL(given)
        for _ in range(REDIRECTS + 1):
            self._check(url)
            async with session.get(
                url.with_user(None),
                headers=_auth(first) if url.origin() == first.origin() else {},
                allow_redirects=False,
                proxy=proxy_of(str(url), self._env),
            ) as reply:
                if reply.status not in _MOVED or "Location" not in reply.headers:
                    return await self._taken(reply, first)
                there = url.join(URL(reply.headers["Location"]))
            if there.scheme not in {"http", "https"} or not there.host:
                raise _Refused(f"it redirects to {there.scheme or 'no'} URL, which is not followed")
            if _is_odd_number(there.host):
                raise _Refused(f"it redirects to {there.host}, which is not followed")
            if (url.scheme, there.scheme) == ("https", "http"):
                raise _Refused("it redirects from https to http, which is not followed")
            self._left_public = self._left_public or any(map(is_public, self._met))
            url = there
        raise _Refused(f"it redirects more than {REDIRECTS} times")

    def _check(self, url: "yarl.URL") -> None:
        """Look at an address that is written out; others are looked at when they are found."""
        self._met = []
        host = url.host or ""
        try:
            self._admit([host], host)
        except ValueError:
            if self._left_public and (host == "localhost" or host.endswith(".localhost")):
                raise _private(host) from None

    def _admit(self, addresses: Sequence[str], host: str) -> None:
        public = [is_public(address) for address in addresses]
        if self._left_public and not all(public):
            raise _private(host)
        self._met += addresses

    def _resolver(self) -> "aiohttp.abc.AbstractResolver":
        from aiohttp.abc import AbstractResolver, ResolveResult  # noqa: PLC0415
        from aiohttp.resolver import ThreadedResolver  # noqa: PLC0415

        system, admit = ThreadedResolver(), self._admit
        proxied = bool(proxy_of("http://host", self._env) or proxy_of("https://host", self._env))

        class Admitting(AbstractResolver):
            async def resolve(
                self,
                host: str,
                port: int = 0,
                family: socket.AddressFamily = socket.AF_INET,
            ) -> list[ResolveResult]:
                found = await system.resolve(host, port, family)
                if not proxied:  # else it is the proxy's own address
                    admit([entry["host"] for entry in found], host)
                return found

            async def close(self) -> None:
                await system.close()

        return Admitting()

    async def _taken(self, reply: "aiohttp.ClientResponse", first: "yarl.URL") -> Fetched:
        if reply.status != 200:
            raise _Refused(f"HTTP {reply.status} {reply.reason or ''}".strip())
        limit = self._terms.limit
        too_large = f"over {size_words(limit)}"
        encoded = "Content-Encoding" in reply.headers
        announced = 0 if encoded else reply.content_length or 0
        if announced > limit:
            raise _Refused(too_large)
        self._terms.expect(announced)
        spool = os.memfd_create("abyme-fetched", os.MFD_CLOEXEC)
        self._terms.closing.callback(os.close, spool)
        size = 0
        async for piece in reply.content.iter_chunked(_PIECE_BYTES):
            size += len(piece)
            if size > limit:
                raise _Refused(too_large)
            self._terms.take(len(piece))
            view = memoryview(piece)
            while view:
                view = view[os.write(spool, view) :]
        return Fetched(_name(first, reply.content_type), spool, size)


def _name(url: "yarl.URL", media: str) -> str:
    """Name what came by host and path, with a suffix that fits its content type."""
    path = url.path.strip("/")
    port = "" if url.is_default_port() else f":{url.port}"
    name = f"{url.host}{port}/{path or 'index'}"
    suffixes = _SUFFIXES.get(media, ())
    return name if not suffixes or name.lower().endswith(suffixes) else name + suffixes[0]


def _auth(url: "yarl.URL") -> dict[str, str]:
    """Make the header for the user and password in a URL."""
    if url.user is None:
        return {}
    pair = f"{url.user}:{url.password or ''}".encode()
    return {"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}


def _private(host: str) -> _Refused:
    return _Refused(f"a public host redirects to {host}, a private address: not followed")
