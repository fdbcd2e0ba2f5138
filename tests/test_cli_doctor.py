"""Contract: ``abyme doctor``. It says what holds here, in words and for programs."""

import json

import pytest

from abyme.apps.cli import main
from abyme.errors import SandboxUnavailable
from abyme.sandboxes.self_check import layers as jail_layers
from abyme.sandboxes.self_check.layers import LayerReport

ON = LayerReport("seccomp", on=True, words="only harmless calls", todo="")
OFF = LayerReport("landlock", on=False, words="no file may be opened", todo="boot with it")


def surveyed(monkeypatch: pytest.MonkeyPatch, *layers: LayerReport, error: str = "") -> None:
    async def survey() -> list[LayerReport]:
        if error:
            raise SandboxUnavailable(error)
        return list(layers)

    monkeypatch.setattr(jail_layers, "survey", survey)


def doctor(capsysbinary: pytest.CaptureFixture[bytes], *args: str) -> tuple[int, str]:
    code = main.run(["doctor", *args])
    out, err = capsysbinary.readouterr()
    assert err == b""
    return code, out.decode()


def test_a_layer_that_is_off_comes_with_what_to_do(monkeypatch, capsysbinary) -> None:
    surveyed(monkeypatch, ON, OFF)

    code, out = doctor(capsysbinary)

    assert code == 0
    assert out.splitlines()[-6:] == [
        "",
        "on   seccomp   only harmless calls",
        "off  landlock  no file may be opened",
        "       boot with it",
        "",
        "Runs can start here; 1 layer could be added as told above.",
    ]


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
    assert report["layers"] == [
        {"name": "seccomp", "on": True, "words": "only harmless calls", "todo": ""}
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
