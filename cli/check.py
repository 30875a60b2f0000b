"""`ems check`: every problem of a site file at once, or what the plant is when there is none."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ems.capability import PqCapability
    from ems.http_json import HttpJson
    from ems.northbound import ModbusServer
    from ems.northbound_iec104 import Iec104Server
    from ems.northbound_ua import OpcUaServer
    from ems.site import Connection, Site

HELP = """Check site files: form and meaning. Every problem is printed with file, line, key, what was
found and what is allowed. Exit code 0: all are good; 1: there are problems; 2: a file is not there."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("site", nargs="+", help="site file, its folder, or the name of a shipped site (demo)")
    parser.add_argument("--quiet", action="store_true", help="print problems only")


def run(args: argparse.Namespace) -> int:
    """Check every named site."""
    from cli._sites import find_site
    from connectors.problems import connection_problems
    from ems.errors import ConfigError
    from ems.site_schema import load_site

    count = 0
    for path in [find_site(name) for name in args.site]:
        try:
            site = load_site(path)
            if refused := connection_problems(site):
                raise ConfigError([replace(p, file=str(path)) for p in refused])
        except ConfigError as error:
            count += len(error.problems)
            print("\n".join(str(p) for p in error.problems))
            print(f"{path}: {_plural(len(error.problems), 'problem')}", file=sys.stderr)
            continue
        if not args.quiet:
            print("\n".join([f"{path}: no problems", *(f"  {line}" for line in summary(site))]))
    return 1 if count else 0


def _plural(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def summary(site: "Site") -> Iterator[str]:
    """What a plant is, one line each."""
    from cli.input_words import input_words
    from cli.utility_words import utility_words

    hierarchy = site.hierarchy
    yield f"plant       {hierarchy.organisation}/{hierarchy.portfolio}/{hierarchy.plant} ({site.name})"
    yield f"place       {site.latitude_deg:g}, {site.longitude_deg:g}, {site.altitude_m:g} m, {site.timezone}"
    yield from (f"{kind:<11} {asset}: {text}" for kind, asset, text in asset_lines(site))
    yield f"forming     tied {', '.join(site.forming.grid_tied)}; island {', '.join(site.forming.islanded)}"
    yield f"tariff      {_tariff(site)}"
    yield f"balance     {_balance(site)}"
    yield from (f"rules       {line}" for line in _rules(site))
    points = sum(len(c.points) for c in site.connections)
    writable = len(site.authority.setpoints)
    yield f"wire        {len(site.connections)} connections, {points} points, {writable} setpoints"
    used = [c for c in site.connections if c.family]
    yield from (f"family      {c.id}: {c.family} (`ems families {c.family} --site FILE`)" for c in used)
    yield from (f"protection  {line}" for line in protection(site))
    yield from (f"{kind:<11} {line}" for kind, line in open_wires(site))
    yield f"outages     {len(site.outages)} announced"
    yield from (f"input       {line}" for line in input_words(site))
    yield from (f"utility     {line}" for line in utility_words(site))


def _rules(site: "Site") -> Iterator[str]:
    """What is decided by without a plan, inside the window of each battery."""
    from dispatch.controllers.build import rules_params
    from ems.rules import fitted_tou

    params = rules_params(site)
    said = "given" if site.rules is not None else "defaults"
    yield f"{'genset' if params.base.genset_prime else 'battery'} prime in an island ({said})"
    for b in site.bess:
        p = fitted_tou(params, b.battery)
        yield (
            f"{b.id}: gensets start at SoC {p.base.soc_start:.2f} and stop at {p.base.soc_stop:.2f}; beside "
            f"the grid {p.base.soc_floor:.2f} is kept, {p.outage_soc:.2f} for announced outages"
        )


def _balance(site: "Site") -> str:
    """Whether the edge can watch that the measured powers add up."""
    if not site.feeders:
        return "not watched: no feeder's load is metered, so that nobody sees a meter that lies"
    count = 1 + len(site.bess) + len(site.gensets) + len(site.pv) + len(site.feeders)
    within = f"{count} powers add up within {100.0 * site.grid.balance_tolerance_ratio:g} %"
    return f"{within}; watched while all are read and all load is metered (status: `balance_watch`)"


def _corners(own: "PqCapability | None") -> str:
    """Reach of a maker's P-Q polygon; nothing where the circle counts."""
    if own is None:
        return ""
    kvar = [q for _, q in own.corners]
    return f", {min(kvar):+g} to {max(kvar):+g} kvar by {len(own.corners)} corners"


def asset_lines(site: "Site") -> Iterator[tuple[str, str, str]]:
    """(kind, id, what it is) of each asset."""
    grid = site.grid
    yield (
        "grid",
        grid.id,
        f"import {grid.p_import_kw_max:g} kW, export {grid.p_export_kw_max:g} kW, "
        f"{grid.v_nominal_v:g} V, {_short_circuit_mva(site):.1f} MVA short circuit",
    )
    for b in site.bess:
        window = f"SoC {b.battery.soc_min:g} to {b.battery.soc_max:g}"
        power = (
            f"+{b.battery.p_discharge_kw_max:g}/-{b.battery.p_charge_kw_max:g} kW, PCS {b.pcs.s_kva:g} kVA"
        )
        power += _corners(b.pcs.capability)
        yield "bess", b.id, f"{b.battery.energy_kwh:g} kWh, {window}, {power}"
    for g in site.gensets:
        litres = f"{g.fuel_l_h[-1] / g.p_rated_kw:.3f} L/kWh at rating"
        yield (
            "genset",
            g.id,
            f"{g.p_min_kw:g} to {g.p_rated_kw:g} kW, on load after {g.start_delay_s:g} s, {litres}",
        )
    for p in site.pv:
        yield "pv", p.id, f"{p.p_dc_kwp:g} kWp, {p.p_ac_kw:g} kW AC{_corners(p.capability)}"
    for f in site.feeders:
        breaker = "breaker" if f.has_breaker else "no breaker"
        cost = f"VOLL {f.voll_per_kwh:g} {site.currency}/kWh"
        yield "feeder", f.id, f"tier {f.tier}, peak {f.p_peak_kw:g} kW, {cost}, {breaker}"


def protection(site: "Site") -> Iterator[str]:
    """How each OPC UA server, MQTT broker and database is known, and what it costs where it is not."""
    brokers = [(c.id, c.host, c.port, c.mqtt) for c in site.connections if c.mqtt is not None]
    brokers += [(t.id, t.host, t.port, t.broker) for t in site.telemetry]
    for name, host, port, broker in brokers:
        if broker.is_protected:
            yield f"{name}: TLS, {broker.protection}, as {broker.client_id}"
        else:
            yield (
                f"{name}: PLAIN, as the site file says: whoever is on its network can read what goes to and "
                f"from {host}:{port}, and show us false values"
            )
    for d in site.databases:
        if d.protection == "plain":
            yield f"{d.id}: none, as {d.user} on this machine alone"
        else:
            yield f"{d.id}: TLS, {d.protection}, as {d.user} of {d.database} at {d.host}:{d.port}"
    yield from _of_modbus(site)
    yield from (ua_words(s) for s in site.opcua_servers)
    for c in site.connections:
        if (security := c.security) is None:
            continue
        if not security.is_on:
            yield (
                f"{c.id}: NONE, as the site file says: whoever is on its network can read and write "
                f"{c.host}:{c.port} as we do, and can show us false values"
            )
            continue
        who = security.user if security.user is not None else "no user"
        who = who if security.user_certificate is None else "a user certificate"
        yield f"{c.id}: {security.policy}, {security.mode}, {who}"


def open_wires(site: "Site") -> Iterator[tuple[str, str]]:
    """(kind, words) of what nobody would notice if a wire of a dry contact were cut."""
    from ems.open_wires import blind_interlocks, good_word, unsafe_rows

    for row in unsafe_rows(site):
        word = (good_word(row.point) or "").upper()
        yield "contact", f"{row.point}: A CUT WIRE READS AS {word}, as `open_wire_unsafe` of its row says"
    for lock, value in blind_interlocks(site):
        why = f"an open {lock.point} reads {value:g}, and only a closed one trips"
        yield "interlock", f"{lock.id}: a cut wire would never trip it: {why}"


def _of_modbus(site: "Site") -> Iterator[str]:
    """Modbus with TLS, what has no protection, our own servers: who may read them, who may tell bounds."""
    from ems.northbound import ModbusServer
    from ems.site import Protocol
    from ems.site_schema.checks_opcua import is_loopback

    open_ones = (Protocol.IEC_61850, Protocol.DNP3, Protocol.BACNET, Protocol.IEC_104)
    for c in site.connections:
        if c.tls is not None:
            yield f"{c.id}: TLS, a certificate on both sides, authorities in {c.tls.ca}"
        elif c.protocol in open_ones and not is_loopback(c.host):
            yield f"{c.id}: PLAIN: whoever is on its network can read and operate {c.host}:{c.port} as we do"
        elif c.dlms is not None and (words := _of_meter(c, local=is_loopback(c.host))):
            yield f"{c.id}: {words}"
        elif c.http is not None:
            yield f"{c.id}: {http_words(c.http, c.host, c.port)}"
        elif c.goose is not None:
            yield f"{c.id}: PLAIN: whoever is on the network of {c.goose.interface} can show us false values"
            taken = ", ".join(b.control_block for b in c.goose.blocks if b.simulation)
            if taken:
                yield f"{c.id}: SIMULATED messages of {taken} are taken for real, as the site file says"
        elif c.can is not None:
            yield f"{c.id}: PLAIN: whoever is on the cable of {c.can.where} can show us false values"
    servers: list[ModbusServer | Iec104Server] = [*site.modbus_servers, *site.iec104_servers]
    for s in servers:
        door = s.door
        who = ", ".join(door.clients) or ("this machine" if is_loopback(door.host) else "everybody")
        how = "TLS, a certificate on both sides" if door.tls is not None else "PLAIN"
        what = "" if isinstance(s, ModbusServer) else f"IEC 60870-5-104, common address {s.station}, "
        yield f"server {s.id}: {what}{how}, {door.host}:{door.port}, may be read from {who}; {told_by(s)}"


def _of_meter(c: "Connection", *, local: bool) -> str:
    """How a meter is known that speaks DLMS; empty: nothing to say of it."""
    assert c.dlms is not None, "the caller has looked"
    if c.dlms.authentication == "gmac":
        return "DLMS, GMAC on both sides, everything encrypted with keys of suite 0"
    if local:
        return ""
    password = ", and read the password" if c.dlms.authentication == "low" else ""
    return f"PLAIN: whoever is on the network of {c.host}:{c.port} can show us false values{password}"


def http_words(http: "HttpJson", host: str, port: int) -> str:
    """How a device that is asked over HTTP is known, and what it costs where it is not."""
    if not http.is_protected:
        return (
            f"PLAIN HTTP, as the site file says: whoever is on its network can read what {host}:{port} "
            "tells, and show us false values"
        )
    known = {
        "authority": f"authorities in {http.ca}",
        "pinned": f"its certificate is {http.certificate}",
        "system": "any authority of the operating system",
    }[http.protection]
    token = http.token_env is not None or http.token_file is not None
    who = "a token" if token else "nobody" if http.user is None else http.user
    return f"TLS, {known}, as {who}"


def ua_words(server: "OpcUaServer") -> str:
    """How one of our own OPC UA servers is protected, who may come in, and who may tell bounds."""
    from ems.site_schema.checks_opcua import is_loopback

    door = server.door
    where = f"server {server.id}: OPC UA, {door.host}:{door.port}"
    from_ = ", ".join(door.clients) or ("this machine" if is_loopback(door.host) else "everywhere")
    if server.is_open:
        return (
            f"{where}, NO PROTECTION, as the site file says: may be read by everybody from {from_}; read-only"
        )
    people = ", ".join(u.name for u in server.users) or "nobody"
    who = f"{people}{' and programs without a user' if server.anonymous else ''}"
    how = f"{', '.join(server.policies)}, {server.mode}"
    told = "read-only"
    if (w := server.writes) is not None:
        by = [*(f"role {r}" for r in w.roles), *w.subjects]
        told = f"{', '.join(w.limits)} may be written by {', '.join(by)}"
    return f"{where}, {how}, programs in {server.files.trusted if server.files else ''}, " + (
        f"users {who}, from {from_}; {told}"
    )


def told_by(server: "ModbusServer | Iec104Server") -> str:
    """Who may tell which bounds through a server, loudly where that is not proved."""
    w = server.writes
    if w is None:
        return "read-only"
    limits = ", ".join(w.limits)
    if w.plain_from:
        return (
            f"{limits} may be WRITTEN WITHOUT PROOF from {', '.join(w.plain_from)}, as the site file says: "
            "whoever takes such an address can bound the plant"
        )
    who = [*(f"role {r}" for r in w.roles), *(f"CN {s}" for s in w.subjects)]
    return f"{limits} may be written by {', '.join(who)}"


def _short_circuit_mva(site: "Site") -> float:
    z_ohm = (site.grid.r_ohm**2 + site.grid.x_ohm**2) ** 0.5
    return site.grid.v_nominal_v**2 / z_ohm / 1e6 if z_ohm > 0 else float("inf")


def _tariff(site: "Site") -> str:
    tariff = site.tariff
    prices = sorted({w.import_per_kwh for w in tariff.windows} | {tariff.default_import_per_kwh})
    money = tariff.currency
    more = [f"{c.name} {c.per_kw:g} {money}/{'kVA' if c.apparent else 'kW'}" for c in tariff.demand_charges]
    if tariff.energy_blocks:
        more.append(f"{len(tariff.energy_blocks)} energy blocks")
    if tariff.power_factor is not None:
        more.append(f"power factor {tariff.power_factor.min_ratio:g}")
    if tariff.minimum_per_month > 0.0:
        more.append(f"minimum {tariff.minimum_per_month:g} {tariff.currency}")
    if site.carbon_per_kg > 0.0:
        more.append(f"carbon {site.carbon_per_kg:g} {tariff.currency}/kg")
    return (
        f"{prices[0]:g} to {prices[-1]:g} {tariff.currency}/kWh, "
        f"demand {tariff.demand_charge_per_kw:g} {tariff.currency}/kW, "
        f"billing interval {tariff.billing_interval_s / 60:g} min" + "".join(f", {m}" for m in more)
    )
