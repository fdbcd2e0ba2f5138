"""Loads a file into dspy's RLM and has one scripted answer.

    PYTHON peer_dspy.py FILE BASE_URL [local]

Run by an interpreter that has it, in an environment of its own. Its default is an interpreter in
WebAssembly (deno fetches it from the network); with `local` it is dspy's own unsandboxed one, a
process of the host. Prints ``{"value", "seconds", "engine"}``; without imports.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def main() -> None:
    import dspy

    began = time.perf_counter()
    dspy.configure(lm=dspy.LM("openai/scripted", api_base=sys.argv[2], api_key="none", cache=False))
    options: dict[str, Any] = {}
    if sys.argv[3:] == ["local"]:
        from dspy.primitives.local_interpreter import LocalInterpreter

        options["interpreter_factory"] = LocalInterpreter
    rlm = dspy.RLM("context, query -> answer: int", **options)
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    value = rlm(context=text, query="How many characters are there?").answer
    took = time.perf_counter() - began
    how = "in a process of the host" if options else "in WebAssembly"
    print(json.dumps({"value": value, "seconds": took, "engine": f"dspy {version('dspy')}, {how}"}))


if __name__ == "__main__":
    main()
