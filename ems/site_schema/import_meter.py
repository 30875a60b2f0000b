"""The meter of a mapping file, whose load profile is imported: checked and built."""

from ems.dlms import parse_obis, parse_terms
from ems.errors import BadValue
from ems.imports import MeterProfile
from ems.points import POINTS, split_point_id
from ems.site import Site
from ems.site_schema.checks_dlms import check_settings, settings_of
from ems.site_schema.forms_import import ImportForm
from ems.site_schema.text import Document

_SPARE = ("time", "tag", "value", "quality", "query", "delimiter", "decimal", "server")


def check_meter(document: Document, form: ImportForm) -> None:
    """What goes with a meter, and what does not."""
    for key in _SPARE:
        if key in form.model_fields_set:
            document.add((key,), "a value", "nothing with shape: dlms")
    for tag, point in form.points.items():
        try:
            parse_terms(tag)
        except BadValue as error:
            wanted = "columns of the profile, 1-0:1.29.0*255 or 1-0:1.29.0*255 - 1-0:2.29.0*255"
            document.add(("points", tag), repr(tag), wanted, str(error))
        if point.unit is not None:
            document.add(("points", tag, "unit"), repr(point.unit), "nothing: the meter says it")
    if form.meter is None:
        return
    check_settings(document, ("meter", "dlms"), form.meter.dlms)
    for key, text in (("profile", form.meter.profile), ("status", form.meter.status)):
        try:
            if text or key == "profile":
                parse_obis(text)
        except BadValue as error:
            document.add(("meter", key), repr(text), "an OBIS code such as 1-0:99.1.0*255", str(error))


def meter_of(form: ImportForm, site: Site) -> MeterProfile:
    """Whose profile is read, and what of it is believed."""
    meter = form.meter
    assert meter is not None, "it was looked for"
    units = {}
    for tag, point in form.points.items():
        asset, name = split_point_id(point.point)
        units[tag] = next(s.unit for s in POINTS[site.kind_of(asset)] if s.name == name)
    return MeterProfile(
        host=meter.host,
        port=meter.port,
        timeout_s=meter.timeout_s,
        dlms=settings_of(meter.dlms),
        profile=parse_obis(meter.profile),
        by=meter.by,
        status=parse_obis(meter.status) if meter.status else None,
        bad=meter.bad,
        skew_s_max=meter.skew_s_max,
        units=units,
    )
