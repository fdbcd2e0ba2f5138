"""Containers of Docker or Podman around the same guest, one for each REPL."""

from abyme.sandboxes.container.container import Container

__all__ = ["Container"]
