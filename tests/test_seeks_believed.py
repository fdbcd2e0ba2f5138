"""Contract: contexts/finding, wired/seeking. Nothing a helper says is believed, no cell hangs."""

import array
import asyncio

import pytest

from abyme.contexts import finding
from abyme.contexts.confined import HelperFailed
from abyme.contexts.sealed import from_value
from abyme.core.seeks import Grep, Sought
from abyme.errors import ContextError
from abyme.sandboxes.wired import seeking

PLAN = {"crosses": False}
FOUND = {"total": 1, "crossed": False, "complete": True}


class Liar:
    """In the place of a helper: says what it was told to."""

    plan, found, places = PLAN, FOUND, (0, 0, 8, 0, 4, 1)

    def __init__(self, *_, **__):
        self.asked = None

    def start(self):
        pass

    def send(self, head, fds=()):
        self.asked = head["t"]

    def receive(self, _):
        if self.asked == "plan":
            return self.plan, b""
        return self.found, array.array("q", self.places).tobytes()

    def close(self):
        pass


@pytest.fixture
def ask(monkeypatch):
    def ask(**says):
        wanted = Grep(pattern="text", count=says.pop("count", False), limit=5)
        monkeypatch.setattr(finding, "Confined", type("Says", (Liar,), says))
        context = from_value({"a": "the text", "b": "another"})
        try:
            return asyncio.run(context.seek(wanted))
        finally:
            context.close()

    return ask


def test_a_place_that_is_there_is_given(ask):
    assert ask().places == [[0, 0, 8, 0, 4, 1]]


@pytest.mark.parametrize(
    "places",
    [
        (0, 0, 9, 0, 4, 1),
        (0, 5, 4, 0, 4, 1),
        (0, -1, 8, 0, 4, 1),
        (0, 0, 8, 0, 2**62, 1),
        (0, 0, 8, 5, 4, 1),
        (0, 0, 8, 0, 4, 0),
        (2, 0, 1, 0, 1, 1),
        (-1, 0, 1, 0, 1, 1),
        (0, 0, 8),
        (0, 0, 8, 0, 4, 1) * 6,
    ],
)
def test_a_place_that_is_none_ends_the_helper(ask, places):
    with pytest.raises(HelperFailed, match="broke the rules"):
        ask(places=places)


@pytest.mark.parametrize(
    "told",
    [
        {},
        FOUND | {"total": "many"},
        FOUND | {"total": 1 << 53},
        FOUND | {"total": -1},
        FOUND | {"x": ["a"] * 1000},
        {"refused": {}},
    ],
)
@pytest.mark.parametrize("count", [False, True])
def test_an_answer_of_another_form_ends_the_helper(ask, told, count):
    with pytest.raises(HelperFailed, match="broke the rules"):
        ask(found=told, places=(), count=count)


def test_a_plan_of_another_form_ends_the_helper(ask):
    with pytest.raises(HelperFailed, match="broke the rules"):
        ask(plan={"cross": False})


def test_a_job_that_failed_says_why(ask):
    with pytest.raises(HelperFailed, match="KeyError: 7"):
        ask(plan={"t": "refused", "why": "KeyError: 7"})


def test_what_was_refused_is_no_failure_of_the_helper(ask):
    with pytest.raises(ContextError, match="only re") as caught:
        ask(plan={"refused": "only re"})
    assert not isinstance(caught.value, HelperFailed)


@pytest.mark.parametrize("error", [KeyError("crossed"), RuntimeError(), OverflowError()])
def test_whatever_goes_wrong_a_question_is_answered(error):
    told = []

    async def run():
        async def fails(_):
            raise error

        asked = seeking.Seeking(fails, lambda *what: told.append(what))
        asked.begin(7, Grep(pattern="a"))
        await asyncio.gather(*asked._open)

    asyncio.run(run())
    ((batch, result, failure),) = told
    assert (batch, result, failure.fault) == (7, None, "bad_request")
    assert type(error).__name__ in failure.message


def test_an_answer_that_no_frame_can_hold_is_a_failure():
    told = []

    async def run():
        async def gives(_):
            return Sought(note="\ud800")

        asked = seeking.Seeking(gives, lambda *what: told.append(what))
        asked.begin(7, Grep(pattern="a"))
        await asyncio.gather(*asked._open)

    asyncio.run(run())
    assert told[0][1] is None
    assert told[0][2] is not None
