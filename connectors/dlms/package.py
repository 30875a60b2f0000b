"""Whether the package that writes DLMS requests is there, and which one; nothing of it is loaded here."""

from importlib import metadata

from ems.errors import Problem
from ems.site import Devices, Protocol, Site

PACKAGE, VERSION = "dlms-cosem", "21.3.2"  # MIT; from 24.1.0 on its licence is BSL 1.1, which may not be used
INSTALL = "pip install 'hybrid-ems[dlms]'"


def dlms_problems(site: Site | Devices) -> list[Problem]:
    """What keeps the DLMS connections of a site from being made."""
    mine = [c for c in site.connections if c.protocol is Protocol.DLMS]
    if not mine or not (fault := package_fault()):
        return []
    key = f"connections.{mine[0].id}.protocol"
    return [Problem(file="", line=None, key=key, found=mine[0].protocol.value, allowed=fault)]


def package_fault() -> str:
    """Why DLMS cannot be spoken here; "": it can."""
    try:
        found = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return f"only with the package {PACKAGE}, which is not installed: {INSTALL}"
    if found != VERSION:
        return f"only with {PACKAGE} {VERSION} (later ones are not free), and {found} is installed: {INSTALL}"
    return ""
