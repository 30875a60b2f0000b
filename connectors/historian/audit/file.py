"""One file of audit rows: a plain zip archive of CSV tables, each packed by xz, and `meta.json`.

It is of the numbers [first, last] of one opening of the historian's file, and names the hash of the file
before it: whoever changes or removes one breaks the chain of all after it. Written once, never changed.
"""

import hashlib
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from connectors.historian.audit.table import (
    AT,
    COLUMNS,
    COMMAND,
    EVENT,
    REFUSAL,
    SAMPLE,
    Row,
    cells,
    lines,
    row_of,
)
from ems.errors import BadValue

FORMAT = "ems-audit 1"
META = "meta.json"
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 4 << 20}]  # 48 MB while packing
_STAMP = (1980, 1, 1, 0, 0, 0)  # the same rows make the same bytes
Opening = tuple[str, int, int]  # of a historian's file: its store, boot, and when [ms since 1970 UTC]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead:
    """What a file says of itself: its rows by kind, and in [start, end) [ms since 1970 UTC]."""

    index: int  # place in the chain, from 1
    before: str  # SHA-256 of the file before it; empty: it is the first
    store: str
    boot: int
    opened_ms: int
    first: int
    last: int
    start_ms: int
    end_ms: int
    rows: Mapping[str, int]
    rows_hash: str  # SHA-256 over the tables
    commands: Mapping[str, int]  # by point
    refusals: Mapping[str, int]
    events: Mapping[str, int]  # by kind

    @property
    def opening(self) -> Opening:
        """Of the historian's file."""
        return self.store, self.boot, self.opened_ms

    @property
    def count(self) -> int:
        """Rows of all kinds."""
        return sum(self.rows.values())


def head_of(body: Mapping[str, Any]) -> AuditHead:
    """A head as it is stored. Raises KeyError or TypeError where it is none."""
    return AuditHead(**{n: body[n] for n in AuditHead.__slots__})


Tables = Mapping[str, list[Row]]


def packed(
    tables: Tables, *, opening: Opening, span: tuple[int, int], index: int, before: str
) -> tuple[AuditHead, bytes]:
    """What a file is, and its bytes.

    Parameters
    ----------
    tables : rows by kind; at least one.
    span : first and last number.
    """
    texts = {kind: lines(kind, tables.get(kind, ())) for kind in COLUMNS}
    times = [row[1] for kind, rows in tables.items() if AT in COLUMNS[kind] for row in rows]
    store, boot, opened_ms = opening
    head = AuditHead(
        index=index,
        before=before,
        store=store,
        boot=boot,
        opened_ms=opened_ms,
        first=span[0],
        last=span[1],
        start_ms=min(times, default=opened_ms),
        end_ms=max(times, default=opened_ms) + 1,
        rows={kind: len(rows) for kind, rows in tables.items() if rows},
        rows_hash=_hash(texts),
        commands=_counted(tables.get(COMMAND, ()), COLUMNS[COMMAND].index("point")),
        refusals=_counted(tables.get(REFUSAL, ()), COLUMNS[REFUSAL].index("point")),
        events=_counted(tables.get(EVENT, ()), COLUMNS[EVENT].index("event")),
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(META, _STAMP), json.dumps({"format": FORMAT, **asdict(head)}))
        for kind, text in texts.items():
            if tables.get(kind):
                raw = lzma.compress(text.encode(), filters=XZ)
                archive.writestr(zipfile.ZipInfo(f"{kind}.csv.xz", _STAMP), raw)
    return head, out.getvalue()


class AuditFile:
    """An open file.

    Raises
    ------
    OSError : it is not there, or cannot be read.
    BadValue : it is not what was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, EOFError):
            raise BadValue(f"{path.name}: no whole zip archive") from None
        try:
            meta = json.loads(self._member(META))
            if meta["format"] != FORMAT:
                raise BadValue(f"{path.name}: format {meta['format']!r}; this program reads {FORMAT!r}")
            self.head = head_of(meta)
        except (ValueError, KeyError, TypeError):
            self._zip.close()
            raise BadValue(f"{path.name}: {META} is not what was written") from None
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def text(self, kind: str) -> str:
        """The table of one kind; its names alone where there is no row."""
        if not self.head.rows.get(kind):
            return lines(kind, ())
        try:
            return lzma.decompress(self._member(f"{kind}.csv.xz")).decode()
        except (lzma.LZMAError, EOFError, ValueError):
            raise BadValue(f"{self.path.name}: {kind} is not what was written") from None

    def cells(self, kind: str) -> Iterator[list[str]]:
        """Lines of one kind, in order of their numbers."""
        return cells(self.text(kind))

    def tables(self) -> dict[str, list[Row]]:
        """Everything in it."""
        try:
            return {kind: [row_of(kind, c) for c in self.cells(kind)] for kind in COLUMNS}
        except ValueError:
            raise BadValue(f"{self.path.name}: its rows are not what was written") from None

    def verified(self) -> bool:
        """Whether every row is what was written, by count and hash."""
        texts = {kind: self.text(kind) for kind in COLUMNS}
        counts = {kind: n for kind, text in texts.items() if (n := sum(1 for _ in cells(text)))}
        return counts == self.head.rows and _hash(texts) == self.head.rows_hash

    def _member(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError):
            raise BadValue(f"{self.path.name}: {name} is not what was written") from None


def _hash(texts: Mapping[str, str]) -> str:
    """Over all tables, but that of samples where it is empty: older files know of none."""
    found = hashlib.sha256()
    for kind in COLUMNS:
        if kind == SAMPLE and texts[kind] == lines(kind, ()):
            continue
        found.update(f"{kind}\n{texts[kind]}".encode())
    return found.hexdigest()


def _counted(rows: "list[Row] | tuple[()]", column: int) -> dict[str, int]:
    out: dict[str, int] = {}
    for row in rows:
        out[row[column]] = out.get(row[column], 0) + 1
    return out
