"""What a tier does differently by design: entries that mean nothing there, and why.

Data only: ids of entries or globs of them, each with the reason that a reader is given. Whatever
is merely not there on a host is found out by the check itself, never written here.
"""

from collections.abc import Mapping
from typing import Final

from abyme.core.isolation import Tier

DIFFERENCES: Final[Mapping[Tier, Mapping[str, str]]] = {
    "jail": {},
    "wasm": {},
    "container": {},
}
