"""The container tier: the guest behind a relay, in a real container and under a stand-in engine."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from container_doubles import LIMITS, Bench, StandIn, real_engine
from jail_doubles import TEXT, Repl
from msgspec import structs

from abyme import RLM, replay
from abyme.contexts.sealed import from_value
from abyme.core import events as ev
from abyme.core.isolation import Isolation
from abyme.errors import SandboxUnavailable
from abyme.journals.folder import RunFolder
from abyme.sandboxes.container import Container, engine, files, image
from abyme.sandboxes.container import __main__ as build_image
from abyme.sandboxes.self_check import host
from abyme.testing import ScriptedModel
from abyme.wire import Channel, MessageReader, WireError, message

FROM_CONTAINER = {
    "container",
    "pid_namespace_of_container",
    "no_network",
    "read_only_root",
    "not_root",
    "no_capabilities",
    "no_new_privileges",
}
OF_EVERY_REPL = {"seccomp", "rlimits", "empty_environment"}


@pytest.fixture(scope="module")
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.run_until_complete(made.shutdown_default_executor())
    made.close()


@pytest.fixture
def stand_in(tmp_path):
    return StandIn(tmp_path)


@pytest.fixture(scope="module", params=["real", "stand-in"])
def bench(request, loop, tmp_path_factory):
    if request.param == "real":
        isolation = real_engine()
    else:
        isolation = StandIn(tmp_path_factory.mktemp("engine")).isolation
    made = Bench(loop, isolation)
    yield made
    made.close()


@pytest.fixture(scope="module")
def repl(bench):
    with bench.repl() as made:
        yield made


def has_network():
    return {name for _, name in socket.if_nameindex()} > {"lo"}


def refused(loop, isolation):
    """What a user is told of a container that lacks something."""
    with pytest.raises(SandboxUnavailable) as told:
        Bench(loop, isolation)
    return str(told.value)


def test_a_cell_reads_the_context_in_a_container(repl):
    assert repl.out("print(context); x = 41") == f"{TEXT}\n"
    assert repl.out("x + 1") == "42\n"


def test_what_the_container_promises_was_verified_from_inside(repl):
    layers = set(repl.session.facts.layers)
    assert layers >= FROM_CONTAINER | OF_EVERY_REPL


def test_a_sub_call_of_many_packets_goes_out_and_comes_back_whole(repl):
    size = 1_000_000
    repl.out(f"got = llm_query('p' * {size})")
    assert repl.batches[-1].requests[0].prompt == "p" * size
    assert repl.out("len(got), got[:2], got[-2:]") == f"({size + 2}, '<p', 'p>')\n"


def test_fifty_sub_calls_at_once_come_back_in_order(repl):
    out = repl.out("print(llm_query_batched([str(n) for n in range(50)]))")
    assert out == f"{[f'<{n}>' for n in range(50)]}\n"


def test_no_file_of_the_image_and_no_network_is_there(repl):
    code = """
import os, socket
for attempt in (lambda: open("/opt/abyme/wire.py"), lambda: open("/etc/passwd"),
                lambda: open("/context/index", "rb"), lambda: os.listdir("/proc"),
                lambda: socket.create_connection(("127.0.0.1", 80))):
    try: attempt()
    except Exception as error: print(type(error).__name__)
    else: print("HOLE")
"""
    assert "HOLE" not in repl.out(code)


def test_no_variable_of_the_host_or_the_image_is_there(repl):
    assert repl.out("import os; dict(os.environ)") == "{}\n"


def test_a_cell_that_crashes_is_rolled_back(repl):
    if not repl.session.facts.snapshots:
        pytest.skip("this engine allows no user namespaces in its containers")
    repl.out("kept = 1")
    finished = repl.cell("kept = 2\nimport os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    assert (finished.ended, finished.limit) == ("rolled_back", "crashed (signal 11)")
    assert repl.out("kept") == "1\n"


def test_a_cell_without_end_is_interrupted_from_outside(repl):
    repl.stops = "stopped"
    finished = repl.cell("submit(1)\nwhile True: pass")
    repl.stops = None
    assert (finished.ended, finished.limit) == ("interrupted", "stopped")
    assert repl.out("'alive'") == "'alive'\n"


def test_a_cell_that_ignores_interrupts_is_rolled_back(repl):
    if not repl.session.facts.snapshots:
        pytest.skip("this engine allows no user namespaces in its containers")
    repl.stops = "stopped"
    code = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [2])\nsubmit(1)\nwhile 1: pass"
    finished = repl.cell(code)
    repl.stops = None
    assert (finished.ended, finished.limit) == ("rolled_back", "stopped")


def test_two_repls_of_a_run_share_its_file_and_its_hash_seed(bench, repl):
    before = sorted(path.name for path in bench.run._files.folder.iterdir())
    with bench.repl() as other:
        code = "hash('a'), len(context)"
        assert other.out(code) == repl.out(code)
    assert sorted(path.name for path in bench.run._files.folder.iterdir()) == before


def test_a_child_has_its_own_context(bench):
    own = from_value({"a": "one", "b": "two"})
    with bench.repl(context=own) as child:
        assert child.out("dict(context)") == "{'a': 'one', 'b': 'two'}\n"
    own.close()


def test_a_question_with_a_child_is_answered_in_containers_and_replayed(bench, tmp_path):
    isolation = Isolation(tier="container", engine=bench.run._engine.path)
    cells = {
        "root?": "part = rlm_query('child?', context['a.txt'])\nsubmit(part + '!')",
        "child?": "submit(context.upper())",
    }

    def reply(request):
        asked = request.messages[1].content
        return f"```repl\n{next(code for key, code in cells.items() if asked.startswith(key))}\n```"

    model = ScriptedModel(reply)
    documents = {"a.txt": "one", "b.txt": "two"}
    with RLM(model=model, runs_dir=tmp_path, sandbox=isolation) as rlm:
        answer = rlm.ask("root?", documents)
    assert answer.value == "ONE!"
    opened = [
        one.event
        for one in RunFolder(answer.run).recording().records
        if isinstance(one.event, ev.SessionOpened)
    ]
    assert [one.layers[0] for one in opened] == ["container", "container"]
    assert replay(answer.run, context=documents, runs_dir=tmp_path).same


def test_nothing_is_left_when_a_run_is_closed(loop, bench):
    made = Bench(loop, Isolation(tier="container", engine=bench.run._engine.path))
    session = made.wait(made.run.open(node="0", seed=1))
    folder, name = made.run._files.folder, made.run._files.name
    made.close()
    assert session.closed
    assert not folder.exists()
    listed = [made.run._engine.path, "ps", "--all", "--quiet", f"--filter=label=abyme.run={name}"]
    assert subprocess.check_output(listed) == b""


@pytest.mark.parametrize(
    ("lack", "layer"),
    [
        ("read_only", "read_only_root"),
        ("user", "not_root"),
        ("capabilities", "no_capabilities"),
        ("pids", "pid_namespace_of_container"),
    ],
)
def test_a_container_that_lacks_a_layer_is_refused(loop, stand_in, lack, layer):
    stand_in.lacks(lack)
    assert refused(loop, stand_in.isolation) == f"the container lacks a layer: {layer}"


def test_a_container_with_a_network_is_refused(loop, stand_in):
    if not has_network():
        pytest.skip("this host has no network to share")
    stand_in.lacks("network")
    assert refused(loop, stand_in.isolation) == "the container lacks a layer: no_network"


def test_the_guest_of_another_version_is_refused(loop, stand_in):
    stand_in.forget_digest()
    told = refused(loop, stand_in.isolation)
    assert told == "the image holds the guest of another version of abyme"


def test_without_user_namespaces_inside_cells_run_under_landlock_and_are_not_rolled_back(
    loop, stand_in
):
    stand_in.lacks("userns")
    bench = Bench(loop, stand_in.isolation)
    with bench.repl() as repl:
        layers = set(repl.session.facts.layers)
        assert layers & {"landlock", "pid_namespace"} == {"landlock"}
        assert not repl.session.facts.snapshots
        repl.stops = "stopped"
        finished = repl.cell("submit(1)\nwhile True: pass")
        assert (finished.ended, finished.limit) == ("interrupted", "stopped")
    bench.close()


def test_without_landlock_too_the_container_and_the_filter_are_what_holds(loop, stand_in):
    stand_in.lacks("userns", "landlock")
    bench = Bench(loop, stand_in.isolation)
    with bench.repl() as repl:
        layers = set(repl.session.facts.layers)
        assert layers >= FROM_CONTAINER | OF_EVERY_REPL
        assert "landlock" not in layers
        code = "try: open('/opt/abyme/wire.py')\nexcept OSError as error: print(error.strerror)"
        assert repl.out(code) == "No such file or directory\n"
    bench.close()


def test_a_container_that_does_not_end_by_itself_is_killed(loop, stand_in, monkeypatch):
    monkeypatch.setattr("abyme.sandboxes.container.link.END_GRACE_S", 0.05)
    monkeypatch.setattr("abyme.sandboxes.container.link.OPEN_TIMEOUT_S", 0.05)
    stand_in.lacks("end")
    assert refused(loop, stand_in.isolation) == "the container does not answer"
    told = [json.loads(line) for line in (stand_in.folder / "told").read_text().splitlines()]
    assert [words[0] for words in told][-2:] == ["run", "kill"]


def test_a_container_that_does_not_start_is_told_in_the_words_of_its_engine(loop, stand_in):
    stand_in.lacks("start")
    told = refused(loop, stand_in.isolation)
    assert told == "the container did not start: Error: runtime: not permitted"


def test_a_container_that_nobody_waits_for_any_more_is_ended(loop, stand_in, monkeypatch):
    async def opened(session, body, *_):
        session._body = body
        raise asyncio.CancelledError

    monkeypatch.setattr("abyme.sandboxes.container.container.WiredSession.opened", opened)
    with pytest.raises(asyncio.CancelledError):
        Bench(loop, stand_in.isolation)
    container = int(next(stand_in.folder.glob("pid-*")).read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(container, 0)


def test_what_is_no_message_ends_a_container(loop, stand_in):
    stand_in.lacks("sense")
    told = refused(loop, stand_in.isolation)
    assert told == "the container did not start: the engine said nothing"


def test_a_killed_host_leaves_no_container_and_the_next_run_sweeps_its_folder(loop, bench):
    engine_path = bench.run._engine.path
    code = f"""
import asyncio, sys
sys.path[:0] = {[str(Path(image.__file__).parents[3]), str(Path(__file__).parent), *sys.path]}
from container_doubles import Bench
from abyme.core.isolation import Isolation
bench = Bench(asyncio.new_event_loop(), Isolation(tier="container", engine={engine_path!r}))
bench.wait(bench.run.open(node="0", seed=1))
print(bench.run._files.folder, flush=True)
sys.stdin.read()
"""
    host = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    folder = Path(host.stdout.readline().strip())
    host.send_signal(signal.SIGKILL)
    host.wait()
    host.stdin.close()
    host.stdout.close()
    subprocess.run([engine_path, "wait", f"{folder.name}-1"], check=False, capture_output=True)
    assert folder.exists()
    Bench(loop, Isolation(tier="container", engine=engine_path)).close()
    assert not folder.exists()
    listed = [engine_path, "ps", "--all", "--quiet", f"--filter=label=abyme.run={folder.name}"]
    assert subprocess.check_output(listed) == b""


def test_an_engine_that_is_not_there_is_told(loop):
    isolation = Isolation(tier="container", engine="no-such-engine")
    with pytest.raises(SandboxUnavailable, match="'no-such-engine' is not on the PATH"):
        Bench(loop, isolation)


def test_the_container_of_the_root_is_started_before_it_is_asked_for_and_once(loop, stand_in):
    bench = Bench(loop, stand_in.isolation)
    assert stand_in.runs() == 1
    with bench.repl() as repl:
        assert repl.out("print(context)") == f"{TEXT}\n"
    assert stand_in.runs() == 1
    with bench.repl() as again:
        assert again.out("1 + 1") == "2\n"
    assert stand_in.runs() == 2
    bench.close()


def test_an_engine_that_starts_nothing_fails_a_question_before_its_folder_is_made(
    stand_in, tmp_path
):
    stand_in.lacks("start")
    runs = tmp_path / "runs"
    model = ScriptedModel(lambda request: "```repl\nsubmit('never')\n```")
    with (
        RLM(model=model, runs_dir=runs, sandbox=stand_in.isolation) as rlm,
        pytest.raises(SandboxUnavailable, match="did not start: Error: runtime: not permitted"),
    ):
        rlm.ask("root?", "text")
    assert list(runs.glob("*")) == []
    assert model.requests == []


@pytest.mark.parametrize(
    ("lack", "why"),
    [
        ("start", "the container did not start: Error: runtime: not permitted"),
        ("network", "the container lacks a layer: no_network"),
    ],
)
def test_doctor_calls_the_tier_one_that_can_be_had_only_if_a_container_came_up(
    stand_in, monkeypatch, lack, why
):
    monkeypatch.setenv("PATH", f"{stand_in.folder}:{os.environ['PATH']}")
    monkeypatch.setattr("abyme.sandboxes.container.engine.ENGINES", ("podman",))
    before = set(files.left())
    assert asyncio.run(host.other_tiers())[1] == host.TierReport("container", True, "")
    if lack == "network" and not has_network():
        pytest.skip("this host has no network to share")
    stand_in.lacks(lack)
    assert asyncio.run(host.other_tiers())[1] == host.TierReport("container", False, why)
    assert set(files.left()) == before


def test_the_image_is_built_with_the_engine_that_answers(stand_in, tmp_path, monkeypatch):
    (tmp_path / "silent").mkdir()
    silent = StandIn(tmp_path / "silent")
    silent.path.rename(silent.folder / "docker")
    silent.lacks("daemon")
    monkeypatch.setenv("PATH", f"{silent.folder}:{stand_in.folder}:{os.environ['PATH']}")
    assert build_image.main([]) == 0
    built = [json.loads(line) for line in (stand_in.folder / "told").read_text().splitlines()]
    assert [words[0] for words in built] == ["image", "build"]


def test_without_an_engine_that_answers_no_image_is_built_and_why_is_said(
    stand_in, monkeypatch, capsys
):
    stand_in.lacks("daemon")
    assert build_image.main(["--engine", str(stand_in.path)]) == 1
    assert capsys.readouterr().err == "podman does not answer: Cannot connect to the daemon.\n"
    monkeypatch.setenv("PATH", str(stand_in.folder / "guest"))
    assert build_image.main([]) == 1
    told = "install Docker or Podman: neither is on the PATH\n"
    assert capsys.readouterr().err == told


def test_of_two_engines_the_one_that_answers_is_taken(loop, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    silent, answers = StandIn(tmp_path / "a"), StandIn(tmp_path / "b")
    silent.path.rename(silent.folder / "docker")
    silent.lacks("daemon")
    monkeypatch.setenv("PATH", f"{silent.folder}:{answers.folder}:{os.environ['PATH']}")
    bench = Bench(loop, Isolation(tier="container"))
    assert bench.run._engine.path == str(answers.path)
    bench.close()


def test_an_engine_without_the_image_says_how_to_build_it(loop, stand_in):
    stand_in.lacks("image")
    with pytest.raises(SandboxUnavailable) as told:
        Bench(loop, stand_in.isolation)
    command = f"`python -m abyme.sandboxes.container --engine {stand_in.path}`"
    assert str(told.value).endswith(f"{command} builds it")


def test_an_engine_that_does_not_answer_is_told_in_its_own_words(loop, stand_in):
    stand_in.lacks("daemon")
    with pytest.raises(
        SandboxUnavailable, match=r"does not answer: Cannot connect to the daemon\."
    ):
        Bench(loop, stand_in.isolation)


def test_a_package_of_the_image_is_loaded_and_told_with_its_version(loop, stand_in):
    stand_in.add_package("counted", "__version__ = '1.5'\ndef double(x): return 2 * x\n")
    bench = Bench(loop, structs.replace(stand_in.isolation, packages=["counted"]))
    with bench.repl() as repl:
        assert repl.session.facts.packages == ("counted 1.5",)
        assert repl.out("import counted; counted.double(21)") == "42\n"
    bench.close()


def test_a_package_that_the_image_lacks_is_refused(loop, stand_in):
    told = refused(loop, structs.replace(stand_in.isolation, packages=["not_there"]))
    assert told.startswith("guest package 'not_there' cannot be loaded: ModuleNotFoundError")


def test_cells_follow_the_import_policy_of_the_run(loop, stand_in):
    bench = Bench(loop, structs.replace(stand_in.isolation, imports="strict"))
    with bench.repl() as repl:
        finished = repl.cell("import socket")
        assert finished.error.splitlines()[-1].startswith("SecurityViolation")
        assert finished.violations == ["socket"]
    bench.close()


def test_children_that_are_apart_have_a_hash_seed_of_their_own(loop, stand_in):
    bench = Bench(loop, structs.replace(stand_in.isolation, apart=True), hash_seed=5)
    hashes = []
    for node in ("0", "0.1", "0.1"):
        session = bench.wait(bench.run.open(node=node, seed=1))
        hashes.append(Repl(loop, session).out("hash('a')"))
        bench.wait(session.aclose())
    bench.close()
    assert hashes[0] != hashes[1] == hashes[2]


@pytest.mark.parametrize("kind", ["docker", "podman"])
def test_the_words_to_an_engine_take_everything_away(kind):
    made = engine.Engine("/bin/engine", kind, "", "image")
    words = made.run("name", "run", [Path("/f/0"), Path("/f/1")], LIMITS)
    assert words[:2] == ["/bin/engine", "run"]
    assert set(words) >= {
        "--rm",
        "--interactive",
        "--pull=never",
        "--network=none",
        "--ipc=none",
        "--read-only",
        "--user=65534:65534",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        f"--security-opt=seccomp={Path(engine.__file__).with_name('seccomp.json')}",
        "--pids-limit=75",
        "--memory=1879048192",
        "--memory-swap=1879048192",
        "--volume=/f/0:/context/index:ro,z",
        "--volume=/f/1:/context/arena:ro,z",
    }
    assert ("--read-only-tmpfs=false" in words) == (kind == "podman")
    assert words[-1] == "image"


def test_the_filter_for_the_engine_is_the_one_that_is_published():
    published = Path(__file__).parent.parent / "deploy" / "seccomp.json"
    assert engine.FILTER.read_text() == published.read_text()


@pytest.mark.parametrize(
    ("kind", "begins"),
    [
        (
            "docker",
            ["e", "run", "--rm", "--interactive", "--pull=never", "--name=n", "--runtime=runsc"],
        ),
        ("podman", ["e", "--runtime", "runsc", "run", "--rm", "--interactive", "--pull=never"]),
    ],
)
def test_a_runtime_is_passed_through_where_each_engine_takes_it(kind, begins):
    words = engine.Engine("e", kind, "runsc", "i").run("n", "r", [Path("a"), Path("b")], LIMITS)
    assert words[: len(begins)] == begins


def test_a_context_is_copied_once_for_all_and_only_this_user_comes_to_it():
    context = from_value("x" * 100_000)
    made = files.Files()
    first = made.of(context.fds)
    assert made.of(context.fds) == first
    assert first[1].read_bytes()[:100_000] == b"x" * 100_000
    assert (made.folder.stat().st_mode & 0o777, first[1].stat().st_mode & 0o777) == (0o700, 0o444)
    assert made.folder not in files.left()
    made.close()
    made.close()
    assert not made.folder.exists()
    context.close()


def test_messages_are_cut_out_of_a_stream_wherever_it_breaks():
    sent = [(Channel.WIRE, b"abc"), (Channel.CONTROL, b""), (Channel.USE, b"\0" * 300)]
    data = b"".join(message(channel, body) for channel, body in sent)
    for step in (1, 7, len(data)):
        reader = MessageReader()
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        assert [one for piece in pieces for one in reader.feed(piece)] == sent


@pytest.mark.parametrize("data", [b"\x07\0\0\0\0", b"\x02\xff\xff\xff\xff"])
def test_a_stream_that_holds_no_messages_is_broken(data):
    with pytest.raises(WireError):
        list(MessageReader().feed(data))


def test_the_image_is_named_by_what_is_in_it(tmp_path):
    image.lay_out(tmp_path)
    assert (tmp_path / "abyme" / "digest").read_text() == image.digest()
    assert image.name() == f"localhost/abyme-guest:{image.digest()}"
    assert not (tmp_path / "abyme" / "core").exists()


def test_begin_is_refused_without_a_trace(stand_in):
    stand_in.lacks("image")
    before = set(files.left())
    with pytest.raises(SandboxUnavailable):
        asyncio.run(_begin(stand_in.isolation))
    assert set(files.left()) == before


async def _begin(isolation):
    context = from_value("a")
    try:
        await Container().begin(context=context, limits=LIMITS, isolation=isolation)
    finally:
        context.close()


def test_the_image_of_abyme_is_what_the_guide_and_the_pod_start():
    root = Path(__file__).parent.parent
    lines = (root / "deploy" / "Containerfile").read_text().splitlines()
    assert lines[-3:] == ["ENV ABYME_HOME=/data", "USER 1000:1000", 'ENTRYPOINT ["abyme"]']
    assert all((root / name).exists() for name in ("pyproject.toml", "README.md", "LICENSE", "src"))
    assert 'args: ["doctor"' in (root / "deploy" / "pod.yaml").read_text()
    guide = (root / "docs" / "guides" / "containers.md").read_text()
    assert "--volume abyme:/data --env ABYME_HOME=/data \\\n  abyme:0.1.0 doctor\n" in guide
