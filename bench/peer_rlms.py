"""Loads a file into the official engine (`rlms`) and has one scripted answer.

    PYTHON peer_rlms.py FILE BASE_URL

Run by an interpreter that has it, in an environment of its own. Its settings are its defaults: code
runs in this process, without a jail. Prints ``{"value", "seconds", "engine"}``; the seconds are
from reading the file to the answer, without imports.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    from rlm import RLM

    began = time.perf_counter()
    kwargs = {"model_name": "scripted", "base_url": sys.argv[2], "api_key": "none"}
    rlm = RLM(backend="openai", backend_kwargs=kwargs)
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    value = rlm.completion(text, root_prompt="How many characters are there?").response
    took = time.perf_counter() - began
    print(json.dumps({"value": value, "seconds": took, "engine": f"rlms {version('rlms')}"}))


if __name__ == "__main__":
    main()
