"""Whether the package with the models of IEEE 2030.5 is there, and which one; nothing is loaded here."""

from importlib import metadata

from ems.errors import Problem
from ems.site import Devices, Site
from ems.utility import Sep2Server

PACKAGE, VERSION = "py20305", "0.16.1"  # young: this version and no other
INSTALL = "pip install 'hybrid-ems[ieee2030_5]'"


def ieee2030_5_problems(site: Site | Devices) -> list[Problem]:
    """What keeps the servers of a utility from being asked."""
    servers = [s for s in site.utilities if isinstance(s, Sep2Server)] if isinstance(site, Site) else []
    if not servers or not (fault := package_fault()):
        return []
    first = servers[0]
    key = f"utility.{first.id}.protocol"
    return [Problem(file="", line=None, key=key, found=first.protocol.value, allowed=fault)]


def package_fault() -> str:
    """Why IEEE 2030.5 cannot be spoken here; "": it can."""
    try:
        found = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return f"only with the package {PACKAGE}, which is not installed: {INSTALL}"
    return "" if found == VERSION else f"only with {PACKAGE} {VERSION}, and {found} is installed: {INSTALL}"
