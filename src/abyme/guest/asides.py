"""Which of the names that a cell has bound are not worth showing to the model.

Decides by how the cell's source binds a name, and by its value: what only passed through (the
target of a loop, of `with`, of `:=` or of a pattern) and what was imported. Invariant: a
container or a long text is never set aside, whatever it is bound by, and neither is a name that the
cell also assigns or defines. Runs no code of the model's.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from abyme.guest.digest import attributes, lineage
from abyme.guest.places import Hit

SHORT_CHARS: Final = 200

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Loop = ast.For | ast.AsyncFor


@dataclass(slots=True)
class Bound:
    """Names that a cell binds at its top level, by how it does."""

    passing: set[str] = field(default_factory=set)
    imported: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    """Assigned or defined."""

    def is_aside(self, name: str, value: object) -> bool:
        """Tell whether a name is not worth showing."""
        if name in self.made:
            return False
        if name in self.imported:
            return _is_class(value) or _is_small(value)
        return name in self.passing and _is_small(value)


def bound(tree: ast.Module | None) -> Bound:
    """Read a cell's source."""
    found = Bound()
    todo: list[ast.AST] = [tree] if tree is not None else []
    while todo:
        node = todo.pop()
        if isinstance(node, Definition):
            found.made.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.imported |= {(one.asname or one.name).split(".")[0] for one in node.names}
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                found.made.add(node.id)
        elif not isinstance(node, ast.Lambda):
            found.passing |= set(_passing(node))
            todo += _below(node)
    return found


def _below(node: ast.AST) -> Iterator[ast.AST]:
    """Give what stands in a node, without the targets that names only pass through."""
    left_out = None
    if isinstance(node, Loop | ast.comprehension | ast.NamedExpr):
        left_out = node.target
    elif isinstance(node, ast.withitem):
        left_out = node.optional_vars
    return (one for one in ast.iter_child_nodes(node) if one is not left_out)


def _passing(node: ast.AST) -> Iterator[str]:
    """Give the names that pass through a node; those of a comprehension are its own."""
    target: ast.AST | None = None
    if isinstance(node, Loop | ast.NamedExpr):
        target = node.target
    elif isinstance(node, ast.withitem):
        target = node.optional_vars
    elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name is not None:
        yield node.name
    if target is not None:
        yield from (one.id for one in ast.walk(target) if isinstance(one, ast.Name))


def _is_class(value: object) -> bool:
    return any(one is type for one in lineage(type(value)))


def _is_small(value: object) -> bool:
    """Tell whether a value is neither a container nor a long text."""
    kind = type(value)
    if kind is Hit:
        return True
    if kind is str or kind is bytes:
        return len(value) <= SHORT_CHARS  # type: ignore[arg-type]
    return all(attributes(one).get("__len__") is None for one in lineage(kind))
