"""What a run's REPLs are made of: decided once, recorded, and the same again when it is resumed.

Data only. A sandbox builds what is said here or refuses; nothing weaker is put in its place.
"""

from typing import Literal, get_args

from msgspec import Struct

from abyme.errors import ConfigError

Tier = Literal["jail", "wasm", "container"]
Imports = Literal["standard", "strict", "listed", "any"]


class Isolation(Struct, frozen=True, kw_only=True):
    """How a run's REPLs are kept apart from the rest, and what they may import.

    Raises:
        ConfigError: at construction, if a word is none of those that are known.
    """

    tier: Tier = "jail"
    require: list[str] = []
    """Layers without which no REPL is opened."""
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
        if bool(self.allowed) != (self.imports == "listed"):
            raise ConfigError("`allowed` names the modules of imports='listed', and goes with it")


DEFAULT = Isolation()
