"""Builds the image of the guest: `python -m abyme.sandboxes.container`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from abyme.errors import SandboxUnavailable
from abyme.sandboxes.container import engine, image


def main(arguments: Sequence[str]) -> int:
    """Build the image from the command line."""
    parser = argparse.ArgumentParser(
        prog=image.COMMAND, description="Build the image of the guest."
    )
    parser.add_argument(
        "--engine", default="", help="docker, podman or a path; what answers if not given"
    )
    parser.add_argument(
        "--base", default=image.BASE, help="image with a Python (default: %(default)s)"
    )
    parser.add_argument("options", nargs="*", help="passed on to `build`, after `--`")
    given = parser.parse_args(arguments)
    try:
        path = asyncio.run(engine.builder(given.engine))
    except SandboxUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    status = image.build(path, given.base, given.options)
    if status == 0:
        sys.stdout.write(f"{image.name()}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
