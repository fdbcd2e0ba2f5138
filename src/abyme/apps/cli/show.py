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
    from abyme.journals.folder import RunFolder
    from abyme.journals.reader import Recording

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
    answer = folder.answer()
    return {
        "run": str(folder.path),
        "status": answer.status if answer else None,
        "torn_bytes": recording.torn_bytes,
        "records": recording.records,
    }


def _lines(
    folder: "RunFolder", recording: "Recording", terminal: Terminal, *, full: bool
) -> Iterator["Line"]:
    from abyme.apps.amounts import count  # noqa: PLC0415
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415
    from abyme.apps.tree import draw, totals  # noqa: PLC0415
    from abyme.apps.view import RunView  # noqa: PLC0415

    view = RunView()
    for record in recording.records:
        view.add(record)
    started = recording.started
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
    yield from draw(view, width=terminal.width)[:-1]
    for node in view.nodes.values():
        yield from _cells(node, full=full)
    yield []
    yield from _ending(folder, recording, view)
    yield totals(view)


def _skipped(folder: "RunFolder") -> Iterator["Line"]:
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415

    for name, reason in folder.skipped():
        yield [("skipped   ", "dim"), (safe_line(f"{name} ({reason})"), "")]


def _cells(node: "NodeView", *, full: bool) -> Iterator["Line"]:
    from abyme.apps.tree import how_it_ended  # noqa: PLC0415

    for cell in node.cells:
        word, style = how_it_ended(cell)
        yield []
        yield [(f"── {node.id}, cell {cell.number}  ", "bold"), (word, style)]
        yield from _block(cell.code.strip("\n"), CODE_LINES, full=full)
        yield from _sub_calls(cell, full=full)
        if cell.finished is not None:
            yield from _output(cell, full=full)
    for why in node.lost:
        from abyme.apps.safe_text import safe_line  # noqa: PLC0415

        yield [(f"REPL lost: {safe_line(why)}", "bad")]


def _output(cell: "CellView", *, full: bool) -> Iterator["Line"]:
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415

    assert cell.finished is not None
    for text, style in ((cell.finished.output, "dim"), (cell.finished.error or "", "warn")):
        if text.strip():
            yield from _block(text.rstrip("\n"), OUTPUT_LINES, full=full, mark="│ ", style=style)
    if cell.finished.dropped_chars:
        yield [(f"│ {cell.finished.dropped_chars:,} characters were cut out", "dim")]
    for note in cell.finished.notes:
        yield [(f"│ note: {safe_line(note)}", "dim")]


def _sub_calls(cell: "CellView", *, full: bool) -> Iterator["Line"]:
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415
    from abyme.apps.tree import describe_calls  # noqa: PLC0415

    counters = describe_calls(cell)
    if not counters:
        return
    yield [(f"▸ {counters}", "accent")]
    shown = cell.calls if full else cell.calls[:SUB_CALLS]
    for call in shown:
        if call.failure is not None:
            text: str = f"{call.failure.fault}: {call.failure.message}"
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
    from abyme.apps.cli.answers import as_text, place  # noqa: PLC0415
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
    for number, evidence in enumerate(done.evidence, 1):
        yield [(f"  [{number}] {place(evidence)}", "dim")]
