"""Asks the official engine (`rlms`) one question. Run by an interpreter that has it.

    PYTHON official.py TASK.json ANSWER.json

Reads ``{"question", "context", "base_url", "model"}``, writes ``{"value", "error", "engine"}``.
Its settings are its own defaults; time-outs are long because a person may be answering.
Knows nothing of abyme or of scores. What the model writes runs in this process without a jail,
as it does in the official engine's `local` environment.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

REPLY_S = 6 * 3600.0


def main() -> None:
    given, answer_file = Path(sys.argv[1]), Path(sys.argv[2])
    task = json.loads(given.read_text(encoding="utf-8"))
    answer: dict[str, str | None] = {"engine": f"rlms {version('rlms')}", "error": None}
    from rlm import RLM

    rlm = RLM(
        backend="openai",
        backend_kwargs={
            "model_name": task["model"],
            "base_url": task["base_url"],
            "api_key": "none",
            "timeout": REPLY_S,
        },
    )
    try:
        answer["value"] = rlm.completion(task["context"], root_prompt=task["question"]).response
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the engine brought
        answer |= {"value": None, "error": f"{type(error).__name__}: {error}"}
    answer_file.write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
