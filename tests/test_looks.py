"""Contract: guest/looks, as host and container use it, on files such as the kernel shows."""

import os

import pytest

from abyme.guest import looks, stream
from abyme.sandboxes.jail import processes
from abyme.wire import ENGINE_PROCESSES

PAGE = os.sysconf("SC_PAGE_SIZE")
EXITING = looks.PF_EXITING


class Kernel:
    """Files of /proc, as the kernel shows them."""

    def __init__(self, folder):
        self.folder = folder
        self.proc = str(folder)

    def process(self, pid, parent, *, threads=None, pages=0, state="S", flags=0, ticks=(0, 0)):
        """`threads`: number -> (state, flags, pages), other than the first one."""
        first = {pid: (state, flags, pages)}
        self._show(pid, pid, parent, first[pid], ticks)
        for number, thread in {**first, **(threads or {})}.items():
            self._show(f"{pid}/task/{number}", number, parent, thread, ticks)
            (self.folder / f"{pid}/task/{number}/children").write_text("")
        if parent:
            mine = self.folder / f"{parent}/task/{parent}/children"
            mine.write_text(f"{mine.read_text()}{pid} ")

    def _show(self, where, number, parent, thread, ticks):
        state, flags, pages = thread
        place = self.folder / str(where)
        place.mkdir(parents=True)
        words = [state, parent, 0, 0, 0, 0, flags, 0, 0, 0, 0, *ticks, 0, 0]
        (place / "stat").write_text(f"{number} (a) b) {' '.join(map(str, words))}")
        (place / "statm").write_text(f"{pages + 9} {pages + 2 if pages else 0} {2 if pages else 0}")


@pytest.fixture
def kernel(tmp_path):
    made = Kernel(tmp_path)
    made.process(1, 0)
    made.process(5, 1)  # in a container, the fork server
    made.process(10, 5)
    made.process(11, 10, pages=1000)
    made.process(12, 11, pages=1000)
    return made


def host_looks(kernel):
    return processes.use(10, kernel.proc)


def test_the_engines_own_processes_are_counted_and_their_memory_is_not(kernel):
    used = host_looks(kernel)

    assert (used.processes, used.forks_bytes, used.ending) == (ENGINE_PROCESSES, 0, False)


def test_host_and_container_see_the_same(kernel):
    kernel.process(13, 12, pages=30, ticks=(100, 50))
    used, told = host_looks(kernel), stream.use(kernel.proc)

    assert (used.processes, used.forks_bytes) == (4, 30 * PAGE)
    assert used.cpu_s == 150 / os.sysconf("SC_CLK_TCK")
    assert told == {
        "cpu_s": used.cpu_s, "processes": 4, "forks_bytes": 30 * PAGE, "ending": False
    }  # fmt: skip


def test_the_memory_of_a_process_whose_first_thread_has_ended_is_seen(kernel):
    kernel.process(13, 12, state="Z", flags=EXITING, threads={14: ("S", 0, 500)})

    assert host_looks(kernel).forks_bytes == 500 * PAGE
    assert stream.use(kernel.proc)["forks_bytes"] == 500 * PAGE


def test_a_process_with_a_live_thread_is_not_ending(kernel):
    kernel.process(13, 12, state="Z", flags=EXITING, threads={14: ("S", 0, 500)})

    assert not host_looks(kernel).ending


def test_a_process_all_of_whose_threads_exit_is_ending(kernel):
    kernel.process(13, 12, flags=EXITING, threads={14: ("Z", EXITING, 0)})

    assert host_looks(kernel).ending


@pytest.mark.parametrize("file", ["children", "stat", "statm"])
def test_a_thread_that_vanishes_while_it_is_looked_at_hides_nothing_else(kernel, file):
    kernel.process(13, 12, state="Z", flags=EXITING, threads={9: ("S", 0, 0), 14: ("S", 0, 500)})
    kernel.process(15, 13, pages=70)
    (kernel.folder / f"13/task/9/{file}").unlink()
    used = host_looks(kernel)

    assert (used.processes, used.forks_bytes, used.ending) == (5, 570 * PAGE, False)


def test_a_process_that_vanishes_while_it_is_looked_at_hides_no_other(kernel):
    kernel.process(13, 12, pages=30)
    kernel.process(14, 12, pages=40)
    (kernel.folder / "13/stat").unlink()

    assert host_looks(kernel).forks_bytes == 40 * PAGE
