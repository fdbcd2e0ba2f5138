"""Contract: models/broken and faults. What goes wrong on the way is typed, says what to do,
and tells whether the provider can have seen the request.
"""

import asyncio
import socket
import ssl
from dataclasses import replace

import aiohttp
import pytest

from abyme.core import pricing
from abyme.core.events import Failure, ModelFacts, Price, Usage
from abyme.core.ledger import Amount
from abyme.core.profile import Message
from abyme.errors import ModelError
from abyme.models.broken import broken
from abyme.models.names import resolve
from abyme.models.openai_compatible import OpenAICompatible
from abyme.ports import ModelRequest
from abyme.testing import Fault, Reply, ScriptedEndpoint

REQUEST = ModelRequest(messages=[Message("user", "hi")], max_output_tokens=10)
ENDPOINT = resolve("any", base_url="http://127.0.0.1:1/v1", env={})
PAGE = b"<!DOCTYPE html>\n<html><title>Please log in</title></html>"
MODEL = ModelFacts(name="m", price=Price(input_usd_micro=10**6, output_usd_micro=10**6))
WORST = Amount(1, 500, 500)


def http(body, status=b"200 OK", *headers):
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, b"", body])


async def asked(endpoint) -> ModelError:
    model = OpenAICompatible(endpoint, idle_timeout_s=5)
    try:
        with pytest.raises(ModelError) as caught:
            await model.complete(REQUEST)
    finally:
        await model.aclose()
    return caught.value


def served(answer, **changes) -> ModelError:
    """What comes of a server that answers whatever it is sent with these bytes."""

    async def serve(reader, writer):
        await reader.read(4)
        writer.write(answer)
        await writer.drain()
        await reader.read(64 << 10)
        writer.close()

    async def one():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            filled = {name: value.format(port=port) for name, value in changes.items()}
            given = {"base_url": f"http://127.0.0.1:{port}/v1"} | filled
            return await asked(replace(ENDPOINT, **given))

    return asyncio.run(one())


def test_a_page_of_a_proxy_with_status_200_is_no_reply():
    error = served(http(PAGE, b"200 OK", b"Content-Type: text/html"))

    assert (error.failure, error.retryable, error.sent) == ("bad_reply", True, True)
    assert "does a proxy or a login stand in between?" in str(error)


@pytest.mark.parametrize(
    ("status", "fault", "retryable"),
    [(b"403 Forbidden", "auth", False), (b"502 Bad Gateway", "server", True)],
)
def test_a_page_in_the_place_of_an_error_is_told_of(status, fault, retryable):
    error = served(http(PAGE, status))

    assert (error.failure, error.retryable, error.sent) == (fault, retryable, True)
    assert "a page of HTML came" in str(error)


def test_an_empty_body_is_no_reply():
    error = served(http(b""))

    assert (error.failure, error.retryable) == ("bad_reply", True)
    assert "no body" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        http(b"not brotli", b"200 OK", b"Content-Encoding: br"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_bad_reply(answer):
    error = served(answer)

    assert error.failure == "bad_reply"
    assert "check the address" in str(error)


def test_a_body_that_is_cut_is_a_cut_stream_whose_bill_nobody_knows():
    error = served(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{")
    unread = served(http(b"no gzip", b"200 OK", b"Content-Encoding: gzip"))

    for each in (error, unread):
        assert (each.failure, each.retryable, each.sent) == ("stream_cut", True, True)
        failure = Failure(fault=each.failure, message=str(each))
        assert pricing.billed(MODEL, failure, each.usage, WORST) == WORST


def test_a_server_without_tls_where_tls_is_asked_for_was_sent_nothing():
    error = served(b"HTTP/1.1 400 Bad Request\r\n\r\n", base_url="https://127.0.0.1:{port}/v1")

    assert (error.failure, error.retryable, error.sent) == ("unreachable", False, False)
    assert "TLS with https://127.0.0.1:" in str(error)


def test_a_certificate_that_does_not_hold_is_not_tried_again():
    key = aiohttp.client_reqrep.ConnectionKey("h", 443, True, True, None, None, None)
    cause = aiohttp.ClientConnectorCertificateError(key, ssl.SSLCertVerificationError("expired"))
    error = broken(ENDPOINT, cause, idle_timeout_s=1, begun=False)

    assert (error.failure, error.retryable, error.sent) == ("unreachable", False, False)
    assert "check its certificate" in str(error)


def test_a_host_that_no_name_server_knows_was_sent_nothing():
    key = aiohttp.client_reqrep.ConnectionKey("h", 443, True, True, None, None, None)
    error = broken(
        ENDPOINT, aiohttp.ClientConnectorDNSError(key, OSError()), idle_timeout_s=1, begun=False
    )

    assert (error.failure, error.retryable, error.sent) == ("unreachable", True, False)
    assert "is not known; check the address and the network" in str(error)


@pytest.fixture
def closed_port():
    with socket.socket() as held:  # bound and not listening: nobody else can take it
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_a_closed_port_was_sent_nothing(closed_port):
    with_nobody = replace(ENDPOINT, base_url=f"http://127.0.0.1:{closed_port}/v1")
    error = asyncio.run(asked(with_nobody))

    assert (error.failure, error.retryable, error.sent) == ("unreachable", True, False)


@pytest.mark.parametrize("host", ["127.0.0.1:99999", "a" * 70 + ".example"])
def test_an_address_that_cannot_be_asked_is_said_to_be_none(host):
    error = asyncio.run(asked(replace(ENDPOINT, base_url=f"http://{host}/v1")))

    assert (error.failure, error.retryable, error.sent) == ("unreachable", False, False)
    assert "check --base-url" in str(error)


PROXY = {"base_url": "https://far.example/v1", "proxy": "http://me:secret@127.0.0.1:{port}"}


@pytest.mark.parametrize(
    ("status", "words", "retryable"),
    [
        (b"407 Proxy Authentication Required", "HTTPS_PROXY=http://NAME:PASSWORD@HOST", False),
        (b"403 Forbidden", "does not let the request through (HTTP 403)", False),
        (b"503 Busy", "does not let the request through (HTTP 503)", True),
    ],
)
def test_a_proxy_that_refuses_is_named_without_its_password(status, words, retryable):
    error = served(http(PAGE, status), **PROXY)

    assert (error.failure, error.retryable, error.sent) == ("unreachable", retryable, False)
    assert words in str(error)
    assert "secret" not in str(error)


def test_a_proxy_that_refuses_plain_http_was_sent_nothing_that_was_passed_on():
    error = served(http(b"", b"407 Proxy Authentication Required"))

    assert (error.failure, error.retryable, error.sent) == ("unreachable", False, False)


def test_a_proxy_that_is_not_there_is_what_is_named(closed_port):
    proxy = f"http://me:secret@127.0.0.1:{closed_port}"
    gone = replace(ENDPOINT, base_url="http://far.example/v1", proxy=proxy)
    error = asyncio.run(asked(gone))

    assert (error.failure, error.sent) == ("unreachable", False)
    assert "nobody answers at the proxy" in str(error)
    assert "secret" not in str(error)


def test_too_few_descriptors_are_no_fault_of_the_provider():
    error = broken(ENDPOINT, OSError(24, "Too many open files"), idle_timeout_s=1, begun=False)

    assert (error.failure, error.sent) == ("unreachable", False)
    assert "ulimit -n" in str(error)


@pytest.mark.parametrize(
    ("answer", "paid"),
    [
        (Fault.unauthorized(), 0),
        (Fault.http(404, "no such model"), 0),
        (Fault.context_length(), 0),
        (Fault.http(413, "too large"), 0),
        (Fault.rate_limited(), 0),
        (Fault.server(500), 0),
        (Fault.server(504), WORST.usd_micro),
        (Fault.http(408, "slow"), WORST.usd_micro),
        (Fault.garbage_json(), WORST.usd_micro),
        (Fault.drop(), WORST.usd_micro),
        (Fault.cut_stream(5), WORST.usd_micro),
        (Reply(text="", prompt_tokens=7, completion_tokens=2), 9),
        (Reply(reasoning="hm", reasoning_tokens=10, text="x", prompt_tokens=7), 17),
        (Reply(refusal="no", prompt_tokens=7, completion_tokens=3), 10),
        (Reply(text="bad", finish="content_filter", prompt_tokens=7, completion_tokens=3), 10),
    ],
)
def test_each_fault_is_paid_as_told_or_not_at_all_or_at_its_worst(answer, paid):
    async def one():
        async with ScriptedEndpoint([answer]) as endpoint:
            return await asked(replace(ENDPOINT, base_url=endpoint.url))

    error = asyncio.run(one())
    failure = Failure(fault=error.failure, message=str(error), status=error.status)

    assert error.sent
    assert pricing.billed(MODEL, failure, error.usage, WORST).usd_micro == paid


def test_figures_that_came_before_a_stream_broke_are_believed():
    event = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 900\r\n\r\n"
    error = served(head + event)

    assert (error.failure, error.usage) == (
        "stream_cut",
        Usage(prompt_tokens=7, completion_tokens=3),
    )
