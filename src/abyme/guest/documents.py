"""What `context` is when the input is many texts: a mapping or a list, read-only.

Models write `for name, text in context.items()`, `context["a.py"]`, `len`, `in`,
`sorted`, `isinstance(context, dict)`, `json.dumps(context)`. So `Documents` is a
`dict` whose storage holds the names, and whose texts are made when touched;
`Texts` is a `list`. What would change them raises and says why.

Invariant: every way to a value that Python code has goes through `text_of`.
Does not hold texts back from a cell that insists: this is a convenience, and
the sealed map is the boundary.
"""

import difflib
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from typing import Any, Final, Never

from abyme.guest.tables import Written

_SEALED: Final = (
    "context is sealed and cannot be changed; build your own object, for example dict(context)"
)
_NEAR: Final = 3
_COMPARED: Final = 5000
"""Names that a misspelt one is compared with: difflib needs about 20 us for each."""
_LISTED: Final = 5
"""So few names are all told."""
_NAME_CHARS: Final = 200
"""What is longer is taken for a text."""
_HEAD_CHARS: Final = 40


class Documents(dict[str, str]):
    """Names -> texts, in the order of the input. Nothing but the names is held."""

    def __init__(
        self,
        names: Sequence[str],
        chars: int,
        text_of: Callable[[int], str],
        table_of: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(zip(names, range(len(names)), strict=True))  # type: ignore[arg-type]
        self._chars = chars
        self._text_of = text_of
        self._table_of = table_of

    def __getitem__(self, name: str) -> str:
        if not isinstance(name, str):
            first = next(iter(self), "name")
            raise TypeError(
                f"context maps names to texts, {name!r} is no name: use context[{first!r}], "
                "list(context)[:3] for some names, list(context.values())[0] for a text"
            )
        try:
            number = super().__getitem__(name)
        except KeyError:
            raise KeyError(missing(name, self)) from None
        return self._text_of(number)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if _is_of_str(name):
            raise AttributeError(
                f"context maps names to texts and has no {name}: use context[name].{name}(), "
                "or for name, text in context.items()"
            )
        return super().__getattribute__(name)  # for Python's own words

    def get(self, name: str, default: Any = None) -> Any:
        """Return the text of that name, or the default."""
        return self._text_of(super().__getitem__(name)) if name in self else default  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[str]:
        # Overridden although it changes nothing: it keeps dict() and {**context} from
        # taking values out of the storage, where the numbers are.
        return super().__iter__()

    def table(
        self,
        name: str | None = None,
        *,
        delimiter: str | None = None,
        header: bool | None = None,
        quotes: bool | None = None,
    ) -> Any:
        """Give a document as rows, the same as ``table(name)``."""
        if self._table_of is None:
            raise TypeError("this mapping has no tables")
        return self._table_of(name, Written(delimiter, header, quotes))

    def values(self) -> ValuesView[str]:  # type: ignore[override]
        """View the texts, each made when it is reached."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, str]:  # type: ignore[override]
        """View pairs of name and text, each text made when it is reached."""
        return ItemsView(self)

    def copy(self) -> dict[str, str]:
        """Make a plain dict with every text."""
        return dict(self)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Mapping) or len(self) != len(other):
            return False
        return all(name in other and other[name] == self[name] for name in self)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __or__(self, other: Any) -> Any:
        return dict(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def __repr__(self) -> str:
        first = ", ".join(repr(name) for _, name in zip(range(3), self, strict=False))
        more = ", ..." if len(self) > 3 else ""
        unit = "document" if len(self) == 1 else "documents"
        return f"<context: {len(self):,} {unit}, {self._chars:,} characters: {first}{more}>"

    def _refuse(self, *_: object, **__: object) -> Never:
        raise TypeError(_SEALED)

    __setitem__ = __delitem__ = __ior__ = _refuse
    pop = popitem = clear = update = setdefault = _refuse


class Texts(list[str]):
    """A list of texts that refuses to be changed. Slices and sums are plain lists."""

    def __getattr__(self, name: str) -> Any:
        if _is_of_str(name):
            raise AttributeError(
                f"context is a list of texts and has no {name}: use context[0].{name}(), "
                "or for text in context"
            )
        return super().__getattribute__(name)

    def _refuse(self, *_: object, **__: object) -> Never:
        raise TypeError("context is sealed and cannot be changed; take a copy: list(context)")

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = pop = clear = sort = reverse = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self[:],)


def _is_of_str(name: str) -> bool:
    return not name.startswith("_") and hasattr(str, name)


def missing(name: object, names: Mapping[str, Any]) -> str:
    """Say that a name is not there, and which are near, or all if they are few."""
    if isinstance(name, str) and len(name) > _NAME_CHARS:
        return f"no document is named {name[:_HEAD_CHARS]!r}...: that is a text, give a name"
    near = _near(name, names) if isinstance(name, str) and name else []
    if near:
        hint = f"nearest: {', '.join(map(repr, near))}"
    elif len(names) > _LISTED:
        hint = f"there are {len(names):,} names"
    else:
        are = "is" if len(names) == 1 else "are"
        hint = f"there {are} {', '.join(map(repr, names))}"
    return f"no document is named {name!r}; {hint}"


def _near(name: str, names: Iterable[str]) -> list[str]:
    tail = name.rsplit("/", 1)[-1]
    near = [n for n in names if n == tail or n.endswith("/" + tail)][:_NEAR]
    near = near or [n for n in names if name.lower() in n.lower()][:_NEAR]
    if near:
        return near
    some = [n for _, n in zip(range(_COMPARED), names, strict=False)]
    return difflib.get_close_matches(name, some, _NEAR)
