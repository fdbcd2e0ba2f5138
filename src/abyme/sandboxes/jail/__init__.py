"""The jail: Linux namespaces, Landlock, seccomp and resource limits around CPython."""

from abyme.sandboxes.jail.jail import Jail

__all__ = ["Jail"]
