"""Whether the edge of a run may write, and to which devices; and the configuration that a run keeps to."""

import hashlib
import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from cli.process_config import ProcessConfig
from connectors.stores.commissioning import read_record
from connectors.stores.permit import require_commissioned
from ems.errors import ConfigError, EmsError, Problem
from ems.site import Site
from ems.site_schema import files_of, load_site


def identities_to_write(config: ProcessConfig, site: Site) -> Mapping[str, Mapping[str, str]] | None:
    """What each device said it is when it was commissioned; None where that does not matter.

    Asked at every start of the edge, also after it died: what writes is what was commissioned.

    Raises
    ------
    ConfigError : the record does not cover the site, or there is none and a device is on another machine.
    """
    if config.shadow:
        return None
    if config.record is None:  # a simulated plant on this machine: demonstrations and tests
        problems = [
            Problem(
                file=str(config.site),
                line=None,
                key=f"connections.{c.id}.host",
                found=c.host,
                allowed="a loopback address without a commissioning record",
            )
            for c in site.connections
            if not is_loopback(c.host)
        ]
        if problems:
            raise ConfigError(problems)
        return None
    return require_commissioned(config.record, read_record(config.record), site)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def kept_copy(site_file: Path, directory: Path) -> Path:
    """A copy of a good site file and its maps for the processes of a run; gives the copied site file.

    Whatever becomes of the originals while it runs, a process that is started again finds what the run began
    with. The copy is written whole before it has its name.

    Raises
    ------
    ConfigError : the site file is refused.
    EmsError : it changed while it was being copied.
    """
    site = load_site(site_file)
    paths = [(site_file.parent / name).resolve() for name in files_of(site_file)]
    texts = {p: p.read_bytes() for p in paths}
    root = Path(os.path.commonpath([p.parent for p in paths]))
    whole = hashlib.sha256(b"\0".join(texts[p] for p in paths)).hexdigest()[:16]
    folder = directory / "site-in-force" / whole
    for path, text in texts.items():
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        with part.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    copied = folder / paths[0].relative_to(root)
    if load_site(copied) != site:
        raise EmsError(f"{site_file} changed while it was being read: try again")
    return copied
