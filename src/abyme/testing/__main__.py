"""``python -m abyme.testing``: a `ScriptedEndpoint` for other processes.

Prints its URL as the only line of standard output, then serves until it is
interrupted, terminated, or its standard input ends (with ``--until-stdin-closes``).
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from abyme.errors import ConfigError
from abyme.testing.endpoint import ScriptedEndpoint
from abyme.testing.replies import FAULTS, Script, read_script

SCRIPT_FORMAT = f"""\
The script is a JSON file: a list of replies, given in order, or an object whose keys are
substrings of the prompt and whose values are a reply or a list of them. A reply is

  "text"                                    the text of the reply
  {{"text": "...", "prompt_tokens": 100}}     with fields of abyme.testing.Reply
  {{"fault": "rate_limited", "retry_after_s": 1}}
                                            a fault and its arguments; there are
                                            {", ".join(FAULTS[:6])},
                                            {", ".join(FAULTS[6:])}

Code for a root model goes into a fence: "```repl\\nsubmit(len(context))\\n```".
"""


def main(arguments: list[str] | None = None) -> int:
    """Serve; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m abyme.testing",
        description=__doc__,
        epilog=SCRIPT_FORMAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--script", type=Path, required=True, help="replies as JSON")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--api-key", help="refuse requests without this key")
    parser.add_argument("--until-stdin-closes", action="store_true")
    options = parser.parse_args(arguments)
    try:
        script = read_script(options.script)
    except ConfigError as error:
        parser.error(str(error))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(script, options))
    return 0


async def _serve(script: Script, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    endpoint = ScriptedEndpoint(
        script,
        latency_s=options.latency_ms / 1000,
        api_key=options.api_key,
        port=options.port,
    )
    async with endpoint:
        sys.stdout.write(f"{endpoint.url}\n")
        sys.stdout.flush()
        if options.until_stdin_closes:
            reader = asyncio.StreamReader()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            await reader.read()
        else:
            await stopped.wait()


if __name__ == "__main__":
    sys.exit(main())
