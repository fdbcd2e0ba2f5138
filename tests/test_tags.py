"""Contract: guest/tags. A change of a dict is never missed; what is only read is no change."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abyme.guest.tags import PYTHONS, Tags

CHANGES = {
    "bind": lambda one: one.__setitem__("new", 1),
    "rebind": lambda one: one.__setitem__("a", 2),
    "delete": lambda one: one.pop("a"),
    "update": lambda one: one.update(a=3),
    "clear": lambda one: one.clear(),
}


@given(st.sampled_from(sorted(CHANGES)), st.integers(0, 2))
def test_every_change_is_told(change, which):
    dicts = [{"a": 1, "b": 2} for _ in range(3)]
    tags = Tags(dicts)
    tags.remember()

    CHANGES[change](dicts[which])

    assert tags.may_have_changed()


def test_what_is_only_read_has_not_changed():
    if sys.version_info[:2] not in PYTHONS:
        pytest.skip("this Python does not number its dicts")
    names = {"a": 1}
    tags = Tags([names])
    tags.remember()

    assert names.get("a") == 1
    assert list(names.items()) == [("a", 1)]
    assert not tags.may_have_changed()

    names["a"] = 2
    tags.remember()
    assert not tags.may_have_changed()


def test_where_nobody_can_tell_the_answer_is_that_it_may_have_changed(monkeypatch):
    monkeypatch.setattr("abyme.guest.tags.PYTHONS", ())
    tags = Tags([{}])
    tags.remember()

    assert tags.may_have_changed()
