"""Contract: sandboxes/wired/ladder, ceilings. Interrupt, roll back, kill; waiting is free."""

import pytest

from abyme.sandboxes.wired.body import Use
from abyme.sandboxes.wired.ceilings import (
    AGAIN_S,
    COLLECT_S,
    IDLE_LOOK_MAX_S,
    IDLE_LOOK_S,
    Ceilings,
    Idle,
)
from abyme.sandboxes.wired.ladder import (
    HOG_GRACE_S,
    INTERRUPT_GRACE_S,
    LOOK_S,
    ROLL_BACK_GRACE_S,
    TEAR_DOWN_S,
    Ladder,
)
from abyme.wire import ENGINE_PROCESSES


def ladder(*, limit_s=15.0, can_roll_back=True):
    return Ladder(started_s=100.0, limit_s=limit_s, can_roll_back=can_roll_back)


def test_nothing_is_due_before_the_limit():
    assert ladder().due(114.9) is None


def test_the_way_down_is_interrupt_then_roll_back_then_kill():
    cell = ladder()
    steps = [cell.due(115.0)]
    steps.append(cell.due(115.0 + INTERRUPT_GRACE_S))
    steps.append(cell.due(115.0 + INTERRUPT_GRACE_S + ROLL_BACK_GRACE_S))

    assert steps == ["interrupt", "roll_back", "kill"]
    assert cell.limit == "cell_timeout_s"


def test_between_two_steps_there_is_a_grace():
    cell = ladder()
    cell.due(115.0)

    assert cell.due(115.0 + INTERRUPT_GRACE_S / 2) is None


def test_without_a_snapshot_the_second_step_kills():
    cell = ladder(can_roll_back=False)
    cell.due(115.0)

    assert cell.due(116.0) == "kill"


def test_time_spent_waiting_for_calls_is_not_charged():
    cell = ladder()
    cell.calls_opened(101.0)
    cell.calls_opened(102.0)
    cell.calls_closed(150.0)
    cell.calls_closed(201.0)

    assert cell.compute_s(203.0) == 3.0
    assert cell.due(203.0) is None
    assert cell.due(215.0) == "interrupt"


def test_processor_time_is_charged_even_while_a_call_is_open():
    cell = ladder()
    cell.calls_opened(100.0)

    assert cell.due(130.0, cpu_s=14.9) is None
    assert cell.due(131.0, cpu_s=15.0) == "interrupt"


def test_a_stop_of_the_hosts_begins_the_way_down_once():
    cell = ladder()

    assert cell.stop("stopped", 101.0) == "interrupt"
    assert cell.stop("timeout_s", 101.1) is None
    assert cell.limit == "stopped"


def test_it_asks_to_be_asked_again_in_time():
    cell = ladder()

    assert cell.wait_s(105.0) == 10.0
    cell.due(115.0)
    assert cell.wait_s(115.0) == pytest.approx(INTERRUPT_GRACE_S)


def test_a_cell_that_felt_the_interrupt_of_its_own_limit_is_rolled_back_at_once():
    cell = ladder()
    cell.due(115.0)

    assert cell.felt(115.1) == "roll_back"
    assert cell.due(115.1 + ROLL_BACK_GRACE_S) == "kill"


@pytest.mark.parametrize("why", ["stopped", "timeout_s"])
def test_a_cell_whose_run_is_ending_keeps_its_state_and_must_say_so_soon(why):
    cell = ladder()
    cell.stop(why, 101.0)

    assert cell.felt(101.4) == "keep"
    assert cell.due(101.4 + INTERRUPT_GRACE_S / 2) is None
    assert cell.due(101.4 + INTERRUPT_GRACE_S) == "roll_back"


def test_a_cell_that_the_host_did_not_interrupt_may_keep_its_state():
    cell = ladder()

    assert cell.felt(101.0) == "keep"
    assert cell.limit is None


def test_a_roll_back_that_is_under_way_is_not_begun_again():
    cell = ladder()
    cell.due(115.0)
    cell.due(115.0 + INTERRUPT_GRACE_S)

    assert cell.felt(115.6) is None


def test_where_memory_runs_away_the_way_down_is_short():
    cell = ladder()

    assert cell.stop("memory_bytes", 101.0, "9 bytes") == "interrupt"
    assert cell.due(101.0 + HOG_GRACE_S) == "roll_back"
    assert (cell.limit, cell.reached) == ("memory_bytes", "9 bytes")


CEILINGS = Ceilings(15.0, 100, max_processes=4, memory_bytes=64 << 20)


@pytest.mark.parametrize(
    ("used", "passed"),
    [
        (Use(0.0, ENGINE_PROCESSES + 4, forks_bytes=64 << 20), None),
        (Use(0.0, ENGINE_PROCESSES + 5), ("max_processes", "5 processes, 4 allowed")),
        (
            Use(0.0, 4, forks_bytes=(64 << 20) + 1),
            (
                "memory_bytes",
                "67,108,865 bytes in processes that the cell has forked, 67,108,864 allowed",
            ),
        ),
    ],
)
def test_processes_of_a_cell_pass_a_limit_together(used, passed):
    assert CEILINGS.passed(used) == passed


def test_what_the_kernel_holds_is_not_watched():
    kernels = Ceilings(15.0, 100, max_processes=None, memory_bytes=None)

    assert kernels.passed(Use(0.0, 99, forks_bytes=1 << 40)) is None
    assert kernels.memory() is None


def test_the_number_reached_and_the_limit_stand_side_by_side():
    assert CEILINGS.compute(15.34) == "15.3 s of compute, 15 s allowed"
    assert CEILINGS.memory() == "more than 33,554,432 bytes, 67,108,864 allowed"


def test_time_with_a_call_open_is_charged_to_a_cell_that_has_forked():
    cell = ladder()
    cell.calls_opened(101.0)
    cell.looked(110.0, forked=False)
    cell.looked(113.0, forked=True)
    cell.calls_closed(120.0)

    assert cell.compute_s(120.0) == 1.0 + 3.0
    cell.looked(121.0, forked=True)
    assert cell.compute_s(121.0) == 5.0


def test_a_roll_back_that_nothing_answers_is_given_up_soon_and_one_under_way_later():
    cell, slow = ladder(), ladder()
    for one in (cell, slow):
        one.due(115.0)
        assert one.due(116.0) == "roll_back"

    assert cell.due(116.0 + ROLL_BACK_GRACE_S) == "kill"
    assert slow.due(116.0 + ROLL_BACK_GRACE_S, ending=True) is None
    assert slow.wait_s(116.0 + ROLL_BACK_GRACE_S) == pytest.approx(LOOK_S)
    assert slow.due(116.0 + TEAR_DOWN_S, ending=True) == "kill"


QUIET = Use(0.0, ENGINE_PROCESSES)
HOGS = Use(0.0, ENGINE_PROCESSES + 1, forks_bytes=65 << 20)
CROWD = Use(0.0, ENGINE_PROCESSES + 5)


def idle(*, snapshots=True):
    return Idle(CEILINGS, 3, snapshots=snapshots)


def test_a_repl_that_has_left_nothing_is_looked_at_less_and_less():
    after, waits = idle(), []
    for _ in range(6):
        waits.append(after.wait_s)
        assert after.looked(QUIET, 100.0, can_roll_back=True) is None

    assert waits == [IDLE_LOOK_S, 1.0, 2.0, 4.0, IDLE_LOOK_MAX_S, IDLE_LOOK_MAX_S]


@pytest.mark.parametrize(
    ("used", "can_roll_back"), [(QUIET, False), (Use(0.0, ENGINE_PROCESSES + 1), True)]
)
def test_a_repl_that_has_left_threads_or_processes_is_looked_at_as_often_as_ever(
    used, can_roll_back
):
    after = idle()
    after.looked(QUIET, 100.0, can_roll_back=True)
    after.looked(used, 101.0, can_roll_back=can_roll_back)

    assert after.wait_s == IDLE_LOOK_S


def test_without_snapshots_nothing_tells_that_threads_are_left():
    after = idle(snapshots=False)
    after.looked(QUIET, 100.0, can_roll_back=False)

    assert after.wait_s == 2 * IDLE_LOOK_S


@pytest.mark.parametrize(
    ("used", "grace_s", "why"),
    [
        (HOGS, AGAIN_S, "memory_bytes (68,157,440 bytes in processes that the cell has forked, "),
        (CROWD, COLLECT_S, "max_processes (5 processes, 4 allowed): "),
    ],
)
def test_what_is_over_its_limit_after_a_cell_and_stays_so_ends_the_repl(used, grace_s, why):
    after = idle()

    assert after.looked(used, 100.0, can_roll_back=True) is None
    assert after.wait_s == AGAIN_S
    ended = after.looked(used, 100.0 + grace_s, can_roll_back=True)
    assert ended.startswith(f"the REPL was ended after {why}")
    assert ended.endswith("what cell 3 has left running went on after it")


def test_what_is_over_its_limit_only_once_was_on_its_way_out():
    after = idle()
    after.looked(HOGS, 100.0, can_roll_back=True)
    after.looked(QUIET, 100.2, can_roll_back=True)

    assert after.looked(HOGS, 100.4, can_roll_back=True) is None
