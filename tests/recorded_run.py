"""One small run as records, for tests of what is shown. Hostile text where a model had a hand."""

import msgspec

from abyme.core import events as ev
from abyme.core.ids import ROOT, BatchId, CallId, NodeId
from abyme.core.limits import Limits
from abyme.core.profile import Profile, SubPrompts

ESCAPE = "\x1b]0;owned\x07\x1b[31mred\u202e"
PRICED = ev.ModelFacts(
    name="openai:m", price=ev.Price(input_usd_micro=1_000_000, output_usd_micro=2_000_000)
)
WORDS = dict.fromkeys(("system", "question", "output", "no_code", "no_output", "last_turn"), "")
SUB = SubPrompts(
    **{one.name: "" for one in msgspec.structs.fields(SubPrompts) if one.required}
    | {"map_items": 1}
)
CHILD = NodeId("0.0")

STARTED = ev.RunStarted(
    question=f"how many? {ESCAPE}",
    preview="",
    context_chars=1_234,
    context_documents=2,
    limits=Limits(max_turns=5),
    root=PRICED,
    sub=PRICED,
    profile=Profile(name="strong", sub=SUB, **WORDS),
    seed=1,
    hash_seed=2,
    started_at="2026-11-22T20:54:30+00:00",
)


def reserved(call: int, purpose: str, attempt: int = 1) -> ev.CallReserved:
    return ev.CallReserved(
        call=CallId(call),
        attempt=attempt,
        model="openai:m",
        purpose=purpose,
        worst_usd_micro=700,
        worst_tokens=9,
        batch=BatchId(1) if purpose == "sub" else None,
    )


def settled(call: int, text: str = "```repl\n```") -> ev.CallSettled:
    usage = ev.Usage(prompt_tokens=100, completion_tokens=10)
    return ev.CallSettled(call=CallId(call), text=text, finish="stop", usage=usage)


def failed(call: int, fault: ev.Fault) -> ev.CallFailed:
    return ev.CallFailed(call=CallId(call), failure=ev.Failure(fault=fault, message=ESCAPE))


CODE = "# look\nimport re\nlabels = llm_query_batched(parts)\nrlm_query('deeper?', parts[0])"
PLACE = ev.Evidence(path="a\udcff.py", line=7, start=3, end=9, quote=f"def x():\n  {ESCAPE}")

EVENTS: list[tuple[float, NodeId, ev.AnyEvent]] = [
    (0.0, ROOT, STARTED),
    (0.1, ROOT, ev.SessionOpened(python="3.11.7", snapshots=True, layers=["seccomp"])),
    (0.1, ROOT, reserved(1, "turn")),
    (1.0, ROOT, settled(1)),
    (1.0, ROOT, ev.CellStarted(cell=1, code=CODE)),
    (
        1.1,
        ROOT,
        ev.CallsRequested(
            cell=1,
            batch=BatchId(1),
            purpose="llm",
            requests=[ev.Request(prompt="p"), ev.Request(prompt="q")],
        ),
    ),
    (1.1, ROOT, reserved(2, "sub")),
    (1.1, ROOT, reserved(3, "sub")),
    (1.2, ROOT, failed(3, "server")),
    (1.2, ROOT, reserved(3, "sub", attempt=2)),
    (1.3, ROOT, settled(2, f"two {ESCAPE}")),
    (1.4, ROOT, failed(3, "timed_out")),
    (
        1.4,
        ROOT,
        ev.CallsRequested(
            cell=1, batch=BatchId(2), purpose="rlm", requests=[ev.Request(prompt="deeper?")]
        ),
    ),
    (1.5, CHILD, ev.SessionOpened(python="3.11.7", snapshots=True, layers=[])),
    (1.5, CHILD, reserved(4, "turn")),
    (1.6, CHILD, settled(4)),
    (1.6, CHILD, ev.CellStarted(cell=1, code="submit(4)")),
    (1.6, CHILD, ev.AnswerSubmitted(cell=1, value=4, evidence=[])),
    (1.7, CHILD, ev.CellFinished(cell=1, output="", ended="clean")),
    (1.7, CHILD, ev.EvidenceChecked(found=[PLACE], missing=[])),
    (
        2.0,
        ROOT,
        ev.CellFinished(
            cell=1,
            output=f"out {ESCAPE}\n",
            error=f"Traceback ...\nValueError: {ESCAPE}",
            ended="raised",
            notes=["kept: labels"],
        ),
    ),
    (2.0, ROOT, reserved(5, "turn")),
    (3.0, ROOT, settled(5)),
    (3.0, ROOT, ev.CellStarted(cell=2, code="submit(labels)")),
    (3.0, ROOT, ev.AnswerSubmitted(cell=2, value="two", evidence=[])),
    (3.5, ROOT, ev.CellFinished(cell=2, output="", ended="clean")),
    (3.5, ROOT, ev.EvidenceChecked(found=[PLACE], missing=[])),
    (
        3.5,
        ROOT,
        ev.RunFinished(status="answered", value=f"two {ESCAPE}", evidence=[PLACE], reason=None),
    ),
]
RECORDS = [
    ev.Record(seq=seq, at_s=at_s, node=node, event=event)
    for seq, (at_s, node, event) in enumerate(EVENTS)
]
