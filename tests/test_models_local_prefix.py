"""Contract: models/local/prefix. What is kept of a prompt, under which name, and when."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from abyme.core.profile import Message
from abyme.models.local.prefix import MOST_FILES, beginning, file_name, warm
from abyme.models.names import Endpoint
from abyme.testing.http import HttpRequest, HttpServer, response

SYSTEM = Message("system", "Write Python. " * 100)
SHOWN = [Message("user", "an example"), Message("assistant", "its answer")]
TURN = [SYSTEM, *SHOWN, Message("user", "the secret question")]


class Server:
    """Stands in for llama.cpp: saves and restores files, and notes what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, Any]] = []
        self.refuses = ""

    async def handle(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        body = json.loads(request.body)
        assert request.headers["authorization"] == "Bearer k"
        step = request.path.rsplit("/", 1)[1] if "filename" not in body else "slot"
        if step == "slot":
            target = self.folder / body["filename"]
            step = "restore" if target.exists() else "save"
            if step == "save":
                target.write_bytes(b"state")
        self.asked.append((step, body))
        writer.write(response(400 if step == self.refuses else 200, b"{}", "application/json"))


def run(server: Server, messages: list[Message], runtime: str = "1") -> list[str]:
    async def once() -> list[str]:
        server.asked.clear()
        listener = HttpServer(server.handle)
        port = await listener.start(0)
        url = f"http://127.0.0.1:{port}/v1"
        endpoint = Endpoint(name="local:toy", base_url=url, model="toy", api_key="k")
        await warm(endpoint, server.folder, runtime, messages)
        await listener.stop()
        return [step for step, _ in server.asked]

    return asyncio.run(once())


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_the_beginning_is_read_once_and_restored_from_then_on(server: Server) -> None:
    assert run(server, TURN) == ["completions", "save"]
    assert run(server, TURN) == ["restore"]
    assert [p.suffix for p in server.folder.iterdir()] == [".prefix"]


def test_the_question_is_never_kept(server: Server) -> None:
    run(server, TURN)

    assert "secret" not in json.dumps(server.asked)
    assert server.asked[0][1]["messages"] == [
        {"role": m.role, "content": m.content} for m in TURN[:-1]
    ]


def test_another_prompt_model_window_or_runtime_has_another_file() -> None:
    one = Endpoint(name="local:a", base_url="", model="a", window_tokens=1)
    other = Endpoint(name="local:a", base_url="", model="a", window_tokens=2)
    names = {
        file_name(one, "1", [SYSTEM]),
        file_name(one, "1", [SYSTEM, *SHOWN]),
        file_name(one, "2", [SYSTEM]),
        file_name(other, "1", [SYSTEM]),
    }
    assert len(names) == 4


def test_a_short_beginning_is_not_worth_a_file(server: Server) -> None:
    assert beginning([Message("system", "short"), Message("user", "q" * 5000)]) == []
    assert run(server, TURN[-1:]) == []


def test_a_file_that_cannot_be_restored_is_made_again(server: Server) -> None:
    run(server, TURN)
    server.refuses = "restore"

    assert run(server, TURN) == ["restore", "completions", "save"]


@pytest.mark.parametrize("step", ["completions", "save"])
def test_a_server_that_keeps_nothing_is_no_failure(server: Server, step: str) -> None:
    server.refuses = step

    assert run(server, TURN)[-1] == step
    assert not list(server.folder.glob("*.prefix"))


def test_old_files_make_room(server: Server) -> None:
    for number in range(MOST_FILES + 2):
        path = server.folder / f"toy-{number}.prefix"
        path.write_bytes(b"")
        os.utime(path, (number, number))
    run(server, TURN)

    left = {p.name for p in server.folder.glob("toy-?.prefix")}
    assert left == {f"toy-{number}.prefix" for number in range(3, 10)}
