"""``abyme models``: which models could be used here; ``abyme models pull`` fetches one.

A key is only ever reported as set or not. Nothing is contacted by the list.
"""

import os
from pathlib import Path
from typing import Any

import click

from abyme.apps.cli import failures, options
from abyme.apps.cli.terminal import Terminal, err, out


@click.group("models", invoke_without_command=True, short_help="List models, or fetch one.")
@options.JSON
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> int:
    """List what is configured: providers, local models, and what is used by default."""
    if ctx.invoked_subcommand is not None:
        return failures.ANSWERED
    found = survey()
    if as_json:
        failures.print_json(found)
    else:
        _print(found, out())
    return failures.ANSWERED


@command.command("pull")
@click.argument("name")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take them from a file; the hash is checked all the same.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def pull(name: str, source: Path | None, *, quiet: bool) -> int:
    """Fetch the weights of a local model; goes on where it was cut off."""
    from abyme.apps.cli.progress import progress  # noqa: PLC0415
    from abyme.apps.cli.weights import fetch  # noqa: PLC0415
    from abyme.run.spec import cache_dir  # noqa: PLC0415

    shown = progress(err(), quiet=quiet)
    try:
        path = fetch(name.removeprefix("local:"), cache_dir() / "models", shown, source)
    finally:
        shown.close()
    out().say(str(path))
    return failures.ANSWERED


def survey() -> dict[str, Any]:
    """Look at the environment and the cache."""
    from abyme.errors import ConfigError  # noqa: PLC0415
    from abyme.models.local import weights  # noqa: PLC0415
    from abyme.models.names import resolve  # noqa: PLC0415
    from abyme.models.presets import GENERAL_KEY, PRESETS  # noqa: PLC0415
    from abyme.run.spec import cache_dir  # noqa: PLC0415

    try:
        default, why = resolve(None, env=os.environ).name, None
    except ConfigError as error:
        default, why = None, str(error)
    cache = cache_dir() / "models"
    return {
        "default": default,
        "no_default_because": why,
        "providers": [
            {
                "name": preset.name,
                "base_url": preset.base_url,
                "keys": list(preset.key_names),
                "key_set": any(os.environ.get(n) for n in (*preset.key_names, GENERAL_KEY)),
                "example": f"{preset.name}:{preset.example}",
            }
            for preset in PRESETS.values()
        ],
        "local": [
            {
                "name": f"local:{name}",
                "size_bytes": one.size_bytes,
                "path": str(path) if (path := weights.find(name, cache)) else None,
            }
            for name, one in weights.WEIGHTS.items()
        ],
    }


def _print(found: dict[str, Any], terminal: Terminal) -> None:
    from abyme.apps.amounts import size  # noqa: PLC0415

    for provider in found["providers"]:
        if not provider["keys"]:
            word, style = "no key needed", "dim"
        elif provider["key_set"]:
            word, style = "key set", "good"
        else:
            word, style = f"set {provider['keys'][0]}", "dim"
        terminal.line([(f"{provider['name']:<12}", "bold"), (f"{word:<26}", style)])  # type: ignore[list-item]
    for local in found["local"]:
        name = local["name"].removeprefix("local:")
        word = "ready" if local["path"] else f"abyme models pull {name}"
        amount = size(local["size_bytes"])
        terminal.line([(f"{local['name']:<18}", "bold"), (f"{amount:>9}  ", "dim"), (word, "")])
    terminal.say("")
    if found["default"]:
        terminal.say(f"Without --model: {found['default']}")
    else:
        terminal.say(f"Without --model: none. {found['no_default_because']}")
