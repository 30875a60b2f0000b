"""A request as text: strict, bounded, and clear about what is wrong with it."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, get_args

from pydantic_core import from_json

from connectors.json_codec import dumps, json_text, loads
from ems.errors import BadValue
from ems.records import JsonValue
from ems.requests import Ask, Request, TellLimit

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ID = r"[A-Za-z0-9_-]{1,64}"
TEXT_MAX = 500
TTL_S_MAX = 60.0
EPOCH_MAX = 2**53
ASKS = {kind: each for each in get_args(Ask) for kind in get_args(each.__annotations__["kind"])}


def text_of(request: Request) -> str:
    """What is written into a file."""
    return dumps(request)


def request_of(text: str) -> Request:
    """What a file asks for.

    Raises
    ------
    BadValue : naming the key, what was found and what is allowed.
    """
    try:
        raw = from_json(text, allow_inf_nan=False)
    except ValueError:
        raise BadValue("not JSON") from None
    outer = _only_keys(raw, Request, "request")
    ask = _mapping(outer.get("ask"), "ask")
    kind = ask.get("kind")
    if not isinstance(kind, str) or kind not in ASKS:
        raise BadValue(f"ask.kind: found {_short(kind)}; allowed: {', '.join(sorted(ASKS))}")
    _only_keys(ask, ASKS[kind], "ask")
    loads(ASKS[kind], json_text(ask))  # names the key where the union names all its members
    request = loads(Request, text)
    _bounded(request)
    return request


def _mapping(raw: object, where: str) -> Mapping[str, JsonValue]:
    if not isinstance(raw, dict):
        raise BadValue(f"{where}: found {_short(raw)}; allowed: an object")
    return raw


def _only_keys(raw: object, kind: "type[DataclassInstance]", where: str) -> Mapping[str, JsonValue]:
    """Refuse keys that mean nothing: a misspelt one is not a default."""
    names = [f.name for f in fields(kind)]
    mapping = _mapping(raw, where)
    for key in mapping:
        if key not in names:
            raise BadValue(f"{where}: found the key {_short(key)}; allowed: {', '.join(names)}")
    return mapping


def _bounded(request: Request) -> None:
    if not re.fullmatch(ID, request.id):
        raise BadValue(f"id: found {_short(request.id)}; allowed: 1 to 64 letters, digits, - and _")
    if not 0.0 < request.ttl_s <= TTL_S_MAX:
        raise BadValue(f"ttl_s: found {request.ttl_s:g}; allowed: more than 0, at most {TTL_S_MAX:g} s")
    if not 0 <= request.epoch <= EPOCH_MAX:
        raise BadValue("epoch: allowed: the number of a start of the edge")
    seq = request.ask.seq if isinstance(request.ask, TellLimit) else None
    if seq is not None and not 0 <= seq <= EPOCH_MAX:
        raise BadValue(f"ask.seq: found {_short(seq)}; allowed: 0 to {EPOCH_MAX}")
    texts: dict[str, object] = {"session": request.session, "reason": request.reason}
    texts |= {f.name: getattr(request.ask, f.name) for f in fields(request.ask)}
    for key, value in texts.items():
        if isinstance(value, str) and not _is_line(value):
            raise BadValue(f"{key}: allowed: at most {TEXT_MAX} letters on one line")


def _is_line(text: str) -> bool:
    return len(text) <= TEXT_MAX and text.isprintable()


def _short(value: object) -> str:
    return ascii(value)[:60]
