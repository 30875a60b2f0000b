"""A mapping file of `ems import`, held against the site whose points it names."""

from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ems.errors import BadValue, ConfigError
from ems.imports import UA_COLUMNS, ImportedPoint, ImportMapping
from ems.points import POINTS, Access, split_point_id
from ems.site import Connection, Protocol, Site, UaSecurity
from ems.site_schema.checks_identity import NODE_FORMS, unlike_node
from ems.site_schema.checks_opcua import check_security
from ems.site_schema.forms_import import ImportForm, ImportPointForm
from ems.site_schema.import_meter import check_meter, meter_of
from ems.site_schema.text import Document, Key, read_document, show_value
from ems.site_schema.validating import validate
from ems.units import conversion_factor


def load_import_mapping(path: Path, site: Site) -> ImportMapping:
    """Read a mapping file.

    Raises
    ------
    ConfigError : with all problems, each with file, line, key, found and allowed.
    """
    document = read_document(path)
    if document.data is not None and not isinstance(document.data, dict):
        document.add((), show_value(document.data), "a mapping of keys to values")
    if document.problems or validate(ImportForm, document.data, document, {}):
        raise ConfigError(document.problems)
    form = ImportForm.model_validate(document.data)
    _shape(document, form)
    zone = _zone(document, form)
    points = {tag: _point(document, tag, p, site) for tag, p in form.points.items()}
    seen: dict[str, str] = {}
    for tag, p in form.points.items():
        if (other := seen.setdefault(p.point, tag)) != tag:
            document.add(("points", tag, "point"), repr(p.point), f"another point than that of {other!r}")
    if document.problems:
        raise ConfigError(document.problems)
    quality = form.quality
    time, tag, value, quality_column = UA_COLUMNS
    if form.shape == "dlms":
        return ImportMapping(
            source=form.source, time=time, time_form="ms", zone=None, shift_s=0.0, tag=tag, value=value,
            quality=quality_column, good=frozenset({"good"}), points=points, meter=meter_of(form, site),
        )  # fmt: skip
    if form.shape == "opc_ua":
        return ImportMapping(
            source=form.source, time=time, time_form="ms", zone=None, shift_s=form.time.shift_s, tag=tag,
            value=value, quality=quality_column, good=frozenset({"good"}), points=points,
            server=_connection(form),
        )  # fmt: skip
    assert form.time.column is not None
    return ImportMapping(
        source=form.source,
        time=form.time.column,
        time_form=form.time.form,
        zone=zone,
        shift_s=form.time.shift_s,
        tag=form.tag,
        value=form.value,
        quality=None if quality is None else quality.column,
        good=frozenset() if quality is None else frozenset(str(g) for g in quality.good),
        points=points,
        delimiter=form.delimiter,
        decimal=form.decimal,
        query=form.query,
    )


def _shape(document: Document, form: ImportForm) -> None:
    if (form.meter is not None) is not (form.shape == "dlms"):
        found = "nothing" if form.meter is None else "a value"
        document.add(("meter",), found, "the meter, with shape: dlms and with no other")
    if form.shape == "dlms":
        check_meter(document, form)
        return
    is_ua = form.shape == "opc_ua"
    if (form.server is not None) is not is_ua:
        found = "nothing" if is_ua else "a value"
        document.add(("server",), found, "the server, with shape: opc_ua and with no other")
    if is_ua:
        _server(document, form)
        return
    if form.time.column is None:
        document.add(("time", "column"), "nothing", "the name of the column of the time")
    for key in ("tag", "value"):
        given = getattr(form, key) is not None
        if given is not (form.shape == "long"):
            found = "a value" if given else "nothing"
            document.add((key,), found, "the name of a column with shape: long, nothing with shape: wide")
    if form.shape == "wide" and form.quality is not None:
        document.add(("quality",), "a value", "nothing with shape: wide")
    if form.delimiter == form.decimal:
        document.add(("decimal",), repr(form.decimal), "another character than `delimiter`")
    if form.time.form not in ("iso", "s", "ms") and "%" not in form.time.form:
        wanted = "iso, s, ms, or a form of strptime such as %d/%m/%Y %H:%M:%S"
        document.add(("time", "form"), repr(form.time.form), wanted)


def _server(document: Document, form: ImportForm) -> None:
    """What goes with an OPC UA server, and what does not."""
    for key in ("tag", "value", "quality", "query", "delimiter", "decimal"):
        if key in form.model_fields_set:
            document.add((key,), "a value", "nothing with shape: opc_ua")
    for key in form.time.model_fields_set - {"shift_s"}:
        document.add(("time", key), "a value", "nothing with shape: opc_ua: times are the server's own")
    for tag in form.points:
        if (why := unlike_node(tag)) is not None or tag.startswith("ns="):
            document.add(("points", tag), repr(tag), NODE_FORMS, why or "")
    if form.server is not None:
        check_security(document, ("server", "security"), form.server.host, form.server.security)


def _connection(form: ImportForm) -> Connection | None:
    server = form.server
    if server is None:
        return None
    return Connection(
        id=form.source,
        protocol=Protocol.OPC_UA,
        host=server.host,
        port=server.port,
        unit_id=0,
        endpoint=server.endpoint,
        poll_s=server.timeout_s,
        timeout_s=server.timeout_s,
        watchdog_point=None,
        points=(),
        security=None if server.security is None else UaSecurity(**server.security.model_dump()),
    )


def _zone(document: Document, form: ImportForm) -> ZoneInfo | None:
    if form.time.zone is None:
        return None
    try:
        return ZoneInfo(form.time.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        document.add(("time", "zone"), repr(form.time.zone), "an IANA time zone such as Africa/Nairobi")
        return None


def _point(document: Document, tag: str, form: ImportPointForm, site: Site) -> ImportedPoint:
    loc: tuple[Key, ...] = ("points", tag)
    asset, name = split_point_id(form.point)
    kind = site.asset_kinds().get(asset)
    spec = next((s for s in (() if kind is None else POINTS[kind]) if s.name == name), None)
    if kind is None:
        document.add((*loc, "point"), repr(form.point), f"a point of {', '.join(site.asset_kinds())}")
    elif spec is None or spec.access is not Access.READ:
        known = ", ".join(s.name for s in POINTS[kind] if s.access is Access.READ)
        document.add((*loc, "point"), repr(form.point), f"one of {asset}'s points that are read: {known}")
    factor = form.scale
    if spec is not None and form.unit is not None:
        try:
            factor *= conversion_factor(form.unit, spec.unit)
        except BadValue:
            allowed = f"a unit of what is measured in {spec.unit or 'ratios'}"
            document.add((*loc, "unit"), repr(form.unit), allowed)
    if form.scale == 0.0:
        document.add((*loc, "scale"), "0", "any other number: all values would be the same")
    return ImportedPoint(point=form.point, scale=factor, offset=form.offset)
