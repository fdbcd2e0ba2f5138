"""System V and POSIX objects that outlive a process or reach another one."""

# ruff: noqa: E501 - rows of system calls

from typing import Final

from abyme.sandboxes.self_check.attacks.cells import kernel, refused
from abyme.sandboxes.self_check.behaviour import Behaviour

ATTACKS: Final[tuple[Behaviour, ...]] = (
    kernel(
        "ipc.shared_memory", "No System V shared memory can be made, found or attached.",
        "shmget(2), SHM_EXEC",
        "*(call(29, key, 4096, flags) for key in (0, {key}) for flags in (0o1600, 0o600, 0o5600)),\n"
        "    *(call(30, number, null, flags) for number in range(4) for flags in (0, 0o100000, 0o10000)),\n"
        "    call(31, 0, 14, room), call(67, room)",
    ),
    kernel(
        "ipc.semaphores", "No System V semaphore.", "semget(2)",
        "call(64, 0, 1, 0o1600), call(64, {key}, 1, 0o1600), call(65, 0, room, 1), call(66, 0, 0, 0, 0),\n"
        "    call(220, 0, room, 1, null)",
    ),
    kernel(
        "ipc.messages", "No System V queue of messages.", "msgget(2)",
        "call(68, 0, 0o1600), call(68, {key}, 0o1600), call(69, 0, room, 1, 0), call(70, 0, room, 1, 0, 0),\n"
        "    call(71, 0, 0, 0)",
    ),
    kernel(
        "ipc.queues", "No POSIX queue of messages.", "mq_overview(7), CVE-2017-11176",
        "call(240, b'{mark}', 0o102, 0o600, null), call(241, b'{mark}'), *(call(nr, 3, room, 1, 0, null)\n"
        "    for nr in (242, 243, 244, 245))",
    ),
    refused(
        "ipc.named_memory", "No POSIX shared memory.", "shm_overview(7)",
        "shared_memory.SharedMemory('{mark}', create=True, size=4096)",
        "shared_memory.SharedMemory('{mark}')", "opened(b'/{mark}')",
        first="import ctypes, os\ntry: from multiprocessing import shared_memory\n"
        "except ImportError: shared_memory = os\n"
        "def opened(name):\n"
        "    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    if libc.shm_open(name, 0o102, 0o600) < 0:\n"
        "        raise OSError(ctypes.get_errno())", needs=("ctypes",),
    ),
    refused(
        "ipc.named_semaphore", "No POSIX semaphore that has a name.", "sem_overview(7)",
        "_multiprocessing.SemLock(1, 1, 1, '/{mark}', False)", "opened(b'/{mark}')",
        first="import ctypes\ntry: import _multiprocessing\nexcept ImportError:\n"
        "    import os as _multiprocessing\n"
        "def opened(name):\n"
        "    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    libc.sem_open.restype = ctypes.c_void_p\n"
        "    if not libc.sem_open(name, 0o100, 0o600, 1):\n"
        "        raise OSError(ctypes.get_errno())", needs=("ctypes",),
    ),
    refused(
        "ipc.pools", "A pool of processes, which stands on named semaphores, cannot be had.",
        "multiprocessing",
        "pool()", "semaphore()",
        first="def pool():\n"
        "    from concurrent.futures import ProcessPoolExecutor\n"
        "    with ProcessPoolExecutor(1) as made:\n"
        "        return made.submit(int).result()\n"
        "def semaphore():\n"
        "    import multiprocessing\n    return multiprocessing.Semaphore(1)",
    ),
)  # fmt: skip
