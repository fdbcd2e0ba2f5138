"""``python -m abyme.testing``: a `ScriptedEndpoint` for other processes.

Prints its URL as the only line of standard output, then serves until it is
interrupted, terminated, or its standard input ends (with ``--until-stdin-closes``).
It can refuse (429) or queue what passes a limit on calls at once or on calls a second.
"""

import argparse
import asyncio
import contextlib
import math
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from abyme.errors import ConfigError
from abyme.testing.endpoint import RateLimit, ScriptedEndpoint
from abyme.testing.replies import FAULTS, Request, Script, read_script

SCRIPT_FORMAT = f"""\
The script is a JSON file: a list of replies, given in order, or an object whose keys are
substrings of the prompt and whose values are a reply or a list of them. A reply is

  "text"                                    the text of the reply
  {{"text": "...", "prompt_tokens": 100}}     with fields of abyme.testing.Reply
  {{"text": "A", "logprobs": [["A", -0.1]]}}  with log-probabilities of its tokens, for
                                            requests that ask for them
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
    parser.add_argument("--latency-ms", type=float, default=0.0, help="mean of all replies")
    parser.add_argument(
        "--latency-sigma",
        type=float,
        default=0.0,
        metavar="S",
        help="how wide latencies differ: sigma of a log-normal distribution; models have about 1",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the latencies of prompts")
    _add_limits(parser)
    parser.add_argument("--api-key", help="refuse requests without this key")
    parser.add_argument("--until-stdin-closes", action="store_true")
    options = parser.parse_args(arguments)
    try:
        script = read_script(options.script)
        limit = _rate_limit(options)
    except ConfigError as error:
        parser.error(str(error))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(script, limit, options))
    return 0


def _add_limits(parser: argparse.ArgumentParser) -> None:
    limits = parser.add_argument_group("rate limit")
    limits.add_argument("--concurrent", type=int, metavar="K", help="calls served at once")
    limits.add_argument("--calls-per-s", type=float, metavar="R", help="out of a bucket of tokens")
    limits.add_argument("--burst", type=int, default=1, metavar="B", help="depth of the bucket")
    limits.add_argument("--queues", action="store_true", help="let calls wait; refuse none")
    limits.add_argument("--retry-after-s", type=float, metavar="S", help="say so with each 429")


def _rate_limit(options: argparse.Namespace) -> RateLimit | None:
    if options.concurrent is None and options.calls_per_s is None:
        if options.queues:
            raise ConfigError("--queues needs --concurrent or --calls-per-s")
        return None
    return RateLimit(
        calls_per_s=options.calls_per_s,
        burst=options.burst,
        concurrent=options.concurrent,
        queues=options.queues,
        retry_after_s=options.retry_after_s,
    )


def _latency(mean_s: float, sigma: float, seed: int) -> float | Callable[[Request], float]:
    """Differ from prompt to prompt, but not from attempt to attempt."""
    if not sigma or not mean_s:
        return mean_s
    mu = math.log(mean_s) - sigma**2 / 2

    def latency_s(request: Request) -> float:
        generator = random.Random(f"{seed} {request.get('messages')}")  # noqa: S311 - no secret
        return generator.lognormvariate(mu, sigma)

    return latency_s


async def _serve(script: Script, limit: RateLimit | None, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    endpoint = ScriptedEndpoint(
        script,
        latency_s=_latency(options.latency_ms / 1000, options.latency_sigma, options.seed),
        rate_limit=limit,
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
