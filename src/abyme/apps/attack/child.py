"""The process that runs the list on one tier at one privilege, and tells it line by line.

Decides nothing of what counts: that is `sandboxes.self_check`. Writes a JSON object a line on
standard output: what the tier has, each result, and last that it is done or why it
could not begin. Started by `python -m abyme.apps.attack.child TIER PRIVILEGE GLOBS CANARY`.
"""

import asyncio
import fnmatch
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from abyme.apps.attack.privileges import by_name
from abyme.core.isolation import Isolation
from abyme.core.isolation import Tier as TierName
from abyme.errors import AbymeError
from abyme.sandboxes.self_check.behaviour import Behaviour
from abyme.sandboxes.self_check.verdict import Result
from abyme.sandboxes.self_check.world import World

ENTER = 0o755


def main() -> int:
    """Give up what the privilege lacks, then run."""
    tier, privilege, globs, canary = sys.argv[1:]
    by_name(privilege).give_up()
    try:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(ENTER)
            with World(Path(folder), environment=canary) as world:
                asyncio.run(_run(cast("TierName", tier), globs, world))
    except AbymeError as error:
        _tell({"unavailable": str(error)})
    except ImportError as error:
        _tell({"unavailable": f"it is not installed ({error.name})"})
    return 0


async def _run(name: TierName, globs: str, world: World) -> None:
    from abyme.contexts.sealed import from_value  # noqa: PLC0415
    from abyme.run.build import open_sandbox  # noqa: PLC0415
    from abyme.sandboxes.self_check.differences import DIFFERENCES  # noqa: PLC0415
    from abyme.sandboxes.self_check.run import Check, Tier  # noqa: PLC0415
    from abyme.sandboxes.self_check.samples import CONTEXTS  # noqa: PLC0415

    sandbox = open_sandbox(name, 0)
    tier = Tier(name, sandbox, Isolation(tier=name), DIFFERENCES[name])
    contexts = {shape: from_value(value) for shape, value in CONTEXTS.items()}
    try:
        async with Check(tier, world, contexts) as check:
            _tell({"python": check.facts.python, "layers": check.facts.layers})
            await check.run(chosen(globs), _tell_result)
    finally:
        await sandbox.aclose()
    for context in contexts.values():
        context.close()
    _tell({"done": True})


def chosen(globs: str) -> list[Behaviour]:
    """Give the entries whose id fits one of several globs with commas between them."""
    from abyme.sandboxes.self_check.entries import ENTRIES  # noqa: PLC0415

    fits = re.compile("|".join(fnmatch.translate(glob) for glob in globs.split(","))).match
    return [entry for entry in ENTRIES if fits(entry.id)]


def _tell_result(result: Result) -> None:
    _tell(
        {
            "id": result.entry.id,
            "outcome": result.outcome,
            "words": result.words,
            "took_s": result.took_s,
        }
    )


def _tell(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
