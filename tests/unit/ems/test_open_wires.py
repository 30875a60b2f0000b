"""Dry contacts of a site whose wire is cut: refused, said each time, or named where an interlock sleeps."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cli.main import main
from ems.errors import ConfigError, Problem
from ems.json_place import JsonPlace
from ems.open_wires import blind_interlocks, good_word, open_value, unsafe_rows
from ems.site import SunSpecRow
from ems.site_schema import load_site

HERE = Path(__file__).parent / "broken_sites"
STOP = "bus.emergency_stop: {address: 60, table: input, type: u16,"
REMOTE = "bus.remote: {address: 61, table: input, type: u16,"
CONTACT = "bus.contact_1: {address: 62, table: input, type: u16,"
DOOR = "when: {point: bus.contact_1, below: 0.5}"


def folder(tmp_path: Path, was: str, row: str, when: str = DOOR) -> Path:
    """The good site with one row of its contacts, or the condition of its interlock, written otherwise."""
    shutil.copytree(HERE, tmp_path, dirs_exist_ok=True)
    contacts, path = tmp_path / "maps" / "contacts.yaml", tmp_path / "good.yaml"
    text, site = contacts.read_text(), path.read_text()
    assert (text.count(was), site.count(DOOR)) == (1, 1)
    contacts.write_text(text.replace(was, row))
    path.write_text(site.replace(DOOR, when))
    return path


def problem(path: Path) -> Problem:
    with pytest.raises(ConfigError) as caught:
        load_site(path)
    (found,) = caught.value.problems
    return found


def row(was: str, table: str, rest: str) -> str:
    return was.replace("table: input, type: u16,", f"table: {table}, {rest},")


@pytest.mark.parametrize(
    ("was", "table", "rest", "key", "word"),
    [
        (STOP, "discrete", "type: bit, inverted: true", "inverted", "true: a cut wire (raw 0) reads 1"),
        (STOP, "coil", "type: bit, inverted: true", "inverted", "reads 1, healthy"),
        (STOP, "holding", "type: u16, bit: 3, inverted: true", "inverted", "reads 1, healthy"),
        (REMOTE, "input", "type: u16, bit: 3, inverted: true", "inverted", "reads 1, remote"),
        (REMOTE, "discrete", "type: bit, sign: -1, offset: 1", "offset", "1.0: a cut wire (raw 0) reads 1"),
        (REMOTE, "discrete", "type: bit, scale: 0.2, offset: 0.5", "offset", "reads 0.5, remote"),
    ],
)  # fmt: skip
def test_cut_wire_that_reads_well_is_refused_unless_the_row_says_so(tmp_path, was, table, rest, key, word):
    found = problem(folder(tmp_path, was, row(was, table, rest)))
    point = was.partition(":")[0]
    assert (Path(found.file).name, found.line) == ("contacts.yaml", 4 if was is STOP else 5)
    assert found.key == f"points.{point}.{key}"
    assert word in found.found
    assert "closed, raw 1" in found.allowed
    assert "`open_wire_unsafe: true`" in found.message
    site = load_site(folder(tmp_path, was, row(was, table, f"{rest}, open_wire_unsafe: true")))
    assert [r.point for r in unsafe_rows(site)] == [point]


@pytest.mark.parametrize(
    ("was", "table", "rest"),
    [
        (STOP, "discrete", "type: bit"),
        (STOP, "discrete", "type: bit, open_wire_unsafe: false"),
        (STOP, "discrete", "type: bit, scale: 0.2, offset: 0.4"),
        (STOP, "discrete", "type: bit, sign: -1, offset: 2"),  # open it reads 2, outside its range: bad
        (REMOTE, "input", "type: u16, bit: 3"),
        (REMOTE, "input", "type: u16, inverted: true"),  # a word that a program writes hangs on no wire
        (REMOTE, "input", "type: u16, codes: {0: 1, 1: 0}"),
        (CONTACT, "discrete", "type: bit, inverted: true"),
    ],
)
def test_row_that_is_no_contact_or_reads_safe_is_let_be(tmp_path, was, table, rest):
    assert list(unsafe_rows(load_site(folder(tmp_path, was, row(was, table, rest))))) == []


@pytest.mark.parametrize(
    ("was", "table", "rest", "allowed"),
    [
        (STOP, "discrete", "type: bit", "nothing, or false"),
        (REMOTE, "input", "type: u16, bit: 3", "nothing, or false"),
        (REMOTE, "input", "type: u16, inverted: true", "only with bus.emergency_stop and remote"),
        (CONTACT, "discrete", "type: bit, inverted: true", "only with bus.emergency_stop and remote"),
    ],
)
def test_open_wire_unsafe_refused_where_it_says_nothing(tmp_path, was, table, rest, allowed):
    found = problem(folder(tmp_path, was, row(was, table, f"{rest}, open_wire_unsafe: true")))
    assert found.key == f"points.{was.partition(':')[0]}.open_wire_unsafe"
    assert allowed in found.allowed


def test_cut_wire_that_somebody_has_looked_at_is_told_by_check_and_runbook(tmp_path, capsys):
    told = "bus.emergency_stop: A CUT WIRE READS AS HEALTHY, as `open_wire_unsafe` of its row says"
    path = folder(tmp_path, STOP, row(STOP, "discrete", "type: bit, inverted: true, open_wire_unsafe: true"))
    assert main(["check", str(path)]) == 0
    assert f"  contact     {told}\n" in capsys.readouterr().out
    out = tmp_path / "runbook.md"
    assert main(["runbook", str(path), "--out", str(out)]) == 0
    failing = out.read_text().split("## What happens when something fails")[1].split("\n## ")[0]
    assert f"### Cut wires that nobody would notice\n\n- contact {told}\n" in failing
    assert main(["runbook", str(HERE / "good.yaml"), "--out", str(out)]) == 0
    assert "Cut wires" not in out.read_text()


CLOSING = "when: {point: bus.contact_1, above: 0.5}"
PLAIN = "type: bit"
INVERTED = "type: bit, inverted: true"


@pytest.mark.parametrize(
    ("rest", "when", "blind"),
    [
        (PLAIN, DOOR, []),
        (PLAIN, CLOSING, [0.0]),
        (INVERTED, CLOSING, []),
        (INVERTED, DOOR, [1.0]),
        (PLAIN, "when: {point: bus.contact_1, below: 0.2, above: 0.5}", []),
        ("type: bit, offset: 2, sign: -1", CLOSING, []),  # open it reads bad, which trips
        ("type: bit, inverted: true", "when: {point: bess1.soc, above: 0.5}", []),  # no contact
    ],
)
def test_interlock_that_a_cut_wire_never_trips_is_known(tmp_path, rest, when, blind):
    site = load_site(folder(tmp_path, CONTACT, row(CONTACT, "discrete", rest), when))
    assert [value for _, value in blind_interlocks(site)] == blind


@pytest.mark.parametrize(
    ("codes", "value", "blind"), [("{1: 0, 2: 1}", None, []), ("{0: 0, 1: 1}", 0.0, ["door"])]
)
def test_interlock_of_a_contact_with_codes_trips_by_a_count_that_is_not_listed(tmp_path, codes, value, blind):
    site = load_site(folder(tmp_path, CONTACT, row(CONTACT, "input", f"type: u16, codes: {codes}"), CLOSING))
    (found,) = (p for c in site.connections for p in c.points if p.point == "bus.contact_1")
    assert open_value(found) == value
    assert [lock.id for lock, _ in blind_interlocks(site)] == blind


def test_interlock_of_no_wire_or_of_a_word_is_not_judged(tmp_path):
    site = load_site(folder(tmp_path, CONTACT, CONTACT, CLOSING))
    assert [lock.id for lock, _ in blind_interlocks(site)] == ["door"]
    assert list(blind_interlocks(replace(site, connections=()))) == []
    words = JsonPlace(value="/door", words=("shut", "open"))
    states = SunSpecRow(states=(("SHUT", 0.0), ("OPEN", 1.0)))
    for told in ({"payload": words}, {"sunspec": states}):
        rows = tuple(replace(c, points=tuple(replace(p, **told) for p in c.points)) for c in site.connections)
        assert list(blind_interlocks(replace(site, connections=rows))) == []


@pytest.mark.parametrize(
    ("point", "word"),
    [
        ("bus.emergency_stop", "healthy"), ("gen1.emergency_stop", None),
        ("bus.remote", "remote"), ("gen1.remote", "remote"), ("bus.contact_1", None),
    ],
)  # fmt: skip
def test_good_word_is_that_of_the_stop_circuit_and_of_selectors(point, word):
    assert good_word(point) == word


def test_interlock_that_a_cut_wire_never_trips_is_a_warning_and_no_problem(tmp_path, capsys):
    told = "door: a cut wire would never trip it: an open bus.contact_1 reads 0, and only a closed one trips"
    path = folder(tmp_path, CONTACT, CONTACT, CLOSING)
    assert main(["check", str(path)]) == 0
    assert f"  interlock   {told}\n" in capsys.readouterr().out
    assert main(["runbook", str(path), "--out", str(tmp_path / "runbook.md")]) == 0
    assert f"- interlock {told}\n" in (tmp_path / "runbook.md").read_text()
