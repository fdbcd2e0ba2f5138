"""What a run's REPLs are made of: decided once, recorded, and the same again when it is resumed.

Data only. A sandbox builds what is said here or refuses; nothing weaker is put in its place.
"""

from collections.abc import Collection, Mapping
from typing import Final, Literal, get_args

from msgspec import Struct

from abyme.errors import ConfigError

Tier = Literal["jail", "wasm", "container"]
Imports = Literal["standard", "strict", "listed", "any"]

ALL: Final = "all"
_JAIL: Final = (
    *("user_namespace", "empty_root", "network_namespace", "pid_namespace", "ipc_namespace"),
    *("uts_namespace", "landlock", "seccomp", "no_new_privileges", "no_capabilities", "rlimits"),
    *("descriptors", "empty_environment", "sealed_view"),
)
LAYERS: Final[Mapping[Tier, tuple[str, ...]]] = {
    "jail": _JAIL,
    "wasm": (
        *("wasm", "user_namespace", "network_namespace", "ipc_namespace", "landlock"),
        *("no_capabilities", "no_new_privileges", "rlimits", "seccomp"),
    ),
    "container": (
        *("container", "pid_namespace_of_container", "no_network", "read_only_root", "not_root"),
        *("memory_ceiling", "process_ceiling", *_JAIL),
    ),
}
"""What a REPL of each tier may say that it has verified."""

MAX_ALLOWED_CHARS = 8_192
"""Of module names: the order for a REPL fits into one packet."""


class Isolation(Struct, frozen=True, kw_only=True):
    """How a run's REPLs are kept apart from the rest, and what they may import.

    Raises:
        ConfigError: at construction, if a word is none of those that are known.
    """

    tier: Tier = "jail"
    require: list[str] = []
    """Layers of the tier, or `ALL`, without which no REPL is opened."""
    imports: Imports = "standard"
    """What a cell may import. `standard`: the standard library without what reaches outside;
    `strict`: a few pure modules; `listed`: `allowed`; `any`: whatever is there."""
    allowed: list[str] = []
    """Modules, with all that is below them; only with `listed`."""
    packages: list[str] = []
    """Packages of the host's interpreter that are loaded before a REPL is locked down."""
    apart: bool = False
    """Each child has an interpreter of its own, with another hash seed and other addresses."""
    engine: str = ""
    """Container tier: docker, podman or a path of one; empty: what is found."""
    runtime: str = ""
    """Container tier: OCI runtime, such as runsc; empty: the engine's own."""
    image: str = ""
    """Container tier: image of the guest; empty: the one that abyme builds."""

    def __post_init__(self) -> None:
        for name, known in (("tier", get_args(Tier)), ("imports", get_args(Imports))):
            given = getattr(self, name)
            if given not in known:
                raise ConfigError(f"no {name} {given!r}; there are: {', '.join(known)}")
        for name in ("engine", "runtime", "image"):
            if self.tier != "container" and getattr(self, name):
                raise ConfigError(
                    f"{name}={getattr(self, name)[:100]!r} goes with tier='container'; "
                    f"this one is {self.tier}"
                )
        known = LAYERS[self.tier]
        strange = [layer for layer in self.require if layer != ALL and layer not in known]
        if strange:
            raise ConfigError(
                f"no layer {strange[0]!r} in the tier {self.tier}; there are: {', '.join(known)}; "
                f"{ALL} stands for each"
            )
        if bool(self.allowed) != (self.imports == "listed"):
            raise ConfigError("`allowed` names the modules of imports='listed', and goes with it")
        for name in self.allowed:
            if not (name.isascii() and all(part.isidentifier() for part in name.split("."))):
                raise ConfigError(f"`allowed` has {name[:100]!r}, which is no name of a module")
        if sum(map(len, self.allowed)) > MAX_ALLOWED_CHARS:
            raise ConfigError(f"`allowed` has more than {MAX_ALLOWED_CHARS:,} characters")

    def lacks(self, layers: Collection[str]) -> list[str]:
        """List what is required and not among the layers that a REPL has verified."""
        wanted = LAYERS[self.tier] if ALL in self.require else self.require
        return [layer for layer in dict.fromkeys(wanted) if layer not in layers]


DEFAULT = Isolation()
