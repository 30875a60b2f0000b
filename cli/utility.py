"""`ems utility`: who we are to a utility's server, what it tells now, what comes, and what was refused."""

import argparse
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cli._sites import find_site
from cli.utility_words import known_by, utility_words
from connectors.ieee2030_5.events import Code
from connectors.ieee2030_5.identity import grouped, identity_of
from connectors.northbound.records import RecordsReader
from connectors.tls import located, read_chain
from ems.clock import SystemClock
from ems.errors import EmsError
from ems.records import StatusRow
from ems.site_schema import load_site
from ems.utility import Sep2Server

HELP = """Servers of a utility that are asked for bounds. identity: our LFDI and SFDI, for the utility that
registers the plant. status: what each server of a running plant tells, which events hold and come, what the
edge made of it, and what was refused; the exit code is 1 where one of them is not heard."""
FILE = "utility.sqlite"
SILENT = timedelta(seconds=30)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    acts = parser.add_subparsers(dest="act", metavar="ACT", required=True)
    identity = acts.add_parser("identity", help="our LFDI and SFDI, for the utility")
    identity.add_argument("site", help="name of a shipped site, or the path of a site file")
    status = acts.add_parser("status", help="what the servers tell, and what was refused")
    status.add_argument("--dir", type=Path, default=Path("ems-data"), help="folder of the plant (ems-data)")
    status.add_argument("--refused", type=int, default=10, help="so many of the newest refusals (10)")


def run(args: argparse.Namespace) -> int:
    """Show it."""
    return _status(args.dir, args.refused) if args.act == "status" else _identity(args.site)


def _identity(site_name: str) -> int:
    path = find_site(site_name)
    site = load_site(path)
    if not site.utilities:
        raise EmsError(f"{path}: found no server under utility")
    for server in site.utilities:
        if not isinstance(server, Sep2Server):
            print(f"{server.id}: {server.where}, {known_by(server)}")
            continue
        file = Path(located(server.tls, path.parent).certificate)
        us, ends = identity_of(file), read_chain(file)[0].not_valid_after_utc
        print(f"{server.id}: {server.where}, {file}, ends {ends:%Y-%m-%d}")
        print(f"  LFDI  {us.lfdi}  ({grouped(us.lfdi)})")
        print(f"  SFDI  {us.sfdi}")
        print(f"  PIN   {'the site file has none' if server.pin is None else f'{server.pin:06}'}")
    for line in utility_words(site):
        print(line)
    return 0


def _status(directory: Path, count: int) -> int:
    file = directory / FILE
    if not file.exists():
        raise EmsError(
            f"{directory}: no server of a utility was asked in this folder; --dir is that of `ems run`"
        )
    reader, now = RecordsReader(file), SystemClock().now()
    down = 0
    for name, row in reader.statuses().items():
        silent = now - row.at > SILENT
        down += silent or not row.fields.get("up")
        print("\n".join(lines_of(name, row, silent=silent)))
    refusals = reader.refusals(count)
    if refusals:
        print("\nRefused, the newest first:")
    for r in refusals:
        print(f"{r.at:%Y-%m-%d %H:%M:%S} UTC  {r.code}  {r.what} ({r.client.server or 'all'}): {r.why}")
    reader.close()
    return int(down > 0)


def lines_of(name: str, row: StatusRow, *, silent: bool) -> Iterator[str]:
    """What a status row says, for a person."""
    told: Mapping[str, Any] = row.fields
    how = "not heard" if silent else "up" if told.get("up") else f"DOWN: {told.get('trouble')}"
    yield f"{name}: {how}, process {row.pid}, last row {row.at:%Y-%m-%d %H:%M:%S} UTC"
    heard = _time(told.get("heard_at"))
    is_vtn = told.get("protocol") == "openadr3"
    us = f"we are {told.get('client_id')}" if is_vtn else f"our LFDI {told.get('lfdi')}"
    yield f"  server {told.get('where')} ({told.get('peer') or 'not known'}), {us}"
    ahead = f"its clock is {told.get('ahead_s')} s ahead of ours"
    yield f"  last whole answer {heard}, {told.get('age_s')} s old; {ahead}"
    if told.get("asked_in_vain"):
        yield f"  last asked in vain: {told['asked_in_vain']}"
    yield from (f"  {told[key]}" for key in ("clock", "certificates") if told.get(key))
    yield f"  edge {told.get('image')}; door {told.get('door')}; told {told.get('taken', 0)} times"
    if "told" in told:
        counts = ", ".join(f"{n} {what}" for what, n in told["told"].items())
        yield f"  taken by the server: {counts}; answers still due: {told.get('replies_due')}"
    yield from (_vtn_programs if is_vtn else _sep2_programs)(told)
    if told.get("prices"):
        yield "  " + _prices(told["prices"])
    for b in told.get("bounds", []):
        until = "" if b["until_s"] is None else f" until {_time(b['until_s'])}"
        kw = "-" if b["kw"] is None else f"{b['kw']:g} kW"
        last = "nothing yet" if b["told_kw"] is None else f"{b['told_kw']:g} kW"
        yield f"  {b['mode']} -> {b['limit']}: {kw}, {b['why']}{until}; last told {last}, edge: {b['edge']}"
    for a in told.get("ahead", []):
        yield f"  ahead: {a['limit']} {a['kw']:g} kW, {_time(a['start'])} to {_time(a['end'])}"
    for e in told.get("events", []):
        yield "  event " + (_vtn_event if is_vtn else _event)(e)


def _sep2_programs(told: Mapping[str, Any]) -> Iterator[str]:
    for p in told.get("programs", []):
        default = _bounds(p["default_kw"]) or "none"
        unmet = f", and what cannot be done: {', '.join(p['unmet'])}" if p["unmet"] else ""
        yield f"  program {p['href']} {p['title']!r}, primacy {p['primacy']}, default {default}{unmet}"


def _vtn_programs(told: Mapping[str, Any]) -> Iterator[str]:
    names = ", ".join(f"{p['name']!r} ({p['id']})" for p in told.get("programs", []))
    yield f"  programs {names or 'none'}; events that are meant for others: {told.get('others')}"


def _prices(p: Mapping[str, Any]) -> str:
    last = "nothing yet" if p["file"] is None else f"{p['rows']} steps, issued {_time(p['issued_s'])}"
    fault = f"; NOT NOW: {p['fault']}" if p["fault"] else ""
    return f"prices of program {p['program']!r} -> input {p['input']}: {last}{fault}"


def _vtn_event(e: Mapping[str, Any]) -> str:
    unmet = f"; nothing here can do that: {', '.join(e['unmet'])}" if e["unmet"] else ""
    reports = f"; reports that nobody gives: {', '.join(e['reports'])}" if e["reports"] else ""
    if e["wants_demand"]:
        reports += f"; mean power at the POI: {e['reported'] or 'not told yet'}"
    rank = "without priority" if e["priority"] is None else f"priority {e['priority']}"
    end = "without end" if e["end_s"] is None else f"to {_time(e['end_s'])}"
    when = "without times" if e["start_s"] is None else f"{_time(e['start_s'])} {end}"
    return (
        f"{e['id']} {e['title']!r} of {e['program']}, {rank}: {e['state']}, {when}, "
        f"{e['intervals']} intervals, now {_bounds(e['now_kw']) or 'no bound'}{unmet}{reports}"
    )


def _event(e: Mapping[str, Any]) -> str:
    said = ", ".join(Code(c).name.lower() for c in e["said"]) or "nothing"
    unmet = f"; CANNOT BE DONE: {', '.join(e['unmet'])}" if e["unmet"] else ""
    held = " and held" if e["held"] else ""
    return (
        f"{e['mrid']} {e['title']!r} of {e['program']}: {e['state']}{held}, {_time(e['start_s'])} to "
        f"{_time(e['end_s'])}, {_bounds(e['bounds_kw']) or 'no bound'}{unmet}; answered {said}"
    )


def _bounds(bounds_kw: Mapping[str, float]) -> str:
    return ", ".join(f"{mode} {kw:g} kW" for mode, kw in bounds_kw.items())


def _time(told: Any) -> str:
    """A time of ours as text, or one of the server in seconds, as UTC."""
    if told is None:
        return "never"
    at = datetime.fromisoformat(told) if isinstance(told, str) else datetime.fromtimestamp(told, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
