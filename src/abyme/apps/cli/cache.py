"""``abyme cache``: contexts that were read before, and how much of the disk they take.

Decides how they are listed and what is removed by hand; how long they stay otherwise is
`contexts.cache`. Replies (``ask --cache``) and weights of local models are not touched.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abyme.apps.cli import failures, options
from abyme.apps.cli.terminal import out

if TYPE_CHECKING:
    from abyme.contexts.cached import Entry


@click.group("cache", invoke_without_command=True, short_help="List or clear cached contexts.")
@options.JSON
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> int:
    """List the contexts that need not be read again: those used last come first.

    `ask` and `context` keep what takes long to read: 500 files and more, 64 MB and more, and
    what a reader made of PDF, archives and the like. It is used again as long as no file has
    changed. Nothing in it is needed: `abyme cache clear` costs time, not data.
    """
    if ctx.invoked_subcommand is None:
        from abyme.contexts.cache import default_bytes  # noqa: PLC0415
        from abyme.contexts.cached import entries  # noqa: PLC0415

        folder = _folder()
        try:
            found = entries(folder)[::-1]
        except OSError as error:
            raise _unreadable(folder, error) from error
        _list(folder, found, default_bytes(folder), as_json=as_json)
    return failures.ANSWERED


@command.command("clear")
@options.JSON
def clear(*, as_json: bool) -> int:
    """Remove all of it. A run that uses a context keeps it until it ends."""
    return _shrunk(0, as_json=as_json)


@command.command("prune")
@click.option(
    "--max-bytes",
    type=options.Bytes(),
    metavar="SIZE",
    required=True,
    help="What may stay: 500MB, 20GB... Those not used for longest go first.",
)
@options.JSON
def prune(max_bytes: int, *, as_json: bool) -> int:
    """Remove contexts until no more than SIZE stays."""
    return _shrunk(max_bytes, as_json=as_json)


def _shrunk(max_bytes: int, *, as_json: bool) -> int:
    from abyme.apps.amounts import count, size  # noqa: PLC0415
    from abyme.contexts.cached import shrink  # noqa: PLC0415

    folder = _folder()
    try:
        removed = shrink(folder, max_bytes)
    except OSError as error:
        raise _unreadable(folder, error) from error
    if as_json:
        failures.print_json({"removed": _rows(removed)})
    else:
        freed = sum(entry.size_bytes for entry in removed)
        out().say(f"removed {count(len(removed), 'context')} ({size(freed)})")
    return failures.ANSWERED


def _folder() -> Path:
    from abyme.run import storage  # noqa: PLC0415
    from abyme.run.spec import cache_dir  # noqa: PLC0415

    return storage.folder(cache_dir())


def _list(folder: Path, found: "Sequence[Entry]", max_bytes: int, *, as_json: bool) -> None:
    size_bytes = sum(entry.size_bytes for entry in found)
    if as_json:
        failures.print_json(
            {
                "folder": str(folder),
                "size_bytes": size_bytes,
                "max_bytes": max_bytes,
                "contexts": _rows(found),
            }
        )
        return
    import time  # noqa: PLC0415

    from abyme.apps.amounts import count, duration, size  # noqa: PLC0415
    from abyme.apps.safe_text import safe_line  # noqa: PLC0415

    now_s = time.time()
    for entry in found:
        age = duration(max(0.0, now_s - entry.used_s))
        named = safe_line(
            ", ".join(entry.named) or "(sources not known)", max(20, out().width - 40)
        )
        facts = f"{entry.key[:12]}  {size(entry.size_bytes):>9}  {age + ' ago':>16}  "
        out().line([(facts, "dim"), (named, "")])
    what = count(len(found), "context")
    out().say(
        f"{what} ({size(size_bytes)} of at most {size(max_bytes)}) in {safe_line(str(folder))}"
    )


def _rows(found: "Sequence[Entry]") -> list[dict[str, Any]]:
    return [
        {
            "key": entry.key,
            "size_bytes": entry.size_bytes,
            "used_s": entry.used_s,
            "sources": entry.named,
        }
        for entry in found
    ]


def _unreadable(folder: Path, error: OSError) -> Exception:
    from abyme.errors import ContextError  # noqa: PLC0415

    return ContextError(f"cannot read {folder}: {error.strerror}")
