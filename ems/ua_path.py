"""Browse paths of OPC UA: where a node is in its server's tree, from the folder Objects on.

`nsu=urn:plant;path=Plant/Meter/Power` names each step in the namespace `urn:plant`; a step of another
namespace has its URI in braces before it, `{urn:types}Meter`. `&` takes the meaning from the next character,
as in the relative paths of OPC 10000-4 (1.05), Annex A.2.
"""

from collections.abc import Sequence

from ems.errors import BadValue

BASE = "http://opcfoundation.org/UA/"  # namespace 0, of the standard's own names
_MARK = "path="
_RESERVED = "/&{}"


def is_path(address: str) -> bool:
    """Whether an address is a browse path, and no node id."""
    return _split(address)[1].startswith(_MARK)


def browse_path(address: str) -> tuple[tuple[str, str], ...]:
    """Steps of a path, each the URI of its namespace and its browse name.

    Raises
    ------
    BadValue : it is not written as a path is; says what is wrong.
    """
    uri, rest = _split(address)
    if not rest.startswith(_MARK):
        raise BadValue("no path=<name>/<name>")
    steps: list[tuple[str, str]] = []
    for text in _steps(rest.removeprefix(_MARK)):
        own, name = uri, text
        if text.startswith("{"):
            own, closed, name = text[1:].partition("}")
            if not closed or not own:
                raise BadValue(f"{text!r} has no namespace URI in braces")
        steps.append((own, _plain(name)))
    return tuple(steps)


def path_text(steps: Sequence[tuple[str, str]]) -> str:
    """A path as it is written, from its steps: each the URI of its namespace and its browse name."""
    own = steps[-1][0]
    names = ("".join(f"&{c}" if c in _RESERVED else c for c in name) for _, name in steps)
    parts = (n if uri == own else f"{{{uri}}}{n}" for (uri, _), n in zip(steps, names, strict=True))
    return ("" if own == BASE else f"nsu={own};") + _MARK + "/".join(parts)


def _split(address: str) -> tuple[str, str]:
    """Namespace of an address and the rest of it."""
    if not address.startswith("nsu="):
        return BASE, address
    uri, _, rest = address.removeprefix("nsu=").partition(";")
    return uri, rest


def _steps(text: str) -> list[str]:
    """Parts between slashes; a slash after `&` or in braces is none."""
    parts, inside, escaped = [""], False, False
    for c in text:
        if c == "/" and not (inside or escaped):
            parts.append("")
            continue
        if not escaped and c in "{}":
            inside = c == "{"
        escaped = c == "&" and not escaped and not inside
        parts[-1] += c
    if inside:
        raise BadValue("a brace is not closed")
    return parts


def _plain(name: str) -> str:
    """A browse name without its escapes."""
    out, escaped = "", False
    for c in name:
        if c in _RESERVED and not escaped:
            if c != "&":
                raise BadValue(f"{c!r} in {name!r}: write &{c} where it belongs to a name")
            escaped = True
            continue
        out, escaped = out + c, False
    if escaped or not out:
        raise BadValue(f"{name!r} is no browse name")
    return out
