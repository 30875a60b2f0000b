"""`ems families`: which device families there are, what one knows and from where; checks one."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ems.errors import ConfigError, EmsError

if TYPE_CHECKING:
    from ems.site_schema.forms_maps import FamilyForm, FamilyPointForm

HELP = """Device families: point maps of devices that exist, each with the document it was written from.
Without a name all are listed. A site uses one by `family: NAME` at a connection, in place of `map`."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", nargs="?", help="show this family")
    parser.add_argument("--site", help="the families of a site too: its file or folder")
    parser.add_argument("--yaml", action="store_true", help="print the family as a file to begin with")
    parser.add_argument("--check", type=Path, metavar="FILE", help="check a family file by itself")


def run(args: argparse.Namespace) -> int:
    """List, show or check."""
    if args.check is not None:
        return _check(args.check)
    folder = _site_folder(args.site)
    if args.name is None:
        return _list(folder)
    form = _named(args.name, folder)
    if args.yaml:
        from ems.site_schema.families import family_text

        print(family_text(form), end="")
        return 0
    print("\n".join(_shown(form)))
    return 0


def _site_folder(name: str | None) -> Path | None:
    from cli._sites import find_site

    return None if name is None else find_site(name).parent


def _check(path: Path) -> int:
    from ems.site_schema import check_family_file

    problems = check_family_file(path)
    if problems:
        raise ConfigError(problems)
    print(f"{path}: no problems")
    return 0


def _list(folder: Path | None) -> int:
    from ems.site_schema import load_families

    families = load_families(folder)
    wide = max(len(name) for name in families)
    for name, f in families.items():
        where = "" if f.is_shipped else "  (of this site)"
        print(f"{name:<{wide}}  {f.device}{where}")
    print(f"\n{len(families)} families; `ems families NAME` shows one", file=sys.stderr)
    return 0


def _named(name: str, folder: Path | None) -> "FamilyForm":
    import difflib

    from ems.site_schema.families import family_file, known_families, read_family

    base = folder if folder is not None else Path("/nonexistent")
    path, _ = family_file(name, base)
    if not path.is_file():
        close = difflib.get_close_matches(name, known_families(base), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise EmsError(f"NAME: found {name!r}, no such family; `ems families` lists them{hint}")
    document, form = read_family(path)
    if form is None:
        raise ConfigError(document.problems)
    return form


def _shown(form: "FamilyForm") -> Iterator[str]:
    yield f"{form.family}: {form.device}"
    yield f"  source      {form.source.document}"
    yield f"              {form.source.where}"
    yield f"  unverified  {form.source.unverified}"
    yield f"  protocol    {form.protocol}{_line(form)}"
    if form.assets:
        yield f"  assets      {', '.join(form.assets)}"
    for name, ask in form.asks.items():
        yield f"  asks for    {name}{f' [{ask.unit}]' if ask.unit else ''}: {ask.about}"
    for name, field in form.identity.items():
        wanted = field.expect or (f"{field.starts}..." if field.starts else " or ".join(field.one_of))
        at = f"{field.table or 'holding'} {field.address}, {field.type}"
        yield f"  identity    {name}: {at}{f', {wanted}' if wanted else ''}"
    for whose, beat in (("ours", form.watchdog_point), ("of the device", form.heartbeat_in)):
        if beat is not None:
            yield f"  heartbeat   {beat}, {whose}"
    for name, known in form.silence.items():
        what = "depends on its settings" if known.action is None else known.action.value
        after = "" if known.timeout_s is None else f" after {known.timeout_s:g} s"
        yield f"  in silence  {name}: {what}{after}; {known.about}"
    for section, rows in (("read", form.points), ("channel", form.channels)):
        for name, row in rows.items():
            kind = "written" if row.writable else section
            yield f"  {kind:<11} {name:<20} {_row(form, row)}"
    for note in form.notes:
        yield f"  note        {note}"


def _line(form: "FamilyForm") -> str:
    told = form.line.model_dump(exclude_none=True)
    return "".join(f", {key} {value}" for key, value in told.items())


def _row(form: "FamilyForm", row: "FamilyPointForm") -> str:
    words = row.word_order or form.word_order
    order = ", low word first" if words == "little" and row.type[1:] in ("32", "64") else ""
    at = str(row.address) if row.table is None else f"{row.table} {row.address}"
    parts = [f"{at}, {row.type}{order}"]
    if row.bit is not None:
        parts.append(f"bit {row.bit}{', inverted' if row.inverted else ''}")
    if row.open_wire_unsafe:
        parts.append("A CUT WIRE READS WELL")
    if row.codes:
        parts.append(f"{len(row.codes)} codes")
    if row.scale != 1.0 or row.sign != 1 or row.times or row.per:
        factor = "".join([f" times {row.times}" if row.times else "", f" per {row.per}" if row.per else ""])
        parts.append(f"{'-' if row.sign < 0 else ''}{row.scale:g}{factor}")
    if row.unit:
        parts.append(row.unit)
    return ", ".join(parts)
