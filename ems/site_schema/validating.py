"""A form held against plain data: every error of form becomes a Problem of the document it stands in."""

import difflib
from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError

from ems.site_schema.forms_base import IN_WORDS, Form
from ems.site_schema.text import Document, Key, Loc, show_value

_ALLOWED = {
    "missing": "this key is required",
    "bool_type": "true or false",
    "string_type": "a text",
    "int_type": "a whole number",
    "list_type": "a list",
    "dict_type": "a mapping of names to entries",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "string_too_short": "a text that is not empty",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "enum": "{expected}",
    "literal_error": "{expected}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
}


def validate(model: type[Form], data: Any, document: Document, context: dict[str, str]) -> list[Loc]:
    """Note every error of form in `document`; give where they are."""
    try:
        model.model_validate(data, context=context)
    except ValidationError as error:
        locs = []
        for one in error.errors(include_url=False):
            loc = tuple(p for p in one["loc"] if p != "[key]")
            locs.append(loc)
            _note(model, document, loc, one)
        return locs
    return []


def _note(model: type[Form], document: Document, loc: Loc, one: Any) -> None:
    context = one.get("ctx", {})
    if one["type"] == "ems":
        document.add(loc, show_value(one["input"]), context["allowed"], context["note"])
    elif one["type"] == "extra_forbidden":
        known = keys_at(model, loc[:-1])
        close = difflib.get_close_matches(str(loc[-1]), known, 1, 0.65)
        hint = f"did you mean {close[0]!r}?" if close else ""
        document.add(loc, "an unknown key", f"one of {', '.join(known)}", hint)
    elif one["type"] == "missing":
        document.add(loc, "nothing", _ALLOWED["missing"])
    else:
        pattern = IN_WORDS.get(context.get("pattern", ""))
        allowed = pattern if pattern is not None else _ALLOWED.get(one["type"], one["msg"]).format(**context)
        document.add(loc, show_value(one["input"]), allowed, _trap(one["type"], one["input"]))


def _trap(kind: str, value: object) -> str:
    if (
        kind == "bool_type"
        and isinstance(value, str)
        and value.lower() in ("yes", "no", "on", "off", "y", "n")
    ):
        return f"in YAML 1.2 {value} is a text"
    if kind == "string_type" and isinstance(value, int | float):
        return "put it in quotes if a text is meant"
    return ""


def keys_at(model: type[Form], loc: Sequence[Key]) -> list[str]:
    """Keys that the form at a place knows, in the order of the form."""
    annotation: Any = model
    for part in loc:
        annotation = _child(_bare(annotation), part)
    bare = _bare(annotation)
    if not (isinstance(bare, type) and issubclass(bare, Form)):
        return []
    return [info.alias if info.alias is not None else name for name, info in bare.model_fields.items()]


def _bare(annotation: Any) -> Any:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _bare(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return _bare(next(a for a in get_args(annotation) if a is not type(None)))
    return annotation


def _child(annotation: Any, part: Key) -> Any:
    origin = get_origin(annotation)
    if origin is dict:
        return get_args(annotation)[1]
    if origin is list:
        return get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, Form):
        for name, info in annotation.model_fields.items():
            if part in (name, info.alias):
                return info.annotation
    return object
