"""Frozen types of `ems` to JSON text and back: strict, aware times, finite numbers only."""

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ems.errors import BadValue
from ems.records import JsonValue

T = TypeVar("T")


_adapters: dict[type[Any], TypeAdapter[Any]] = {}


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def dumps(value: Any) -> str:
    """Dataclass -> JSON text. Raises BadValue naming the first number that is not finite."""
    require_sound(value)
    return str(_adapter(type(value)).dump_json(value), "utf-8")


def loads(kind: type[T], text: str | bytes) -> T:
    """JSON text -> dataclass of `kind`. Raises BadValue for anything that is not exactly one."""
    try:
        value: T = _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadValue(f"{kind.__name__} at {where or 'top'}: {first['msg']}") from None
    require_sound(value)
    return value


def require_sound(value: Any, where: str = "") -> None:
    """Refuse numbers that are not finite and times without a zone, anywhere inside. Raises BadValue."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadValue(f"{where or 'value'} is {value!r}; a finite number is required")
    elif isinstance(value, datetime):
        if value.tzinfo is None:
            raise BadValue(f"{where or 'value'} is a time without a zone")
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            require_sound(getattr(value, field.name), f"{where}.{field.name}" if where else field.name)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            require_sound(item, f"{where}.{key}")
    elif isinstance(value, tuple | list):
        _require_sound_items(value, where)


def _require_sound_items(items: tuple[Any, ...] | list[Any], where: str) -> None:
    try:
        if math.isfinite(math.fsum(items)):  # one quick pass over a series of numbers
            return
    except (TypeError, ValueError, OverflowError):
        pass
    for i, item in enumerate(items):
        require_sound(item, f"{where}[{i}]")


def json_text(fields: Mapping[str, JsonValue]) -> str:
    """Fields as JSON text. A number that is not finite becomes its name: telling of one must not fail."""
    try:
        return json.dumps(fields, allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_named(fields), allow_nan=False, default=_plain)


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _named(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return {str(k): _named(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_named(v) for v in value]
    return value
