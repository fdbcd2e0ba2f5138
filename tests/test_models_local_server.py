"""Contract: models/local/server. A child process that never outlives its parent.

The runtime is a stand-in with the interface of `xllamacpp`; the process is real.
"""

import asyncio
import dataclasses
import hashlib
import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from abyme.core.profile import Message
from abyme.errors import ConfigError, ModelError
from abyme.models.local import server as under_test
from abyme.models.local import weights
from abyme.models.local.server import LocalModel
from abyme.models.names import resolve
from abyme.ports import ModelRequest

DATA = b"weights"
TOY = weights.Weights(
    name="toy",
    title="Toy",
    file="toy.gguf",
    size_bytes=len(DATA),
    sha256=hashlib.sha256(DATA).hexdigest(),
    memory_bytes=1,
    hub_url=None,
    wheels=("toy==1",),
    part_bytes=len(DATA),
)
RUNTIME = """
import os, types
from abyme.testing import ScriptedEndpoint

class CommonParams:
    def __init__(self):
        self.model = types.SimpleNamespace()
        self.cpuparams, self.cpuparams_batch = types.SimpleNamespace(), types.SimpleNamespace()

class Server:
    def __init__(self, params):
        if os.path.basename(params.model.path) != "toy.gguf":
            raise RuntimeError("no such file")
        if os.path.exists(os.path.join(os.path.dirname(params.model.path), "broken")):
            raise RuntimeError("failed to load model")
        def answer(body):
            last = body["messages"][-1]["content"]
            if last == "die":
                os._exit(9)
            if last == "slot":
                return str(body["id_slot"])
            return f"{os.getpid()} {last} {sorted(os.environ)}"
        self.endpoint = ScriptedEndpoint(answer, api_key=params.api_keys[0]).__enter__()
        self.listening_address = self.endpoint.url.removesuffix("/v1")
        print("loaded", flush=True)
"""
ENDPOINT = resolve("local:toy", env={})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    (runtime / "xllamacpp.py").write_text(textwrap.dedent(RUNTIME), encoding="utf-8")
    monkeypatch.syspath_prepend(str(runtime))
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    monkeypatch.setitem(weights.WEIGHTS, "toy", TOY)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "toy.gguf").write_bytes(DATA)
    return cache


def ask(text: str = "hi") -> ModelRequest:
    return ModelRequest(messages=[Message("user", text)], max_output_tokens=200)


def gone(pid: int) -> bool:
    """Wait for the end of a process that need not be our child."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], 20)[0])
    finally:
        os.close(watch)


def test_the_first_call_starts_the_server_and_aclose_ends_it(folder: Path) -> None:
    async def run() -> tuple[int | None, str, str, int | None, int | None]:
        model = LocalModel(ENDPOINT, folder)
        before = model.pid
        one = await model.complete(ask("one"))
        two = await model.complete(ask("two"))
        pid = model.pid
        await model.aclose()
        await model.aclose()
        return before, one.text, two.text, pid, model.pid

    before, one, two, pid, after = asyncio.run(run())
    assert before is None
    assert pid is not None
    assert one.startswith(f"{pid} one ")
    assert two.startswith(f"{pid} two ")
    assert after is None
    assert gone(pid)
    assert (folder / "toy.log").read_text(encoding="utf-8") == "loaded\n"


def test_the_server_sees_none_of_our_environment(folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    async def run() -> str:
        model = LocalModel(ENDPOINT, folder)
        reply = await model.complete(ask())
        await model.aclose()
        return reply.text

    assert asyncio.run(run()).endswith("hi ['LC_ALL', 'PYTHONPATH']")


def test_calls_at_once_start_one_server(folder: Path) -> None:
    async def run() -> set[str]:
        model = LocalModel(ENDPOINT, folder)
        replies = await asyncio.gather(*(model.complete(ask()) for _ in range(6)))
        await model.aclose()
        return {reply.text.split()[0] for reply in replies}

    assert len(asyncio.run(run())) == 1


def test_turns_and_sub_calls_have_slots_of_their_own(folder: Path) -> None:
    """However many sub-calls come between two turns, the prompt of the turn before is known."""
    turn = dataclasses.replace(ask(), messages=[Message("system", "s"), Message("user", "slot")])

    async def run() -> tuple[list[str], list[str]]:
        model = LocalModel(ENDPOINT, folder)
        turns = [await model.complete(turn) for _ in range(2)]
        subs = await asyncio.gather(*(model.complete(ask("slot")) for _ in range(5)))
        await model.aclose()
        return [reply.text for reply in turns], [reply.text for reply in subs]

    assert asyncio.run(run()) == (["0", "0"], ["1"] * 5)


def test_a_server_that_dies_is_a_typed_failure_and_starts_anew(folder: Path) -> None:
    async def run() -> tuple[ModelError, str, str]:
        model = LocalModel(ENDPOINT, folder)
        first = await model.complete(ask())
        with pytest.raises(ModelError, match="its server has ended") as caught:
            await model.complete(ask("die"))
        second = await model.complete(ask())
        await model.aclose()
        return caught.value, first.text.split()[0], second.text.split()[0]

    error, first, second = asyncio.run(run())
    assert (error.failure, error.retryable) == ("unreachable", True)
    assert first != second


def test_a_server_that_cannot_load_says_why(folder: Path) -> None:
    (folder / "broken").touch()

    async def run() -> None:
        model = LocalModel(ENDPOINT, folder)
        try:
            await model.complete(ask())
        finally:
            await model.aclose()

    with pytest.raises(ModelError, match=r"failed to load model.*toy\.log"):
        asyncio.run(run())


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_killed_parent_leaves_no_server(folder: Path, in_thread: bool) -> None:
    code = f"""
        import asyncio, sys, threading, time
        sys.path[:0] = {[p for p in sys.path if p]!r}
        from pathlib import Path
        from abyme.core.profile import Message
        from abyme.models.local import weights
        from abyme.models.local.server import LocalModel
        from abyme.models.names import resolve
        from abyme.ports import ModelRequest
        weights.WEIGHTS["toy"] = weights.Weights(
            name="toy", title="", file="toy.gguf", size_bytes={len(DATA)}, sha256={TOY.sha256!r},
            memory_bytes=1, hub_url=None, wheels=(), part_bytes=1)
        model = LocalModel(resolve("local:toy", env={{}}), Path({str(folder)!r}))
        request = ModelRequest(messages=[Message("user", "hi")], max_output_tokens=9)
        def call():
            asyncio.run(model.complete(request))
        if {in_thread}:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        else:
            call()
        print(model.pid, flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        assert os.getpgid(pid) == os.getsid(pid) == pid, "Ctrl-C in the terminal must not reach it"
        parent.send_signal(signal.SIGKILL)
        parent.wait()

        assert gone(pid)


def test_cancelling_the_first_call_ends_the_server_that_it_started(
    folder: Path, monkeypatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    first_line = under_test._first_line

    def seen(process: subprocess.Popen[bytes]) -> dict[str, object]:
        started.append(process)
        return first_line(process)

    monkeypatch.setattr(under_test, "_first_line", seen)

    async def run() -> None:
        model = LocalModel(ENDPOINT, folder)
        task = asyncio.create_task(model.complete(ask()))
        while not started:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await model.aclose()

    asyncio.run(run())
    assert [process.poll() is None for process in started] == [False]


def test_without_the_runtime_the_extra_is_named(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(under_test.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'abyme\[local\]'"):
        LocalModel(ENDPOINT, folder)


def test_without_the_weights_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run `abyme models pull coder-1\.5b`"):
        LocalModel(resolve("local:coder-1.5b", env={}), tmp_path)
