"""Device families: found by name, read, and laid over with what a site file says of one device."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ems.errors import BadValue
from ems.points import POINTS
from ems.site_schema.build_wire import in_unit
from ems.site_schema.forms import ConnectionForm
from ems.site_schema.forms_maps import FamilyForm, FamilyPointForm, PointForm
from ems.site_schema.text import Document, Key, Loc, read_document, show_value
from ems.site_schema.validating import validate
from ems.site_schema.words import hint

FOLDER = "families"  # beside a site file, and in this package
_RESOLVED = {"times", "per", "range_times"}


def shipped_folder() -> Path:
    """Where the families that come with the package lie."""
    return Path(str(files("ems"))) / FOLDER


def family_file(name: str, site_folder: Path) -> tuple[Path, bool]:
    """The file of a family, and whether it is the site's own: that one counts before a shipped one."""
    own = site_folder / FOLDER / f"{name}.yaml"
    return (own, True) if own.is_file() else (shipped_folder() / f"{name}.yaml", False)


def known_families(site_folder: Path) -> list[str]:
    """Names of all families that a site file in this folder can use."""
    found = {p.stem for folder in (site_folder / FOLDER, shipped_folder()) for p in folder.glob("*.yaml")}
    return sorted(found)


def read_family(path: Path, shown_as: str | None = None) -> tuple[Document, FamilyForm | None]:
    """A family file as far as its form is right; every problem is in the document."""
    document = read_document(path, shown_as)
    if not isinstance(document.data, dict):
        if document.data is not None:
            document.add((), show_value(document.data), "a mapping of keys to values")
        return document, None
    if validate(FamilyForm, document.data, document, {}):
        return document, None
    form = FamilyForm.model_validate(document.data)
    before = len(document.problems)
    _check_form(document, form, path.stem)
    return document, form if len(document.problems) == before else None


def family_text(form: FamilyForm) -> str:
    """A family as YAML that reads back as the same family. Comments of its file are not in it."""
    plain = form.model_dump(mode="json", by_alias=True, exclude_unset=True)
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 110
    out = StringIO()
    yaml.dump(plain, out)
    return out.getvalue()


def _check_form(document: Document, form: FamilyForm, stem: str) -> None:
    """What one key of a family asks of another; rows are checked where they are placed."""
    if form.family != stem:
        document.add(("family",), repr(form.family), repr(stem), "the name of its file")
    if not form.points and not form.channels:
        document.add(("points",), "nothing", "points, or channels, or both")
    known = {s.name for kind in form.assets for s in POINTS[kind]}
    extra = {form.watchdog_point, form.heartbeat_in}
    extra |= {p for s in form.silence.values() for p in (s.timeout_point, s.value_point)}
    for name in form.points:
        if name not in known | extra:
            kinds = ", ".join(form.assets) if form.assets else "no kind of asset (key `assets`)"
            document.add(("points", name), "no point of its assets", f"a point of {kinds}", hint(name, known))
    for key, beat in (("watchdog_point", form.watchdog_point), ("heartbeat_in", form.heartbeat_in)):
        if beat is not None and beat not in form.points:
            document.add((key,), repr(beat), f"one of {', '.join(form.points)}")
    for name in form.silence:
        if name not in form.points or not form.points[name].writable:
            setpoints = ", ".join(n for n, p in form.points.items() if p.writable)
            document.add(("silence", name), repr(name), f"a setpoint: {setpoints or 'none here'}")
    for section, rows in (("points", form.points), ("channels", form.channels)):
        for name, row in rows.items():
            _check_parts(document, (section, name), row, form)
            if section == "channels" and row.open_wire_unsafe:
                where = "nothing: the site file says it of the point that is wired to it"
                document.add((section, name, "open_wire_unsafe"), "true", where)


def _check_parts(document: Document, loc: Loc, row: FamilyPointForm, form: FamilyForm) -> None:
    for key in _RESOLVED:
        asked = getattr(row, key)
        if asked is not None and asked not in form.asks:
            known = ", ".join(form.asks)
            document.add((*loc, key), repr(asked), f"one of {known}" if known else "nothing: no `asks`")
    if row.range_times is not None and any(isinstance(end, str) for end in row.range):
        document.add((*loc, "range"), str(row.range), "two plain numbers: they are multiplied")
    if (row.times is not None or row.per is not None) and (row.unit is not None or row.offset != 0.0):
        key = "unit" if row.unit is not None else "offset"
        document.add((*loc, key), str(getattr(row, key)), "left out beside `times` or `per`")


@dataclass(slots=True)
class Overlaid(Document):
    """The document of a map, in front of which the site file says something else about one point."""

    site: Document = field(default_factory=lambda: Document(file=""))
    own: Loc = ()  # the point in the map
    there: Loc = ()  # the point in the site file
    keys: frozenset[str] = frozenset()  # of the point that the site file tells

    def add(self, loc: Any, found: str, allowed: str, message: str = "") -> None:
        """Note a problem where the key it is about was written."""
        place: tuple[Key, ...] = tuple(loc)
        if (
            place[: len(self.own)] == self.own
            and place[len(self.own) :][:1]
            and place[len(self.own)] in self.keys
        ):
            self.site.add((*self.there, *place[len(self.own) :]), found, allowed, message)
        else:
            # not super(): a dataclass with slots is made anew, and the class that super() means is gone
            Document.add(self, loc, found, allowed, message)


def settings_of(
    document: Document, connection_id: str, connection: ConnectionForm, family: FamilyForm
) -> dict[str, str] | None:
    """The numbers a family asks for, each with its unit; None where one is missing or wrong."""
    at = ("connections", connection_id, "settings")
    good, out = True, dict[str, str]()
    for name, ask in family.asks.items():
        told = connection.settings.get(name)
        allowed = f"{ask.about}: more than 0{f' {ask.unit}' if ask.unit else ''}"
        if told is None:
            document.add((*at, name), "nothing", allowed, f"family {family.family} asks for it")
            good = False
            continue
        try:
            value = in_unit(told, ask.unit)
        except BadValue as error:
            document.add((*at, name), repr(told), allowed, str(error))
            good = False
            continue
        if not 0.0 < value < float("inf"):
            document.add((*at, name), repr(told), allowed)
            good = False
        out[name] = f"{value!r} {ask.unit}".rstrip()
    for name in connection.settings:
        if name not in family.asks:
            asked = ", ".join(family.asks)
            document.add((*at, name), "an unknown setting", f"one of {asked}" if asked else "none")
            good = False
    return out if good else None


def resolve(point: FamilyPointForm, settings: Mapping[str, str]) -> PointForm:
    """A point of a family as a row of a map: its scale and range multiplied out.

    Parameters
    ----------
    settings : each number that the family asks for, with its unit.
    """

    def number(name: str | None) -> float:
        return 1.0 if name is None else float(settings[name].split()[0])

    told = point.model_dump(exclude_unset=True, exclude=_RESOLVED)
    told["scale"] = point.scale * number(point.times) / number(point.per)
    if point.range_times is not None:
        unit = settings[point.range_times].partition(" ")[2]
        ends = [float(end) * number(point.range_times) for end in point.range]
        told["range"] = [f"{end!r} {unit}".rstrip() for end in ends]
    return PointForm.model_validate(told)
