"""The demo: fetch a model and a code base, ask questions about it, check the answers.

Asks through the same parts as ``abyme ask``, in one process, so that model and code are
loaded once. Exit code 0 only if every answer is right.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from demo import checks
from demo.corpus import DemoFailed, fetch, is_complete

if TYPE_CHECKING:
    from abyme.apps.cli.progress import Progress
    from abyme.core.events import Record
    from abyme.ports import Context
    from abyme.run.answers import Answer
    from abyme.run.api import RLM

MODEL = "local:coder-1.5b"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; give its exit code."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--model", default=MODEL, help="as for `abyme ask`")
    parser.add_argument("--questions", type=Path, default=checks.QUESTIONS, help="a JSON file")
    parser.add_argument("--check-only", action="store_true", help="ask nothing")
    options = parser.parse_args(arguments)
    try:
        return _demo(options)
    except DemoFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped; what was fetched is kept", file=sys.stderr)
        return 130


def _demo(options: argparse.Namespace) -> int:
    from abyme.run.spec import cache_dir

    _make_sure_of_folders()
    code = fetch(cache_dir() / "demo")
    questions = checks.load(options.questions)
    characters = _check(questions, code)
    print(f"SymPy, Django and NetworkX, {characters:,} characters: {code}", file=sys.stderr)
    if options.check_only:
        return 0
    if options.model.startswith("local:"):
        _pull(options.model.removeprefix("local:"))
    right = _ask_all(questions, options.model, code)
    print(f"\n{right} of {len(questions)} answers are right.", file=sys.stderr)
    return 0 if right == len(questions) else 1


def _check(questions: list[checks.Question], code: Path) -> int:
    """See that the expected answers are those of the files; give the characters of the files."""
    texts = checks.read(code)
    for question in questions:
        computed = checks.compute(question, texts)
        if computed != question.expected:
            raise DemoFailed(f"{question.text} is {computed}, not {question.expected}")
    return sum(map(len, texts.values()))


class Shown:
    """Passes a run's records on to the display of the question that is being asked."""

    def __init__(self) -> None:
        self.progress: Progress | None = None

    def record(self, record: "Record") -> None:
        """Pass a record on."""
        if self.progress is not None:
            self.progress.record(record)


def _ask_all(questions: list[checks.Question], model: str, code: Path) -> int:
    from abyme.contexts.load import load_paths
    from abyme.errors import AbymeError
    from abyme.run.api import RLM

    shown = Shown()
    try:
        loaded = load_paths([code])
        print(loaded.summary(), file=sys.stderr)
        with RLM(model=model, on_record=shown.record) as rlm:
            right = 0
            for number, question in enumerate(questions, 1):
                print(f"\n{number}. {question.text}", file=sys.stderr)
                answer = _ask(question, rlm, loaded.context, shown)
                right += _print(question, answer)
            return right
    except AbymeError as error:
        raise DemoFailed(str(error)) from error


def _ask(question: checks.Question, rlm: "RLM", context: "Context", shown: Shown) -> "Answer":
    from abyme.apps.cli.progress import progress
    from abyme.apps.cli.terminal import err

    shown.progress = progress(err(), quiet=False)
    try:
        return rlm.ask(question.text, context)
    finally:
        shown.progress.close()


def _print(question: checks.Question, answer: "Answer") -> bool:
    from abyme.apps.cli.answers import as_text, place
    from abyme.apps.safe_text import safe

    right = answer.status == "answered" and checks.is_right(answer.value, question.expected)
    print(f"   {safe(as_text(answer.value))}")
    for number, evidence in enumerate(answer.evidence, 1):
        print(f"   [{number}] {place(evidence)}")
    usage = answer.usage
    tokens = usage.prompt_tokens + usage.completion_tokens
    verdict = "right" if right else f"WRONG, it is {question.expected}"
    command = os.path.relpath(Path(sys.executable).with_name("abyme"))
    print(f"   {verdict}; {usage.wall_s:.1f} s, {tokens:,} tokens; {command} show {answer.run}")
    sys.stdout.flush()
    return right


def _pull(name: str) -> None:
    command = [sys.executable, "-m", "abyme", "models", "pull", name]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode != 0:
        raise DemoFailed(f"the model could not be fetched: `abyme models pull {name}` tells more")


def _make_sure_of_folders() -> None:
    """Use the user's own folders, or one beside the demo if they cannot be written."""
    from abyme.run.spec import HOME_VARIABLE, cache_dir, data_dir

    if _is_writable(cache_dir()) and _is_writable(data_dir()):
        return
    home = Path(__file__).resolve().parent.parent / ".abyme"
    if not _is_writable(home):
        raise DemoFailed(f"neither {cache_dir()} nor {home} can be written: set {HOME_VARIABLE}")
    print(f"{cache_dir()} or {data_dir()} cannot be written: using {home}", file=sys.stderr)
    (home / ".gitignore").write_text("*\n", encoding="ascii")
    lent = cache_dir()
    os.environ[HOME_VARIABLE] = str(home)
    code = [lent / "demo" / "code"] if is_complete(lent / "demo") else []
    _borrow([*lent.glob("models/*.gguf"), *code], lent, cache_dir())


def _borrow(paths: list[Path], lent: Path, own: Path) -> None:
    """Use what a cache that cannot be written holds already."""
    for path in paths:
        link = own / path.relative_to(lent)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(path)


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
