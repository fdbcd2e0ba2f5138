"""``python -m abyme.models.local.serve``: llama.cpp's server, in a process of its own.

Started by `server` and by nobody else. Reads one line of JSON from standard input
(`Order`), says ``{"url": ...}`` or ``{"error": ...}`` on standard output, then serves
until its parent ends. Invariant: it does not outlive its parent, however that dies:
the kernel kills it while it loads (`PR_SET_PDEATHSIG`, prctl(2)); afterwards it
notices that standard input has closed or that it has another parent.

The kernel's signal is given when the *thread* that started us ends, so it is switched
off once the watch is up, unless that is the parent's main thread.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
WATCH_S: Final = 1.0
SAMPLE_S: Final = 0.2
MOST_THREADS: Final = 16
LOAD_OF_STARTING: Final = 0.5
"""What a run that has just begun adds to the load by itself."""
CACHE_MIB: Final = 256
"""For prompts of slots that something else uses now: a root's, while its child takes turns."""


def main() -> int:
    """Serve until the parent ends."""
    die_with_parent(signal.SIGKILL)
    order = json.loads(sys.stdin.buffer.readline())
    if os.getppid() != order["parent"]:
        return 1
    os.umask(0o077)
    Path(order["prefixes"]).mkdir(exist_ok=True)
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        server = serve(order)
    except Exception as error:  # noqa: BLE001  whatever llama.cpp raises is for the parent to say
        json.dump({"error": str(error)[:500] or type(error).__name__}, answer)
        return 1
    threading.Thread(target=_watch, args=(order["parent"],), daemon=True).start()
    if not order["main_thread"]:
        die_with_parent(0)
    with answer:
        json.dump({"url": server.listening_address, "runtime": runtime_version()}, answer)
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)  # at once: nothing is left to save, and llama.cpp may be in a long batch


def serve(order: dict[str, Any]) -> Any:
    """Load the model and listen on a free port of loopback."""
    import xllamacpp  # noqa: PLC0415  the extra `local`

    params = xllamacpp.CommonParams()
    params.model.path = order["path"]
    params.model_alias = {order["alias"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [order["key"]]
    params.n_parallel = order["slots"]
    params.n_ctx = order["window_tokens"] * order["slots"]
    params.n_gpu_layers = 0
    params.cache_ram_mib = CACHE_MIB
    params.ui = False
    params.endpoint_slots = True
    params.slot_save_path = f"{order['prefixes']}/"
    params.warmup = False
    params.offline = True
    threads = order["threads"] or min(idle_cores(physical_cores()), MOST_THREADS)
    for group in (params.cpuparams, params.cpuparams_batch):
        group.n_threads = threads
        group.poll = 0  # spinning between steps halves the speed on a busy machine
    return xllamacpp.Server(params)


def runtime_version() -> str:
    """Name the version of llama.cpp's wheel: another one may keep its state otherwise."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("xllamacpp")
    except PackageNotFoundError:
        return "unknown"


def die_with_parent(number: int) -> None:
    """Ask the kernel to send us this signal when our parent ends; 0: nothing."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0)


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads counted once."""
    allowed = os.sched_getaffinity(0)
    cores = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            names = ("physical_package_id", "core_id")
            cores.add(tuple((topology / name).read_text() for name in names))
        except OSError:
            return len(allowed)
    return max(1, len(cores))


def idle_cores(cores: int) -> int:
    """How many of them have nothing to do, now and in the last minute; at least one.

    Every step of every thread waits for the slowest one. Measured with the 1.5B model on
    two cores: two threads write 27 tokens a second, one writes 16; with another process
    on one of the cores, two write 3 to 7 and one still 14.
    """
    before = _idle_s()
    time.sleep(SAMPLE_S)
    logical = os.cpu_count() or 1
    idle = min(logical, (_idle_s() - before) / SAMPLE_S)
    busy = max(logical - idle, os.getloadavg()[0] - LOAD_OF_STARTING)
    return max(1, int(cores * (1 - busy / logical) + 0.25))


def _idle_s() -> float:
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return (int(fields[4]) + int(fields[5])) / ticks


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
