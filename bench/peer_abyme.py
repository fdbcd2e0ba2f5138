"""Loads a file into abyme, in its jail, and has one scripted answer; as `peer_rlms.py`."""

import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    from abyme import RLM, Limits

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as runs:
        limits = Limits(max_usd=None)
        with RLM("scripted", base_url=sys.argv[2], limits=limits, runs_dir=Path(runs)) as rlm:
            answer = rlm.ask("How many characters are there?", Path(sys.argv[1]))
    took = time.perf_counter() - began
    engine = f"abyme {version('abyme')}, in its jail"
    print(json.dumps({"value": answer.value, "seconds": took, "engine": engine}))


if __name__ == "__main__":
    main()
