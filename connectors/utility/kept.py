"""What is known of a server, over a restart."""

from pathlib import Path
from typing import Any, TypeVar

from connectors.json_codec import dumps, loads
from connectors.stores.kept_file import keep, kept
from ems.errors import BadValue

BODY = "state"

T = TypeVar("T")


def file_of(directory: Path, server: str) -> Path:
    """Where it is kept."""
    return directory / f"utility-{server}.json"


def write(file: Path, known: Any) -> None:
    """Replace what was kept, a dataclass. Raises OSError: the disk does not take it; all is as it was."""
    keep(file, {BODY: dumps(known)})


def read(kind: type[T], file: Path) -> T | None:
    """What was kept last; None: nothing ever was. Raises BadValue: it is not what was written."""
    body = kept(file)
    if body is None:
        return None
    text = body.get(BODY)
    if not isinstance(text, str):
        raise BadValue(f"{file.name}: not what was written")
    return loads(kind, text)
