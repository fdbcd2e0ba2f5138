"""The demo: fetch a model and a code base, ask three questions, check the answers.

Asks through ``abyme ask`` as a user would, as a process of its own. Exit code 0 only if
every answer is right.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo import checks
from demo.corpus import DemoFailed, fetch

MODEL = "coder-1.5b"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; give its exit code."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--model", default=f"local:{MODEL}", help="as for `abyme ask`")
    parser.add_argument("--check-only", action="store_true", help="compute the answers only")
    options = parser.parse_args(arguments)
    try:
        return _demo(options.model, check_only=options.check_only)
    except DemoFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped; what was fetched is kept", file=sys.stderr)
        return 130


def _demo(model: str, *, check_only: bool) -> int:
    home = _home()
    code = fetch(home.cache / "demo")
    questions = checks.load()
    texts = checks.read(code)
    characters = sum(map(len, texts.values()))
    print(
        f"{len(texts):,} files of SymPy, Django and NetworkX, {characters:,} characters: {code}",
        file=sys.stderr,
    )
    for question in questions:
        computed = checks.compute(question, texts)
        if computed != question.expected:
            raise DemoFailed(f"{question.text} is {computed}, not {question.expected}")
    del texts
    if check_only:
        return 0
    if model.startswith("local:"):
        _abyme(["models", "pull", model.removeprefix("local:")], home)
    right = 0
    for number, question in enumerate(questions, 1):
        print(f"\n{number}. {question.text}", file=sys.stderr)
        right += _ask(question, model, code, home)
    print(f"\n{right} of {len(questions)} answers are right.", file=sys.stderr)
    return 0 if right == len(questions) else 1


def _ask(question: checks.Question, model: str, code: Path, home: "Home") -> bool:
    began_s = time.monotonic()
    arguments = ["ask", question.text, str(code), "--model", model, "--json"]
    answer: dict[str, Any] = json.loads(_abyme(arguments, home, may_fail=True))
    took_s = time.monotonic() - began_s
    usage = answer["usage"]
    right = answer["status"] == "answered" and checks.is_right(answer["answer"], question.expected)
    print(f"\n   {answer['answer']}")
    for number, evidence in enumerate(answer["evidence"], 1):
        excerpt = " ".join(evidence["quote"].split())[:100]
        print(f"   [{number}] {evidence['path']}:{evidence['line']}: {excerpt}")
    tokens = usage["prompt_tokens"] + usage["completion_tokens"]
    verdict = "right" if right else f"WRONG, it is {question.expected}"
    print(f"   {verdict}; {usage['wall_s']:.1f} s ({took_s:.1f} s with start), {tokens:,} tokens")
    if answer["status"] != "answered":
        print(f"   {answer['status']}: see `abyme show {answer['run']}`")
    sys.stdout.flush()
    return right


class Home:
    """Where things are kept: the user's own folders, or one beside the demo."""

    def __init__(self, cache: Path, environment: dict[str, str]) -> None:
        self.cache = cache
        self.environment = environment


def _home() -> Home:
    from abyme.run.spec import HOME_VARIABLE, cache_dir, data_dir

    if _is_writable(cache_dir()) and _is_writable(data_dir()):
        return Home(cache_dir(), dict(os.environ))
    home = Path(__file__).resolve().parent.parent / ".abyme"
    if not _is_writable(home):
        raise DemoFailed(f"neither {cache_dir()} nor {home} can be written: set {HOME_VARIABLE}")
    print(f"{cache_dir()} or {data_dir()} cannot be written: using {home}", file=sys.stderr)
    (home / ".gitignore").write_text("*\n", encoding="ascii")
    environment = {**os.environ, HOME_VARIABLE: str(home)}
    return Home(cache_dir(environment), environment)


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _abyme(arguments: list[str], home: Home, *, may_fail: bool = False) -> bytes:
    command = [sys.executable, "-m", "abyme", *arguments]
    done = subprocess.run(command, env=home.environment, stdout=subprocess.PIPE, check=False)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode != 0 and not (may_fail and done.stdout):
        raise DemoFailed(f"`abyme {' '.join(arguments[:2])}` ended with {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
