"""A commissioning in virtual time: the production session asks the production edge, behind a wrong map."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from connectors.stores.commissioning import Record, appended
from connectors.stores.permit import binds, device_of, sections
from dispatch.authority.stage import restored
from dispatch.commissioning.rows import PointRow
from dispatch.commissioning.session import Session
from ems.control import ControlMode, Role
from ems.records import JsonValue
from ems.requests import Standing
from ems.site import PointMap, Site
from sim.mapped_io import MappedIO
from sim.rig import Rig, RigOptions

AT = "2026-03-02T09:00:00+00:00"
LOAD = {"critical": 110.0, "essential": 160.0, "deferrable": 30.0}


def with_engineer(site: Site) -> Site:
    return replace(site, control=replace(site.control, users={"eve": frozenset({Role.ENGINEER})}))


def changed(site: Site, point: str, **changes: object) -> Site:
    """The site with one row of its point maps written otherwise."""

    def row(m: PointMap) -> PointMap:
        return replace(m, **changes) if m.point == point else m  # type: ignore[arg-type]

    connections = tuple(replace(c, points=tuple(row(m) for m in c.points)) for c in site.connections)
    return replace(site, connections=connections)


def scaled(site: Site, point: str, factor: float) -> Site:
    m = next(m for c in site.connections for m in c.points if m.point == point)
    return changed(site, point, scale=m.scale * factor)


class Commissioned:
    """What came of it."""

    def __init__(self, rig: Rig, rows: Sequence[PointRow], widest_kw: float) -> None:
        self.rig, self.rows, self.widest_kw = rig, {r.point: r for r in rows}, widest_kw


def commission(
    true: Site,
    used: Site,
    agreed: Sequence[str],
    *,
    start: Mapping[str, float] | None = None,
    load_kw: Mapping[str, float] | None = None,
    pv_kw: float = 120.0,
    during: Callable[[Rig, Session], None] = lambda rig, session: None,
    until_s: float = 600.0,
    options: RigOptions | None = None,
) -> Commissioned:
    """Run a session to its end; `start`: what the devices hold before anybody comes."""
    options = RigOptions(soc=0.5) if options is None else options
    rig = Rig(used, load_kw=LOAD if load_kw is None else load_kw, pv_kw=pv_kw, options=options)
    rig.world.setpoints.values |= {"bess1.p_set_kw": 0.0} if start is None else start
    rig.io._inner = MappedIO(rig.face, rig.clock, true, used)  # type: ignore[assignment]
    session = Session(rig.runtime.setup.layout, agreed)
    in_test = restored(used.control, Standing(plant=ControlMode.TEST), 0.0)  # as `ems commission` starts
    rig.runtime.state = replace(rig.runtime.state, authority=in_test)
    rows: list[PointRow] = []
    first_kw: float | None = None
    widest_kw = 0.0
    while not session.done and rig.t_s < until_s:
        rig.runtime.untouched = session.untouched
        rig.step()
        during(rig, session)
        row = rig.last
        first_kw = row.flows.grid_p_kw if first_kw is None else first_kw
        widest_kw = max(widest_kw, abs(row.flows.grid_p_kw - first_kw))
        not_taken = {r.command.point: f"{r.outcome}: {r.detail}" for r in row.results if r.detail}
        turn = session.step(row.decisions, row.snapshot, not_taken)
        rows += turn.rows
        for ask in turn.asks:
            rig.ask("eve", ask)
    assert session.done, f"not over after {until_s} s: {session.probe and session.probe.hops}"
    return Commissioned(rig, rows, widest_kw)


def whole_record(
    site: Site,
    rows: Mapping[str, PointRow] = MappingProxyType({}),
    identities: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> Record:
    """A record in which every point of a site has passed, but for `rows` that say what was found.

    `identities`: what devices said of themselves.
    """
    known = {c.id: {f.name: "x" for f in c.identity} for c in site.connections}
    known |= {c: dict(told) for c, told in identities.items()}
    record: Record = ()
    head: dict[str, JsonValue] = {"name": site.name, "sections": {**sections(site)}, "files": {}}
    record = appended(record, at=AT, user="eve", kind="site", data=head)
    for c in site.connections:
        data: dict[str, JsonValue] = {"connection": c.id, "told": {**known[c.id]}}
        record = appended(record, at=AT, user="eve", kind="identity", data=data)
    for c in site.connections:
        for m in c.points:
            assert device_of(site, m.point) == c.id
            found = rows.get(m.point)
            row: dict[str, JsonValue] = {
                "point": m.point,
                "binds": binds(site, m.point, sections(site)),
                "verdict": "pass" if found is None else found.verdict.value,
                "device": {**known[c.id]},
                "shown": "read" if found is None else found.shown,
                "text": "" if found is None else found.text,
            }
            record = appended(record, at=AT, user="eve", kind="row", data=row)
    return record
