"""Contract: self_check. The jail shows every behaviour of the list, to whoever runs the tests."""

import asyncio
from collections import Counter

import pytest

from abyme.contexts.sealed import from_value
from abyme.core.isolation import Tier as TierName
from abyme.errors import SandboxUnavailable
from abyme.sandboxes.jail import Jail
from abyme.sandboxes.self_check.differences import DIFFERENCES
from abyme.sandboxes.self_check.entries import ATTACKS, ENTRIES
from abyme.sandboxes.self_check.run import Check, Tier
from abyme.sandboxes.self_check.samples import CONTEXTS
from abyme.sandboxes.self_check.semantics import SEMANTICS
from abyme.sandboxes.self_check.world import World

TRIED = [*SEMANTICS, *ATTACKS]
"""Those that run to a limit have a file of their own, `test_jail_resources`."""

NO_JAIL = "neither user namespaces nor Landlock can be had"
"""All that may be the host's fault; any other reason is ours."""


async def tried(world):
    contexts = {shape: from_value(value) for shape, value in CONTEXTS.items()}
    jail = Jail()
    try:
        async with Check(Tier("jail", jail, differs=DIFFERENCES["jail"]), world, contexts) as check:
            return check.facts, await check.run(TRIED, lambda _: None)
    finally:
        await jail.aclose()
        for context in contexts.values():
            context.close()


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    with World(tmp_path_factory.mktemp("world")) as world:
        try:
            return asyncio.run(tried(world))
        except SandboxUnavailable as missing:
            if NO_JAIL not in str(missing):
                raise
            pytest.skip(f"no jail on this host: {missing}")


@pytest.mark.parametrize("entry", TRIED, ids=lambda entry: entry.id)
def test_the_jail_holds(outcome, entry):
    result = {one.entry.id: one for one in outcome[1]}[entry.id]

    assert result.outcome in {"held", "passed_over"}, f"{entry.sentence} {result.words}"


def test_nothing_is_passed_over_where_every_layer_is_on(outcome):
    facts, results = outcome
    if not {"pid_namespace", "sealed_view", "landlock"} <= set(facts.layers):
        pytest.skip("a layer is missing on this host")

    assert [one.words for one in results if one.outcome == "passed_over"] == []


def test_there_are_as_many_behaviours_as_were_promised():
    assert len(SEMANTICS) >= 40
    assert len(ENTRIES) - len(SEMANTICS) >= 120


def test_each_entry_says_what_holds_and_where_that_comes_from():
    assert [one for one, times in Counter(entry.id for entry in ENTRIES).items() if times > 1] == []
    odd = [
        entry.id
        for entry in ENTRIES
        if not (entry.sentence.endswith(".") and entry.source and entry.cells)
        or entry.id.partition(".")[::2] != tuple(entry.id.split("."))
        or entry.id.strip() != entry.id.lower()
    ]

    assert odd == []


def test_differences_are_of_tiers_and_entries_that_there_are():
    from fnmatch import filter as fits

    ids = [entry.id for entry in ENTRIES]
    assert set(DIFFERENCES) == set(TierName.__args__)
    assert [glob for globs in DIFFERENCES.values() for glob in globs if not fits(ids, glob)] == []
