"""What a host is, as far as isolation depends on it, for `abyme doctor`.

Decides nothing: each fact is asked of the kernel, or of the tier itself, and none is taken for a
layer. Nothing is installed or changed. A container engine is not believed: one container is
started, verified from inside and ended.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from abyme.core.isolation import Tier
from abyme.errors import SandboxError

Privilege = Literal["root", "root without capabilities", "ordinary user"]


@dataclass(frozen=True, slots=True)
class TierReport:
    """Whether a tier can be had here."""

    name: Tier
    available: bool
    why: str
    """Why not; empty where it is available."""


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The ceilings on this process and all that it starts; None: there is none."""

    version: int | None
    memory_bytes: int | None
    processes: int | None


async def other_tiers() -> list[TierReport]:
    """Ask the tiers beside the jail."""
    return [_report("wasm", _why_no_wasm()), _report("container", await _why_no_container())]


def privilege() -> Privilege | None:
    """Tell what this process may do; None where the kernel does not show it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    held = next((line.split()[1] for line in status.splitlines() if line[:7] == "CapEff:"), "0")
    if os.geteuid() != 0:
        return "ordinary user"
    return "root" if int(held, 16) else "root without capabilities"


def has_mseal() -> bool:
    """Tell whether the kernel can seal memory."""
    from abyme.guest.kernel import seal  # noqa: PLC0415

    return seal.seal(())


def cgroup(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Cgroup:
    """Read the ceilings of this process's own control group; see cgroups(7)."""
    try:
        lines = proc.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Cgroup(None, None, None)
    unified = next((line[3:] for line in lines if line.startswith("0::")), None)
    if unified is None or not (root / "cgroup.controllers").exists():
        return Cgroup(1 if lines else None, None, None)
    folder = root / unified.lstrip("/")
    return Cgroup(2, _number(folder / "memory.max"), _number(folder / "pids.max"))


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None


def _report(name: Tier, why: str) -> TierReport:
    return TierReport(name, not why, why)


def _why_no_wasm() -> str:
    from abyme.sandboxes.wasm.wasm import check_installed  # noqa: PLC0415

    try:
        check_installed()
    except (SandboxError, ImportError) as error:
        return str(error)
    return ""


async def _why_no_container() -> str:
    from abyme.core.isolation import Isolation  # noqa: PLC0415
    from abyme.core.limits import Limits  # noqa: PLC0415
    from abyme.sandboxes.container import check  # noqa: PLC0415

    try:
        await check(Isolation(tier="container"), Limits())
    except SandboxError as error:
        return str(error)
    return ""
