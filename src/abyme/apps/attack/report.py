"""The tables of the check, at most 80 columns wide, and all that did not hold below them."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from abyme.apps.amounts import count
from abyme.apps.attack.rounds import Round
from abyme.apps.cli.terminal import Terminal
from abyme.apps.tree import Line, Style
from abyme.sandboxes.self_check.behaviour import Behaviour

WIDTH: Final = 80
OUTCOMES: Final = ("held", "hole", "broken", "passed_over")
HEADINGS: Final = ("held", "holes", "broken", "passed over")
WORST: Final[Mapping[str, Style]] = {"hole": "bad", "broken": "bad", "passed_over": "dim"}
FIRST, NEXT = 14, 12


def show(made: Round, entries: Mapping[str, Behaviour], terminal: Terminal) -> None:
    """Show a round."""
    terminal.say("")
    for text in _wrapped(f"{made.tier}, {made.privilege}: {made.words}"):
        terminal.line([(text, "bold")])
    if made.unavailable:
        for text in _wrapped(f"not run: {made.unavailable}", "  "):
            terminal.line([(text, "warn")])
        return
    if made.results:
        _table(made, entries, terminal)
    if made.broken:
        for text in _wrapped(f"broken: {made.broken}", "  "):
            terminal.line([(text, "bad")])


def _table(made: Round, entries: Mapping[str, Behaviour], terminal: Terminal) -> None:
    layers = ", ".join(made.layers)
    for text in _wrapped(f"Python {made.python}; {layers}", "  "):
        terminal.line([(text, "dim")])
    terminal.line([(_row("", HEADINGS), "dim")])
    for name in (*made.classes(), None):
        terminal.line(_counts(made, name))
    for line in _failures(made, entries):
        terminal.line(line)


def summary(rounds: list[Round], terminal: Terminal) -> None:
    """Say in one line what it comes to."""
    total = {one: sum(made.count(one) for made in rounds) for one in OUTCOMES}
    broken = sum(bool(made.broken) for made in rounds)
    played = sum(not made.unavailable for made in rounds)
    of_them = [f"{broken} of them broken"] if broken else []
    of_them += [f"{len(rounds) - played} more not run"] if played < len(rounds) else []
    beside = f" ({', '.join(of_them)})" if of_them else ""
    words = (
        f"{count(played, 'round')}{beside}: {total['held']} held, {count(total['hole'], 'hole')}, "
    )
    words += f"{total['broken']} broken, {total['passed_over']} passed over"
    good: Style = "good" if all(made.holds for made in rounds) else "bad"
    terminal.say("")
    terminal.line([(words, good)])


def as_json(made: Round) -> dict[str, Any]:
    """Give a round to a machine."""
    return {
        "tier": made.tier,
        "privilege": made.privilege,
        "python": made.python,
        "layers": list(made.layers),
        "unavailable": made.unavailable or None,
        "broken": made.broken or None,
        "holds": made.holds,
        "results": [
            {"id": one.id, "outcome": one.outcome, "words": one.words, "took_s": one.took_s}
            for one in made.results
        ],
    }


def _counts(made: Round, name: str | None) -> Line:
    line: Line = [(f"  {name or 'all':<{FIRST}}", "bold" if name is None else "")]
    for outcome, heading in zip(OUTCOMES, HEADINGS, strict=True):
        number = made.count(outcome, name)
        style: Style = WORST.get(outcome, "") if number else "dim"
        line.append((f"{number:>{_width(heading)}}", style))
    return line


def _row(name: str, cells: tuple[str, ...]) -> str:
    return f"  {name:<{FIRST}}" + "".join(f"{cell:>{_width(cell)}}" for cell in cells)


def _width(heading: str) -> int:
    return max(NEXT, len(heading) + 2)


def _failures(made: Round, entries: Mapping[str, Behaviour]) -> Iterator[Line]:
    for outcome in ("hole", "broken"):
        for one in made.results:
            if one.outcome != outcome:
                continue
            entry = entries[one.id]
            yield [(f"  {outcome}  {one.id}", "bad")]
            told = f"{entry.sentence} [{entry.source}] Seen: {one.words}"
            for text in _wrapped(told, "    "):
                yield [(text, "")]
    reasons: dict[str, list[str]] = {}
    for one in made.results:
        if one.outcome == "passed_over":
            reasons.setdefault(one.words, []).append(one.id)
    for why, ids in reasons.items():
        for text in _wrapped(f"passed over, {why}: {', '.join(ids)}", "  "):
            yield [(text, "dim")]


def _wrapped(text: str, indent: str = "") -> list[str]:
    printable = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
    return textwrap.wrap(
        printable, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=True
    ) or [indent]
