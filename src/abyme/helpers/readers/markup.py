"""HTML's visible text, for every format that holds HTML: pages, chapters of books, messages.

Decides what is visible and how it reads as lines: headings as ``#``, items as ``-`` or ``1.``, rows
with cells by `` | ``, `pre` as it is, links as their text, with the target behind it where
that is an address of its own. Scripts, styles, forms' machinery and what is hidden by
an attribute or an inline style are left out; style sheets are not looked at.

Invariant: walks, never recurses. Does not decide the charset of files (`charsets`).
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from abyme.helpers.emit import Unreadable
from abyme.helpers.readers.prose import Prose

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_UNSEEN: Final = frozenset(
    [
        "script",
        "style",
        "template",
        "noscript",
        "head",
        "svg",
        "iframe",
        "object",
        "embed",
        "video",
        "audio",
        "canvas",
        "input",
        "select",
        "datalist",
        "meta",
        "link",
        "base",
        "source",
        "track",
        "param",
        "area",
        "map",
        "noframes",
    ]
)
_BLOCKS: Final = frozenset(
    [
        "p",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "blockquote",
        "ul",
        "ol",
        "dl",
        "table",
        "pre",
        "figure",
        "hr",
        "fieldset",
        "address",
    ]
)
_LINES: Final = frozenset(
    [
        "div",
        "section",
        "article",
        "main",
        "header",
        "footer",
        "nav",
        "aside",
        "li",
        "dt",
        "dd",
        "tr",
        "caption",
        "form",
        "figcaption",
        "details",
        "summary",
        "legend",
        "body",
        "html",
        "center",
        "option",
        "dialog",
        "menu",
        "search",
        "hgroup",
        "thead",
        "tbody",
        "tfoot",
    ]
)
_HEADINGS: Final = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_LISTS: Final = frozenset(("ul", "ol", "menu"))
_MAKES_LAYOUT: Final = frozenset((*_HEADINGS, "pre", "table"))
"""What a cell of a table of data does not hold."""
_HIDING: Final = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_MAY_HIDE: Final = re.compile(r"hidden|display\s*:\s*none", re.IGNORECASE)
_NESTING: Final = re.compile(
    r"<(/?)(?!(?:p|li|d[dt]|t[dhr]|option|area|base|br|col|hr|img|input|link|meta|wbr)\b)"
    r"[a-z][^<>]*(?<!/)>",
    re.IGNORECASE,
)
"""Elements that end where they say so."""
_MAX_DEPTH: Final = 10_000
"""The parser's time grows with the square of the depth: 0.2 s at this one, 15 s at ten times it."""
_SELF_CLOSED: Final = re.compile(r"<([A-Za-z][A-Za-z0-9]*)\b([^<>]*)/>")
_VOID: Final = frozenset(
    [
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
    ]
)


class Markup(NamedTuple):
    """What a reader of HTML sees."""

    title: str
    text: str
    """Without the title, unless the page itself shows it."""


def prepare() -> None:
    """Load the library."""
    import selectolax.lexbor  # noqa: F401, PLC0415


def visible(html: str) -> Markup:
    """Give the visible text of a page of HTML.

    Raises:
        Unreadable: it is nested too deeply.
    """
    from selectolax.lexbor import LexborHTMLParser  # noqa: PLC0415

    if html.lstrip()[:5] == "<?xml":
        html = _SELF_CLOSED.sub(_opened, html)
    if _is_too_deep(html):
        raise Unreadable("nested too deeply")
    tree = LexborHTMLParser(html)
    title = tree.css_first("head > title")
    named = " ".join((title.text() if title is not None else "").split())
    body = tree.body
    if body is None:
        return Markup(named, "")
    may_hide = _MAY_HIDE.search(html) is not None
    return Markup(named, _Page(may_hide=may_hide).read(body))


def _is_too_deep(html: str) -> bool:
    depth = 0
    for match in _NESTING.finditer(html):
        if not match[1]:
            depth += 1
            if depth > _MAX_DEPTH:
                return True
        elif depth:
            depth -= 1
    return False


def _opened(match: re.Match[str]) -> str:
    """Write an element that XML closes at once as HTML needs it: ``<a/>`` would stay open."""
    name, rest = match.groups()
    return match[0] if name.lower() in _VOID else f"<{name}{rest}></{name}>"


class _Page:
    """One walk over a tree."""

    def __init__(self, *, may_hide: bool) -> None:
        self._may_hide = may_hide
        self._prose = Prose()
        self._lists: list[int | None] = []
        self._pre = 0
        self._layouts: set[int] = set()
        self._tables: list[bool] = []
        self._rows: list[int] = []
        self._links: list[tuple[str, int]] = []

    def read(self, root: "LexborNode") -> str:
        if root.css_first("table") is not None:
            self._layouts = _layouts(_walk(root, may_hide=self._may_hide))
        for node, tag, leaves in _walk(root, may_hide=self._may_hide):
            if tag == "-text":
                self._text(node.text_content or "")
            elif leaves:
                self._leave(tag)
            else:
                self._enter(node, tag)
        return self._prose.text()

    def _text(self, text: str) -> None:
        if self._pre:
            self._prose.verbatim(text)
        else:
            self._prose.words(text)

    def _enter(self, node: "LexborNode", tag: str) -> None:
        prose = self._prose
        self._part(tag)
        if tag in _HEADINGS:
            prose.mark(_HEADINGS[tag])
        elif tag in _LISTS:
            self._lists.append(_number(node) if tag == "ol" else None)
        elif tag == "li":
            self._item()
        elif tag == "br":
            prose.verbatim("\n") if self._pre else prose.line()
        elif tag == "pre":
            self._pre += 1
        elif tag == "a":
            self._links.append((_target(node), prose.here()))
        elif tag == "img":
            alt = (node.attributes.get("alt") or "").strip()
            prose.words(f"[image: {alt}]" if alt else "")
        elif tag == "sup" and prose.last.isalnum():
            prose.verbatim("^")
        else:
            self._enter_table(node, tag)

    def _enter_table(self, node: "LexborNode", tag: str) -> None:
        if tag == "table":
            self._tables.append(node.mem_id in self._layouts)
        elif tag == "tr":
            self._rows.append(0)
        elif tag in ("td", "th"):
            self._cell()

    def _leave(self, tag: str) -> None:
        prose = self._prose
        if tag in _LISTS and self._lists:
            self._lists.pop()
        elif tag == "pre":
            self._pre -= 1
        elif tag == "a":
            self._target(*self._links.pop())
        elif tag == "table":
            self._tables.pop()
        elif tag == "tr":
            self._rows.pop()
        elif tag in ("td", "th") and not self._in_layout():
            prose.end_row_cell()
        self._part(tag)

    def _part(self, tag: str) -> None:
        """Set apart what is a line or a block of its own."""
        nested = tag in _LISTS and len(self._lists) > 0
        if tag in _BLOCKS and not nested:
            self._prose.block()
        elif tag in _LINES or nested:
            self._prose.line()

    def _item(self) -> None:
        number = self._lists[-1] if self._lists else None
        if self._lists and number is not None:
            self._lists[-1] = number + 1
        indent = "  " * max(0, len(self._lists) - 1)
        self._prose.mark(indent + ("- " if number is None else f"{number}. "))

    def _in_layout(self) -> bool:
        return not self._tables or self._tables[-1]

    def _cell(self) -> None:
        if self._in_layout():
            self._prose.line()
            return
        self._prose.begin_row_cell()
        if self._rows:
            if self._rows[-1]:
                self._prose.cell()
            self._rows[-1] += 1

    def _target(self, target: str, since: int) -> None:
        shown = self._prose.since(since)
        if target and shown and target not in shown and shown.strip() not in target:
            self._prose.words(f" ({target})")


def _number(node: "LexborNode") -> int:
    start = node.attributes.get("start") or ""
    return int(start) if start.isascii() and start.isdigit() and len(start) < 10 else 1


def _target(node: "LexborNode") -> str:
    href = (node.attributes.get("href") or "").strip()
    return href if href.lower().startswith(("http://", "https://", "mailto:")) else ""


def _hidden(node: "LexborNode") -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    style = attributes.get("style")
    return "hidden" in attributes or bool(style and _HIDING.search(style))


def _walk(root: "LexborNode", *, may_hide: bool) -> Iterator[tuple["LexborNode", str, bool]]:
    """Give every visible node, elements again when they are left (the third is True then)."""
    node: LexborNode | None = root
    around: list[tuple[LexborNode, str]] = []
    while node is not None:
        tag = node.tag or ""
        child = None
        if tag == "-text":
            yield node, tag, False
        elif tag[:1] != "-" and tag not in _UNSEEN and not (may_hide and _hidden(node)):
            yield node, tag, False
            child = node.first_child
            if child is None:
                yield node, tag, True
        if child is not None:
            around.append((node, tag))
            node = child
            continue
        node = node.next if around else None
        while node is None and around:
            left, tag = around.pop()
            yield left, tag, True
            node = left.next if around else None


def _layouts(nodes: Iterator[tuple["LexborNode", str, bool]]) -> set[int]:
    """Find tables that only place things: with tables or headings inside, or a single column."""
    found: set[int] = set()
    open_tables: list[list[int]] = []  # its id, cells in this row, most cells in a row
    for node, tag, leaves in nodes:
        if open_tables and tag in _MAKES_LAYOUT and not leaves:
            found.add(open_tables[-1][0])
        if tag == "table" and not leaves:
            open_tables.append([node.mem_id, 0, 0])
        elif tag == "table" and open_tables:
            table, _, widest = open_tables.pop()
            if widest < 2:
                found.add(table)
        elif tag == "tr" and open_tables:
            open_tables[-1][1] = 0
        elif tag in ("td", "th") and open_tables and not leaves:
            open_tables[-1][1] += 1
            open_tables[-1][2] = max(open_tables[-1][1:])
    return found
