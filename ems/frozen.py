"""`dataclasses.replace` for frozen dataclasses, at a fraction of its cost.

The edge makes some fifty changed copies of its memory in a tick, of up to thirty fields each; half of
them change nothing. What is copied often has no slots: its fields are one dictionary, which is copied
whole. A class with slots is copied field by field, written out once as `dataclasses` writes its
`__init__`. Type checkers see `dataclasses.replace` itself, so that names and types stay checked.
"""

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

Copier = Callable[[Any, dict[str, object]], object]

_set = object.__setattr__
_new = object.__new__

if TYPE_CHECKING:
    from dataclasses import replace as replace
else:

    def replace(obj: Any, /, **changes: object) -> Any:
        """A copy of `obj` with some fields changed; `obj` itself where nothing changes.

        Raises
        ------
        TypeError : there is no field of that name.
        """
        return _copier(type(obj))(obj, changes)


@cache
def _copier(cls: type) -> Copier:
    """How to copy a class: whole, field by field, or by its own `__init__` where that has more to do."""
    fields = dataclasses.fields(cls)
    names = [f.name for f in fields]
    if hasattr(cls, "__post_init__") or not all(f.init for f in fields):
        return _by_init
    if all(hasattr(getattr(cls, n, None), "__set__") for n in names):
        return _by_field(cls, names)
    return _by_init if any("__slots__" in vars(c) for c in cls.__mro__) else _whole


def _by_init(obj: Any, changes: dict[str, object]) -> object:
    return dataclasses.replace(obj, **changes)


def _whole(obj: Any, changes: dict[str, object]) -> object:
    known = obj.__dict__
    for name, value in changes.items():
        if name not in known or known[name] is not value:
            break
    else:
        return obj
    fields = {**known, **changes}
    if len(fields) != len(known):
        raise _unknown(type(obj), known, changes)
    new = _new(type(obj))
    _set(new, "__dict__", fields)
    return new


def _by_field(cls: type, names: list[str]) -> Copier:
    setters = {n: getattr(cls, n).__set__ for n in names}
    known: dict[str, Any] = {f"set_{n}": s for n, s in setters.items()}
    known |= {"new_of": _new, "cls": cls}
    lines = "".join(f"    set_{n}(new, obj.{n})\n" for n in names)
    exec(f"def copy_of(obj):\n    new = new_of(cls)\n{lines}    return new\n", known)  # noqa: S102
    copy_of: Callable[[object], object] = known["copy_of"]

    def copier(obj: Any, changes: dict[str, object]) -> object:
        if not changes.keys() <= setters.keys():
            raise _unknown(cls, setters, changes)
        if all(getattr(obj, name) is value for name, value in changes.items()):
            return obj
        new = copy_of(obj)
        for name, value in changes.items():
            setters[name](new, value)
        return new

    return copier


def _unknown(cls: type, known: dict[str, Any], changes: dict[str, object]) -> TypeError:
    return TypeError(f"{cls.__name__} has no field {next(n for n in changes if n not in known)!r}")
