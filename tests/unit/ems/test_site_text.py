"""YAML text to plain data with line marks."""

import math

import pytest

from ems.site_schema.text import SIZE_MAX, read_document, resolve_scalar, show_loc


@pytest.fixture
def read(tmp_path):
    def _read(content: str | bytes):
        path = tmp_path / "x.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_document(path)

    return _read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("off", "off"),
        ("yes", "yes"),
        ("18:30", "18:30"),
        ("2026-03-18", "2026-03-18"),
        ("1e3", 1000.0),
        ("1E-2", 0.01),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("true", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("~", None),
        ("", None),
        ("-.inf", -math.inf),
        (".5", 0.5),
        ("5.", 5.0),
        ("+7", 7),
    ],
)
def test_resolve_scalar_yaml_1_2_core_schema(text, value):
    found = resolve_scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_read_document_quoted_number_stays_text(read):
    assert read("a: '5'\nb: \"true\"\n").data == {"a": "5", "b": "true"}


def test_read_document_every_place_has_its_line(read):
    document = read("a:\n  - x\n  - b: 1\n    c: 2\n")
    assert document.line(("a", 1, "c")) == 4
    assert document.line(("a", 1, "missing")) == 3
    assert document.line(("nowhere",)) == 1


def test_read_document_duplicate_key_reported_where_it_stands_again(read):
    document = read("a: 1\nb: 2\na: 3\n")
    (problem,) = document.problems
    assert (problem.line, problem.key) == (3, "a")
    assert "line 1" in problem.message
    assert document.data == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a: [1", 1),
        ("a:\n\t- b", 2),
        ("--- a\n--- b", 2),
        (b"a: 1\nb: \xff\n", 2),
        ("a: {b" * 3000, None),
        ("", None),
        ("# nothing\n", None),
        ("a" * (SIZE_MAX + 1), None),
    ],
)
def test_read_document_unusable_text_is_one_problem(read, content, line):
    document = read(content)
    assert document.data is None
    (problem,) = document.problems
    if line is not None:
        assert problem.line == line


@pytest.mark.parametrize("content", ["a: &x 1\nb: *x\n", "a: &x [*x]\n", "a: !thing 1\n", "? [1]\n: 2\n"])
def test_read_document_alias_tag_and_odd_key_refused(read, content):
    assert len(read(content).problems) == 1


def test_read_document_many_aliases_do_not_blow_up(read):
    rows = ["a0: &a0 [1]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))]
    assert len(read("\n".join(rows)).problems) == 78


def test_read_document_missing_file_and_folder_are_problems(tmp_path):
    assert "no readable file" in read_document(tmp_path / "no.yaml").problems[0].found
    assert "no readable file" in read_document(tmp_path).problems[0].found


def test_show_loc_mixed_path_reads_like_a_key():
    assert show_loc(("gensets", "gen1", "fuel_points", 2, "p_kw")) == "gensets.gen1.fuel_points[2].p_kw"
