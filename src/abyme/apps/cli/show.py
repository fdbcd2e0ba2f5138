"""``abyme show``: one run from its journal, in the terminal.

Decides how much of a cell is printed. Everything comes from the run's folder; nothing
is run, asked or changed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abyme.apps.cli import failures, options
from abyme.apps.cli.terminal import Terminal, out

if TYPE_CHECKING:
    from abyme.apps.tree import Line
    from abyme.apps.view import CellView, NodeView, RunView
    from abyme.core.tally import Spent
    from abyme.journals.folder import RunFolder
    from abyme.journals.reader import Recording
    from abyme.run.usage import Usage

CODE_LINES, OUTPUT_LINES, SUB_CALLS = 30, 12, 5
"""Of a cell, unless ``--full``."""


@click.command("show", short_help="Show a run: tree, cells, sub-calls, cost.")
@click.argument("run", metavar="RUN")
@options.RUNS_DIR
@click.option("--full", is_flag=True, help="Leave nothing out.")
@options.JSON
def command(run: str, runs_dir: Path | None, *, full: bool, as_json: bool) -> int:
    """Show a run: its tree, its cells with code and output, its sub-calls, its cost.

    RUN is an id or the beginning of one, a folder, or `latest`.
    """
    folder = options.found(run, runs_dir)
    recording = folder.recording()
    if as_json:
        failures.print_json(_as_json(folder, recording))
        return failures.ANSWERED
    terminal = out()
    for line in _lines(folder, recording, terminal, full=full):
        terminal.line(line)
    return failures.ANSWERED


def _as_json(folder: "RunFolder", recording: "Recording") -> dict[str, Any]:
    from abyme.apps.cli.usage import as_object  # noqa: PLC0415

    answer, usage = folder.answer(), _usage(_view(recording))
    return {
        "run": str(folder.path),
        "status": answer.status if answer else None,
        "torn_bytes": recording.torn_bytes,
        "usage": as_object(usage),
        "records": recording.records,
    }


def _view(recording: "Recording") -> "RunView":
    from abyme.apps.view import RunView  # noqa: PLC0415

    view = RunView()
    view.take(recording.records)
    return view


def _usage(view: "RunView") -> "Usage":
    from abyme.run.usage import usage_of  # noqa: PLC0415

    return usage_of(view.tally, wall_s=view.at_s)


def _lines(
    folder: "RunFolder", recording: "Recording", terminal: Terminal, *, full: bool
) -> Iterator["Line"]:
    from abyme.apps.amounts import count  # noqa: PLC0415
    from abyme.apps.cli.usage import divided  # noqa: PLC0415
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415
    from abyme.apps.tree import draw  # noqa: PLC0415

    view, started = _view(recording), recording.started
    yield [(folder.id, "bold"), (f"  {started.started_at}", "dim")]
    yield [("question  ", "dim"), (safe_line(started.question), "")]
    models = started.root.name
    if started.sub.name != started.root.name:
        models += f", sub-calls by {started.sub.name}"
    yield [("model     ", "dim"), (safe_line(models), "")]
    documents = count(started.context_documents, "document")
    amount = f"{documents}, {count(started.context_chars, 'character')}"
    yield [("context   ", "dim"), (amount, "")]
    if full:
        yield from _skipped(folder)
    yield []
    *tree, totals = draw(view, width=terminal.width)
    yield from tree
    yield from _resumed(view)
    for node in view.nodes.values():
        yield from _cells(node, view, full=full)
    yield []
    yield from _ending(folder, recording, view)
    for line in divided(_usage(view)):
        yield [(safe_line(line.strip()), "dim")]
    yield totals


def _resumed(view: "RunView") -> Iterator["Line"]:
    """Where a run was cut off, and what had become of its REPLs since."""
    from abyme.apps.tree import differing, going_on  # noqa: PLC0415

    if view.resumed:
        yield []
    for resumed in view.resumed:
        yield [(f"resumed {resumed.event.resumed_at} {going_on(resumed)}", "warn")]
    for node in view.nodes.values():
        for rebuilt in node.rebuilt:
            for difference in rebuilt.event.differs:
                yield [(f"rebuilt otherwise: {differing(node.id, difference)}", "warn")]


def _skipped(folder: "RunFolder") -> Iterator["Line"]:
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415

    for name, reason in folder.skipped():
        yield [("skipped   ", "dim"), (safe_line(f"{name} ({reason})"), "")]
    if folder.lay_in_file():
        words = "the context lay in a file of the cache folder, not in sealed memory"
        yield [("seal      ", "dim"), (words, "")]


def _cells(node: "NodeView", view: "RunView", *, full: bool) -> Iterator["Line"]:
    from abyme.apps.cli.answers import references  # noqa: PLC0415
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415
    from abyme.apps.tree import how_it_ended, named  # noqa: PLC0415
    from abyme.core.ids import ROOT  # noqa: PLC0415

    for cell in node.cells:
        word, style = how_it_ended(cell)
        yield []
        yield [(f"── {named(node.id)}, cell {cell.number}  ", "bold"), (word, style)]
        yield from _block(cell.code.strip("\n"), CODE_LINES, full=full)
        yield from _sub_calls(cell, view.tally.by_cell.get((node.id, cell.number)), full=full)
        if cell.finished is not None:
            yield from _output(cell, full=full)
        if cell.checked is not None and node.id != ROOT:  # the root's stand below its answer
            for line in references(cell.checked.found, cell.checked.derivations):
                yield [(f"│ {line.strip()}", "")]
    for why in node.lost:
        yield [(f"REPL lost: {safe_line(why)}", "bad")]
    if node.ended is not None and node.ended.status != "answered":
        word = node.ended.status.replace("_", " ")
        reason = safe_line(node.ended.reason or "")
        yield [(f"── {named(node.id)}  {word}: {reason}", "warn")]


def _output(cell: "CellView", *, full: bool) -> Iterator["Line"]:
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415

    assert cell.finished is not None
    for text, style in ((cell.finished.output, "dim"), (cell.finished.error or "", "warn")):
        if text.strip():
            yield from _block(text.rstrip("\n"), OUTPUT_LINES, full=full, mark="│ ", style=style)
    if cell.finished.dropped_chars:
        yield [(f"│ {cell.finished.dropped_chars:,} characters were cut out", "dim")]
    if cell.finished.violations:
        yield [(f"│ refused import: {safe_line(', '.join(cell.finished.violations))}", "warn")]
    for note in cell.finished.notes:
        yield [(f"│ note: {safe_line(note)}", "dim")]
    if cell.wrong is not None:
        yield [(f"│ does not fit the schema: {safe_line(cell.wrong)}", "warn")]


def _sub_calls(cell: "CellView", spent: "Spent | None", *, full: bool) -> Iterator["Line"]:
    from abyme.apps.amounts import usd  # noqa: PLC0415
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415
    from abyme.apps.tree import describe_calls  # noqa: PLC0415

    counters = describe_calls(cell)
    if not counters:
        return
    if spent is not None and not spent.unpriced:
        counters += f" · {usd(spent.amount.usd_micro)}"
    yield [(f"▸ {counters}", "accent")]
    shown = cell.calls if full else cell.calls[:SUB_CALLS]
    for call in shown:
        text: str
        if call.state == "lost":
            text = "in flight when the run was cut off, or set aside"
        elif call.failure is not None:
            text = f"{call.failure.fault}: {call.failure.message}"
        else:
            text = call.text
        style = "bad" if call.failure else "dim"
        yield [(f"  {call.id}  {safe_line(text, None if full else 100)}", style)]  # type: ignore[list-item]
    if len(shown) < len(cell.calls):
        yield [(f"  … {len(cell.calls) - len(shown):,} more (--full)", "dim")]


def _block(
    text: str, most: int, *, full: bool, mark: str = "  ", style: Any = ""
) -> Iterator["Line"]:
    from abyme.apps.safe_text import safe  # noqa: PLC0415

    lines = safe(text).split("\n")
    cut = lines if full or len(lines) <= most else lines[: most - 1]
    for line in cut:
        yield [(mark + line, style)]
    if len(cut) < len(lines):
        yield [(f"{mark}… {len(lines) - len(cut):,} more lines (--full)", "dim")]


def _ending(folder: "RunFolder", recording: "Recording", view: "RunView") -> Iterator["Line"]:
    from abyme.apps.cli.answers import as_text, references  # noqa: PLC0415
    from abyme.apps.safe_text import safe, safe_line  # noqa: PLC0415

    if recording.torn_bytes:
        yield [(f"the last record is torn ({recording.torn_bytes:,} bytes) and left out", "warn")]
    if view.finished is None:
        yield [("running" if folder.is_running() else "interrupted: it did not end", "warn")]
        return
    done = view.finished
    yield [(done.status, "good" if done.status == "answered" else "warn")]
    if done.reason:
        yield [(safe_line(done.reason), "warn")]
    if done.value is not None:
        yield [(safe(as_text(done.value)), "")]
    elif done.status == "partial":
        yield [("no answer was held", "warn")]
    for line in references(done.evidence, done.derivations):
        yield [(line, "dim")]
