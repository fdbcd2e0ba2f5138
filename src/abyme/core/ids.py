"""Identifiers. Distinct types, so that a node is never passed for a call."""

from typing import NewType

NodeId = NewType("NodeId", str)
"""One node of the recursion tree: ``"0"`` is the root, ``"0.2"`` its third child."""

CallId = NewType("CallId", int)
"""One model call of the run, from 1. A retried call keeps its id."""

BatchId = NewType("BatchId", int)
"""Calls that a guest asked for in one go; chosen by the guest, unique within its node."""

ROOT = NodeId("0")
