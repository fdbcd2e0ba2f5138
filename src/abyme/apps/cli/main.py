"""``abyme``: finds the command and turns its end into an exit code. Only wiring.

A command's module is imported when it is called or listed, and imports nothing heavy
before it runs, so that ``abyme --help`` is quick.
"""

import contextlib
import importlib
import resource
import sys
from collections.abc import Sequence

import click

from abyme.apps.cli import failures, streams

COMMANDS = {
    "ask": "ask",
    "cache": "cache",
    "context": "context",
    "doctor": "doctor",
    "models": "models",
    "replay": "replay",
    "resume": "resume",
    "runs": "runs",
    "show": "show",
}
"""Name -> module of this package; the command has the module's name."""


class Commands(click.Group):
    """Commands that are imported when they are wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the help page."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"abyme.apps.cli.{COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001
    if not wanted or ctx.resilient_parsing:
        return
    from abyme.run.folders import version  # noqa: PLC0415

    click.echo(f"abyme {version()}")
    ctx.exit()


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def abyme() -> None:
    """Ask a question over an input of any size.

    A root model works on the input in a jailed Python REPL, calls sub-models on the
    pieces, and submits an answer with its evidence.

    \b
      abyme ask "Which modules open a socket?" src/
      abyme show latest
    """  # noqa: D301 - click reads the backspace


def run(args: Sequence[str]) -> int:
    """Run one command line, give its exit code."""
    try:
        result = abyme.main(list(args), prog_name="abyme", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has had enough; keep the interpreter from complaining.
        streams.give_up(sys.stdout)
        return failures.FAILED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the boundary, see `failures`
        return failures.report(error, args)
    return result if isinstance(result, int) else failures.ANSWERED


def _open_many_files() -> None:
    """Take all descriptors that this user may have: a thousand calls at once need as many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # infinity, where the kernel knows none
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Entry point of the command."""
    streams.fill()
    _open_many_files()
    code = run(sys.argv[1:])
    streams.flush()
    sys.exit(code)
