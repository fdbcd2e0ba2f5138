"""Classes and functions of code, by tree-sitter in a confined helper.

Contract: places are code points of the document's own text, whatever it is written in; what
cannot be parsed is an error of the context, for which the guest has a plainer way.
"""

import asyncio
from contextlib import closing

import pytest

from abyme.contexts.confined import Confined
from abyme.contexts.sealed import SealedContext, from_value
from abyme.contexts.symbols import language_of
from abyme.core.seeks import Sought, Symbols
from abyme.errors import ContextError
from abyme.helpers import symbols as helper


def found(source: str, language: str) -> list[tuple[str, str, int]]:
    """Kind, name and depth of every symbol; places are looked at elsewhere."""
    helper.prepare({})
    return [(kind, name, depth) for *_, depth, kind, name in helper.find(source, language)]


def ask(context: SealedContext, document: int = 0) -> Sought:
    return asyncio.run(context.seek(Symbols(document=document)))


def test_a_symbol_begins_at_its_line_with_its_decorators_and_ends_with_its_body() -> None:
    source = "é = 'ü'\n@mark\nclass A:\n    def m(self):\n        def inner(): pass\n\nx = 1\n"
    helper.prepare({})

    [(start, end, line, depth, kind, name), method, inner] = helper.find(source, "python")

    assert (kind, name, line, depth) == ("class", "A", 2, 0)
    assert source[start:end] == source[8 : source.index("\n\nx")]
    assert method[2:] == (4, 1, "method", "m")
    assert inner[2:] == (5, 2, "function", "inner")
    assert source[method[0] :].startswith("    def m")


@pytest.mark.parametrize(
    ("language", "source", "symbols"),
    [
        (
            "c",
            """struct foo { int a; };
struct foo q;
typedef struct { int b; } bar_t;
static char *(*f(int x))(void) { return 0; }
#define M(x) x
""",
            [
                ("struct", "foo", 0),
                ("struct", "bar_t", 0),
                ("function", "f", 0),
                ("macro", "M", 0),
            ],
        ),
        (
            "cpp",
            "namespace n { template<typename T> class A { ~A() {} }; }\nint n::A::g() {}\n",
            [
                ("namespace", "n", 0),
                ("class", "A", 1),
                ("method", "~A", 2),
                ("function", "n::A::g", 0),
            ],
        ),
        (
            "javascript",
            "export class A { m() {} }\nexport const f = async (x) => 1;\nconst a = 1;\n",
            [("class", "A", 0), ("method", "m", 1), ("function", "f", 0)],
        ),
        (
            "typescript",
            "export interface I { a: string }\nabstract class C { private m(): void {} }\n",
            [("interface", "I", 0), ("class", "C", 0), ("method", "m", 1)],
        ),
        ("tsx", "const A = () => <b>x</b>;\n", [("function", "A", 0)]),
        (
            "go",
            "package m\ntype (\n A struct{}\n B int\n)\nfunc (a *A) M() {}\nfunc main() {}\n",
            [("type", "A", 0), ("type", "B", 0), ("method", "M", 0), ("function", "main", 0)],
        ),
        (
            "rust",
            "impl Tr for Foo { fn a(&self) {} }\npub fn b() {}\ntrait T { fn c(); }\n",
            [
                ("impl", "Tr for Foo", 0),
                ("method", "a", 1),
                ("function", "b", 0),
                ("trait", "T", 0),
                ("method", "c", 1),
            ],
        ),
        (
            "java",
            "public class A { A() {} void m() {} enum E { X } }\n",
            [("class", "A", 0), ("method", "A", 1), ("method", "m", 1), ("enum", "E", 1)],
        ),
    ],
)
def test_the_symbols_of_each_language(
    language: str, source: str, symbols: list[tuple[str, str, int]]
) -> None:
    assert found(source, language) == symbols


def test_code_that_is_not_well_formed_has_the_symbols_that_can_be_made_out() -> None:
    assert ("function", "ok", 0) in found(
        "def ok():\n    return 1\n\nclass (((:\n\udc80\n", "python"
    )


@pytest.mark.parametrize(
    ("name", "head", "language"),
    [
        ("a/b.PY", "", "python"),
        ("tool", "#!/usr/bin/env python3\nimport os", "python"),
        ("a.h", "int f(void);", "c"),
        ("a.h", "#pragma once\nnamespace n {\n", "cpp"),
        ("README", "class A:", None),
        ("notes.txt", "", None),
    ],
)
def test_a_language_is_told_by_the_name_and_a_header_by_its_beginning(
    name: str, head: str, language: str | None
) -> None:
    assert language_of(name, head) == language


def test_a_repl_gets_the_symbols_of_one_document_from_a_confined_helper() -> None:
    texts = {"notes.txt": "def no(): pass", "a.py": "def ä(): pass\n" * 2}
    with closing(from_value(texts)) as context:
        sought = ask(context, 1)
        again = ask(context, 1)

    assert sought.places == [[0, 13, 1, 0, "function", "ä"], [14, 27, 2, 0, "function", "ä"]]
    assert (sought.total, sought.complete, again) == (2, True, sought)


@pytest.mark.parametrize(("document", "why"), [(0, "no language"), (7, "no document 7")])
def test_what_has_no_symbols_is_told(document: int, why: str) -> None:
    with (
        closing(from_value({"notes.txt": "x"})) as context,
        pytest.raises(ContextError, match=why),
    ):
        ask(context, document)


@pytest.mark.parametrize(
    "answer",
    ["[[0,99,1,0,'f','n']]", "[[5,3,1,0,'f','n']]", "[[3,4,1,0,'f','n'],[1,2,1,0,'f','n']]", "{"],
)
def test_a_helper_that_lies_about_places_is_not_believed(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = answer.replace("'", '"').encode()
    monkeypatch.setattr(Confined, "start", lambda self: None)
    monkeypatch.setattr(Confined, "send", lambda self, head, fds=(), body=b"": None)
    monkeypatch.setattr(Confined, "receive", lambda self, timeout_s: ({"complete": True}, body))
    with (
        closing(from_value({"a.py": "x = 123\n"})) as context,
        pytest.raises(ContextError, match="crashes its parser"),
    ):
        ask(context)


def test_a_million_open_brackets_have_no_symbols() -> None:
    with closing(from_value({"deep.py": "(" * 1_000_000})) as context:
        assert ask(context) == Sought()


def test_a_document_that_crashes_its_parser_costs_only_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receive = Confined.receive

    def killed(self, timeout_s):
        self.close()
        return receive(self, timeout_s)

    with closing(from_value({"bad.py": "", "a.py": "class A: pass\n"})) as context:
        ask(context, 1)
        monkeypatch.setattr(Confined, "receive", killed)
        with pytest.raises(ContextError, match="crashes its parser"):
            ask(context, 0)
        monkeypatch.setattr(Confined, "receive", receive)

        assert ask(context, 1).places == [[0, 13, 1, 0, "class", "A"]]
