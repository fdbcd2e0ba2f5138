"""Contract: apps/safe_text, apps/amounts, cli/terminal. Nothing written to a terminal obeys a
document (terminal injection: CWE-150).
"""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.apps.amounts import count, duration, size, usd
from abyme.apps.cli.answers import left_out
from abyme.apps.cli.terminal import Terminal, terminal
from abyme.apps.safe_text import safe, safe_line


@pytest.mark.parametrize(
    ("attack", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),  # clears the screen
        ("\x1b]52;c;cm0gLXJm\x07", "\\x1b]52;c;cm0gLXJm\\x07"),  # sets the clipboard
        ("\x9b31m", "\\x9b31m"),  # the same by one C1 character
        ("good\rbad", "good\\x0dbad"),  # overwrites the line
        ("x\x08\x7f", "x\\x08\\x7f"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),  # reverses the line: CVE-2021-42574
        ("\U000e0041", "\\U000e0041"),  # invisible tags
        ("\ud800", "\\ud800"),
        ("two\r\nlines\tand é 漢", "two\nlines\tand é 漢"),
    ],
)
def test_dangerous_characters_are_shown_not_obeyed(attack: str, shown: str) -> None:
    assert safe(attack) == shown


@given(st.text(st.characters(codec=None)))
def test_safe_text_has_no_controls_and_can_be_encoded(text: str) -> None:
    shown = safe(text)

    shown.encode("utf-8")
    assert [c for c in shown if ord(c) < 32 and c not in "\n\t"] == []
    assert "\n" not in safe_line(text)


def test_a_line_is_cut_with_an_ellipsis() -> None:
    assert safe_line("  one\n   two three ", 8) == "one two…"


class Tty(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def on(env: dict[str, str], encoding: str = "utf-8") -> Terminal:
    return terminal(Tty(io.BytesIO(), encoding=encoding), env)


@pytest.mark.parametrize(
    ("env", "encoding", "colour", "redrawable"),
    [
        ({"TERM": "xterm"}, "utf-8", True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "utf-8", False, True),
        ({"TERM": "dumb"}, "utf-8", False, False),
        ({}, "utf-8", False, False),
        ({"TERM": "xterm"}, "latin-1", True, False),
    ],
)
def test_colour_and_redrawing_need_a_terminal_that_wants_them(
    env: dict[str, str], encoding: str, colour: bool, redrawable: bool
) -> None:
    looked_at = on(env, encoding)

    assert (looked_at.colour, looked_at.redrawable) == (colour, redrawable)


def test_a_pipe_has_neither_colour_nor_redrawing() -> None:
    pipe = terminal(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), {"TERM": "xterm"})

    assert (pipe.tty, pipe.colour, pipe.redrawable) == (False, False, False)


def written(target: Terminal) -> bytes:
    return target.stream.buffer.getvalue()


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", b"\xe9\\udce9\xe6\xbc\xa2\n"), ("ascii", b"\\xe9\\udce9\\u6f22\n")],
)
def test_what_the_encoding_lacks_is_escaped_not_fatal(encoding: str, expected: bytes) -> None:
    target = terminal(io.TextIOWrapper(io.BytesIO(), encoding=encoding), {})
    target.data("é\udce9漢")

    assert written(target) == expected.replace(b"\xe9", "é".encode(encoding, "backslashreplace"))


def test_an_answer_reaches_a_program_untouched_and_a_reader_safe() -> None:
    pipe = terminal(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), {})
    screen = on({"TERM": "xterm"})
    for target in (pipe, screen):
        target.data("\x1b[31mred")

    assert written(pipe) == b"\x1b[31mred\n"
    assert written(screen) == b"\\x1b[31mred\n"


def test_a_styled_line_is_painted_only_where_colour_is_wanted() -> None:
    plain, colourful = on({"TERM": "dumb"}), on({"TERM": "xterm"})
    for target in (plain, colourful):
        target.line([("ok", "good"), (" rest", "")])

    assert written(plain) == b"ok rest\n"
    assert written(colourful) == b"\x1b[32mok\x1b[0m rest\n"


def test_amounts_read_like_amounts() -> None:
    assert [usd(None), usd(0), usd(120), usd(5_000_000)] == [
        "cost unknown",
        "$0.00",
        "$0.0001",
        "$5.00",
    ]
    assert [count(1, "call"), count(2_000, "call"), count(3, "child", "children")] == [
        "1 call",
        "2,000 calls",
        "3 children",
    ]
    assert [duration(1.25), duration(75), duration(7_320)] == ["1.2 s", "1 min 15 s", "2 h 02 min"]
    assert [size(999), size(1_117_320_768), size(38_100_000)] == ["999 B", "1.1 GB", "38.1 MB"]


def test_evidence_that_is_left_out_is_counted_and_the_first_is_named() -> None:
    assert left_out(["a\x1b", "b", "c", "d"]) == (
        "4 pieces of evidence were not found in the context and are left out: "
        "'a\\x1b', 'b', 'c', ..."
    )
