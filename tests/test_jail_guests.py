"""Contract: sandboxes/wired/session, with a guest of the test's own at the other end."""

import asyncio
import gc
import socket
from types import SimpleNamespace

import pytest
from jail_doubles import BUDGET

from abyme.core.effects import Result
from abyme.core.seeks import Sought
from abyme.errors import ProtocolViolation, SandboxError
from abyme.sandboxes.jail.zygote import Zygote
from abyme.sandboxes.wired import ceilings, channel, frames, session
from abyme.sandboxes.wired.body import Use
from abyme.sandboxes.wired.session import WiredSession
from abyme.wire import ENGINE_PROCESSES, PACKET_BYTES, PacketReader, decode, encode, packets

FINISHED = {
    "t": "finished",
    "output": "",
    "dropped_chars": 0,
    "error": None,
    "interrupted": False,
    "changed": [],
    "draft": None,
    "notes": [],
    "can_roll_back": True,
    "held": False,
}
REQUEST = {"prompt": "p", "text": None, "model": None, "fresh": False}


class Guest:
    """Says what the test says, and reads what the host says."""

    def __init__(self, cell_timeout_s=60, memory_bytes=None, seek=None):
        wire, self.wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control, self.control = socket.socketpair()
        self.session = WiredSession(
            wire,
            control,
            cell_timeout_s=cell_timeout_s,
            output_chars=50,
            max_processes=None,
            memory_bytes=memory_bytes,
            seek=seek,
        )
        self.session.facts = SimpleNamespace(layers=("pid_namespace",), snapshots=True)
        self.events = []
        self.reader = PacketReader()
        self.wire.setblocking(False)

    def cell(self, number, code="", restore=()):
        run = self.session.run_cell(
            number, code, restore=restore, budget=BUDGET, on_event=self.events.append
        )
        return asyncio.ensure_future(run)

    def says(self, **frame):
        for packet in packets(encode(frame)):
            self.wire.send(packet)

    def finishes(self, number, **more):
        self.says(**{**FINISHED, "cell": number, **more})

    def asks(self, number, batch):
        self.says(
            t="calls", cell=number, batch=batch, purpose="llm", requests=[REQUEST], more=False
        )

    async def hears_word(self):
        """Take the host's word to the supervisor, and say that it was passed on."""
        loop = asyncio.get_running_loop()
        self.control.setblocking(False)
        word = await loop.sock_recv(self.control, 1)
        await loop.sock_sendall(self.control, word)
        return word

    async def hears(self):
        loop = asyncio.get_running_loop()
        while True:
            packet = await loop.sock_recv(self.wire, PACKET_BYTES + 1)
            heard = self.reader.feed(packet)
            if heard is not None:
                return decode(heard)


def with_guest(play, **settings):
    """Run an async test function with a guest."""

    async def run():
        guest = Guest(**settings)
        try:
            await play(guest)
        finally:
            await guest.session.aclose()
            guest.wire.close()
            guest.control.close()

    asyncio.run(run())


def test_a_thread_that_asks_after_its_cell_has_ended_is_refused_and_the_session_lives():
    async def play(guest):
        first = guest.cell(1)
        assert (await guest.hears())["batch"] == 0
        guest.finishes(1)
        guest.asks(1, batch=0)
        guest.says(t="submit", cell=1, value=1, evidence=[])
        refused = await guest.hears()
        assert (refused["batch"], refused["refused"]["fault"]) == (0, "cancelled")
        assert (await first).ended == "clean"

        second = guest.cell(2)
        assert (await guest.hears())["batch"] == 1
        guest.asks(1, batch=1)
        assert (await guest.hears())["batch"] == 1
        guest.asks(2, batch=2)
        guest.finishes(2)
        await second
        assert [event.batch for event in guest.events] == [2]

    with_guest(play)


@pytest.mark.parametrize("number", [0, 2, 3])
def test_a_frame_for_a_cell_that_never_was_ends_the_session(number):
    async def play(guest):
        running = guest.cell(1)
        await guest.hears()
        guest.asks(number, batch=0)
        with pytest.raises(ProtocolViolation, match="not running"):
            await running

    with_guest(play)


def test_a_cell_that_is_stopped_before_it_has_begun_does_not_run():
    async def play(guest):
        running = guest.cell(1, "x = 1", [Result(call=7, text="kept")])
        guest.session.end_cell("stopped")
        restored, begun = await guest.hears(), await guest.hears()
        assert (restored["results"][0]["call"], begun["code"]) == (7, "")
        guest.finishes(1)
        finished = await running
        assert (finished.ended, finished.limit) == ("interrupted", "stopped")

    with_guest(play)


def test_a_stop_that_no_cell_was_there_for_does_not_hit_a_later_one():
    async def play(guest):
        guest.session.end_cell("stopped")
        for number in (1, 2):
            running = guest.cell(number, "x = 1")
            assert (await guest.hears())["code"] == "x = 1"
            guest.finishes(number)
            assert (await running).ended == "clean"
            guest.session.end_cell("stopped")

    with_guest(play)


def test_a_stop_while_a_late_interrupt_is_still_on_its_way_is_kept():
    async def play(guest):
        first = guest.cell(1)
        await guest.hears()
        guest.session.end_cell("stopped")
        guest.finishes(1)
        await first
        second = guest.cell(2, "x = 1")
        await asyncio.sleep(0)
        guest.session.end_cell("stopped again")
        guest.control.send(guest.control.recv(1))
        assert (await guest.hears())["code"] == ""
        guest.finishes(2)
        assert (await second).limit == "stopped again"

    with_guest(play)


def test_of_many_submits_the_last_one_is_told():
    async def play(guest):
        running = guest.cell(1)
        await guest.hears()
        for value in range(40):
            guest.says(t="submit", cell=1, value=value, evidence=[])
        guest.finishes(1)
        await running
        assert [event.value for event in guest.events] == [*range(15), 39]

    with_guest(play)


def test_an_output_is_cut_where_the_guest_did_not():
    async def play(guest):
        running = guest.cell(1)
        await guest.hears()
        guest.finishes(1, output="x" * 5_000)
        assert len((await running).output) == 1_100

    with_guest(play)


def test_calls_without_room_for_their_text_are_refused_and_others_are_not(monkeypatch):
    monkeypatch.setattr(frames, "MAX_OPEN_BYTES", 2_000)

    async def play(guest):
        running = guest.cell(1)
        await guest.hears()
        guest.asks(1, batch=0)
        for _ in range(3):
            guest.says(t="piece", cell=1, batch=1, position=0, part="prompt", text="x" * 600)
        guest.asks(1, batch=1)
        assert (await guest.hears())["refused"]["fault"] == "limit"
        guest.asks(1, batch=2)
        guest.finishes(1)
        await running
        assert [event.batch for event in guest.events] == [0, 2]

    with_guest(play)


NESTED = b"[" * 102 + b"]" * 102


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (NESTED, "too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "too deeply"),
        (b"NaN", "not a frame"),
        (b"1e999", "not in the schema"),
        (b'["\\ud800", NaN]', "not a frame"),
        (b'["\\ud800", 1e999]', "not a frame"),
        (b'"' + b"x" * (9 << 20) + b'"', "too long for its kind"),
        (b"[" + b"[]," * (6 << 20) + b"[]]", "too long for its kind"),
    ],
)
def test_a_value_out_of_bounds_is_refused(value, words):
    with pytest.raises(ProtocolViolation, match=words):
        frames.decode(b'{"t":"submit","cell":1,"evidence":[],"value":' + value + b"}")


def test_half_a_surrogate_pair_passes():
    body = b'{"t":"submit","cell":1,"evidence":[],"value":["\\ud800 \\ud83d\\ude00"]}'

    assert frames.decode(body).value == ["\ud800 \U0001f600"]


def test_a_name_that_is_too_long_is_refused():
    names = [{"name": "x" * 201, "type": "int", "size": None}]
    with pytest.raises(ProtocolViolation, match="schema"):
        frames.decode(bytearray(encode({**FINISHED, "cell": 1, "changed": names})[4:]))


def test_a_fork_server_that_ends_after_its_asker_was_cancelled_leaves_no_complaint():
    complaints = []

    async def play():
        asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
        zygote = Zygote(0)
        asked = asyncio.ensure_future(zygote._expect(60))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait({asked})
        zygote._theirs.close()
        await zygote.aclose()

    asyncio.run(play())
    gc.collect()
    assert complaints == []


HELD = {"held": True, "interrupted": True, "error": "KeyboardInterrupt", "output": "so far"}


def test_an_interrupted_cell_of_a_run_that_ends_is_told_to_keep_its_state():
    async def play(guest):
        running = guest.cell(1)
        await guest.hears()
        guest.session.end_cell("stopped")
        assert await guest.hears_word() == b"i"
        guest.finishes(1, **HELD)
        assert await guest.hears() == {"t": "keep", "cell": 1, "parts": 0}
        guest.says(t="kept", cell=1)
        finished = await running
        assert (finished.ended, finished.limit) == ("interrupted", "stopped")
        assert finished.output == "so far"

    with_guest(play)


def test_a_process_that_dies_while_it_waits_for_the_word_is_a_cell_rolled_back():
    async def play(guest):
        running = guest.cell(1)
        await guest.hears()
        guest.session.end_cell("stopped")
        assert await guest.hears_word() == b"i"
        guest.finishes(1, **HELD, draft="half")
        await guest.hears()
        guest.says(t="rolled_back", code=-9, number=1)
        finished = await running
        assert (finished.ended, finished.limit) == ("rolled_back", "stopped")
        assert (finished.output, finished.draft) == ("so far", "half")

        guest.cell(2)
        assert (await guest.hears())["roll_backs"] == 1

    with_guest(play)


def test_a_guest_that_keeps_what_is_to_be_rolled_back_ends_the_session():
    async def play(guest):
        running = guest.cell(1)
        await guest.hears()
        assert await guest.hears_word() == b"i"
        guest.finishes(1, **HELD)
        assert await guest.hears_word() == b"r"
        guest.says(t="kept", cell=1)
        with pytest.raises(ProtocolViolation, match="not told to"):
            await running

    with_guest(play, cell_timeout_s=0)


@pytest.mark.parametrize("more", [{"held": True}, {"held": False}])
def test_a_guest_that_ends_a_cell_it_has_told_of_ends_the_session(more):
    async def play(guest):
        running = guest.cell(1)
        await guest.hears()
        guest.finishes(1, **HELD)
        guest.finishes(1, **more)
        with pytest.raises(ProtocolViolation, match="twice"):
            await running

    with_guest(play)


def test_what_threads_ask_and_submit_while_a_cell_is_held_is_too_late():
    async def play(guest):
        running = guest.cell(1)
        await guest.hears()
        guest.finishes(1, **HELD)
        guest.asks(1, batch=0)
        guest.says(t="submit", cell=1, value=1, evidence=[])
        assert (await guest.hears())["t"] == "keep"
        assert (await guest.hears())["refused"]["fault"] == "cancelled"
        guest.says(t="kept", cell=1)
        assert (await running).ended == "raised"
        assert guest.events == []

    with_guest(play)


def test_a_guest_that_is_not_interrupted_and_says_so_gains_nothing_but_an_error_of_its_own():
    async def play(guest):
        running = guest.cell(1)
        await guest.hears()
        guest.finishes(1, **HELD)
        assert (await guest.hears())["t"] == "keep"
        guest.says(t="kept", cell=1)
        finished = await running
        assert (finished.ended, finished.limit) == ("raised", None)

    with_guest(play)


class Processes:
    """Stands in for a REPL's processes; its forks have the memory that a test says."""

    def __init__(self):
        self.forks_bytes = 0
        self.looks = 0
        self.killed = asyncio.Event()

    def use(self):
        self.looks += 1
        return Use(0.0, ENGINE_PROCESSES, forks_bytes=self.forks_bytes)

    def interrupt(self):
        raise AssertionError

    def kill(self):
        self.killed.set()

    async def gone(self):
        pass


def after_a_cell(monkeypatch):
    """Take the looks that a session puts off, to take them when the test says so."""
    looks = []
    loop = asyncio.get_running_loop()
    late = loop.call_later

    def call_later(wait_s, look, *more):
        if look.__name__ != "_look_idle":
            return late(wait_s, look, *more)
        looks.append((wait_s, look, more))
        return SimpleNamespace(cancel=looks.clear)

    monkeypatch.setattr(loop, "call_later", call_later)

    def take():
        ((_, look, more),) = looks
        looks.clear()
        look(*more)

    return looks, take


def test_processes_that_take_memory_after_their_cell_end_the_session_and_are_named(monkeypatch):
    async def play(guest):
        processes = guest.session._body = Processes()
        _, take = after_a_cell(monkeypatch)
        first = guest.cell(1)
        await guest.hears()
        guest.finishes(1, can_roll_back=False)
        assert (await first).ended == "clean"

        take()
        processes.forks_bytes = 101
        take()
        assert not processes.killed.is_set()
        monkeypatch.setattr(ceilings, "AGAIN_S", 0.0)
        take()
        assert processes.killed.is_set()
        reached = "101 bytes in processes that the cell has forked, 100 allowed"
        with pytest.raises(SandboxError, match=rf"ended after memory_bytes \({reached}\)"):
            await guest.cell(2)

    with_guest(play, memory_bytes=100)


def test_the_next_cell_and_the_end_of_the_session_end_the_looks_between_cells(monkeypatch):
    async def play(guest):
        guest.session._body = Processes()
        looks, _ = after_a_cell(monkeypatch)
        for number in (1, 2):
            running = guest.cell(number)
            await guest.hears()
            assert looks == []
            guest.finishes(number)
            await running
            assert [wait_s for wait_s, *_ in looks] == [ceilings.IDLE_LOOK_S]
        await guest.session.aclose()
        assert looks == []

    with_guest(play, memory_bytes=100)


def test_a_session_that_has_no_forks_to_watch_is_not_looked_at_between_cells(monkeypatch):
    async def play(guest):
        looks, _ = after_a_cell(monkeypatch)
        running = guest.cell(1)
        await guest.hears()
        guest.finishes(1)
        await running
        assert looks == []

    with_guest(play)


def test_answers_of_the_context_that_a_guest_does_not_read_are_bounded(monkeypatch):
    monkeypatch.setattr(session, "MAX_UNREAD_ANSWERS_BYTES", 3 << 20)
    questions, all_asked = [], asyncio.Event()

    async def seek(wanted):
        questions.append(wanted)
        if len(questions) == 6:
            all_asked.set()
        return Sought(note="a" * (1 << 20))

    async def play(guest):
        running = guest.cell(1)
        await guest.hears()
        for batch in range(6):
            guest.says(t="seek", cell=1, batch=batch, wanted={"type": "grep", "pattern": "a"})
        await all_asked.wait()
        await asyncio.gather(*guest.session._seeking._open)
        assert guest.session._channel.unread_bytes < 4 << 20
        given = {}
        while len(given) < 6:
            told = await guest.hears()
            if told["t"] == "answer":
                given[told["batch"]] = told["refused"] and told["refused"]["fault"]
        assert given[0] is given[1] is None
        assert given[4] == given[5] == "limit"
        guest.finishes(1)
        assert (await running).ended == "clean"

    with_guest(play, seek=seek)


def test_a_guest_that_asks_its_context_and_never_reads_is_ended(monkeypatch):
    monkeypatch.setattr(channel, "MAX_UNREAD_REFUSALS", 20)

    async def seek(_):
        return Sought(note="a" * (1 << 20))

    async def play(guest):
        running = guest.cell(1)
        await guest.hears()
        for batch in range(10):
            guest.says(t="seek", cell=1, batch=batch, wanted={"type": "grep", "pattern": "a"})
        with pytest.raises(ProtocolViolation, match="does not read"):
            await running

    with_guest(play, seek=seek)
