"""What a device answers to a path: every value with its JSON pointer, as a point map names it."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from connectors.http_json.client import HttpJsonLink
from ems.clock import SystemClock
from ems.http_json import HttpJson
from ems.site import Connection, Protocol

TEXT_MAX = 120


class Line(NamedTuple):
    """One value, the type that a map gives it, and what is there now."""

    pointer: str
    type_name: str
    about: str


async def browse(host: str, port: int, timeout_s: float, *, http: HttpJson, path: str) -> list[Line]:
    """Every value of the document at a path, in its order.

    Parameters
    ----------
    timeout_s : of the connection, and of the whole answer [s wall].
    http : how the device is known and who we are there; its files are whole paths.

    Raises
    ------
    LinkError : it cannot be reached, is not trusted, or its answer cannot be believed.
    """
    connection = Connection(
        id="browse",
        protocol=Protocol.HTTP_JSON,
        host=host,
        port=port,
        unit_id=1,
        endpoint="",
        poll_s=1.0,
        timeout_s=timeout_s,
        watchdog_point=None,
        points=(),
        http=http,
    )
    link = HttpJsonLink(
        connection, [], http=http, host=host, port=port, timeout_s=timeout_s, now=SystemClock().now
    )
    try:
        await link.connect()
        return list(lines_of(await link.document(path)))
    finally:
        await link.disconnect()


def lines_of(document: Any) -> Iterator[Line]:
    """Every value in a document, however deep, with its pointer (RFC 6901)."""
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        pointer, found = waiting.pop()
        inside: list[tuple[str, Any]] = []
        if isinstance(found, dict):
            inside = [(f"{pointer}/{_escaped(key)}", value) for key, value in found.items()]
        elif isinstance(found, list):
            inside = [(f"{pointer}/{i}", value) for i, value in enumerate(found)]
        if inside:
            waiting += reversed(inside)
        else:
            yield Line(_printable(pointer), _type_of(found), _printable(json.dumps(found))[:TEXT_MAX])


def _type_of(found: Any) -> str:
    if isinstance(found, bool):
        return "boolean"
    if isinstance(found, int):
        return "integer"
    if isinstance(found, float):
        return "number"
    return "text" if isinstance(found, str) else "-"


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
