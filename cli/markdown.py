"""Tables in Markdown."""

from collections.abc import Iterable, Iterator, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """A Markdown table, or a line that says there is nothing."""
    lines = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    if not lines:
        yield from ("", "None.")
        return
    yield ""
    for row in (head, ["---"] * len(head), *lines):
        yield "| " + " | ".join(row) + " |"
