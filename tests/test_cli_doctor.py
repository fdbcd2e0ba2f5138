"""Contract: ``abyme doctor``. It says what holds here, in words and for programs."""

import json
from dataclasses import replace

import pytest

from abyme.apps.cli import main
from abyme.core.isolation import LAYERS as LAYERS_OF
from abyme.errors import SandboxUnavailable
from abyme.sandboxes.self_check import host
from abyme.sandboxes.self_check import layers as jail_layers
from abyme.sandboxes.self_check.host import Cgroup, TierReport
from abyme.sandboxes.self_check.layers import LAYERS, LayerReport

ON = LayerReport("seccomp", True, "only harmless calls", "", "seccomp(2)", required=True)
OFF = LayerReport("landlock", False, "no file may be opened", "boot with it", "landlock(7)")
OTHERS = [
    TierReport("wasm", available=True, why=""),
    TierReport("container", available=False, why="no engine"),
]
KEYS = {
    *("ready", "problem", "abyme", "python", "kernel", "machine", "privilege", "cgroup", "mseal"),
    *("layers", "missing", "tiers", "folders"),
}


def surveyed(monkeypatch: pytest.MonkeyPatch, *layers: LayerReport, error: str = "") -> None:
    async def survey() -> list[LayerReport]:
        if error:
            raise SandboxUnavailable(error)
        return list(layers)

    async def other_tiers() -> list[TierReport]:
        return OTHERS

    monkeypatch.setattr(jail_layers, "survey", survey)
    monkeypatch.setattr(host, "other_tiers", other_tiers)


def doctor(capsysbinary: pytest.CaptureFixture[bytes], *args: str) -> tuple[int, str]:
    code = main.run(["doctor", *args])
    out, err = capsysbinary.readouterr()
    assert err == b""
    return code, out.decode()


def test_a_layer_that_is_off_comes_with_what_to_do(monkeypatch, capsysbinary) -> None:
    surveyed(monkeypatch, ON, OFF)

    code, out = doctor(capsysbinary)

    assert code == 0
    assert out.splitlines()[-10:] == [
        "",
        "on   seccomp   only harmless calls",
        "off  landlock  no file may be opened",
        "       boot with it",
        "",
        "jail       can be had",
        "wasm       can be had",
        "container  not here: no engine",
        "",
        "Runs can start here; 1 layer could be added as told above.",
    ]


def test_what_several_layers_need_is_told_once_below_the_last_of_them(
    monkeypatch, capsysbinary
) -> None:
    root, pid = (replace(OFF, name=name) for name in ("empty_root", "pid_namespace"))
    surveyed(monkeypatch, root, ON, pid)

    _, out = doctor(capsysbinary)

    assert out.splitlines()[-10:-6] == [
        "off  empty_root     no file may be opened",
        "on   seccomp        only harmless calls",
        "off  pid_namespace  no file may be opened",
        "       boot with it",
    ]
    assert out.count("boot with it") == 1


def test_a_host_that_cannot_isolate_is_exit_1_and_says_why(monkeypatch, capsysbinary) -> None:
    surveyed(monkeypatch, error="not on: seccomp")

    code, out = doctor(capsysbinary)

    assert code == 1
    assert out.splitlines()[-1] == "No run can start here: not on: seccomp"


def test_programs_get_the_same_as_one_object(monkeypatch, capsysbinary, tmp_path) -> None:
    monkeypatch.setenv("ABYME_HOME", str(tmp_path))
    surveyed(monkeypatch, ON)

    code, out = doctor(capsysbinary, "--json")

    report = json.loads(out)
    assert (code, report["ready"], report["problem"]) == (0, True, None)
    assert set(report) == KEYS
    assert report["layers"] == [
        {
            "name": "seccomp",
            "on": True,
            "words": "only harmless calls",
            "todo": "",
            "source": "seccomp(2)",
            "required": True,
        }
    ]
    assert report["tiers"] == [
        {"name": "jail", "available": True, "why": ""},
        {"name": "wasm", "available": True, "why": ""},
        {"name": "container", "available": False, "why": "no engine"},
    ]
    assert report["folders"] == {
        "runs": {"path": str(tmp_path / "runs"), "writable": True},
        "cache": {"path": str(tmp_path / "cache"), "writable": True},
    }


def test_a_real_survey_finds_this_host_ready(capsysbinary) -> None:
    """Every other test that runs cells needs it too."""
    code, out = doctor(capsysbinary, "--json")

    assert (code, json.loads(out)["ready"]) == (0, True)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_exit_1(
    monkeypatch, capsysbinary, tmp_path, place
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ABYME_HOME", str(tmp_path / place))
    surveyed(monkeypatch, ON)

    code, out = doctor(capsysbinary)

    runs, cache = tmp_path / place / "runs", tmp_path / place / "cache"
    assert code == 1
    assert out.splitlines()[-1] == (
        f"No run can start here: cannot write {runs} (runs) and {cache} (cache); "
        "ABYME_HOME names another folder"
    )


def test_a_required_layer_that_is_off_is_exit_1_and_named(monkeypatch, capsysbinary) -> None:
    surveyed(monkeypatch, ON, OFF)

    code, out = doctor(capsysbinary, "--require", "landlock")

    assert code == 1
    assert out.splitlines()[-1] == "No run can start here: required and not on: landlock"


def test_a_required_layer_that_is_on_is_exit_0(monkeypatch, capsysbinary) -> None:
    surveyed(monkeypatch, ON, OFF)

    assert doctor(capsysbinary, "--require", "seccomp")[0] == 0


def test_programs_are_told_which_required_layers_are_missing(monkeypatch, capsysbinary) -> None:
    names = LAYERS_OF["jail"]
    surveyed(monkeypatch, *(LayerReport(name, name != "landlock", "", "") for name in names))

    code, out = doctor(capsysbinary, "--json", "--require", "all")

    assert (code, json.loads(out)["missing"]) == (1, ["landlock"])


def test_the_layers_that_can_be_required_are_those_that_are_told_of() -> None:
    assert {layer.name for layer in LAYERS} == set(LAYERS_OF["jail"])


def test_ceilings_of_a_control_group_are_read(tmp_path) -> None:
    (tmp_path / "proc").write_text("0::/user/one\n")
    (tmp_path / "cgroup.controllers").touch()
    group = tmp_path / "user" / "one"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1048576\n")
    (group / "pids.max").write_text("max\n")

    assert host.cgroup(tmp_path / "proc", tmp_path) == Cgroup(2, 1_048_576, None)
    assert host.cgroup(tmp_path / "none", tmp_path) == Cgroup(None, None, None)
