"""Contract: contexts/places. What a model gets from `context`, `grep` and `count`."""

import copy
import json
import pickle
import random
import re

import pytest

from abyme.contexts.sealed import from_value
from abyme.guest.adopt import View
from abyme.guest.places import Finder

FILES = {
    "cgi.py": 'import os\n\n\ndef parse_header(line):\n    return "x"\n',
    "lib/html.py": (
        "import re\r\n\r\nclass Parser:\r\n    def feed(self, data):\r\n        pass\r\n"
    ),
    "lib/notes.txt": "nothing but parse_header( and parse_header(\nlast line without end",
    "empty.py": "",
}


def view_of(value):
    context = from_value(value)
    view = View(*context.fds)
    context.close()
    return view


@pytest.fixture
def view():
    return view_of(FILES)


class TestDocuments:
    def test_it_reads_like_a_dict(self, view):
        context = view.context
        assert isinstance(context, dict)
        assert list(context) == list(FILES)
        assert list(context.items()) == list(FILES.items())
        assert list(context.values()) == list(FILES.values())
        assert list(context.keys()) == list(FILES)
        assert (len(context), "cgi.py" in context, "x" in context, 7 in context) == (
            *(4, True, False, False),
        )
        assert context["cgi.py"] == FILES["cgi.py"]
        assert (context.get("x"), context.get("x", ""), context.get("empty.py")) == (None, "", "")
        assert sorted(context) == sorted(FILES)
        assert list(context.items())[:1] == [("cgi.py", FILES["cgi.py"])]

    def test_every_copy_holds_texts_and_never_the_storage(self, view):
        context = view.context
        copies = [
            *(dict(context), {**context}, context.copy(), context | {}, {} | context),
            *(copy.copy(context), copy.deepcopy(context), pickle.loads(pickle.dumps(context))),
            *(json.loads(json.dumps(context)), json.loads(json.dumps(context, indent=1))),
            *(dict(context.items()), dict(zip(context, context.values(), strict=True))),
        ]
        target = {}
        target.update(context)
        for other in [*copies, target]:
            assert other == FILES
        assert context == FILES
        assert not context != FILES  # noqa: SIM202  (a dict has its own __ne__)
        assert context != {**FILES, "cgi.py": ""}

    @pytest.mark.parametrize(
        "change",
        [
            lambda c: c.__setitem__("a", "b"),
            lambda c: c.__delitem__("cgi.py"),
            lambda c: c.pop("cgi.py"),
            lambda c: c.popitem(),
            lambda c: c.clear(),
            lambda c: c.update(a="b"),
            lambda c: c.setdefault("a", "b"),
            lambda c: c.__ior__({"a": "b"}),
        ],
    )
    def test_it_is_sealed(self, view, change):
        with pytest.raises(TypeError, match=r"^context is sealed and cannot be changed"):
            change(view.context)
        assert view.context == FILES

    @pytest.mark.parametrize("key", [0, slice(0, 3)])
    def test_an_index_is_answered_with_the_way_to_get_a_document(self, view, key):
        with pytest.raises(TypeError, match=r"use context\['cgi\.py'\], list\(context\)\[:3\]"):
            view.context[key]

    def test_a_missing_name_is_answered_with_the_nearest(self, view):
        for wrong, near in (("html.py", "lib/html.py"), ("cgy.py", "cgi.py"), ("NOTES", "notes")):
            with pytest.raises(KeyError) as caught:
                view.context[wrong]
            assert near in caught.value.args[0]

    def test_of_a_few_names_all_are_told_and_of_many_how_many(self):
        two = view_of({"a.txt": "x", "b.txt": "y"})
        many = view_of({f"{n}.txt": "x" for n in range(6)})
        for look in (two.context.__getitem__, lambda name: two.grep("x", docs=name)):
            with pytest.raises(KeyError) as caught:
                look("nope")
            assert caught.value.args[0] == (
                "no document is named 'nope'; there are 'a.txt', 'b.txt'"
            )
        with pytest.raises(KeyError, match=r"is named 'nope'; there are 6 names\"$"):
            many.grep("x", docs="nope")

    def test_a_text_in_the_place_of_a_name_is_told_and_not_repeated_whole(self, view):
        with pytest.raises(KeyError) as caught:
            view.grep("x", docs="a long text " * 1000)
        assert caught.value.args[0].endswith("...: that is a text, give a name")
        assert len(caught.value.args[0]) < 100

    @pytest.mark.parametrize("name", ["splitlines", "lower", "find"])
    def test_what_a_text_can_do_is_answered_with_the_way_to_a_text(self, view, name):
        with pytest.raises(AttributeError) as caught:
            getattr(view.context, name)
        assert str(caught.value) == (
            f"context maps names to texts and has no {name}: use context[name].{name}(), "
            "or for name, text in context.items()"
        )

    def test_other_attributes_are_missing_in_pythons_own_words(self, view):
        with pytest.raises(AttributeError, match=r"^'Documents' object has no attribute 'foo'$"):
            _ = view.context.foo
        assert not hasattr(view.context, "__array__")

    def test_its_repr_is_short(self, view):
        assert repr(view.context) == (
            "<context: 4 documents, 185 characters: 'cgi.py', 'lib/html.py', 'lib/notes.txt', ...>"
        )


class TestTexts:
    def test_a_list_is_a_list_that_refuses_changes(self):
        context = view_of(["b", "a", ""]).context
        assert isinstance(context, list)
        assert context == ["b", "a", ""]
        assert (context[1:], sorted(context), "".join(context)) == (["a", ""], ["", "a", "b"], "ba")
        assert json.dumps(context) == '["b", "a", ""]'
        assert type(copy.deepcopy(context)) is list
        for change in ("append", "remove"):
            with pytest.raises(TypeError, match=r"^context is sealed"):
                getattr(context, change)("a")
        for change in ("sort", "pop", "clear", "reverse"):
            with pytest.raises(TypeError, match=r"^context is sealed"):
                getattr(context, change)()

    def test_what_a_text_can_do_is_answered_with_the_way_to_a_text(self):
        context = view_of(["b", "a"]).context
        with pytest.raises(AttributeError) as caught:
            context.splitlines()
        assert str(caught.value) == (
            "context is a list of texts and has no splitlines: use context[0].splitlines(), "
            "or for text in context"
        )
        assert context.count("a") == 1

    def test_a_position_that_is_not_there_is_answered_with_those_that_are(self):
        with pytest.raises(KeyError) as caught:
            view_of(["b", "a"]).grep("b", docs=2)
        assert caught.value.args[0] == "no document is named 2; they are numbered 0 to 1"

    @pytest.mark.parametrize("context", ["a\nb", {"a.txt": "a"}])
    def test_docs_of_a_single_text_are_answered_with_leaving_them_out(self, context):
        with pytest.raises(KeyError) as caught:
            view_of(context).count("a", docs="nope")
        assert caught.value.args[0] == (
            "no document is named 'nope': context has one text only, leave docs out"
        )

    def test_hits_in_a_list_carry_the_position(self):
        view = view_of(["b", "a\nab"])
        assert view.grep("b") == [(0, 1, "b"), (1, 2, "ab")]
        assert view.grep("b", docs=1) == [(1, 2, "ab")]


class TestGrep:
    def test_a_hit_unpacks_and_prints_as_a_tuple(self, view):
        (hit,) = view.grep(r"^\s*def parse_header\(")
        name, line, text = hit
        assert (name, line, text) == (hit.name, hit.line, hit.text)
        assert repr(hit) == "('cgi.py', 4, 'def parse_header(line):')"
        assert hit.span == (0, 12, 35)
        assert FILES["cgi.py"][12:35] == hit.quote == hit.text

    def test_anchors_stand_at_every_line_and_crlf_is_an_end(self, view):
        assert view.grep(r"^import \w+$") == [
            ("cgi.py", 1, "import os"),
            ("lib/html.py", 1, "import re"),
        ]
        assert view.grep(r"(pass|end)$") == [
            ("lib/html.py", 5, "        pass"),
            ("lib/notes.txt", 2, "last line without end"),
        ]
        assert view.count(r"^$") == 3

    def test_a_line_is_one_hit_and_counted_as_often_as_it_matches(self, view):
        assert [hit.line for hit in view.grep(r"parse_header\(", docs="*.txt")] == [1]
        assert view.count(r"parse_header\(", docs="*.txt") == 2
        assert view.count("parse_header(".replace("(", r"\(")) == 3

    def test_blank_lines_in_front_do_not_move_the_line_number(self, view):
        assert view.grep(r"\s+def feed") == [("lib/html.py", 4, "    def feed(self, data):")]
        assert view.grep(r"\n\nclass|\s*class") == [("lib/html.py", 3, "class Parser:")]

    def test_behind_the_last_line_end_there_is_no_line(self):
        assert [hit.line for hit in view_of({"a": "x\n\ny\n"}).grep("^")] == [1, 2, 3]
        assert [hit.line for hit in view_of({"a": "x\n\ny", "b": ""}).grep("^.*$")] == [1, 2, 3]
        assert view_of({"a": "x\n\ny\n", "b": ""}).count("^") == 3

    def test_documents_are_chosen_by_name_names_folder_and_glob(self, view):
        for docs, names in (
            ("cgi.py", ["cgi.py"]),
            (["lib/html.py", "cgi.py"], ["cgi.py", "lib/html.py"]),
            ("lib", ["lib/html.py"]),
            ("lib/", ["lib/html.py"]),
            ("*.py", ["cgi.py", "lib/html.py"]),
        ):
            assert [hit.name for hit in view.grep("^import", docs=docs)] == names
        with pytest.raises(KeyError, match=r"nearest: 'lib/html\.py'"):
            view.grep("x", docs="html.py")
        with pytest.raises(TypeError, match="docs must be"):
            view.grep("x", docs=1.5)

    def test_patterns_may_be_compiled_and_flags_given(self, view):
        compiled = re.compile(r"^IMPORT", re.IGNORECASE)
        assert len(view.grep(compiled)) == len(view.grep("^IMPORT", flags=re.IGNORECASE)) == 2
        assert len(view.grep("(?i)^IMPORT")) == 2
        assert len(view.grep("IMPORT")) == 0

    def test_a_wrong_pattern_is_one_clear_error(self, view):
        with pytest.raises(ValueError, match=r"^'f\(' is not a regular expression: .*re\.escape"):
            view.grep("f(")
        with pytest.raises(TypeError, match=r"^pattern must be a str, not bytes$"):
            view.count(b"x")

    def test_a_cut_at_the_limit_is_never_silent(self, view):
        hits = view.grep("e", limit=2)
        assert (len(hits), hits.complete, hits.total) == (2, False, None)
        assert repr(hits).splitlines()[-1] == " ...]"
        view.grep("e", limit=2)
        (note,) = view.take_notes()
        assert note.startswith("grep('e') returned its first 2 hits and there are more")
        assert view.take_notes() == []

        every = view.grep("e", limit=None)
        assert (every.complete, every.total, view.take_notes()) == (True, len(every), [])

    def test_a_long_line_is_cut_around_the_match_and_the_quote_stays_exact(self):
        text = "\n".join(
            ["a" * 500 + "needle" + "b" * 500, "needle" + "c" * 900, "…" * 400 + "needle"]
        )
        hits = view_of(text).grep("needle")
        for hit in hits:
            _, start, end = hit.span
            assert text[start:end] == hit.quote
            assert end - start == 300
            assert "needle" in hit.quote
        assert [(h.text[0] == "…", h.text[-1] == "…") for h in hits] == [
            *((True, True), (False, True), (True, False)),
        ]
        assert [hit.name for hit in hits] == ["context"] * 3

    def test_it_agrees_with_a_slow_grep_over_random_texts(self):
        rnd = random.Random(3)
        patterns = ["a", "ab", "^a", "b$", r"^\w+$", "a.b", "(a|b)b", "日", r"\bab\b", "(?i)A"]
        for _ in range(150):
            ends = rnd.choice(["\n", "\r\n"])
            lines = ["".join(rnd.choices("ab 日", k=rnd.randrange(6))) for _ in range(6)]
            text = ends.join(lines) + rnd.choice(["", ends])
            if not text:
                continue
            view = view_of({"t": text})
            for pattern in patterns:
                slow = [
                    ("t", n, line) for n, line in enumerate(lines, 1) if re.search(pattern, line)
                ]
                assert view.grep(pattern) == slow, (pattern, text)


class TestEvidence:
    def test_places_whole_or_taken_apart_are_spans_and_all_else_is_a_quote(self, view):
        (hit,) = view.grep("class Parser")
        place = {"document": 1, "start": 13, "end": 26, "quote": "class Parser:"}
        assert view.place_of(hit) == place
        assert view.place_of(list(hit)) == view.place_of(tuple(hit)) == place
        assert view.place_of("some quote") == "some quote"
        assert view.place_of(12) == "12"
        assert view.place_of(("nowhere.py", 3, "a quote")) == "a quote"
        assert view.place_of(("cgi.py", 99, "not there")) == "not there"
        assert view.place_of(("cgi.py", "x", 5)) == "('cgi.py', 'x', 5)"


def test_a_pattern_that_needs_the_next_line_is_no_hit_on_this_one() -> None:
    r"""``\s+`` runs over line ends; what is shown must match by itself."""
    finder = Finder(["a.txt"], lambda _: "I.\n\nADVENTURE I. A SCANDAL\nII.\ntext\n")

    hits = finder.grep(r"^(?:ADVENTURE )?[IVX]+\.\s+\S.*$")

    assert [tuple(hit) for hit in hits] == [("a.txt", 3, "ADVENTURE I. A SCANDAL")]


def test_a_pattern_over_several_lines_is_told_where_to_go() -> None:
    finder = Finder(["a.txt"], lambda _: "one\ntwo\n")

    assert list(finder.grep(r"one\ntwo")) == []
    assert "looks at one line at a time" in finder.take_notes()[0]
