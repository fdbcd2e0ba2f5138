"""What went wrong at an endpoint, as a `ModelError` that says what to do.

Decides: which `Fault` a status, a body or a broken connection is, whether another
attempt can help, and when. Pure. Invariant: the API key is in no message, nor is
anything that looks like one; a provider's own words are cut to `QUOTE_CHARS`.
"""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final

from abyme.core.events import Usage
from abyme.errors import Fault, ModelError
from abyme.models.names import Endpoint

QUOTE_CHARS: Final = 300

RETRYABLE: Final[frozenset[Fault]] = frozenset(
    {
        "rate_limited",
        "server",
        "unreachable",
        "timed_out",
        "stream_cut",
        "empty_reply",
        "bad_reply",
    }
)

PLAIN: Final[dict[int, Fault]] = {404: "model_not_found", 407: "unreachable", 408: "timed_out"}
"""Statuses that mean one thing, whatever is said."""
QUOTA: Final = re.compile(
    r"insufficient[_ ](?:quota|balance|credit|funds)|exceeded your current quota|billing"
    r"|credit balance|out of credits|payment required",
    re.IGNORECASE,
)
TOO_LONG: Final = re.compile(
    r"context[_ ](?:length|window|size)|maximum context|exceed_context|prompt is too long"
    r"|too many (?:input )?tokens|input (?:token count|is too long)|reduce the length"
    r"|larger than the (?:max|model)|string too long|longer than the model",
    re.IGNORECASE,
)
NO_MODEL: Final = re.compile(
    r"model[_ ]not[_ ]found|(?:no such|unknown|invalid|unsupported) model|not a valid model"
    r"|model\b.{0,80}?(?:does not exist|not found|not exist)",
    re.IGNORECASE | re.DOTALL,
)
BAD_KEY: Final = re.compile(
    r"invalid[_ ]api[_ ]key|api[_ ]key (?:not valid|is invalid)|incorrect api key", re.IGNORECASE
)
FILTERED: Final = re.compile(
    r"content[_ ](?:filter|management|policy)|safety (?:system|filter)|moderation", re.IGNORECASE
)
HTML: Final = "a page of HTML came, not an API's words; does a proxy or a login stand in between?"
PROXY_AUTH: Final = "the proxy wants a name and a password: HTTPS_PROXY=http://NAME:PASSWORD@HOST"
KEY_LIKE: Final = re.compile(r"\b(?:sk|pk|gsk|xai|rk|key)-[\w*.\-]{6,}|\bAIza[\w\-]{10,}")
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def error(  # noqa: PLR0913  the fields of the error
    endpoint: Endpoint,
    fault: Fault,
    message: str,
    *,
    status: int | None = None,
    retry_after_s: float | None = None,
    usage: Usage | None = None,
) -> ModelError:
    """Build the error for one attempt; every message names the model."""
    return ModelError(
        f"{endpoint.name}: {message}",
        failure=fault,
        retryable=fault in RETRYABLE,
        retry_after_s=retry_after_s,
        status=status,
        usage=usage,
    )


def from_status(
    endpoint: Endpoint,
    status: int,
    body: Any,
    headers: Mapping[str, str],
    now: dt.datetime,
) -> ModelError:
    """Turn an HTTP status (or an error object's code) and what came with it into an error.

    `body` is the decoded JSON, or text where it was none. `headers` has lower-case keys.
    """
    words = said(body)
    is_page = isinstance(body, str) and body.lstrip()[:1] == "<"
    quoted = HTML if is_page else quote(endpoint, words)
    fault = _fault(status, words, headers)
    wait_s = retry_after_s(headers, body, now) if fault in {"rate_limited", "server"} else None
    advice = _advice(endpoint, fault, status, headers)
    message = f"{advice} (HTTP {status}{': ' + quoted if quoted else ''})"
    made = error(endpoint, fault, message, status=status, retry_after_s=wait_s)
    if status == 407:  # the provider never saw it, and the next attempt would fare the same
        made.sent, made.retryable = False, False
    return made


def no_json(endpoint: Endpoint, raw: bytes) -> str:
    """Say what came with status 200 in the place of a reply."""
    head = raw[:80].decode("utf-8", "replace")
    if not head.strip():
        return "the reply has no body; check the base URL"
    if head.lstrip()[:1] == "<":
        return f"{HTML} Else check the base URL"
    return f"the reply is not JSON but {quote(endpoint, head)!r}; check the base URL"


def said(body: Any) -> str:
    """Return the provider's own words, wherever it put them."""
    if isinstance(body, str):
        return "" if body.lstrip()[:1] == "<" else body
    if isinstance(body, list) and body:
        return said(body[0])
    if not isinstance(body, dict):
        return ""
    inner = body.get("error", body)
    if isinstance(inner, str):
        return inner
    if not isinstance(inner, dict):
        return ""
    found = [inner.get(name) for name in ("message", "detail", "msg", "code", "type", "status")]
    metadata = inner.get("metadata")
    if isinstance(metadata, dict):
        found.append(metadata.get("raw"))
    return " / ".join(text for text in found if isinstance(text, str) and text)


def quote(endpoint: Endpoint, text: str) -> str:
    """Cut a provider's words, without keys and without what could steer a terminal."""
    if endpoint.api_key:
        text = text.replace(endpoint.api_key, "[key]")
    text = KEY_LIKE.sub("[key]", CONTROL.sub(" ", text)).strip()
    return text if len(text) <= QUOTE_CHARS else text[: QUOTE_CHARS - 3] + "..."


def retry_after_s(headers: Mapping[str, str], body: Any, now: dt.datetime) -> float | None:
    """Seconds that the provider asks to be left alone; None when it does not say.

    RFC 9110 section 10.2.3 (seconds or a date), ``retry-after-ms`` and
    ``x-ratelimit-reset-*`` (OpenAI), ``retryDelay`` in the error's details (Google).
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    if header := headers.get("retry-after"):
        seconds = _number(header)
        return _until_s(header, now) if seconds is None else seconds
    delay = re.search(r"retryDelay['\"]?\s*[:=]\s*['\"]([\d.]+)s", str(body)[:20_000])
    if delay:
        return _number(delay.group(1))
    for name in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{name}") == "0":
            return _duration_s(headers.get(f"x-ratelimit-reset-{name}", ""))
    return None


def _until_s(date: str, now: dt.datetime) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  10 ms, rarely needed

    try:
        when = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - now).total_seconds())


def _fault(status: int, words: str, headers: Mapping[str, str]) -> Fault:  # noqa: PLR0911
    if status == 402 or (status in {400, 403, 429} and QUOTA.search(words)):
        return "quota"
    if status == 429 or (status == 503 and "retry-after" in headers):
        return "rate_limited"
    if status in {401, 403}:
        return "content_filter" if FILTERED.search(words) else "auth"
    if status in PLAIN:
        return PLAIN[status]
    if status == 413 or (status < 500 and TOO_LONG.search(words)):
        return "context_length"
    if status >= 500:
        # llama.cpp and some gateways say 500 when the prompt does not fit
        return "context_length" if TOO_LONG.search(words) else "server"
    if BAD_KEY.search(words):
        return "auth"
    if NO_MODEL.search(words):
        return "model_not_found"
    return "content_filter" if FILTERED.search(words) else "bad_request"


def _advice(endpoint: Endpoint, fault: Fault, status: int, headers: Mapping[str, str]) -> str:
    keys = " or ".join(endpoint.preset.key_names[:1] or ("ABYME_API_KEY",))
    if 300 <= status < 400:
        target = quote(endpoint, headers.get("location", "").split("?")[0])
        return f"the endpoint redirects to {target}; give that address as --base-url"
    advice: dict[Fault, str] = {
        "auth": f"the key is missing, wrong or not allowed; check {keys} or --api-key",
        "quota": "the account is out of credit or quota; top it up or use another model",
        "model_not_found": f"no such model or path at {endpoint.base_url}; "
        "check the model's name and that the base URL ends where the API begins (often /v1)",
        "context_length": "the prompt does not fit the model's window; send less text",
        "rate_limited": "the provider asks to slow down",
        "server": "the provider failed; try again later",
        "unreachable": PROXY_AUTH,
        "timed_out": "the provider gave up waiting",
        "content_filter": "the provider's filter withheld the reply; rephrase",
        "bad_request": "the provider refuses the request",
    }
    return advice.get(fault, "the provider failed")


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _duration_s(text: str) -> float | None:
    """``1m30.5s`` or ``20ms``, as OpenAI writes them; a bare number is seconds."""
    if (plain := _number(text)) is not None:
        return plain
    parts = re.findall(r"([\d.]+)(ms|s|m|h)", text)
    scale = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    values = [(_number(number), unit) for number, unit in parts]
    return sum(v * scale[u] for v, u in values if v is not None) if parts else None
