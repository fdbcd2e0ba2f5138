"""``make fuzz`` or ``python -m fuzz [NAME...] [--seconds N] [--keep]``: look for broken promises.

Coverage-guided, by atheris (libFuzzer), each target in a process of its own, for the given
seconds in all. New inputs go to ``fuzz/found`` and never into the corpus by themselves;
``--keep`` merges into ``fuzz/corpus`` those that reach something new. Exit code 1 if a
promise was broken: the input is then in ``fuzz/found`` as ``crash-...``.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MAX_BYTES = 1_000
INPUT_TIMEOUT_S = 10
MEMORY_MB = 1_500


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz",
        usage="%(prog)s [NAME...] [--seconds N] [--keep]",
        description="Look for bytes that break a promise of the host's side of the wire. "
        "The corpus stays as it is, unless --keep is given.",
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="targets; default: all")
    parser.add_argument("--seconds", type=int, default=60, metavar="N", help="in all; default 60")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="then merge inputs that reach something new into fuzz/corpus; without it they stay "
        "in fuzz/found",
    )
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args, rest = parser.parse_known_args()
    if args.one:  # the rest is libFuzzer's
        return fuzz_one(args.names[0], rest)
    if rest:
        parser.error(f"no such option: {' '.join(rest)}")
    from fuzz.targets import TARGETS

    for name in args.names:
        if name not in TARGETS:
            parser.error(f"no target {name!r}; there are: {', '.join(TARGETS)}")
    names = args.names or list(TARGETS)
    broken = [name for name in names if run(name, max(1, args.seconds // len(names)), args.keep)]
    print(f"broken: {', '.join(broken)}" if broken else f"nothing broken in {len(names)} targets")
    return 1 if broken else 0


def run(name: str, seconds: int, keep: bool) -> int:
    """Fuzz a target in a process of its own."""
    corpus, found = HERE / "corpus" / name, HERE / "found" / name
    found.mkdir(parents=True, exist_ok=True)
    corpus.mkdir(parents=True, exist_ok=True)
    limits = (
        f"-max_len={MAX_BYTES}", f"-timeout={INPUT_TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={found}/", "-verbosity=0", "-print_final_stats=1",
    )  # fmt: skip
    me = [sys.executable, "-m", "fuzz", "--one", name]
    print(f"== {name}, {seconds} s", flush=True)
    code = subprocess.run(
        [*me, *limits, f"-max_total_time={seconds}", str(found), str(corpus)], check=False
    ).returncode
    if code == 0 and keep:
        code = subprocess.run(
            [*me, *limits, "-merge=1", str(corpus), str(found)], check=False
        ).returncode
    return code


def fuzz_one(name: str, options: list[str]) -> int:
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: pip install 'abyme[fuzz]' (Linux, Python 3.11 to 3.13)")
        return 2
    with atheris.instrument_imports(include=["abyme", "fuzz"]):
        from fuzz.targets import TARGETS
    again = f"{sys.executable} -m fuzz --one {name}"  # libFuzzer runs it by a shell, to merge
    atheris.Setup([again, *options], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
