"""What attacks aim at on the host, all of it, made for one run of the list.

Decides which secrets there are and how they are found in what a REPL has sent. Invariant:
nothing that a cell says is believed; `reached` is the host's own look, after every entry.
What there is to reach is in `targets`, what a REPL leaves behind in `leftovers`.
"""

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from abyme.sandboxes.self_check.targets import Folder, Listeners, Marks, Target, Victim

VARIABLE: Final = "ABYME_CANARY"


def secret() -> str:
    """Make up a text that nobody knows."""
    return f"canary-{secrets.token_hex(12)}"


class World:
    """Everything that may be reached. Needs a POSIX system."""

    def __init__(self, folder: Path, *, environment: str | None = None) -> None:
        """`folder` is empty and anybody may enter it.

        `environment`: the value of `VARIABLE`, where this process was started with it; else
        it is put into the environment that its children would inherit.
        """
        mark = f"abyme{secrets.token_hex(8)}"
        self._file_secret = secret()
        self._environment_secret = environment or secret()
        self._own_variable = environment is None
        self._targets: list[Target] = []
        try:
            self._targets.append(Folder(folder / "open", self._file_secret))
            self._targets.append(Listeners(folder / "socket", mark))
            self._targets.append(Victim())
            self._targets.append(Marks(mark, secrets.randbelow(1 << 30) + 1))
        except BaseException:
            self.close()
            raise
        if self._own_variable:
            os.putenv(VARIABLE, self._environment_secret)

    @property
    def placeholders(self) -> Mapping[str, str]:
        """What code may hold, and what stands for it now."""
        found = {"{env}": VARIABLE}
        for target in self._targets:
            found.update(target.placeholders)
        return found

    def fill(self, code: str) -> str:
        """Put what stands for the placeholders into an entry's code."""
        for name, value in self.placeholders.items():
            code = code.replace(name, value)
        return code

    def sent(self, said: Iterable[str], code: str) -> list[str]:
        """Tell which secrets are in what a REPL has sent, but for one that its code was given."""
        known = {
            "the text of a file of the host": self._file_secret,
            "a variable of the host's environment": self._environment_secret,
        }
        everything = "\n".join(said)
        return [
            f"it knows {what}"
            for what, text in known.items()
            if text in everything and text not in code
        ]

    def reached(self) -> list[str]:
        """Tell what was reached since the last look, and put it right."""
        return [words for target in self._targets for words in target.reached()]

    def close(self) -> None:
        """Take everything away. Safe to repeat."""
        if self._own_variable:
            os.unsetenv(VARIABLE)
        for target in self._targets:
            target.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
