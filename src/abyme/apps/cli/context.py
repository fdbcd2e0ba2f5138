"""``abyme context``: what a question over these paths would be asked of. Costs nothing.

Reads with the loader that `ask` uses, so what is shown is what would be there. Decides how the
account is put; the report goes to stdout, progress to stderr. Asks no model, starts no REPL.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from abyme.apps.amounts import count, duration, size
from abyme.apps.cli import failures, options
from abyme.apps.cli.terminal import err, out
from abyme.apps.safe_text import safe_line
from abyme.apps.tree import Line
from abyme.errors import ContextError

if TYPE_CHECKING:
    from abyme.contexts.load import Loaded
    from abyme.contexts.manifest import DocumentFacts

LARGEST = 5
"""Documents that are named, and members of a group."""
WIDTHS = {2: "2 bytes a character", 4: "4 bytes a character"}
PLAIN = "text/plain"
ROW, NO_HEADER = "row", "header=absent"
"""What a page of a table is called: the first is its head, unless its media says otherwise."""


@click.command("context", short_help="Show what would be read, at no cost.")
@click.argument("paths", nargs=-1, metavar="PATH...", required=True)
@options.sources
@click.option("--all", "everything", is_flag=True, help="Name every document and what is skipped.")
@options.JSON
@options.QUIET
def command(paths: tuple[str, ...], **given: Any) -> int:
    """Show what `abyme ask QUESTION PATH...` would read: no model is asked.

    PATH is a file, a folder, a glob, - for standard input, a URL, or a git repository at a
    revision. Exit code 0 if there is something to read, else 1.

    \b
      abyme context contracts/ --exclude 'drafts/' --max-file-size 20MB
      abyme context 'docs/**/*.md' notes.zip mail.mbox
      abyme context https://example.org/report.pdf
      abyme context git+.@v1.0 --include '*.py'
      abyme context data/ --json | jq '.skipped'
    """  # noqa: D301 - click reads the backspace
    from abyme.apps.cli.progress import progress  # noqa: PLC0415
    from abyme.apps.cli.watching import read_in  # noqa: PLC0415
    from abyme.run import spec, storage  # noqa: PLC0415

    cache = storage.ingest_cache(spec.cache_dir(), wanted=given["ingest_cache"])
    shown = progress(err(), quiet=given["quiet"])
    began_s = time.monotonic()
    try:
        loaded = read_in(paths, shown, options.given_choice(given), cache)
    except ContextError as error:
        shown.close()
        err().say(f"abyme: {error}")
        if given["as_json"]:
            failures.print_json({"error": str(error)})
        return failures.FAILED
    finally:
        shown.close()
    wall_s = time.monotonic() - began_s
    with closing(loaded.context):
        if given["as_json"]:
            failures.print_json(as_object(loaded, wall_s))
        else:
            terminal = out()
            for line in report(loaded, wall_s, everything=given["everything"]):
                terminal.line(line)
        if cache:
            cache.wait()
            for note in cache.notes:
                err().say(note)
    return failures.ANSWERED


def as_object(loaded: "Loaded", wall_s: float) -> dict[str, Any]:
    """Tell all of it, for programs. Fields may be added, none is renamed or taken away."""
    from abyme.contexts.counts import counts  # noqa: PLC0415

    context, manifest = loaded.context, loaded.context.manifest
    files, folders = manifest.left_out
    return {
        "shape": manifest.shape,
        "chars": context.chars,
        "tokens_estimated": counts(context).tokens,
        "memory_bytes": memory_bytes(loaded),
        "in_file": not context.is_sealed,
        "documents": [
            {
                "name": facts.name,
                "chars": facts.chars,
                "bytes_a_char": max(1, facts.kind),
                "media": facts.media or PLAIN,
                "encoding": facts.encoding,
                "source_bytes": facts.source_bytes,
                "source_sha256": facts.source_sha256,
                "pages": len(facts.pages),
                "page_word": facts.page_word if facts.pages else None,
                "table": facts.table is not None,
            }
            for facts in manifest.documents
        ],
        "skipped": [{"name": item.name, "reason": item.reason} for item in manifest.skipped],
        "notes": [{"name": item.name, "note": item.note} for item in manifest.notes],
        "left_out": {"files": files, "folders": folders},
        "revisions": manifest.revisions,
        "cached": loaded.cached,
        "wall_s": round(wall_s, 3),
    }


def memory_bytes(loaded: "Loaded") -> int:
    """Weigh what the run would hold: texts, twins, tables and the index, once for all REPLs."""
    return sum(os.fstat(fd).st_size for fd in loaded.context.fds)


def report(loaded: "Loaded", wall_s: float, *, everything: bool) -> Iterator[Line]:
    """Put it for people, line by line."""
    from abyme.contexts.counts import counts  # noqa: PLC0415

    context, manifest = loaded.context, loaded.context.manifest
    documents = manifest.documents
    what = "one text" if manifest.shape == "text" else count(len(documents), "document")
    about = f"about {count(counts(context).tokens, 'token')}"
    yield [(what, "bold"), (f": {context.chars:,} characters, {about}", "")]
    where = "once for all REPLs" if context.is_sealed else "in a file that all REPLs map"
    yield _row("memory", f"{size(memory_bytes(loaded))}, {where}{_wide(documents)}")
    yield _row("read in", duration(wall_s) + ", from the cache" * loaded.cached)
    for source, commit in manifest.revisions.items():
        yield _row("revision", f"{source} is at {commit[:12]}")
    if manifest.shape == "documents" or everything:
        yield from _documents(documents, everything=everything)
    elif documents and (documents[0].media or documents[0].pages):
        yield _row("kind", safe_line(documents[0].media or PLAIN) + _pages(documents[0]))
    yield from _rest(loaded, everything=everything)


def _documents(documents: "Sequence[DocumentFacts]", *, everything: bool) -> Iterator[Line]:
    ranked = documents if everything else sorted(documents, key=lambda d: -d.chars)[:LARGEST]
    width = max(len(f"{facts.chars:,}") for facts in ranked)
    word = "documents" if everything else "largest"
    for number, facts in enumerate(ranked):
        name = safe_line(facts.name or "(without a name)")
        yield _row("" if number else word, f"{facts.chars:>{width},}  {name}{_pages(facts)}")
    kinds = Counter(facts.media or PLAIN for facts in documents)
    for number, (media, many) in enumerate(kinds.most_common()):
        paged = Counter[str]()
        for facts in documents:
            if (facts.media or PLAIN) == media and facts.pages:
                paged[facts.page_word] += _page_count(facts)
        told = "".join(f", {count(n, page)}" for page, n in paged.most_common(2))
        yield _row("" if number else "kinds", f"{many:,}  {safe_line(media)}{told}")
    if tables := sum(facts.table is not None for facts in documents):
        yield _row("tables", f"{count(tables, 'document')} with columns beside the text")


def _page_count(facts: "DocumentFacts") -> int:
    """Count its pages; the row of names at the head of a table is none."""
    headed = facts.page_word == ROW and not (facts.media or "").endswith(NO_HEADER)
    return len(facts.pages) - headed


def _pages(facts: "DocumentFacts") -> str:
    return f", {count(_page_count(facts), facts.page_word)}" if facts.pages else ""


def _rest(loaded: "Loaded", *, everything: bool) -> Iterator[Line]:
    from abyme.contexts.account import install_words  # noqa: PLC0415
    from abyme.contexts.walk import Excluded  # noqa: PLC0415

    manifest = loaded.context.manifest
    if words := Excluded(*manifest.left_out).words():
        yield _row("left out", words.removeprefix("left out "))
    noted: dict[str, list[str]] = {}
    for note in manifest.notes:
        noted.setdefault(note.note, []).append(note.name)
    yield from _grouped("in part", noted, everything=everything)
    reasons: dict[str, list[str]] = {}
    for item in manifest.skipped:
        reasons.setdefault(item.reason, []).append(item.name)
    yield from _grouped("skipped", reasons, everything=everything)
    if install := install_words(loaded.skipped, loaded.notes):
        yield _row("install", install.removeprefix("; to read them: "))


def _grouped(word: str, groups: dict[str, list[str]], *, everything: bool) -> Iterator[Line]:
    """Name what has the same reason together, the largest group first."""
    for reason, all_names in sorted(groups.items(), key=lambda group: -len(group[1])):
        names = [_times(*one) for one in Counter(all_names).items()]
        named = names if everything else names[:LARGEST]
        if everything:
            yield _row(word, f"{len(all_names):,}  {safe_line(reason)}:")
            for name in named:
                yield _row("", f"  {name}")
        else:
            more = ", ..." if len(names) > len(named) else ""
            listed = ", ".join(named)
            yield _row(word, f"{len(all_names):,}  {safe_line(reason)}: {listed}{more}")
        word = ""


def _times(name: str, times: int) -> str:
    """Name once what is told of many times."""
    return safe_line(name) + (f" (x {times:,})" if times > 1 else "")


def _wide(documents: "Sequence[DocumentFacts]") -> str:
    """Say which documents cost more than a byte a character."""
    kinds = Counter(facts.kind for facts in documents)
    said = [f"{count(kinds[kind], 'document')} at {WIDTHS[kind]}" for kind in WIDTHS if kinds[kind]]
    return f" ({', '.join(said)})" if said else ""


def _row(word: str, text: str) -> Line:
    return [(f"  {word:<11}", "dim"), (text, "")]
