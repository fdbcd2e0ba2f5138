"""``make bench`` or ``python -m bench [NAME...]``: every figure that README and docs speak of.

Run by hand on a quiet machine. Prints medians with their range, the floor measured in
the same run, and how noisy the machine was. What takes minutes runs only by name; `contexts` is
all that concerns large inputs: loads, scans, and peers on the same work.
``--json FILE`` keeps the samples, ``--plots FOLDER`` draws them.
"""

import argparse
import dataclasses
import importlib
import json
from pathlib import Path

from bench.measure import Figure, Noise, machine

NAMES = ("imports", "prompts", "tokens", "turns", "sandbox", "fanout")
SLOW = ("loads", "scans", "peers", "surface", "kills", "ratelimit")
GROUPS = {"contexts": ("loads", "scans", "peers")}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    known = ", ".join((*NAMES, *SLOW, *GROUPS))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {known}")
    parser.add_argument("--data", type=Path, help="corpora for `surface`: PEPs, novel, contracts")
    parser.add_argument("--json", type=Path, help="write the samples there")
    parser.add_argument("--plots", type=Path, help="draw what was measured into that folder")
    args = parser.parse_args()
    names = [one for name in args.names for one in GROUPS.get(name, (name,))]
    for name in names:
        if name not in NAMES + SLOW:
            parser.error(f"no bench {name!r}; there are: {known}")
    print(machine())
    noise, figures = Noise(), list[Figure]()
    for name in names or NAMES:
        print(f"\n{name}", flush=True)
        options = {"data": args.data} if name == "surface" else {}
        taken = importlib.import_module(f"bench.{name}").run(noise, **options)
        figures += taken
        print(*(figure.line() for figure in taken), sep="\n", flush=True)
    print(f"\n{noise.line()}")
    if args.json:
        args.json.write_text(json.dumps([dataclasses.asdict(f) for f in figures], indent=1))
    if args.plots:
        from bench.plots import draw

        print(*draw(figures, args.plots, machine()), sep="\n")


if __name__ == "__main__":
    main()
