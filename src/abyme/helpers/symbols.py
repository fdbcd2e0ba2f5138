"""The job that finds classes and functions in code, by tree-sitter.

Decides what is a symbol in each language, what it is called, and where it begins: at the beginning
of its line, with its decorators, its template head or its ``export``. Answers frame by frame:
``{"language"}`` and the text in, ``{"complete"}`` and a JSON list of
``[start, end, line, depth, kind, name]`` out, places in code points.

Invariant: grammars come in wheels and are loaded before lock-down. Code that is not well-formed
has the symbols that the parser could make out. Does not choose languages (`contexts.symbols`).
"""

import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tree_sitter import Node, Tree

    from abyme.helpers.link import Link

GRAMMARS: Final[Mapping[str, tuple[str, str]]] = {
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
    "go": ("tree_sitter_go", "language"),
    "java": ("tree_sitter_java", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "python": ("tree_sitter_python", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
}
"""Module and function of each language's grammar."""
MAX_SYMBOLS: Final = 50_000
MAX_NAME_CHARS: Final = 200
_JAVASCRIPT: Final = {
    "class_declaration": "class",
    "function_declaration": "function",
    "generator_function_declaration": "function",
    "method_definition": "function",
    "variable_declarator": "function",
}
_TYPESCRIPT: Final = {
    **_JAVASCRIPT,
    "abstract_class_declaration": "class",
    "enum_declaration": "enum",
    "interface_declaration": "interface",
    "internal_module": "namespace",
    "type_alias_declaration": "type",
}
_C: Final = {
    "enum_specifier": "enum",
    "function_definition": "function",
    "preproc_function_def": "macro",
    "struct_specifier": "struct",
    "union_specifier": "union",
}
SYMBOLS: Final[Mapping[str, Mapping[str, str]]] = {
    "c": _C,
    "cpp": {**_C, "class_specifier": "class", "namespace_definition": "namespace"},
    "go": {
        "function_declaration": "function",
        "method_declaration": "method",
        "type_spec": "type",
    },
    "java": {
        "annotation_type_declaration": "interface",
        "class_declaration": "class",
        "constructor_declaration": "function",
        "enum_declaration": "enum",
        "interface_declaration": "interface",
        "method_declaration": "function",
        "record_declaration": "record",
    },
    "javascript": _JAVASCRIPT,
    "python": {"class_definition": "class", "function_definition": "function"},
    "rust": {
        "enum_item": "enum",
        "function_item": "function",
        "function_signature_item": "function",
        "impl_item": "impl",
        "macro_definition": "macro",
        "mod_item": "namespace",
        "struct_item": "struct",
        "trait_item": "trait",
        "union_item": "union",
    },
    "tsx": _TYPESCRIPT,
    "typescript": _TYPESCRIPT,
}
"""Node types of each grammar, and what kind of symbol they are."""
_HAVE_METHODS: Final = frozenset(
    ("class", "enum", "impl", "interface", "record", "struct", "trait", "union")
)
_NEEDS_BODY: Final = frozenset(("enum_specifier", "struct_specifier", "union_specifier"))
_CODE: Final = frozenset(("arrow_function", "class", "function_expression", "generator_function"))
_WRAPPERS: Final = frozenset(
    (
        *(
            "decorated_definition",
            "export_statement",
            "lexical_declaration",
            "template_declaration",
        ),
        *("type_declaration", "type_definition", "variable_declaration"),
    )
)
"""What a symbol may stand in alone, so that it begins there."""
_LISTS: Final = frozenset(("lexical_declaration", "type_declaration", "variable_declaration"))
"""Wrappers that may hold several symbols side by side."""
_WIDE: Final = re.compile(r"[^\x00-\x7f]")
_MAX_NESTED_DECLARATORS: Final = 50
_loaded: dict[str, Callable[[], object]] = {}


def prepare(order: Mapping[str, Any]) -> None:  # noqa: ARG001 - what every job is given
    """Load the grammars that are installed."""
    importlib.import_module("tree_sitter")
    for language, (module, function) in GRAMMARS.items():
        try:
            _loaded[language] = getattr(importlib.import_module(module), function)
        except ImportError:
            continue


def serve(link: "Link") -> None:
    """Answer until the host is gone."""
    while (message := link.receive()) is not None:
        head, body, _ = message
        text = body.decode("utf-8", "surrogatepass")
        found = find(text, str(head["language"]))
        kept = found[:MAX_SYMBOLS]
        link.send(
            {"complete": len(kept) == len(found)},
            json.dumps(kept, separators=(",", ":")).encode("ascii"),
        )


def find(text: str, language: str) -> list[tuple[int, int, int, int, str, str]]:
    """Find the symbols of a text, by their beginnings: start, end, line, depth, kind, name."""
    from tree_sitter import Language, Parser  # noqa: PLC0415

    # One byte for one code point: places are the text's own. No language's syntax is wide.
    code = _WIDE.sub("x", text).encode("ascii")
    tree = Parser(Language(_loaded[language]())).parse(code)
    kinds = SYMBOLS[language]
    found = []
    for node in _nodes(tree, kinds):
        name = _name(node)
        if name is not None:
            place = _place(node, code)
            found.append((*place, kinds[node.type], " ".join(text[name].split())[:MAX_NAME_CHARS]))
    return _nested(sorted(found, key=lambda one: (one[0], -one[1])), code)


def _nodes(tree: "Tree", kinds: Mapping[str, str]) -> Iterator["Node"]:
    """Walk a tree. A query takes time with the square of the children of an error."""
    cursor = tree.walk()
    while True:
        node = cursor.node
        if node is not None and node.type in kinds:
            yield node
        if cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return


def _place(node: "Node", code: bytes) -> tuple[int, int]:
    """Give where a symbol begins and ends, with what belongs to it alone."""
    start, end = node.start_byte, node.end_byte
    outer = node.parent
    while outer is not None and outer.type in _WRAPPERS:
        alone = outer.end_byte - end <= 1 or outer.type == "type_definition"
        if not alone or outer.named_child_count > (1 if outer.type in _LISTS else 3):
            break
        start, end = outer.start_byte, outer.end_byte
        outer = outer.parent
    line = code.rfind(b"\n", 0, start) + 1
    return (line if not code[line:start].strip() else start), end


def _name(node: "Node") -> slice | None:
    """Tell where a symbol's name stands; None: it is not one after all."""
    if node.type in _NEEDS_BODY and node.child_by_field_name("body") is None:
        return None
    if node.type == "variable_declarator":
        value = node.child_by_field_name("value")
        if value is None or value.type not in _CODE:
            return None
    if node.type == "impl_item":
        first = node.child_by_field_name("trait") or node.child_by_field_name("type")
        last = node.child_by_field_name("type")
        return slice(first.start_byte, last.end_byte) if first and last else None
    named = node.child_by_field_name("name") or _declared(node)
    return None if named is None else slice(named.start_byte, named.end_byte)


def _declared(node: "Node") -> "Node | None":
    """Go down the declarators of C to the name: ``char *(*f(int))(void)`` declares f."""
    if node.type in _NEEDS_BODY:
        outer = node.parent
        is_typedef = outer is not None and outer.type == "type_definition"
        return outer.child_by_field_name("declarator") if is_typedef and outer else None
    inner = node.child_by_field_name("declarator")
    for _ in range(_MAX_NESTED_DECLARATORS):
        deeper = inner.child_by_field_name("declarator") if inner is not None else None
        if inner is not None and deeper is None and inner.type == "parenthesized_declarator":
            deeper = inner.named_child(0)
        if deeper is None:
            return inner
        inner = deeper
    return inner


def _nested(
    found: list[tuple[int, int, str, str]], code: bytes
) -> list[tuple[int, int, int, int, str, str]]:
    """Add line and depth; a function in a class is a method."""
    symbols = []
    outer: list[tuple[int, str]] = []  # end and kind of the symbols around
    line, counted = 1, 0
    for start, end, kind, name in found:
        while outer and outer[-1][0] <= start:
            outer.pop()
        is_method = kind == "function" and bool(outer) and outer[-1][1] in _HAVE_METHODS
        line += code.count(b"\n", counted, start)
        counted = start
        symbols.append((start, end, line, len(outer), "method" if is_method else kind, name))
        outer.append((end, kind))
    return symbols
