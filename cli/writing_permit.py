"""Whether the edge of a run may write, and to which devices; and the configuration that a run keeps to."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cli.process_config import ProcessConfig
from connectors.stores.commissioning import read_record
from connectors.stores.permit import differences, require_commissioned
from ems.errors import ConfigError, EmsError, Problem
from ems.records import JsonValue
from ems.site import Site
from ems.site_schema import files_of, load_site


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What an edge may rely on at its start.

    Parameters
    ----------
    identities : what each device said it is when it was commissioned; None where that does not matter.
    vouched : whose signatures hold, by what they are for; None: nobody's were asked for.
    doubts : in shadow, why it could not write.
    """

    identities: Mapping[str, Mapping[str, str]] | None = None
    vouched: Mapping[str, JsonValue] | None = None
    doubts: tuple[str, ...] = ()


def permit(config: ProcessConfig, site: Site) -> Permit:
    """Whether an edge may write, asked at every start, also after it died: it writes as commissioned.

    In shadow nothing is refused: what would be is told.

    Raises
    ------
    ConfigError : the record does not cover the site, or there is none and a device is on another machine;
        site file or record are not signed by whom they have to be.
    """
    if config.shadow:
        return Permit(doubts=_doubts(config, site))
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
        return Permit()
    identities = require_commissioned(config.record, read_record(config.record), site)
    if config.trust is None:
        return Permit(identities=identities)
    return Permit(identities=identities, vouched=vouched(config.site, config.record, config.trust))


def vouched(site_file: Path, record: Path | None, trust: Path) -> dict[str, JsonValue]:
    """Whose signatures hold for a site file with its maps, and for a record.

    Raises
    ------
    ConfigError : one is missing, does not hold, or is of a key that is not trusted with it.
    """
    from connectors.stores.signatures import Use, verify

    sets = [(Use.SITE, site_file, files_of(site_file))]
    if record is not None:
        sets.append((Use.COMMISSIONING, record, (record.name,)))
    found: dict[str, JsonValue] = {}
    problems: list[Problem] = []
    for use, file, names in sets:
        try:
            found[use.value] = str(verify(file, names, use, trust))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return found


def _doubts(config: ProcessConfig, site: Site) -> tuple[str, ...]:
    """Why an edge in shadow could not write, where somebody has begun to see to it that it may."""
    record = config.directory / "commissioning.json" if config.record is None else config.record
    there = record.exists()
    out: list[str] = []
    try:
        if there:
            out += [str(p) for p in differences(str(record), read_record(record), site)]
        if config.trust is not None:
            vouched(config.site, record if there else None, config.trust)
    except ConfigError as error:
        out += [str(p) for p in error.problems]
    except OSError as error:
        out.append(str(error))
    return tuple(out)


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
    signature = site_file.with_name(site_file.name + ".sig")
    paths = [(site_file.parent / name).resolve() for name in files_of(site_file)]
    paths += [signature.resolve()] if signature.is_file() else []
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
