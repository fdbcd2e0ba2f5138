"""Contract: guest/spares. A REPL made ahead of time is given only to who ordered just that one."""

import errno
import os
import socket

import pytest

from abyme.guest.spares import Made, Spares


class Maker:
    """Makes pretended REPLs: the first process of each is a pipe that can be read once it ends."""

    def __init__(self):
        self.orders = []
        self.ends = []
        self.refuses = False

    def __call__(self, order):
        if self.refuses:
            raise BlockingIOError(errno.EAGAIN, "no process left")
        self.orders.append(order)
        process, end = os.pipe()
        self.ends.append(end)
        wire, control = socket.socketpair()
        return Made(process, wire, control)

    def kill(self, number):
        os.write(self.ends[number], b".")


@pytest.fixture
def maker():
    made = Maker()
    yield made
    for end in made.ends:
        os.close(end)


@pytest.fixture
def taken():
    made = []
    yield made
    for one in made:
        one.close()


def test_what_was_expected_waits_already(maker, taken):
    spares = Spares(maker)
    spares.expect("small")
    spares.prepare()
    assert maker.orders == ["small"]

    taken.append(spares.take("small"))

    assert maker.orders == ["small"]


def test_another_order_is_made_anew_and_the_one_that_waits_stays(maker, taken):
    spares = Spares(maker)
    spares.expect("small")
    spares.prepare()

    taken.append(spares.take("large"))
    taken.append(spares.take("small"))

    assert maker.orders == ["small", "large"]


def test_a_second_one_is_made_ahead_only_once_the_first_was_not_the_last(maker, taken):
    spares = Spares(maker)
    spares.expect("small")
    for made in (1, 1, 3, 4):
        spares.prepare()
        assert len(maker.orders) == made
        if made < 4:
            taken.append(spares.take("small"))
    taken.append(spares.take("small"))


def test_one_that_has_died_is_not_given(maker, taken):
    spares = Spares(maker)
    spares.expect("small")
    spares.prepare()
    maker.kill(0)

    taken.append(spares.take("small"))

    assert maker.orders == ["small", "small"]
    assert taken[0].lives()


def test_what_waits_for_an_older_context_is_given_up(maker, taken):
    spares = Spares(maker)
    spares.expect("small")
    spares.prepare()

    spares.expect("small")
    taken.append(spares.take("small"))

    assert maker.orders == ["small", "small"]


def test_nothing_is_made_ahead_where_nothing_is_expected(maker, taken):
    spares = Spares(maker)
    spares.prepare()
    taken.append(spares.take("small"))
    spares.prepare()

    assert maker.orders == ["small"]


def test_where_no_process_is_left_none_waits_and_the_server_goes_on(maker, taken):
    spares = Spares(maker)
    spares.expect("small")
    maker.refuses = True
    spares.prepare()
    maker.refuses = False

    taken.append(spares.take("small"))

    assert maker.orders == ["small"]
