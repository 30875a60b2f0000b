"""Whether the package that encodes MMS is there, and which one; nothing of it is loaded here."""

from importlib import metadata

from ems.errors import Problem
from ems.site import Devices, Protocol, Site

PACKAGE, VERSION = "open61850", "0.9.12"  # it is young, and its names move: this version and no other
INSTALL = "pip install 'hybrid-ems[iec61850]'"


def iec61850_problems(site: Site | Devices) -> list[Problem]:
    """What keeps the IEC 61850 connections of a site from being made."""
    mine = [c for c in site.connections if c.protocol in (Protocol.IEC_61850, Protocol.GOOSE)]
    if not mine or not (fault := package_fault()):
        return []
    key = f"connections.{mine[0].id}.protocol"
    return [Problem(file="", line=None, key=key, found=mine[0].protocol.value, allowed=fault)]


def package_fault() -> str:
    """Why IEC 61850 cannot be spoken here; "": it can."""
    try:
        found = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return f"only with the package {PACKAGE}, which is not installed: {INSTALL}"
    if found != VERSION:
        return f"only with {PACKAGE} {VERSION}, and {found} is installed: {INSTALL}"
    return ""
