"""Contract: self_check. The judge is not blind: planted holes are found, on a sandbox that has
none but holes; what holds is not called a hole.
"""

import asyncio
import os
import signal

import pytest
from self_check_doubles import Open

from abyme.contexts.sealed import from_value
from abyme.sandboxes.self_check.behaviour import Behaviour
from abyme.sandboxes.self_check.run import Check, Tier
from abyme.sandboxes.self_check.world import VARIABLE, World

LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
TALK = "import socket\none = socket.socket({family}, {kind})\n"
LEAVES = "import os, signal, subprocess\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    with World(folder) as made:
        yield made


@pytest.fixture(scope="module")
def contexts():
    made = {"text": from_value("some text")}
    yield made
    made["text"].close()


def entry(*cells, **fields):
    return Behaviour(id="planted.one", sentence="It holds.", source="here", cells=cells, **fields)


@pytest.fixture
def check(world, contexts):
    """Run one entry on a sandbox of one's own."""

    def run(tried, sandbox=None, **tier):
        async def go():
            made = Tier("open", sandbox or Open(), **tier)
            async with Check(made, world, contexts) as opened:
                return (await opened.run([tried], lambda _: None))[0]

        result = asyncio.run(go())
        return result.outcome, result.words

    return run


def test_what_says_held_and_reaches_nothing_holds(check):
    assert check(entry("print('held')")) == ("held", "")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print(Path('{dir}/canary').read_text())", "it knows the text of a file of the host"),
        ("raise ValueError(Path('{dir}/canary').read_text())",
         "it knows the text of a file of the host"),
        (LIBC + f"libc.getenv.restype = ctypes.c_char_p\nprint(libc.getenv(b'{VARIABLE}'))",
         "it knows a variable of the host's environment"),
        ("Path('{dir}/made').touch()", "in a folder of the host came, went or changed: made"),
        ("Path('{dir}/canary').write_text('{mark}')",
         "in a folder of the host came, went or changed: canary"),
        ("Path('{dir}/canary').unlink()",
         "in a folder of the host came, went or changed: canary"),
        ("Path('{dir}').chmod(0o700)",
         "in a folder of the host came, went or changed: ."),
        ("Path('/tmp/{mark}').touch()", "a file was made in /tmp"),
        (TALK.format(family=2, kind=1) + "one.connect(('127.0.0.1', {port}))\none.close()",
         "a TCP port of the host was spoken to"),
        (TALK.format(family=2, kind=2) + "one.sendto(b'x', ('127.0.0.1', {port}))\none.close()",
         "a UDP port of the host was spoken to"),
        (TALK.format(family=1, kind=1) + "one.connect('\\0{abstract}')\none.close()",
         "an abstract unix socket of the host was spoken to"),
        (TALK.format(family=1, kind=1) + "one.connect('{unix}')\none.close()",
         "a unix socket of the host was spoken to"),
        ("import os\nos.setpriority(os.PRIO_PROCESS, {pid}, 19)",
         "a process of the host is not as it was: priority"),
        ("import resource\nresource.prlimit({pid}, resource.RLIMIT_NOFILE, (20, 20))",
         "a process of the host is not as it was: limits"),
        (LEAVES + "os.kill({pid}, signal.SIGTERM)\nos.waitid(os.P_PID, {pid}, os.WEXITED | "
         "os.WNOWAIT)", "a process of the host is not as it was: "),
        ("together['kept_here'] = 'other'", "another REPL of the run is not as it was; "),
        ("raises = KeyError('host')", "the host raised KeyError: 'host'"),
        ("import asyncio\nasyncio.get_running_loop().call_exception_handler({'message': 'odd'})",
         "the host's event loop was told: 'odd'"),
        ("print('HOLE', 5)", "HOLE 5"),
    ],
)  # fmt: skip
def test_a_goal_that_was_reached_is_a_hole_even_if_the_cell_says_held(check, code, words):
    outcome, seen = check(entry(f"from pathlib import Path\n{code}\nprint('held')"))

    assert outcome == "hole"
    assert seen.startswith(words)
    assert check(entry("print('held')")) == ("held", "")  # it is not blamed for the one before


def test_a_process_and_a_descriptor_that_are_left_behind_are_a_hole(check):
    sandbox = Open()
    leaves = (
        "import os\ntogether['fd'] = os.dup(1)\n"
        "together['pid'] = os.posix_spawn('/bin/sleep', ['sleep', '1000'], {})\nprint('held')"
    )
    result = check(entry(leaves), sandbox)
    os.close(sandbox.together["fd"])
    os.kill(sandbox.together["pid"], signal.SIGKILL)
    os.waitpid(sandbox.together["pid"], 0)

    assert result == ("hole", "it left 1 processes behind; it left 1 descriptors open")


def test_a_secret_that_the_code_was_given_is_none(check):
    assert check(entry("print('{canary}')\nprint('held')")) == ("held", "")


def test_a_secret_that_an_earlier_cell_has_sent_is_found(check):
    tried = entry(
        "from pathlib import Path\nprint(Path('{dir}/canary').read_text())", "print('held')"
    )

    assert check(tried) == ("hole", "it knows the text of a file of the host")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('well')", "it proves nothing: clean, output 'well\\n', error ''"),
        ("raise KeyError", "it proves nothing: raised, output '', error 'KeyError'"),
        ("session.limit = 'cell_timeout_s'\nprint('held')", "it was ended by cell_timeout_s"),
    ],
)  # fmt: skip
def test_an_entry_that_proves_nothing_is_broken(check, code, words):
    assert check(entry(code)) == ("broken", words)


def test_an_end_by_force_holds_where_the_entry_allows_it(check):
    code = "session.limit = 'crashed (signal 11)'"

    assert check(entry(code, ends=("crashed",))) == ("held", "")
    assert check(entry(code, ends=("memory_bytes",)))[0] == "broken"


LOSES = "del session.names['kept_here'], kept_here\nsession.limit = 'memory_bytes'"


def test_state_that_is_lost_is_a_hole_unless_that_is_documented(check):
    assert check(entry(LOSES, ends=("memory_bytes",))) == (
        "hole", "what was bound before is lost: memory_bytes, output '', error ''",
    )  # fmt: skip
    assert check(entry(LOSES, ends=("memory_bytes",), loses="by design")) == ("held", "")
    assert check(entry(LOSES, ends=("memory_bytes",)), Open(snapshots=False)) == ("held", "")


DIES = "session.dead = 'the guest broke the rules'"


def test_a_session_that_dies_must_be_allowed_to(check):
    assert check(entry(DIES)) == (
        "hole", "what was bound before is lost: the session has died: the guest broke the rules",
    )  # fmt: skip
    allowed = entry(DIES, ends=("lost: SandboxError",), loses="by design")
    assert check(allowed) == ("held", "")
    other = entry(DIES, ends=("lost: ProtocolViolation",), loses="by design")
    assert check(other)[0] == "broken"


def test_an_entry_that_needs_what_is_not_here_is_passed_over_with_the_reason(check):
    assert check(entry("print('held')", needs=frozenset({"mseal", "snapshots"}))) == (
        "passed_over", "it needs what is not here: mseal",
    )  # fmt: skip


def test_a_documented_difference_is_passed_over_with_its_reason(check):
    differs = {"planted.*": "it has no threads"}

    assert check(entry("1"), differs=differs) == ("passed_over", "it has no threads")


def test_the_judgement_of_an_entrys_own_is_asked_and_the_cells_word_needed(check):
    wrong, right = (lambda seen: seen.cells[0].output.strip()), (lambda seen: "")

    assert check(entry("print('held')", judge=wrong)) == ("hole", "held")
    assert check(entry("print('well')", judge=right))[0] == "broken"
    assert check(entry("print('well')", judge=right, kind="semantics")) == ("held", "")
    assert check(entry("print('well')", judge=wrong, kind="semantics")) == ("broken", "well")
