"""Finds a site by the name of one that is shipped, or by its path."""

import difflib
from importlib.resources import files
from pathlib import Path

from ems.errors import ConfigError, Problem

SITE_FILE = "site.yaml"


def shipped_sites() -> dict[str, Path]:
    """Name -> site file of every plant that comes with the package."""
    root = Path(str(files("sites")))
    return {p.parent.name: p for p in sorted(root.glob(f"*/{SITE_FILE}"))}


def find_site(name_or_path: str) -> Path:
    """Path of a site file.

    Parameters
    ----------
    name_or_path : a site file, a folder that holds `site.yaml`, or the name of a shipped site.

    Raises
    ------
    ConfigError : there is none.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if (path / SITE_FILE).is_file():
        return path / SITE_FILE
    shipped = shipped_sites()
    if name_or_path in shipped:
        return shipped[name_or_path]
    close = difflib.get_close_matches(name_or_path, shipped, 1)
    raise ConfigError(
        [
            Problem(
                file=name_or_path,
                line=None,
                key="SITE",
                found="no such file and no such shipped site",
                allowed=f"a site file, its folder, or one of {', '.join(shipped)}",
                message=f"did you mean {close[0]!r}?" if close else "",
            )
        ]
    )
