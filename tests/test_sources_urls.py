"""Contract: contexts/urls. What is fetched, under which name, and what no server can lead us to."""

import base64
import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from abyme.contexts import urls
from abyme.contexts.choice import Choice
from abyme.contexts.kept import must_be_kept
from abyme.contexts.load import load_paths
from abyme.contexts.urls import is_public
from abyme.contexts.walk import Walk
from abyme.errors import ContextError

Answer = tuple[int, dict[str, str], bytes]
HERE, OTHER = "127.0.0.1", "127.0.0.2"


class Site:
    """A server on two addresses of this machine; pages are set by tests."""

    def __init__(self) -> None:
        self.pages: dict[str, Answer | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host = self.headers["Host"].partition(":")[0]
                site.seen.append((host, self.path, {k.lower(): v for k, v in self.headers.items()}))
                page = site.pages.get(self.path, (404, {}, b""))
                if callable(page):
                    page(self)
                    return
                status, headers, body = page
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def page(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = (status, named, body)
        return self.url(path)

    def url(self, path: str, host: str = HERE, user: str = "") -> str:
        return f"http://{user}{host}:{self.port}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with closing(Site()) as started:
        yield started


def text(url: str, **more) -> str:
    loaded = load_paths([url], **more)
    with closing(loaded.context) as context:
        return context.text(0)


def name(url: str) -> str:
    with closing(Walk([url])) as walk:
        return walk.found[0].name


def test_a_url_alone_is_a_text_named_by_host_and_path(site) -> None:
    url = site.page("/docs/a%20b.txt?v=1", b"alpha", Content_Type="text/plain")
    loaded = load_paths([url])
    with closing(loaded.context) as context:
        assert (context.shape, context.text(0)) == ("text", "alpha")
        assert context.names == [f"{HERE}:{site.port}/docs/a b.txt"]
        assert context.sources == [url]
    assert must_be_kept([url])


def test_urls_beside_files_are_documents_in_the_order_they_were_named(site, tmp_path) -> None:
    (tmp_path / "a.txt").write_text("file")
    first = site.page("/x/one.txt", b"1")
    second = site.page("/x/two.txt", b"2")
    loaded = load_paths([second, tmp_path / "a.txt", first])
    with closing(loaded.context) as context:
        host = f"{HERE}:{site.port}"
        assert context.names == [f"{host}/x/two.txt", "a.txt", f"{host}/x/one.txt"]
        assert [context.text(n) for n in range(3)] == ["2", "file", "1"]


@pytest.mark.parametrize(
    ("path", "media", "ending"),
    [
        ("/", "text/html; charset=utf-8", "/index.html"),
        ("/page", "text/html", "/page.html"),
        ("/page.php", "text/html", "/page.php.html"),
        ("/page.htm", "text/html", "/page.htm"),
        ("/table", "text/csv", "/table.csv"),
        ("/notes.txt", "text/plain", "/notes.txt"),
        ("/binary", "application/octet-stream", "/binary"),
    ],
)
def test_a_name_gets_the_suffix_of_its_content_type(site, path, media, ending) -> None:
    assert name(site.page(path, b"x", Content_Type=media)).endswith(ending)


def test_what_has_come_is_told(site) -> None:
    told = []
    urls_ = [site.page(f"/{name}.txt", b"x" * 1000) for name in "ab"]
    load_paths(urls_, on_progress=told.append).context.close()
    assert (told[0].size_bytes, told[0].files_total) == (1000, 2)
    assert max(one.total_bytes for one in told) == 2000


def test_a_reply_that_is_packed_for_the_way_is_unpacked(site) -> None:
    url = site.page("/a.txt", gzip.compress(b"alpha"), Content_Encoding="gzip")
    assert text(url) == "alpha"


def test_every_url_that_fails_is_named_with_its_reason(site) -> None:
    gone = site.page("/gone", status=410)
    with pytest.raises(ContextError) as raised:
        load_paths([gone, site.url("/absent"), site.page("/there", b"x")])
    assert str(raised.value) == (
        f"cannot read {gone}: HTTP 410 Gone; {site.url('/absent')}: HTTP 404 Not Found"
    )


def test_a_host_that_cannot_be_reached_is_an_error_without_the_password() -> None:
    with pytest.raises(ContextError) as raised:
        load_paths(["http://me:secret@127.0.0.1:1/x"])
    assert str(raised.value).startswith("cannot read http://127.0.0.1:1/x: ")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://host:99999/"])
def test_what_is_no_url_is_an_error(url) -> None:
    with pytest.raises(ContextError, match="it is no URL"):
        load_paths([url])


def test_a_reply_that_is_cut_short_is_an_error(site) -> None:
    url = site.page("/cut", b"half", Content_Length="8", Connection="close")
    with pytest.raises(ContextError, match="the reply was cut short"):
        load_paths([url])


def test_a_server_that_says_nothing_is_given_up(site, monkeypatch) -> None:
    silent = threading.Event()
    site.pages["/silent"] = lambda _: silent.wait() and None
    monkeypatch.setattr(urls, "IDLE_S", 0.05)
    try:
        with pytest.raises(ContextError, match=r"no answer for 0\.05 s"):
            load_paths([site.url("/silent")])
    finally:
        silent.set()


@pytest.mark.parametrize("headers", [{}, {"Content_Encoding": "gzip"}])
def test_no_more_is_taken_than_the_largest_file_may_have(site, headers) -> None:
    """Neither of what a server announces, nor of what it packs a thousandfold."""
    body = b"x" * 1_000_000
    url = site.page("/large", gzip.compress(body) if headers else body, **headers)
    with pytest.raises(ContextError, match=r"over 10\.0 kB"):
        load_paths([url], choice=Choice(max_file_bytes=10_000))


def test_redirects_are_followed_and_the_name_stays_the_one_that_was_given(site) -> None:
    site.page("/new", b"moved", Content_Type="text/plain")
    url = site.page("/old", status=301, Location="/new")
    assert text(url) == "moved"
    assert name(url).endswith("/old")


def test_redirects_that_go_round_end(site) -> None:
    url = site.page("/round", status=302, Location="/round")
    with pytest.raises(ContextError, match="it redirects more than 10 times"):
        load_paths([url])
    assert len(site.seen) == 11


@pytest.mark.parametrize("there", ["file:///etc/passwd", "ftp://host/x", "data:,x", "gopher://x/"])
def test_a_redirect_to_another_scheme_is_not_followed(site, there) -> None:
    url = site.page("/away", status=302, Location=there)
    with pytest.raises(ContextError, match="which is not followed"):
        load_paths([url])


def test_user_and_password_go_to_their_own_host_alone(site) -> None:
    site.page("/second", b"x")
    site.page("/first", status=302, Location=site.url("/second", OTHER))
    site.page("/same", status=302, Location="/first")
    load_paths([site.url("/same", user="me:secret@")]).context.close()
    secret = "Basic " + base64.b64encode(b"me:secret").decode()
    assert [(host, path, headers.get("authorization")) for host, path, headers in site.seen] == [
        (HERE, "/same", secret),
        (HERE, "/first", secret),
        (OTHER, "/second", None),
    ]


def test_cookies_are_not_kept(site) -> None:
    site.page("/second", b"x")
    url = site.page("/first", status=302, Location="/second", Set_Cookie="a=b")
    load_paths([url]).context.close()
    assert "cookie" not in site.seen[1][2]


@pytest.mark.parametrize("host", [HERE, "localhost", "2130706433", "[::ffff:127.0.0.1]"])
def test_a_public_host_cannot_redirect_to_a_private_address(site, monkeypatch, host) -> None:
    """Server-side request forgery: names and other spellings of an address do not help it."""
    monkeypatch.setattr(urls, "is_public", lambda a: is_public(a) or a == OTHER)
    site.page("/in", b"metadata")
    site.page("/out", status=302, Location=site.url("/in", host))
    with pytest.raises(ContextError, match=r"not followed|it is no URL"):
        load_paths([site.url("/out", OTHER)])
    assert [path for _, path, _ in site.seen] == ["/out"]


@pytest.mark.parametrize(
    "host", ["2130706433", "127.1", "0177.0.0.1", "0x7f000001", "0x7f.1", "127.0.0.1.", "0x"]
)
def test_a_redirect_to_a_number_that_is_written_as_no_address_is_not_followed(site, host) -> None:
    url = site.page("/a", status=302, Location=f"http://{host}:{site.port}/secret")
    site.page("/secret", b"secret")

    with pytest.raises(ContextError, match=r"redirects to .* not followed"):
        text(url)

    assert [path for _, path, _ in site.seen] == ["/a"]


def test_a_private_host_that_was_named_may_redirect_to_another(site) -> None:
    site.page("/in", b"inside")
    assert text(site.page("/out", status=302, Location=site.url("/in", OTHER))) == "inside"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *(("8.8.8.8", True), ("2606:4700::1111", True)),
        *(("127.0.0.1", False), ("10.1.2.3", False), ("169.254.169.254", False)),
        *(("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False)),
        *(("::1", False), ("fe80::1%eth0", False), ("fd00::1", False)),
        *(("::ffff:10.0.0.1", False), ("::ffff:8.8.8.8", True)),
        *(("64:ff9b::a00:1", False), ("64:ff9b::808:808", True), ("2002:a00:1::", False)),
    ],
)
def test_addresses_of_the_internet_are_told_from_those_of_networks(address, public) -> None:
    assert is_public(address) is public


def test_a_proxy_is_asked_where_the_environment_names_one(site) -> None:
    site.page("http://unknown.example/x", b"by proxy")
    proxy = {"http_proxy": site.url("")}
    assert text("http://unknown.example/x", env=proxy) == "by proxy"


def test_the_environment_itself_is_not_read(site, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert text(site.page("/direct", b"direct")) == "direct"


async def fetched_inside_a_loop(url: str) -> str:
    return text(url)


def test_it_works_where_an_event_loop_is_running(site) -> None:
    import asyncio

    url = site.page("/x", b"inside")
    assert asyncio.run(fetched_inside_a_loop(url)) == "inside"
