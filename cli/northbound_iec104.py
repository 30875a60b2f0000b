"""The objects of a controlled station in Markdown, with its answers to the checklist of the standard."""

from collections.abc import Iterator

from cli.markdown import table
from cli.northbound_words import about
from connectors.iec104.asdu import Cause, Type
from connectors.iec104.frames import LENGTH_MAX
from connectors.iec104.values import KINDS
from connectors.northbound.iec104_list import commands_of, map_id, rows_of
from connectors.northbound.iec104_session import SELECT_S, STAMP_S_MAX
from ems.northbound_iec104 import Iec104Command, Iec104Row, Iec104Server
from ems.site import Site

_ANSWERED = (Cause.ACTIVATION, Cause.ACTIVATION_CON, Cause.ACTIVATION_END)
_WITHDRAWN = (Cause.DEACTIVATION, Cause.DEACTIVATION_CON)
_UNKNOWN = (Cause.UNKNOWN_TYPE, Cause.UNKNOWN_CAUSE, Cause.UNKNOWN_STATION, Cause.UNKNOWN_OBJECT)


def object_lines(site: Site, server: Iec104Server) -> Iterator[str]:
    """Objects, commands and interoperability of a controlled station."""
    rows, commands = rows_of(site, server), commands_of(server)
    how = "as the site file says" if server.rows else "the automatic list"
    yield f"### Objects of `{server.id}`"
    yield ""
    yield (
        f"IEC 60870-5-104, controlled station, common address {server.station}, {how}, `server.map_id` "
        f"{map_id(rows, commands)}. Value = raw × scale + offset, in the unit given; raw is 1 at full scale "
        "where it is normalized. What is not good is invalid (IV): with not topical (NT) where it is old, "
        "frozen or not read, with overflow (OV) where it is out of range. **A value with IV must not be "
        "used.**"
    )
    head = ("name", "address", "asked", "by itself", "scale", "offset", "deadband", "unit", "meaning")
    yield from table(head, (_row(site, server, r) for r in sorted(rows, key=lambda r: r.address)))
    yield ""
    if commands:
        yield f"#### Commands of `{server.id}`"
        told = ("command", "address", "types", "scale", "unit", "how")
        yield from table(told, (_command(c) for c in commands))
        yield ""
    yield f"#### Interoperability of `{server.id}` (IEC 60870-5-104:2006, clause 9)"
    yield from table(("what", "how"), _interoperability(server))
    yield from table(("type", "causes"), _causes(server, rows, commands))
    yield ""


def _row(site: Site, server: Iec104Server, row: Iec104Row) -> tuple[object, ...]:
    unit, meaning = about(site, row.point)
    kind = KINDS[row.kind]
    by_itself = kind.timed if server.time_tags else kind.plain
    return (
        f"`{row.point}`", row.address, kind.plain.words, "–" if row.kind == "counter" else by_itself.words,
        f"{row.scale:g}", f"{row.offset:g}", f"{row.deadband:g}", unit or "–", meaning,
    )  # fmt: skip


def _command(command: Iec104Command) -> tuple[object, ...]:
    return (
        f"`limit.{command.limit}`",
        command.address,
        ", ".join(t.words for t in KINDS[command.kind].told),
        f"{command.scale_kw:g}",
        "kW",
        f"select, then execute within {SELECT_S:g} s" if command.select else "direct, or selected before",
    )


def _interoperability(server: Iec104Server) -> Iterator[tuple[str, str]]:
    t = server.times
    yield "station", "controlled"
    yield "cause, common address, object address", "2 bytes with originator, 2 bytes, 3 bytes unstructured"
    yield "length of an APDU", f"{LENGTH_MAX} at most"
    yield "initialisation", "M_EI_NA_1 once for each client after a start of ours"
    yield "station interrogation", "global (20); no groups"
    yield "counter interrogation", "general (5), read without freezing; no groups, no reset"
    yield "spontaneous", "yes; cyclic, background scan and double transmission: no"
    yield "read", "yes"
    yield "clock synchronisation", "refused: negative confirmation"
    clock = "local, with the bit of summer time" if server.local_time else "UTC"
    yield "time tags", f"of changes, {clock}" if server.time_tags else "none"
    yield (
        "commands",
        "direct and select before operate, ACTTERM used, qualifier 0; with a time tag only within "
        f"{STAMP_S_MAX:g} s of ours",
    )
    yield "confirmation", "positive (7) once the EMS has done it, negative where it was refused; some seconds"
    yield "test procedure", "C_TS_TA_1"
    yield "parameters, files, resets, other commands", "none"
    yield "t0, t1, t2, t3", f"–, {t.t1_s:g} s, {t.t2_s:g} s, {t.t3_s:g} s"
    yield "k, w", f"{t.k}, {t.w}"
    how = "plain" if server.door.tls is None else "TLS 1.2 or 1.3, a certificate on both sides (IEC 62351-3)"
    yield "port", f"{server.door.port}, {how}"
    yield "redundancy", "one started connection for each client, the newest; others stand by"


def _causes(
    server: Iec104Server, rows: tuple[Iec104Row, ...], commands: tuple[Iec104Command, ...]
) -> Iterator[tuple[str, str]]:
    causes: dict[Type, set[Cause]] = {}
    for row in rows:
        kind = KINDS[row.kind]
        asked = Cause.COUNTERS_REQUESTED if row.kind == "counter" else Cause.INTERROGATED
        causes.setdefault(kind.plain, set()).update((asked, Cause.REQUEST))
        if row.kind != "counter":
            causes.setdefault(kind.timed if server.time_tags else kind.plain, set()).add(Cause.SPONTANEOUS)
    for command in commands:
        for told in KINDS[command.kind].told:
            causes[told] = {*_ANSWERED, *_WITHDRAWN, *_UNKNOWN}
    causes[Type.M_EI_NA] = {Cause.INITIALISED}
    for asked_for in (Type.C_IC_NA, Type.C_CI_NA):
        causes[asked_for] = {*_ANSWERED, *_WITHDRAWN, *_UNKNOWN}
    causes[Type.C_RD_NA] = {Cause.REQUEST, *_UNKNOWN}
    causes[Type.C_CS_NA] = {Cause.ACTIVATION, Cause.ACTIVATION_CON}
    causes[Type.C_TS_TA] = {Cause.ACTIVATION, Cause.ACTIVATION_CON, *_UNKNOWN}
    for kind_of, found in sorted(causes.items()):
        yield f"{kind_of.value} {kind_of.words}", ", ".join(str(c.value) for c in sorted(found))
