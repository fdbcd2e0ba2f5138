"""Containers of Docker or Podman around the same guest, one for each REPL."""

from abyme.sandboxes.container.container import Container, check

__all__ = ["Container", "check"]
