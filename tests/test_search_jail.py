"""Contract: search from a cell of the real jail to the index beside the host, and back."""

import pytest
from jail_doubles import bench

WATER = "wind and water and nothing\n" * 100_000
TEXT = f"{WATER}the spare key lies under the boat\n{WATER}"


@pytest.fixture(scope="module")
def repl():
    with bench(context=TEXT) as made, made.repl() as one:
        yield one


def test_a_cell_finds_a_passage_of_a_large_context(repl):
    shown = repl.out("hit = search('spare keys', k=1)[0]; print(hit.line, hit.text.count('key'))")

    assert shown == "99994 1\n"


def test_its_hits_are_evidence(repl):
    repl.out("submit('under the boat', evidence=search('spare keys', k=1))")

    [place] = repl.submitted[-1].evidence
    assert TEXT[place.start : place.end].count("spare key") == 1


def test_a_search_by_meaning_crosses_the_wire(repl):
    shown = repl.out("print(search('the key under the boat', k=1, meaning=True)[0].text)")

    assert "under the boat" in shown
