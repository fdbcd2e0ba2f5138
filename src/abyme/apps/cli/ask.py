"""``abyme ask``: one question, answered; the answer on stdout, all else on stderr.

Reads the command line and opens what it names. Does not decide anything about the run
(`run.api`), what is told of it (`watching`) or how its answer is printed (`delivery`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abyme.apps.cli import isolating, options
from abyme.errors import ConfigError

if TYPE_CHECKING:
    from abyme.apps.cli.watching import Watched
    from abyme.contexts.choice import Choice
    from abyme.core.isolation import Isolation
    from abyme.run.answers import Answer

DEFAULTS = {
    "max_usd": "5",
    "confirm_usd": "nobody is asked",
    "max_calls": "10,000",
    "max_tokens": "20,000,000",
    "depth": "3",
    "timeout_s": "3600",
    "max_turns": "30",
}
"""Of `Limits`, in words; written down because the help page should not have to import it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The command line, as click read it, but for limits and form."""

    question: str
    paths: tuple[str, ...]
    model: str | None
    sub_model: str | None
    base_url: str | None
    sub_base_url: str | None
    api_key: str | None
    price: str | None
    sub_price: str | None
    max_output_tokens: int | None
    window_tokens: int | None
    sub_window_tokens: int | None
    schema: Path | None
    cache: bool
    profile: str | None
    runs_dir: Path | None
    choice: "Choice"
    ingest_cache: bool


@click.command("ask", short_help="Answer a question over files and folders.")
@click.argument("question")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--model", metavar="M", help="Root model, PROVIDER:MODEL; see `abyme models`.")
@click.option("--sub-model", metavar="M", help="Model for sub-calls; by default the root model.")
@options.BASE_URL
@options.SUB_BASE_URL
@options.API_KEY
@click.option(
    "--price",
    metavar="IN,OUT[,CACHED]",
    help="Dollars for a million tokens of the root model: in, out, and in from the provider's "
    "cache.",
)
@click.option(
    "--sub-price",
    metavar="IN,OUT[,CACHED]",
    help="The same of the sub-model, where it is another model.",
)
@options.limits(DEFAULTS)
@click.option(
    "--max-output-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of one reply, reasoning included; if not given, what the profile says: 4,096, 16,384 of "
    "models that reason, 1,024 of local ones.",
)
@click.option(
    "--window",
    "window_tokens",
    type=click.IntRange(min=1024),
    metavar="N",
    help="Tokens that prompt and reply of the root model may have together, where that is not "
    "known; near it older turns are folded.",
)
@click.option(
    "--sub-window",
    "sub_window_tokens",
    type=click.IntRange(min=1024),
    metavar="N",
    help="The same of the sub-model, where it is another model.",
)
@click.option(
    "--schema",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON Schema that the answer must fit; it is printed as JSON.",
)
@click.option(
    "--profile",
    metavar="NAME|FILE",
    help="How the root model is spoken to: strong, reasoning, weak-local, or a .toml file; by "
    "its name if not given.",
)
@options.sources
@isolating.isolation
@options.CACHE
@options.RUNS_DIR
@options.JSON
@options.QUIET
def command(**given: Any) -> int:
    """Answer QUESTION over files and folders.

    PATH is a file, a folder, - for standard input, 'docs/**/*.md', https://..., or
    git+PATH@REVISION; `abyme context PATH...` shows what would be read. The answer is
    printed on stdout, its evidence and the progress on stderr. Exit codes: 0 answered,
    3 partial, 1 failed, 2 wrong usage, 130 stopped.

    Ctrl-C once finishes with what is there, twice stops now. `abyme resume` goes on.
    """
    from abyme.apps.cli.asking import check_somebody_to_ask  # noqa: PLC0415
    from abyme.apps.cli.delivery import Form, deliver  # noqa: PLC0415
    from abyme.apps.cli.watching import says_how_to_go_on, watched  # noqa: PLC0415

    limits, isolation = options.given_limits(given), isolating.given(given)
    given["choice"] = options.given_choice(given)
    asked = Asked(**{name: given[name] for name in Asked.__slots__})
    if not asked.question.strip():
        raise ConfigError("the question is empty: say what you want to know of the paths")
    if not asked.paths:
        raise ConfigError("no PATH is given: name a file or a folder, or - to read stdin")
    check_somebody_to_ask(limits.get("confirm_usd"))
    form = Form(as_json=given["as_json"], typed=asked.schema is not None, quiet=given["quiet"])
    with watched(quiet=form.quiet) as watching, says_how_to_go_on(watching, asked.runs_dir):
        answer = _answer(asked, limits, isolation, watching)
    return deliver(answer, form, watching)


def _answer(
    asked: Asked, limits: dict[str, Any], isolation: "Isolation", watching: "Watched"
) -> "Answer":
    from abyme.apps.cli.watching import interrupts, loaded  # noqa: PLC0415
    from abyme.core.limits import Limits  # noqa: PLC0415
    from abyme.run.api import RLM  # noqa: PLC0415

    schema = None if asked.schema is None else _schema(asked.schema)
    with RLM(
        asked.model,
        asked.sub_model,
        base_url=asked.base_url,
        sub_base_url=asked.sub_base_url,
        api_key=asked.api_key,
        price=asked.price,
        sub_price=asked.sub_price,
        max_output_tokens=asked.max_output_tokens,
        window_tokens=asked.window_tokens,
        sub_window_tokens=asked.sub_window_tokens,
        limits=Limits(**limits),
        sandbox=isolation,
        runs_dir=asked.runs_dir,
        warm=0,
        cache=asked.cache,
        profile=asked.profile,
        on_record=watching.record,
        on_text=watching.text,
        confirm=watching.asker.confirm,
    ) as rlm:
        if rlm.spec.root.local or rlm.spec.sub.local:
            from abyme.apps.cli.weights import make_sure_of_weights  # noqa: PLC0415

            make_sure_of_weights(rlm.spec, watching.shown, default=asked.model is None)
        rlm.warm_up()
        kept = asked.ingest_cache
        read = loaded(asked.paths, watching.shown, asked.choice, ingest_cache=kept)
        with read as context, interrupts(rlm, watching):
            return rlm.ask(asked.question, context, schema)


def _schema(path: Path) -> Any:
    """Read a JSON Schema, and see that it will do before anything else is read.

    Raises:
        ConfigError: it cannot be read, or is no JSON Schema that can be kept.
    """
    from abyme.run.shape import shape_of  # noqa: PLC0415

    try:
        schema = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the schema {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the schema {path} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise ConfigError(f"the schema {path} is no JSON object")
    try:
        shape_of(schema)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return schema
