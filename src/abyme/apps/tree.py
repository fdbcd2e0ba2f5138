"""Draw a run as a tree of lines: nodes, their cells, their sub-calls, one line of totals.

Decides what of a `RunView` is shown and how a line is cut to the width; the place that
is left over goes to the code. Every text that a model or a document had a hand in goes
through `safe_text`. Returns styled pieces; who prints them chooses colours, or none.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from abyme.apps.amounts import count, duration, money, tokens, usd
from abyme.apps.safe_text import safe_line
from abyme.apps.view import CallState, CallView, CellView, NodeView, Resumed, RunView, first_line
from abyme.core import events as ev
from abyme.core.ids import ROOT, NodeId

Style: TypeAlias = Literal["", "dim", "bold", "good", "bad", "warn", "accent"]
Line: TypeAlias = list[tuple[str, Style]]

MAX_CHILDREN = 6
"""Children of one cell that are drawn; the others are counted."""
MAX_VIOLATIONS = 3
VIOLATION_CHARS = 80
LEAST_CODE = 12
MAX_NAMES = 8
"""Of variables that differ."""


def draw(
    view: RunView, *, width: int, height: int | None = None, now_s: float | None = None
) -> list[Line]:
    """Lines of the whole run, the totals last. Beyond `height` the older ones are left out."""
    lines = list(_node(view, view.nodes[ROOT], "", width)) if ROOT in view.nodes else []
    last = totals(view, now_s)
    if view.stops and view.finished is None:
        lines.append([(stopping(view), "warn")])
    if height is not None and len(lines) + 1 > height:
        keep = max(1, height - 3)
        hidden = len(lines) - 1 - keep
        lines = [lines[0], [(f"  … {count(hidden, 'line')} above", "dim")], *lines[-keep:]]
    return [*lines, last]


def stopping(view: RunView) -> str:
    """Say what a request to stop has brought about."""
    if view.stops > 1:
        return "stopping now"
    return "finishing with what is there; Ctrl-C again stops now"


def totals(view: RunView, now_s: float | None = None) -> Line:
    """Sum up calls, tokens, money and time, up to the last record if it is not said how late."""
    sums = view.tally.total
    parts = [count(sums.amount.calls + view.tally.held.calls, "call")]
    if sums.failed:
        parts.append(f"{sums.failed:,} failed")
    parts.append(tokens(sums.prompt_tokens, sums.completion_tokens))
    cost = None if sums.unpriced else sums.amount.usd_micro
    parts.append(money(cost, sums.unknown.usd_micro, sums.overrun_usd_micro))
    parts.append(duration(view.at_s if now_s is None else now_s))
    return [(" · ".join(parts), "dim")]


def going_on(resumed: Resumed) -> str:
    """Say where a run was taken up again, and what it had spent."""
    carried = resumed.event.carried
    words = f"after record {resumed.event.believed - 1:,}: {usd(resumed.usd_micro)} spent"
    if carried.unknown_calls:
        calls = carried.unknown_calls
        were = "was" if calls == 1 else "were"
        words += f", up to {usd(carried.unknown_usd_micro)} of it unknown "
        words += f"({count(calls, 'call')} {were} in flight)"
    if resumed.aside:
        words += f"; {count(resumed.aside, 'record')} from there on set aside"
    return words


def named(node: NodeId) -> str:
    """Name a node as people are told of it; its id is for programs."""
    return "root" if node == ROOT else node


def differing(node: NodeId, difference: ev.Difference) -> str:
    """Say how a cell that was run again came out in another way."""
    names = f" ({', '.join(difference.names[:MAX_NAMES])})" if difference.names else ""
    if len(difference.names) > MAX_NAMES:
        names = f"{names[:-1]}, ...)"
    return safe_line(f"{named(node)}, cell {difference.cell}: {difference.what}{names}")


def describe_calls(cell: CellView) -> str:
    """Sub-calls of a cell as counters; empty if there were none. How many items have got a value
    is not in the records, nor how many calls are still to be made.
    """
    asked, children = cell.asked("llm"), cell.asked("rlm")
    items, texts = cell.asked("map"), cell.asked("reduce")
    parts = []
    if asked:
        same = f", {cell.answered_before:,} the same" if cell.answered_before else ""
        parts.append(f"{count(asked, 'sub-call')}: {_ended(cell.made('llm'), same)}")
    if items:
        parts.append(f"{count(items, 'item')} to map: {_made(cell.made('map'))}")
    if texts:
        parts.append(f"{count(texts, 'text')} to reduce: {_made(cell.made('reduce'))}")
    if children:
        begun = len(cell.children)
        some = begun < children
        words = count(children, "child", "children")
        parts.append(f"{begun:,} of {words} begun" if some else words)
    declined = list(cell.confirmed.values()).count(False)
    if declined:
        parts.append(f"{count(declined, 'batch', 'batches')} declined")
    if wrong := sum(call.wrong for call in cell.calls):
        parts.append(count(wrong, "wrong shape"))
    return ", ".join(parts)


def describe_violations(cell: CellView) -> str:
    """Name what a cell tried to import and may not; empty if it did not try."""
    names = [] if cell.finished is None else cell.finished.violations
    if not names:
        return ""
    more = f", {len(names) - MAX_VIOLATIONS:,} more" if len(names) > MAX_VIOLATIONS else ""
    return f"refused import: {safe_line(', '.join(names[:MAX_VIOLATIONS]), VIOLATION_CHARS)}{more}"


def _ended(calls: Sequence[CallView], more: str = "") -> str:
    done, failed = _in_state(calls, "done"), _in_state(calls, "failed")
    return f"{done:,} done{more}" + (f", {failed:,} failed" if failed else "")


def _made(calls: Sequence[CallView]) -> str:
    """Count the calls of a task, which are not as many as its items."""
    if not calls:
        return "no calls"
    done, failed = _in_state(calls, "done"), _in_state(calls, "failed")
    words = f"{count(done, 'call')} done" + (f", {failed:,} failed" if failed else "")
    under_way = _in_state(calls, "open")
    return words + (f", {under_way:,} under way" if under_way else "")


def _in_state(calls: Sequence[CallView], state: CallState) -> int:
    return sum(call.state == state for call in calls)


def how_it_ended(cell: CellView) -> tuple[str, Style]:
    """One word on a cell."""
    if cell.finished is None:
        return "running", "accent"
    match cell.finished.ended:
        case "clean" if cell.wrong is not None:
            return "wrong shape", "warn"
        case "clean":
            return ("submitted" if cell.submitted else "ok"), "good"
        case "raised":
            return _exception(cell.finished.error), "warn"
        case other:
            words = (cell.finished.limit, cell.finished.reached)
            said = ": ".join(word for word in words if word)
            limit = f" ({said})" if said else ""
            return safe_line(other.replace("_", " ") + limit), "bad"


def _exception(error: str | None) -> str:
    """``ValueError`` of a traceback."""
    last = (error or "").rstrip().rpartition("\n")[2]
    return safe_line(last.partition(":")[0], 40) or "raised"


def _node(view: RunView, node: NodeView, indent: str, width: int) -> Iterator[Line]:
    yield _head(view, node, indent, width)
    for position, cell in enumerate(node.cells):
        last = position == len(node.cells) - 1
        yield from _rebuilt(node, position, indent)
        yield _cell(cell, f"{indent}{'└' if last else '├'} ", width)
        inner = f"{indent}{' ' if last else '│'} "
        for child in cell.children[:MAX_CHILDREN]:
            yield from _node(view, view.nodes[child], f"{inner}  ", width)
        if len(cell.children) > MAX_CHILDREN:
            hidden = len(cell.children) - MAX_CHILDREN
            yield [(f"{inner}  … {count(hidden, 'more child', 'more children')}", "dim")]

    yield from _rebuilt(node, len(node.cells), indent)


def _rebuilt(node: NodeView, at: int, indent: str) -> Iterator[Line]:
    for rebuilt in node.rebuilt:
        if rebuilt.at == at:
            words = f"{indent}┄ REPL rebuilt from {count(rebuilt.event.cells, 'cell')}"
            differs = rebuilt.event.differs
            line: Line = [(words, "dim")]
            if differs:
                line.append((f", {len(differs):,} came out differently", "warn"))
            yield line


def _head(view: RunView, node: NodeView, indent: str, width: int) -> Line:
    name = named(node.id)
    limit = f" of {view.limits.max_turns}" if view.limits else ""
    state = f"turn {len(node.turns)}{limit}" if node.turns else "starting"
    if node.ended is not None:
        state += f", {node.ended.status.replace('_', ' ')}"
    elif node.thinking:
        state += ", writing"
    room = width - len(indent) - len(name) - len(state) - 6
    line: Line = [(indent, "dim"), (name, "bold"), (f"  {state}", "dim")]
    if room >= LEAST_CODE:
        line.append((f"  {safe_line(node.question, room)}", ""))
    return line


def _cell(cell: CellView, indent: str, width: int) -> Line:
    word, style = how_it_ended(cell)
    calls = describe_calls(cell)
    took = "" if cell.ended_s is None else duration(cell.ended_s - cell.started_s)
    facts = " · ".join(part for part in (calls, describe_violations(cell), took) if part)
    number = f"{cell.number} "
    room = width - len(indent) - len(number) - len(word) - len(facts) - 5
    if room < LEAST_CODE and facts:
        facts, room = "", width - len(indent) - len(number) - len(word) - 3
    code = safe_line(first_line(cell.code), max(room, LEAST_CODE))
    line: Line = [(indent, "dim"), (number, "dim"), (code, ""), (f"  {word}", style)]
    if facts:
        line.append((f"  {facts}", "dim"))
    return line
