"""Contract: journals/codec. A record survives the file, whatever a guest or a model put in it."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.core import events as ev
from abyme.core.ids import BatchId, CallId, NodeId
from abyme.core.limits import Limits
from abyme.core.profile import Message, Profile
from abyme.errors import JournalError
from abyme.journals import codec

PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def joined(pair: re.Match[str]) -> str:
    """No JSON can tell a pair of surrogates from the character it stands for."""
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")


any_text = st.text(st.characters(codec=None)).map(lambda text: PAIR.sub(joined, text))
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
any_json = st.recursive(
    st.none() | st.booleans() | numbers | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)
small = st.integers(min_value=0, max_value=2**63 - 1)
calls = small.map(CallId)
usages = st.builds(
    ev.Usage,
    prompt_tokens=small,
    completion_tokens=small,
    cached_tokens=small,
    reasoning_tokens=small,
    cost_usd_micro=st.none() | small,
    estimated=st.booleans(),
)
failures = st.builds(
    ev.Failure,
    fault=st.sampled_from(["auth", "server", "limit", "cancelled"]),
    message=any_text,
    retryable=st.booleans(),
    retry_after_s=st.none() | st.floats(0, 100),
    status=st.none() | small,
)
places = st.builds(ev.Place, document=small, start=small, end=small, quote=any_text)
evidence = st.builds(ev.Evidence, path=any_text, line=small, start=small, end=small, quote=any_text)
names = st.builds(
    ev.Name, name=any_text, type=any_text, size=st.none() | small, digest=st.none() | any_text
)
spans = st.builds(ev.Span, document=small, start=small, end=st.none() | small)
parts = st.builds(
    ev.ContextPart,
    text=st.none() | any_text,
    spans=st.lists(spans, max_size=2),
    shape=st.sampled_from(["text", "documents", "list"]),
)
schemas = st.none() | st.dictionaries(any_text, any_json, max_size=3)
requests = st.builds(
    ev.Request,
    prompt=any_text,
    text=st.none() | any_text,
    context=st.none() | parts,
    model=st.none(),
    schema=schemas,
    fresh=st.booleans(),
)
differences = st.builds(
    ev.Difference, cell=small, what=any_text, names=st.lists(any_text, max_size=2)
)
carried = st.builds(
    ev.Carried,
    calls=small,
    tokens=small,
    usd_micro=small,
    unknown_calls=small,
    unknown_usd_micro=small,
)
facts = st.builds(
    ev.ModelFacts,
    name=any_text,
    price=st.none()
    | st.builds(
        ev.Price,
        input_usd_micro=small,
        output_usd_micro=small,
        cached_usd_micro=st.none() | small,
    ),
)
limits = st.builds(
    Limits,
    max_usd=st.none() | st.integers(0, 10) | st.floats(0, 10) | st.sampled_from(["0.10", "5"]),
    timeout_s=st.none() | st.floats(0, 1e6),
)
profiles = st.builds(
    Profile,
    name=any_text,
    system=any_text,
    examples=st.lists(st.builds(Message, role=st.just("user"), content=any_text), max_size=2),
    question=any_text,
    output=any_text,
    no_code=any_text,
    no_output=any_text,
    last_turn=any_text,
)


def case(kind: type[ev.Event], **fields: st.SearchStrategy) -> tuple[str, st.SearchStrategy]:
    return kind.__name__, st.builds(kind, **fields)


EVENTS = [
    case(
        ev.RunStarted,
        question=any_text,
        preview=any_text,
        context_chars=small,
        context_documents=small,
        limits=limits,
        root=facts,
        sub=facts,
        profile=profiles,
        seed=small,
        hash_seed=small,
        started_at=st.just("2026-11-22T20:54:30Z"),
        answer_schema=schemas,
        sub_profile=st.none() | profiles,
    ),
    case(
        ev.RunResumed,
        believed=small,
        limits=limits,
        carried=carried,
        next_call=small,
        resumed_at=st.just("2026-11-22T21:00:00Z"),
    ),
    case(ev.SessionOpened, python=any_text, snapshots=st.booleans(), layers=st.lists(any_text)),
    case(ev.SessionLost, why=any_text, fatal=st.booleans()),
    case(ev.SessionRebuilt, cells=small, differs=st.lists(differences, max_size=2)),
    case(
        ev.CallReserved,
        call=calls,
        attempt=small,
        model=any_text,
        purpose=st.sampled_from(["turn", "sub"]),
        worst_usd_micro=small,
        worst_tokens=small,
        batch=st.none() | small.map(BatchId),
        position=st.none() | small,
    ),
    case(
        ev.CallSettled,
        call=calls,
        text=any_text,
        finish=any_text,
        usage=usages,
        wrong=st.none() | any_text,
    ),
    case(ev.CallFailed, call=calls, failure=failures, usage=st.none() | usages),
    case(ev.CellStarted, cell=small, code=any_text),
    case(
        ev.CallsRequested,
        cell=small,
        batch=small.map(BatchId),
        purpose=st.sampled_from(["llm", "rlm"]),
        requests=st.lists(requests, max_size=3),
    ),
    case(ev.BatchConfirmed, batch=small.map(BatchId), allowed=st.booleans()),
    case(
        ev.AnswerSubmitted,
        cell=small,
        value=any_json,
        evidence=st.lists(places | any_text, max_size=3),
    ),
    case(
        ev.CellFinished,
        cell=small,
        output=any_text,
        error=st.none() | any_text,
        ended=st.sampled_from(["clean", "raised", "interrupted", "rolled_back", "lost"]),
        changed=st.lists(names, max_size=3),
        draft=any_json,
        notes=st.lists(any_text, max_size=3),
    ),
    case(
        ev.EvidenceChecked,
        found=st.lists(evidence, max_size=3),
        missing=st.lists(any_text),
        wrong=st.none() | any_text,
    ),
    case(
        ev.ChildEnded,
        status=st.sampled_from(["answered", "partial", "failed", "cut_off"]),
        value=any_json,
        reason=st.none() | any_text,
    ),
    case(
        ev.DeadlinePassed,
    ),
    case(
        ev.StopRequested,
    ),
    case(
        ev.RunFinished,
        status=st.sampled_from(["answered", "partial", "failed", "stopped"]),
        value=any_json,
        evidence=st.lists(evidence, max_size=3),
        reason=st.none() | any_text,
    ),
]
TRIED = {name for name, _ in EVENTS}
some_events = st.one_of([strategy for _, strategy in EVENTS])
records = st.builds(
    ev.Record,
    seq=small,
    at_s=st.floats(0, 1e9),
    node=st.sampled_from(["0", "0.2"]).map(NodeId),
    event=some_events,
)


def submitted(value: object) -> ev.Record:
    event = ev.AnswerSubmitted(cell=1, value=value, evidence=[])
    return ev.Record(seq=0, at_s=0.0, node=NodeId("0"), event=event)


@given(records)
def test_any_record_round_trips_on_one_line(record: ev.Record) -> None:
    """Lone surrogates, line separators, NUL and numbers of any size included."""
    line = codec.encode(record)

    assert b"\n" not in line
    assert codec.decode(line, ev.Record) == record


def test_every_event_is_among_those_that_were_tried() -> None:
    """A new event must be added to the property above."""
    assert {kind.__name__ for kind in ev.AnyEvent.__args__} == TRIED


def test_a_lone_surrogate_is_written_as_an_ascii_escape() -> None:
    """The line stays valid UTF-8, so that any tool can read the journal."""
    line = codec.encode(submitted("a\udce9"))

    assert line.isascii()
    assert json.loads(line)["event"]["value"] == "a\udce9"


@pytest.mark.parametrize("text", ["", "\ud800"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_a_number_becomes_null_on_either_path(value: float, text: str) -> None:
    """JSON has no such numbers; the fast and the slow encoder agree."""
    line = codec.encode(submitted([value, text]))

    assert codec.decode(line, ev.Record) == submitted([None, text])


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_nesting_without_end_is_a_typed_error(text: str) -> None:
    """A guest chooses the depth of what it submits."""
    value: object = text
    for _ in range(100_000):
        value = [value]

    with pytest.raises(JournalError, match=r"^cannot be written as JSON: "):
        codec.encode(submitted(value))


@pytest.mark.parametrize("kind", [object, ev.Record])
@pytest.mark.parametrize("text", [b"1", rb'"\ud800"'])
def test_a_line_that_nests_without_end_is_a_value_error(kind: type, text: bytes) -> None:
    """Of a run's folder that somebody else has made."""
    deep = b"[" * 100_000 + text + b"]" * 100_000
    line = codec.encode(submitted("deep")).replace(b'"deep"', deep)

    with pytest.raises(ValueError, match=r"^nested too deeply$"):
        codec.decode(line, kind)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"seq": "x"}', b"\xff", b"[" * 100_000])
def test_a_line_that_is_no_record_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the decoder's
        codec.decode(line, ev.Record)
