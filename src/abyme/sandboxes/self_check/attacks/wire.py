"""The wire, written to by a cell: forged, repeated, cut, giant and nested frames.

A REPL can say of itself whatever it likes: the goal is to move what the host counts, to reach
another REPL, or to make the host raise an error that it does not expect. A frame out of place
ends the REPL that sent it.
"""

# ruff: noqa: E501 - rows of a table

from typing import Final

from abyme.core.limits import Limits
from abyme.sandboxes.self_check.attacks.cells import NATIVE, SHORT
from abyme.sandboxes.self_check.behaviour import Behaviour, Judge, Need, Seen
from abyme.sandboxes.self_check.samples import TEXT

ENDS: Final = ("lost: ProtocolViolation",)
LOSES: Final = "a REPL that forges frames is ended"

FORGE: Final = """
import os, struct
own = submit.__wrapped__.__self__._calls
client, number, batch = own.client, own.cell, own.next_batch
packet = lambda data: os.write(3, data)
def body(data):
    data = struct.pack('!I', len(data)) + data
    for start in range(0, len(data), 60_000):
        packet((b'\\0' if start else b'\\1') + data[start:start + 60_000])
frame = lambda t, **more: client.send({'t': t, **more})
def finished(cell, **more):
    frame('finished', **{'cell': cell, 'output': 'forged', 'dropped_chars': 0, 'error': None,
          'interrupted': False, 'changed': [], 'draft': None, 'notes': [], 'can_roll_back': True,
          'held': False, **more})
def calls(cell, batch, prompt='forged', **more):
    asked = {'prompt': prompt, 'text': None, 'model': None, 'fresh': False}
    frame('calls', **{'cell': cell, 'batch': batch, 'purpose': 'llm', 'requests': [asked], 'more': False, **more})
def answer(cell, value='forged', evidence=()):
    frame('submit', cell=cell, value=value, evidence=list(evidence))
"""


def asked_nothing(seen: Seen) -> str:
    """Check that no forged call was believed."""
    return f"{len(seen.batches)} forged batches were believed" if seen.batches else ""


def asked_once(seen: Seen) -> str:
    """Check that one call was believed, and no second one."""
    return "" if len(seen.batches) <= 1 else f"it was believed {len(seen.batches)} times"


def answered_nothing(seen: Seen) -> str:
    """Check that no forged answer was believed."""
    return "a forged answer was believed" if seen.submitted else ""


def few_answers(seen: Seen) -> str:
    """Check that answers are told of a few times, not as often as they come."""
    many = len(seen.submitted)
    return "" if many <= 20 else f"the run was told of {many:,} answers"


def no_such_evidence(seen: Seen) -> str:
    """Look what was submitted as evidence up in the host's own copy."""
    if not seen.submitted:
        return "nothing was submitted"
    for one in seen.submitted:
        found, _ = seen.context.check(one.evidence)
        if any(place.quote not in TEXT for place in found):
            return f"{found} was taken for evidence"
    return ""


def forged(  # noqa: PLR0913 - a row of a table
    name: str,
    sentence: str,
    code: str,
    *,
    source: str = "design 3: whatever the REPL sends is forgeable",
    judge: Judge | None = None,
    ends: tuple[str, ...] = ENDS,
    then: tuple[str, ...] = ("print('held')",),
    limits: Limits | None = None,
    needs: frozenset[Need] = NATIVE,
) -> Behaviour:
    """Make an entry that forges, and one more cell, which may find the REPL ended."""
    return Behaviour(
        id=name,
        sentence=sentence,
        source=source,
        cells=(FORGE + code, *then),
        ends=ends,
        judge=judge,
        loses=LOSES,
        needs=needs,
        limits=limits,
    )


ATTACKS: Final[tuple[Behaviour, ...]] = (
    forged("wire.ready", "A REPL cannot say a second time that it is up.",
        "frame('ready', layers=['user_namespace'], snapshots=True)"),
    forged("wire.refused", "Nor that it has been refused.", "frame('refused', layer='seccomp')"),
    forged("wire.finished", "An end that a cell forges for itself ends its REPL with it.",
        "finished(number, output='forged')"),
    forged("wire.finished_other", "The end of another cell cannot be forged.",
        "finished(number - 1, output='forged')"),
    forged("wire.finished_next", "Nor that of one that has not begun.", "finished(number + 1)"),
    forged("wire.finished_twice", "A cell ends once.", "finished(number)\nfinished(number)"),
    forged("wire.finished_many", "An end with more names, notes or text than there may be is none.",
        "finished(number, notes=['x'] * 21)"),
    forged("wire.finished_wide", "Nor with an error of megabytes.",
        "finished(number, error='x' * 3_000_000)"),
    forged("wire.held", "A cell that says that it waits is told, and must not end twice.",
        "finished(number, held=True)", ends=(*ENDS, "exited", "cell_timeout_s")),
    forged("wire.kept", "State cannot be kept that nobody has told to keep.", "frame('kept', cell=number)"),
    forged("wire.rolled_back_wrong", "A roll-back that never was is not believed.",
        "frame('rolled_back', code=-9, number=7)"),
    forged("wire.rolled_back_right", "Nor does one with the right number gain a cell more time.",
        "frame('rolled_back', code=-9, number=1)\nwhile True: pass",
        ends=(*ENDS, "crashed (signal 9)", "cell_timeout_s"), limits=SHORT),
    forged("wire.rolled_back_often", "Nor a thousand of them.",
        "for n in range(1, 1000): frame('rolled_back', code=-9, number=n)",
        ends=(*ENDS, "crashed (signal 9)", "lost: SandboxError")),
    forged("wire.words_of_the_host", "What only the host says is not taken from a guest.",
        "frame('answer', batch=batch, results=[], refused=None, budget={}, more=False, parts=0)"),
    forged("wire.budget", "No frame moves a budget.",
        "frame('cell', cell=number, code='', batch=0, budget={'usd': 1e9, 'calls': 10**9}, roll_backs=0, parts=0)"),
    forged("wire.call_of_next_cell", "A call for a cell that has not begun is not made.",
        "calls(number + 1, batch)", judge=asked_nothing),
    forged("wire.call_of_last_cell", "Nor one for a cell that has ended.",
        "calls(number - 1, batch)", judge=asked_nothing),
    forged("wire.call_with_old_number", "Nor one by the number of an earlier batch.",
        "llm_query('a')\ncalls(number, batch)", judge=asked_once),
    forged("wire.call_replayed", "A call that is sent twice is made once.",
        "for _ in range(2): calls(number, batch)", judge=asked_once),
    forged("wire.call_far", "A batch cannot have a number far from all others.",
        "calls(number, batch + 10**9)", judge=asked_nothing),
    forged("wire.call_schema", "A schema that is nested, huge or none is not looked into.",
        "asked = {'prompt': 'x', 'text': None, 'model': None, 'fresh': False, 'schema': '[' * 8000}\n"
        "calls(number, batch, requests=[asked])", judge=asked_nothing),
    forged("wire.call_spans", "Spans that begin nowhere, or are no numbers, are none.",
        "asked = {'prompt': 'x', 'text': None, 'model': None, 'fresh': False, 'spans': [[-1, 0, 1 << 60]]}\n"
        "calls(number, batch, purpose='rlm', requests=[asked])", judge=asked_nothing),
    forged("wire.call_endless", "Parts of a batch that never ends are not kept for ever.",
        "asked = {'prompt': 'x' * 1_000_000, 'text': None, 'model': None, 'fresh': False}\n"
        "for _ in range(270): calls(number, batch, requests=[asked], more=True)\n"
        "calls(number, batch)", judge=asked_nothing),
    forged("wire.pieces", "A hundred thousand tiny frames are read, and slow nobody else for long.",
        "import json\n"
        "text = json.dumps({'t': 'piece', 'cell': number, 'batch': batch, 'position': 0, 'part': 'text', 'text': ''}).encode()\n"
        "one = b'\\1' + struct.pack('!I', len(text)) + text\n"
        "for _ in range(100_000): packet(one)", judge=asked_nothing),
    forged("wire.submit_of_last_cell", "An answer for a cell that has ended is not taken.",
        "answer(number - 1)", judge=answered_nothing),
    forged("wire.submit_of_next_cell", "Nor one for a cell that has not begun.",
        "answer(number + 1)", judge=answered_nothing),
    forged("wire.submit_often", "Ten thousand answers are told of a few times.",
        "for n in range(10_000): answer(number, n)", judge=few_answers),
    forged("wire.submit_wide", "An answer of 20 MB is none.", "answer(number, 'x' * (20 << 20))",
        judge=answered_nothing),
    forged("wire.submit_deep", "An answer that is nested a hundred thousand times is none.",
        "body(b'{\"t\":\"submit\",\"cell\":%d,\"evidence\":[],\"value\":%s%s}' % (number, b'[' * 100_000, b']' * 100_000))",
        judge=answered_nothing),
    forged("wire.submit_number", "An integer of ten thousand digits is no answer that harms a reader.",
        "body(b'{\"t\":\"submit\",\"cell\":%d,\"evidence\":[],\"value\":%s}' % (number, b'9' * 10_000))"),
    forged("wire.submit_not_a_number", "Nor one that JSON does not have.",
        "body(b'{\"t\":\"submit\",\"cell\":%d,\"evidence\":[],\"value\":[NaN,Infinity,1e999]}' % number)",
        judge=answered_nothing),
    forged("wire.submit_surrogates", "Halves of surrogate pairs are an answer like others.",
        "answer(number, {'\\ud800': '\\udfff'}, ['\\udc80'])", ends=()),
    forged("wire.evidence", "Evidence that is not in the context is found by nobody.",
        "answer(number, 1, [{'document': 0, 'start': 0, 'end': 6, 'quote': 'forged'}, 'forged'])\n"
        "answer(number, 2, [{'document': 9, 'start': 5, 'end': 1, 'quote': ''}, ''])\n"
        "answer(number, 3, [{'document': 0, 'start': 1 << 49, 'end': 1 << 50, 'quote': 'forged'}])",
        judge=no_such_evidence, ends=()),
    forged("wire.giant", "A frame that announces four gigabytes is not waited for.",
        "packet(b'\\1\\xff\\xff\\xff\\xff{')"),
    forged("wire.giant_kind", "A frame of tens of megabytes is not read where its kind is short.",
        "body(b'{\"t\":\"kept\",\"cell\":1,\"x\":\"' + b'x' * (30 << 20) + b'\"}')"),
    forged("wire.partial", "A frame that is not ended is dropped when another one begins.",
        "packet(b'\\1\\0\\0\\1\\0{\"t\":')", ends=()),
    forged("wire.continued", "The rest of a frame that never began is dropped.",
        "for _ in range(100): packet(b'\\0' + b'x' * 1000)", ends=()),
    forged("wire.garbage", "Bytes that are no frame end the REPL.", "body(os.urandom(5000))"),
    forged("wire.no_mark", "So do packets without a mark.", "packet(b'{\"t\":\"ready\"}')"),
    forged("wire.long_packet", "And packets that are longer than they may be.",
        "packet(b'\\1' + struct.pack('!I', 100_000) + b' ' * 100_000)", ends=(*ENDS, "lost: SandboxError")),
    forged("wire.two_frames", "And two frames in a packet.",
        "packet(b'\\1\\0\\0\\0\\2{}{}')"),
    forged("wire.not_an_object", "And JSON that is no object, or has no kind.",
        "for text in (b'[]', b'1', b'null', b'{}', b'\"t\"'): body(text)"),
    forged("wire.kinds", "And kinds that are unknown, or no text.",
        "for kind in (None, 7, [], 'x', 'Ready', 'kept\\0'): frame(kind)"),
    forged("wire.fields", "And fields that are unknown.", "frame('kept', cell=number, more=1)"),
    forged("wire.types", "And values of another type.", "frame('kept', cell=True)"),
    forged("wire.numbers", "And numbers beyond what is counted.", "frame('kept', cell=-1 << 70)"),
    forged("wire.twice_named", "A field that is there twice does not make one kind pass for another.",
        "body(b'{\"t\":\"piece\",\"cell\":%d,\"t\":\"submit\",\"value\":\"forged\",\"evidence\":[]}' % number)",
        judge=answered_nothing),
    forged("wire.fork", "A child of a cell that sends frames ends its own REPL alone.",
        "child = os.fork()\nif child == 0:\n    finished(number)\n    os._exit(0)\nos.waitpid(child, 0)",
        needs=frozenset({"fork"})),
    forged("wire.thread", "What a thread sends after its cell has ended is dropped.",
        "import threading, time\ncells = own.__class__\n"
        "def late():\n"
        "    while own.open and own.cell == number: time.sleep(0.001)\n"
        "    answer(number)\n    calls(number, batch + 50)\n"
        "thread = threading.Thread(target=late); thread.start()",
        then=("thread.join()", "print('held')"), judge=lambda seen: answered_nothing(seen) or asked_nothing(seen),
        needs=frozenset({"threads", "ctypes"})),
    forged("wire.stolen", "A thread that steals the next cell from the wire harms its own REPL alone.",
        "import socket, threading\n"
        "threading.Thread(target=lambda: os.read(3, 70_000), daemon=True).start()",
        ends=(*ENDS, "lost: SandboxError", "cell_timeout_s"), limits=SHORT, needs=frozenset({"threads", "ctypes"})),
)  # fmt: skip
