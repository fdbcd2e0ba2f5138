"""Builds the image of the guest: `python -m abyme.sandboxes.container`."""

import argparse
import shutil
import sys
from collections.abc import Sequence

from abyme.sandboxes.container import image


def main(arguments: Sequence[str]) -> int:
    """Build the image from the command line."""
    parser = argparse.ArgumentParser(
        prog=image.COMMAND, description="Build the image of the guest."
    )
    parser.add_argument("--engine", help="docker, podman or a path; what is found if not given")
    parser.add_argument(
        "--base", default=image.BASE, help="image with a Python (default: %(default)s)"
    )
    parser.add_argument("options", nargs="*", help="passed on to `build`, after `--`")
    given = parser.parse_args(arguments)
    engine = given.engine or next(filter(shutil.which, ("docker", "podman")), None)
    if engine is None:
        sys.stderr.write("neither docker nor podman is installed\n")
        return 1
    status = image.build(engine, given.base, given.options)
    if status == 0:
        sys.stdout.write(f"{image.name()}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
