"""Contract: guest/repl. A snapshot is forked if the kernel has a process to give, if late."""

import pytest

from abyme.guest import repl


@pytest.fixture
def kernel(monkeypatch):
    """Answers forks as the test says."""
    answers = []

    def fork():
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(repl, "fork_unseen", fork)
    monkeypatch.setattr(repl, "sleep", lambda _: None)
    return answers


def test_a_fork_that_is_refused_while_threads_end_is_tried_again(kernel):
    kernel += [BlockingIOError(11, "fork"), BlockingIOError(11, "fork"), 7]

    assert repl._fork() == 7


def test_a_fork_that_is_refused_all_the_time_leaves_the_process_without_a_snapshot(kernel):
    kernel += [BlockingIOError(11, "fork")] * repl.THREAD_LOOKS
    left = object.__new__(repl.Repl)
    left._snapshots = True
    left._leave_snapshot()

    assert (left._forked, kernel) == (False, [])
