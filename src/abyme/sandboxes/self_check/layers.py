"""The layers of the jail, in words, and which of them are on at this host.

Decides the list: each layer with an id, a sentence for a user, its source, and what to
do where it is missing. A layer counts as on only if a REPL has verified it from
inside (`abyme.guest.kernel.lockdown`); a jail that lacks a required one refuses to
serve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from abyme.core.limits import Limits
from abyme.errors import SandboxUnavailable
from abyme.sandboxes.jail.jail import open_session
from abyme.sandboxes.jail.zygote import Zygote


@dataclass(frozen=True, slots=True)
class Layer:
    """A mechanism of the jail."""

    name: str
    words: str
    todo: str
    source: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer on this host, for `abyme doctor`."""

    name: str
    on: bool
    words: str
    todo: str
    """What would switch it on; empty where it is on."""
    source: str = ""
    required: bool = False
    """Without it nothing runs."""


ALLOW_USERNS: Final = (
    "allow unprivileged user namespaces (sysctl user.max_user_namespaces, "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container: its seccomp profile)"
)
NEWER_KERNEL: Final = "use a newer Linux kernel"

LAYERS: Final[Sequence[Layer]] = (
    Layer("user_namespace", "cells own nothing on this host", ALLOW_USERNS, "user_namespaces(7)"),
    Layer("empty_root", "no file can be named", ALLOW_USERNS, "pivot_root(2)"),
    Layer("network_namespace", "there is no network", ALLOW_USERNS, "network_namespaces(7)"),
    Layer("pid_namespace", "other processes cannot be seen, and none survives; cells can be rolled "
          "back", ALLOW_USERNS, "pid_namespaces(7)"),
    Layer("ipc_namespace", "no shared memory or queue of others", ALLOW_USERNS,
          "ipc_namespaces(7)"),
    Layer("uts_namespace", "the name of this host is not shown", ALLOW_USERNS,
          "uts_namespaces(7)"),
    Layer("landlock", "no file may be opened, even if one could be named",
          "boot with `landlock` in lsm= (Linux 5.13 or newer)", "landlock(7)"),
    Layer("seccomp", "only harmless system calls are answered",
          "use a kernel with CONFIG_SECCOMP_FILTER", "seccomp(2)", required=True),
    Layer("no_new_privileges", "nothing can raise what a cell may do", NEWER_KERNEL,
          "PR_SET_NO_NEW_PRIVS(2const)", required=True),
    Layer("no_capabilities", "cells have no capability, even as root", NEWER_KERNEL,
          "capabilities(7)", required=True),
    Layer("rlimits", "memory, processes and files are limited", NEWER_KERNEL, "setrlimit(2)",
          required=True),
    Layer("descriptors", "nothing is open but the wire and /dev/null", NEWER_KERNEL,
          "close_range(2)", required=True),
    Layer("empty_environment", "no variable of yours, so no key, is there", NEWER_KERNEL,
          "environ(7)", required=True),
    Layer("sealed_view", "native code cannot replace the context in its memory",
          "use Linux 6.10 or newer; the host's own copy is safe without it", "mseal(2)"),
)  # fmt: skip


async def survey() -> list[LayerReport]:
    """Build a jail, ask it which layers it has verified, and end it.

    Raises:
        SandboxUnavailable: if none can be built that holds.
    """
    zygote = Zygote(hash_seed=0)
    await zygote.start()
    try:
        session = await open_session(zygote, Limits(), seed=0, own=(), snapshots=True)
        on = set(session.facts.layers)
        await session.aclose()
    finally:
        await zygote.aclose()
    missing = [layer.name for layer in LAYERS if layer.required and layer.name not in on]
    if missing:
        raise SandboxUnavailable(f"not on: {', '.join(missing)}")
    return [_report(layer, on=layer.name in on) for layer in LAYERS]


def _report(layer: Layer, *, on: bool) -> LayerReport:
    todo = "" if on else layer.todo
    return LayerReport(layer.name, on, layer.words, todo, layer.source, layer.required)
