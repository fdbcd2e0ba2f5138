"""``abyme doctor``: can this host isolate what a model writes, and what is missing.

Decides the words and the exit code: 0 if a run could start here, 1 if not. The layers
themselves are probed by `sandboxes.self_check`; nothing is installed or changed.
"""

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from abyme.apps.amounts import count
from abyme.apps.cli import failures, options
from abyme.apps.cli.terminal import Terminal, out
from abyme.apps.tree import Style


@click.command("doctor", short_help="Say what protects you on this machine.")
@click.option(
    "--require",
    multiple=True,
    metavar="LAYER",
    help="Exit 1 if this layer of the jail is not on; `all`: if any is not. Repeatable.",
)
@options.JSON
def command(*, require: tuple[str, ...], as_json: bool) -> int:
    """Say which layers of the jail are on here, and what to do about the others."""
    report = examine(require)
    if as_json:
        failures.print_json(report)
    else:
        _print(report, out())
    return failures.ANSWERED if report["ready"] else failures.FAILED


def examine(require: Sequence[str] = ()) -> dict[str, Any]:
    """Probe everything once; `docs/reference/cli.md` has the shape.

    Raises:
        ConfigError: no such layer.
    """
    import asyncio  # noqa: PLC0415

    from abyme.core.isolation import Isolation  # noqa: PLC0415
    from abyme.errors import SandboxError  # noqa: PLC0415
    from abyme.run.folders import version  # noqa: PLC0415
    from abyme.run.spec import cache_dir, data_dir  # noqa: PLC0415
    from abyme.sandboxes.self_check import host, layers  # noqa: PLC0415

    isolation = Isolation(require=list(require))
    found: list[dict[str, Any]] = []
    problem = None
    try:
        found = [asdict(layer) for layer in asyncio.run(layers.survey())]
    except SandboxError as error:
        problem = str(error)
    jail = {"name": "jail", "available": problem is None, "why": problem or ""}
    others = [asdict(tier) for tier in asyncio.run(host.other_tiers())]
    missing = isolation.lacks([layer["name"] for layer in found if layer["on"]])
    if problem is None and missing:
        problem = f"required and not on: {', '.join(missing)}"
    folders = {"runs": data_dir() / "runs", "cache": cache_dir()}
    writable = {name: _is_writable(path) for name, path in folders.items()}
    if problem is None and not all(writable.values()):
        closed = [f"{folders[name]} ({name})" for name in folders if not writable[name]]
        problem = f"cannot write {' and '.join(closed)}; ABYME_HOME names another folder"
    return {
        "ready": problem is None,
        "problem": problem,
        "abyme": version(),
        "python": f"{platform.python_version()} ({sys.executable})",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "machine": platform.machine(),
        "privilege": host.privilege(),
        "cgroup": asdict(host.cgroup()),
        "mseal": host.has_mseal(),
        "layers": found,
        "missing": missing,
        "tiers": [jail, *others],
        "folders": {
            name: {"path": str(path), "writable": writable[name]} for name, path in folders.items()
        },
    }


def _is_writable(path: Path) -> bool:
    """Tell whether files could be made there, by looking at what of it exists."""
    import os  # noqa: PLC0415

    while not path.exists() and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


def _print(report: dict[str, Any], terminal: Terminal) -> None:
    for name in ("abyme", "python", "kernel", "privilege"):
        terminal.say(f"{name:<9}  {report[name]}")
    for name, folder in report["folders"].items():
        note = "" if folder["writable"] else "  (cannot be written)"
        terminal.say(f"{name:<9}  {folder['path']}{note}")
    terminal.say("")
    widest = max((len(layer["name"]) for layer in report["layers"]), default=0)
    last = {layer["todo"]: layer["name"] for layer in report["layers"] if not layer["on"]}
    for layer in report["layers"]:
        mark: tuple[str, Style] = ("on ", "good") if layer["on"] else ("off", "warn")
        terminal.line([mark, (f"  {layer['name']:<{widest}}  {layer['words']}", "")])
        if layer["todo"] and last.get(layer["todo"]) == layer["name"]:  # once for them all
            terminal.line([(f"       {layer['todo']}", "dim")])
    terminal.say("")
    widest = max(len(tier["name"]) for tier in report["tiers"])
    for tier in report["tiers"]:
        state = "can be had" if tier["available"] else f"not here: {tier['why']}"
        terminal.say(f"{tier['name']:<{widest}}  {state}")
    terminal.say("")
    off = sum(not layer["on"] for layer in report["layers"])
    if report["ready"] and off:
        terminal.say(f"Runs can start here; {count(off, 'layer')} could be added as told above.")
    elif report["ready"]:
        terminal.say("Runs can start here, with every layer on.")
    else:
        terminal.say(f"No run can start here: {report['problem']}")
