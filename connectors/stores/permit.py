"""Whether a site may be written to: its commissioning record held against the site as it is now."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from connectors.stores.commissioning import Entry, Record, identities_of
from ems.errors import ConfigError, Problem
from ems.site import Site
from ems.site_schema import files_of

# What may change without commissioning anew: it decides what is planned, not what is written where.
FREE = (
    "tariff", "currency", "diesel_per_l", "co2_kg_per_l", "carbon_per_kg", "import_co2_kg_per_kwh", "weather",
    "outages", "maintenance", "deliveries", "deferrables", "hierarchy", "telemetry", "databases", "exports",
    "historian", "inputs", "modbus_servers", "opcua_servers", "iec104_servers", "utilities", "rules",
)  # fmt: skip
# Fields that came later: where nothing is in them, records of before still hold.
LATER = ("tls", "dnp3", "iec104", "bacnet", "dlms", "http", "words", "pointer", "events", "buffered")
_EACH = {"connections": "connections", "bess": "bess", "gensets": "gensets", "pv": "pv", "feeders": "feeders"}


def sections(site: Site) -> dict[str, str]:
    """Short hash of every part of a site that commissioning holds for, by name as in the site file.

    Everything that is not in `FREE` counts, so that what is new counts until somebody decides otherwise.
    """
    out: dict[str, str] = {}
    for field in dataclasses.fields(site):
        value = getattr(site, field.name)
        if field.name in FREE:
            continue
        if field.name in _EACH:
            out |= {f"{field.name}.{x.id}": _short(x) for x in value}
        elif field.name == "authority":
            out |= {f"authority.{p}": _short(a) for p, a in value.setpoints.items()}
        else:
            out[field.name] = _short(value)
    return out


def file_hashes(site_file: Path) -> dict[str, str]:
    """SHA-256 of the site file and of every map it names, for whoever compares files later."""
    return {
        name: hashlib.sha256((site_file.parent / name).read_bytes()).hexdigest()
        for name in files_of(site_file)
    }


def device_of(site: Site, point: str) -> str:
    """The connection that holds a point; empty: none."""
    return next((c.id for c in site.connections if any(m.point == point for m in c.points)), "")


def binds(site: Site, point: str, now: Mapping[str, str]) -> str:
    """Hash of the parts that one point's row depends on: its device, its bounds, its asset."""
    asset = point.partition(".")[0]
    wanted = {f"connections.{device_of(site, point)}", f"authority.{point}", *(f"{k}.{asset}" for k in _EACH)}
    return _short({k: v for k, v in now.items() if k in wanted})


def rows_of(record: Record, site: Site) -> dict[str, Entry]:
    """The newest row of each point that still holds for the site as it is now; accepted ones included."""
    now = sections(site)
    told = identities_of(record)
    out: dict[str, Entry] = {}
    for e in record:
        point = e.data.get("point")
        if e.kind not in ("row", "accept") or not isinstance(point, str):
            continue
        device = told.get(device_of(site, point), {})
        same = e.data.get("binds") == binds(site, point, now) and e.data.get("device") == device
        if same:
            out[point] = e
        else:
            out.pop(point, None)
    return out


def missing(record: Record, site: Site) -> list[tuple[str, str]]:
    """Points that are neither shown nor taken over by hand, each with what was found."""
    known = rows_of(record, site)
    out = []
    for connection in site.connections:
        for m in connection.points:
            row = known.get(m.point)
            if row is None:
                out.append((m.point, "no row"))
            elif row.kind == "row" and row.data.get("verdict") != "pass":
                out.append((m.point, f"{row.data.get('verdict')}: {row.data.get('text')}"))
    return out


def require_commissioned(path: Path, record: Record, site: Site) -> dict[str, dict[str, str]]:
    """What each device said it is, where the record covers the whole site as it is now.

    Raises
    ------
    ConfigError : names every part that changed and every point that was not shown.
    """
    problems = list(_problems(str(path), record, site))
    if problems:
        raise ConfigError(problems)
    return identities_of(record)


def differences(file: str, record: Record, site: Site) -> Iterator[Problem]:
    """Every part of a site that is not as its record says; points that were never shown are no difference."""

    def problem(key: str, found: str, allowed: str, message: str = "") -> Problem:
        return Problem(file=file, line=None, key=key, found=found, allowed=allowed, message=message)

    heads = [e for e in record if e.kind == "site"]
    if not heads:
        yield problem("entries", "no site", "a record made by `ems commission`")
        return
    name, before = heads[-1].data.get("name"), heads[-1].data.get("sections")
    if name != site.name:
        yield problem("site", repr(name), repr(site.name), "the record is that of another site")
        return
    now = sections(site)
    was: Mapping[str, object] = before if isinstance(before, dict) else {}
    for key in sorted({*now, *was}):
        if now.get(key) != was.get(key):
            how = "new" if key not in was else "gone" if key not in now else "changed"
            yield problem(key, f"{how} since commissioning", "as commissioned", "run `ems commission` again")


def _problems(file: str, record: Record, site: Site) -> Iterator[Problem]:
    names = [e.data.get("name") for e in record if e.kind == "site"]
    whole = names[-1:] == [site.name]
    yield from differences(file, record, site)
    for point, found in missing(record, site) if whole else ():
        allowed = "pass, or accepted by hand"
        yield Problem(file=file, line=None, key=point, found=found, allowed=allowed)


def _short(value: Any) -> str:
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        of = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {name: _plain(v) for name, v in of.items() if v is not None or name not in LATER}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, frozenset | set):
        return sorted((_plain(v) for v in value), key=str)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value) if isinstance(value, float) else value
    return str(value)
