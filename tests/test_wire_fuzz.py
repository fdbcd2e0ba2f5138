"""Contract: the host's side of the wire, whatever comes in (fuzz/ says what must hold).

The corpus of the coverage-guided fuzzer is replayed here, and hypothesis looks on from there. What
fuzzing has found, and each rule that it rests on, has a test of its own below.
"""

import ast
import json
import tracemalloc
from pathlib import Path

import fuzz
import pytest
from fuzz import __main__ as command
from fuzz import host, targets
from fuzz.choices import Choices
from fuzz.frames import CALLS, FRAMES, MARK, spoil
from hypothesis import given, settings
from hypothesis import strategies as st

from abyme import wire
from abyme.core import replies
from abyme.errors import ProtocolViolation, SandboxError
from abyme.guest import values
from abyme.sandboxes.wired import channel, frames, session
from abyme.wire import HEADER, encode, has_more_values, packets

CORPUS = Path(fuzz.__file__).parent / "corpus"
KEPT = sorted(path for path in CORPUS.rglob("*") if path.is_file())
MAX_CORPUS_BYTES = 200_000


def test_a_misspelt_option_of_the_fuzzer_is_refused_and_help_tells_what_keep_does(
    monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", ["fuzz", "--keeep"])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "no such option: --keeep" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["fuzz", "--help"])
    with pytest.raises(SystemExit, match="0"):
        command.main()
    assert "into fuzz/corpus" in " ".join(capsys.readouterr().out.split())


def test_every_target_has_a_corpus_and_all_of_it_is_small():
    assert {path.parent.name for path in KEPT} == set(targets.TARGETS)
    assert sum(path.stat().st_size for path in KEPT) < MAX_CORPUS_BYTES


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_corpus_breaks_no_promise(name):
    for path in sorted((CORPUS / name).iterdir()):
        targets.TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", targets.TARGETS)
@settings(max_examples=150)
@given(st.data())
def test_no_bytes_break_a_promise(name, data):
    targets.TARGETS[name](data.draw(st.binary(max_size=120)))


STEP = st.one_of(
    st.tuples(st.integers(0, 9), st.integers(0, 13), st.integers(0, 15), st.integers(0, 6)).map(
        bytes
    ),
    st.tuples(st.integers(10, 13), st.integers(0, 255), st.integers(0, 255)).map(bytes),
)


@settings(max_examples=400)
@given(st.lists(STEP, max_size=40).map(b"".join))
def test_no_order_of_frames_breaks_a_promise(steps):
    host.session(steps)


@given(st.sampled_from(FRAMES), st.binary(min_size=3, max_size=12))
def test_a_spoilt_frame_is_another_frame_or_a_violation(kind, how):
    frame = json.loads(json.dumps(kind))
    spoil(frame, Choices(how))
    host.one_frame(json.dumps(frame).encode())


class Talk:
    """A session with a running cell, and a guest that says what the test says."""

    def __init__(self):
        self.loop = host.HandClock()
        self.play = host.Play(self.loop, Choices(b""))
        self.play.say({"t": "ready", "layers": ["pid_namespace"], "snapshots": True})
        self.play.run(self.play.session.opened(self.play.body, "3.12.1"))
        self.play.begin()
        self.loop.settle()

    def says(self, frame):
        self.play.say(frame)
        self.loop.settle()

    def sends(self, packet):
        self.play.send(packet)
        self.loop.settle()

    def passes(self, seconds):
        self.loop.now_s += seconds
        self.loop.settle()

    @property
    def error(self):
        return self.play.session._dead

    def close(self):
        self.play.close()
        self.loop.close()


@pytest.fixture
def talk():
    made = Talk()
    yield made
    made.close()


def submit(value):
    return {"t": "submit", "cell": 1, "value": value, "evidence": []}


DONE = {
    "t": "finished",
    "cell": 1,
    "output": "",
    "dropped_chars": 0,
    "error": None,
    "notes": [],
    "interrupted": False,
    "changed": [],
    "draft": None,
    "can_roll_back": True,
    "held": False,
}
LATE = submit("\ud800")
WIRED = len(encode(LATE)) - HEADER.size
LONG = list(packets(encode(submit("x" * 100_000))))


def test_a_frame_that_has_begun_must_end_within_its_time(talk):
    talk.sends(LONG[0])
    talk.passes(channel.FRAME_TIMEOUT_S - 1)
    assert talk.error is None
    talk.passes(2)
    assert str(talk.error) == "the guest began a frame and did not end it"


def test_frames_that_follow_each_other_without_a_pause_have_each_their_own_time(talk):
    talk.sends(LONG[0])
    for _ in range(2):
        talk.passes(channel.FRAME_TIMEOUT_S - 1)
        talk.play.send(LONG[1])
        talk.sends(LONG[0])
    assert (talk.error, talk.play.events) == (None, 2)
    talk.sends(LONG[1])


def test_a_frame_that_is_begun_again_and_again_gets_no_more_time(talk):
    for _ in range(3):
        talk.sends(LONG[0])
        talk.passes(channel.FRAME_TIMEOUT_S * 0.4)
    assert str(talk.error) == "the guest began a frame and did not end it"


def test_a_guest_that_asks_in_vain_and_never_reads_fills_no_memory(monkeypatch, talk):
    monkeypatch.setattr(channel, "MAX_UNREAD_REFUSALS", 50)
    talk.says(DONE)
    late = {**CALLS, "cell": 1, "more": False}
    for _ in range(2_000):
        talk.says(late)
        if talk.error is not None:
            break
    assert str(talk.error) == "the guest asks and does not read"


def test_what_was_left_to_send_is_dropped_with_the_session(talk):
    talk.sends(b"\7")
    assert isinstance(talk.error, ProtocolViolation)
    talk.play.session._channel.send([{"t": "keep", "cell": 1, "parts": 0}])
    assert len(talk.play.session._channel._outgoing) == 0


def test_an_announced_giant_is_refused_before_it_comes(talk):
    talk.sends(b"\1" + HEADER.pack((64 << 20) + 1))
    assert str(talk.error) == "the guest sent bytes that are not a frame"


@pytest.mark.parametrize("kind", FRAMES, ids=lambda kind: kind["t"])
def test_no_frame_moves_the_host_beyond_its_cell(talk, kind):
    talk.says({**kind, **({"cell": 7} if "cell" in kind else {})})
    assert talk.play.events == 0


def test_a_violation_carries_no_word_of_the_guests_and_no_other_exception():
    for body in (
        b'{"t": "gUeSt"}',
        b'{"t": "kept", "cell": "gUeSt"}',
        b'{"t": "kept", "cell": 1, "gUeSt": 1}',
        b'{"t": "kept", "gUeSt',
        b'{"t": "submit", "cell": 1, "value": "\\ud800gUeSt", "evidence": 1}',
        b"\xffgUeSt",
    ):
        with pytest.raises(ProtocolViolation) as caught:
            frames.decode(body)
        shown = caught.value
        assert MARK not in str(shown)
        assert (shown.__cause__, shown.__suppress_context__) == (None, True)


def test_a_violation_of_a_session_ends_its_cell_with_the_same_words(talk):
    running = talk.play.running
    talk.says({"t": "kept", "cell": 1})
    assert isinstance(talk.error, SandboxError)
    assert running.exception() is talk.error


EMPTY_LISTS = b"[" + b"[]," * 1_100_000 + b"[]]"


@pytest.mark.parametrize(
    "body",
    [
        b'{"t":"submit","cell":1,"value":' + EMPTY_LISTS + b',"evidence":[]}',
        b'{"t":"submit","cell":1,"value":["\\ud800",' + EMPTY_LISTS + b'],"evidence":[]}',
        b'{"t":"finished","draft":' + EMPTY_LISTS + b"}",
    ],
    ids=["answer", "surrogates", "draft"],
)
def test_a_value_of_very_many_parts_is_refused_before_it_is_made(body):
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolViolation, match="too many parts"):
            frames.decode(body)
        assert tracemalloc.get_traced_memory()[1] < 12 * len(body)
    finally:
        tracemalloc.stop()


def test_commas_and_brackets_in_a_text_are_no_values():
    text = ',[{"\\' * 300_000
    frame = frames.decode(json.dumps(submit(text)).encode())
    assert frame.value == text


@pytest.mark.parametrize(
    ("text", "values_held"),
    [
        ("1", 0),
        ("[]", 1),
        ("[1,2,3]", 3),
        ('{"a,b":[1,"x\\"\\\\,,,"]}', 3),
        ('["\\\\\\",,[["]', 1),
        ('"\\\\",[1]', 2),
        ('"unclosed,[{', 0),
        ('"\\', 0),
    ],
)
def test_values_are_counted_without_being_made(text, values_held):
    body = text.encode() + b" " * 20
    assert [has_more_values(body, most) for most in range(5)] == [
        values_held > most for most in range(5)
    ]


def test_a_cell_is_told_that_its_answer_has_too_many_values():
    with pytest.raises(ValueError, match="more than 110,000 values"):
        values.check_size(submit([0] * 110_001))
    values.check_size(submit(["a,b"] * 100_000))


def test_an_answer_of_100_000_values_passes_both_sides():
    for value in ([0.123456789] * 100_000, {f"key {n}": "a, b" for n in range(100_000)}):
        values.check_size(submit(value))
        assert frames.decode(encode(submit(value))[HEADER.size :]).value == value


@pytest.mark.parametrize(
    "numbers", [b"1.2345678901234567e-300," * 20_001, (b"1" * 4_000 + b",") * 150]
)
def test_numbers_that_are_long_to_read_are_refused_and_a_text_of_them_is_not(numbers):
    """A hundred thousand of the first took 0.7 s to decode, of the second 75 us each."""
    begin, end = b'{"t":"submit","cell":1,"evidence":[],"value":', b"}"
    with pytest.raises(ProtocolViolation, match="long to read"):
        frames.decode(begin + b"[" + numbers + b"0]" + end)
    with pytest.raises(ProtocolViolation, match="long to read"):
        frames.decode(begin + b'["\\ud800",' + numbers + b"0]" + end)
    assert frames.decode(begin + b'"' + numbers + b'"' + end).value == numbers.decode()
    few = frames.decode(
        begin + b"[" + numbers[: len(numbers) // 3].rpartition(b",")[0] + b"]" + end
    )
    assert len(few.value) >= 49
    with pytest.raises(ValueError, match="too many numbers"):
        values.check_size(submit([1e-300] * 20_001))


@pytest.fixture
def read(monkeypatch):
    """Kinds of all frames that are read whole."""
    kinds, frame_of = [], frames.frame_of

    def noted(begun, body):
        kinds.append(begun.t)
        return frame_of(begun, body)

    monkeypatch.setattr(frames, "frame_of", noted)
    return kinds


def test_a_flood_of_frames_leaves_the_loop_its_turn(talk):
    for _ in range(6):
        for packet in packets(encode(submit("x" * 30_000))):
            talk.play.send(packet)
    talk.play.session._channel._on_readable()
    assert talk.play.events == 5
    talk.loop.settle()
    assert talk.play.events == 6


def test_of_many_answers_only_the_first_and_the_last_are_read(talk, read):
    for number in range(100):
        talk.says(submit(number))
    assert (len(read), talk.play.events) == (15, 15)
    talk.says(DONE)
    assert (read[15:], talk.play.events) == (["finished", "submit"], 16)


def test_a_last_answer_that_is_none_ends_the_session(talk):
    for number in range(15):
        talk.says(submit(number))
    talk.says({**submit(15), "evidence": 1})
    assert talk.error is None
    talk.says(DONE)
    assert str(talk.error) == "the guest sent a frame that is not in the schema"


@pytest.mark.parametrize(
    ("limit", "most"), [("MAX_SUBMITS_SENT", 20), ("MAX_SUBMITTED_BYTES", 20 * WIRED)]
)
def test_a_cell_that_submits_without_end_ends_the_session(monkeypatch, talk, limit, most):
    monkeypatch.setattr(session, limit, most)
    for _ in range(21):
        assert talk.error is None
        talk.says(LATE)
    assert str(talk.error) == "the guest submitted too much in one cell"


@pytest.mark.parametrize(
    ("limit", "most"), [("MAX_LATE_FRAMES", 20), ("MAX_LATE_BYTES", 20 * WIRED)]
)
def test_what_comes_late_is_not_read_and_comes_to_an_end(monkeypatch, talk, read, limit, most):
    monkeypatch.setattr(session, limit, most)
    talk.says(DONE)
    del read[:]
    for _ in range(21):
        assert talk.error is None
        talk.says(LATE)
    assert (str(talk.error), read) == ("the guest sends on and on for a cell that has ended", [])


def test_what_was_late_is_forgotten_when_the_next_cell_has_ended(monkeypatch, talk):
    monkeypatch.setattr(session, "MAX_LATE_FRAMES", 20)
    for number in (1, 2, 3):
        talk.says({**DONE, "cell": number})
        for _ in range(20):
            talk.says(LATE)
        talk.play.check()
        talk.play.begin()
        talk.loop.settle()
    assert talk.error is None


def test_a_reply_of_quotes_that_are_never_closed_is_read_in_linear_time():
    """Before, 16,000 characters took a second and a half, and the time grew by the square."""
    for unit in ('"\\', "'\\", '\\"""', "'''\\", '"""\\"'):
        text = "```repl\n" + unit * (replies.MAX_CHARS // len(unit) - 10)
        assert replies.parse(text).code.startswith(unit)


def test_nothing_that_reads_a_guest_can_make_objects_of_its_choice():
    source = Path(frames.__file__).parent
    host_side = [*source.glob("*.py"), Path(wire.__file__)]
    named = {
        alias.name.partition(".")[0]
        for file in host_side
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in ([ast.alias(node.module)] if isinstance(node, ast.ImportFrom) else node.names)
    }
    assert named & {"pickle", "marshal", "shelve", "copyreg", "importlib", "ctypes"} == set()
    assert {"msgspec", "json"} <= named
