"""`ems historian`: what lies where, how large it is, what a day writes, whether it is still whole."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from connectors.historian.archive.compactor import check
from connectors.historian.archive.keeper import archive_status
from connectors.historian.archive.ledger import RAW, Catalogue, LedgerReader
from connectors.historian.archive.source import open_recent
from connectors.historian.archive.wear import in_five_years_tb, per_day_bytes
from connectors.historian.audit.ledger import AUDIT, AuditCatalogue, AuditLedgerReader
from connectors.historian.audit.packer import check as check_audit
from connectors.historian.schema import ARCHIVE
from connectors.sqlite_file import from_ms
from ems.errors import BadValue, EmsError

HELP = """Show the historian of a run: sizes, spans, what was given up, and the bytes of a day against what
the disk may take in five years. With --verify every segment and audit file is compared with its hashes,
and the chain of audit files is followed; the exit code is 1 if one differs."""
KINDS = {RAW: "readings", "60": "minutes", "900": "quarters of an hour"}
DAYS = 7  # of the latest, that are shown
FAR_MS = 2**53


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ems historian`."""
    add = parser.add_argument
    add("--dir", type=Path, default=Path("ems-data"), help="folder of historian, plans and logs (ems-data)")
    add("--verify", action="store_true", help="read every segment and compare it with its hashes")


def run(args: argparse.Namespace) -> int:
    """Show it; 1 if a segment is not what was written."""
    history, folder = args.dir / "history.sqlite", args.dir / ARCHIVE
    if not history.exists() and not folder.is_dir():
        raise EmsError(f"{args.dir}: found no historian; allowed: the folder of a run, --dir of ems run")
    console, known = Console(), LedgerReader(folder).catalogue()
    audit = AuditLedgerReader(folder / AUDIT).catalogue()
    console.print(_table(history, known, audit))
    for line in (*_status(folder), *_written(folder, known), *_given_up(known), *_chain(audit)):
        console.print(line, soft_wrap=True)
    bad = known.bad_lines + audit.bad_lines
    if bad:
        console.print(f"the ledgers have {bad} lines that are not what was written")
    return _verify(console, folder, known, audit) if args.verify else int(bad > 0)


def _table(history: Path, known: Catalogue, audit: AuditCatalogue) -> Table:
    table = Table("what", "from", "to", "files", "rows", "MB", "bytes a row")
    for kind, name in KINDS.items():
        of = known.of(kind)
        if of:
            rows, size = sum(e.head.rows for e in of), sum(e.size_bytes for e in of)
            span = _date(of[0].head.start_ms), _date(max(e.head.end_ms for e in of))
            table.add_row(name, *span, str(len(of)), f"{rows:,}", f"{size / 1e6:.2f}", f"{size / rows:.2f}")
    if audit.files:
        rows, files = sum(e.head.count for e in audit.files.values()), list(audit.files.values())
        span = _date(min(e.head.start_ms for e in files)), _date(max(e.head.end_ms for e in files))
        figures = f"{audit.size_bytes / 1e6:.2f}", f"{audit.size_bytes / rows:.2f}"
        table.add_row("audit rows", *span, str(len(files)), f"{rows:,}", *figures)
    file, recent = open_recent(history)
    rows, _ = recent.sums(0, FAR_MS)
    first = recent.first_ms()
    file.close()
    size = sum(f.stat().st_size for f in history.parent.glob(f"{history.name}*"))
    since = "" if first is None else _date(first)
    table.add_row("in history.sqlite", since, "now", "1", f"{rows:,}", f"{size / 1e6:.2f}", "")
    return table


def _status(folder: Path) -> list[str]:
    row = archive_status(folder)
    if row is None:
        return ["nobody has kept a long-term store here yet"]
    trouble = row.fields.get("trouble")
    behind_s = row.fields.get("behind_s")
    late = f", {behind_s / 3600:.1f} h behind" if isinstance(behind_s, int | float) and behind_s else ""
    return [f"kept by process {row.pid}, last heard {row.at:%Y-%m-%d %H:%M} UTC{late}"] + (
        [f"trouble: {trouble}"] if trouble else []
    )


def _written(folder: Path, known: Catalogue) -> list[str]:
    """Bytes that all processes of the plant wrote, by day, and what five years of it come to."""
    days: list[Mapping[str, Any]] = [*known.days[-DAYS:]]
    lines = [
        f"written on {d['date']}: {d['written_bytes'] / 1e6:,.0f} MB in {d['covered_s'] / 3600:.1f} h"
        for d in days
    ]
    row = archive_status(folder)
    flash_tb = None if row is None else row.fields.get("flash_tb")
    now = None if row is None else row.fields.get("written_bytes_per_day")
    a_day = per_day_bytes(days) if days else now
    if isinstance(a_day, int | float) and isinstance(flash_tb, int | float):
        years_tb = in_five_years_tb(a_day)
        lines.append(
            f"a day of all processes writes {a_day / 1e6:,.0f} MB: {years_tb:.2f} TB in five years, "
            f"{years_tb / flash_tb:.0%} of the {flash_tb:g} TB of historian.flash_tb"
        )
    return lines


def _given_up(known: Catalogue) -> list[str]:
    return [
        f"given up: {len(of)} files of {name}, up to {_date(max(e.head.end_ms for e in of))}"
        for kind, name in KINDS.items()
        if (of := [e for e in known.dropped.values() if e.head.kind == kind])
    ]


def _chain(audit: AuditCatalogue) -> list[str]:
    """Where the chain of audit files ends, and what was removed of it."""
    out = []
    if audit.newest is not None:
        out.append(f"audit chain: file {audit.newest.head.index}, SHA-256 {audit.newest.sha256}")
    if audit.removed:
        until = _date(max(e.head.end_ms for e in audit.removed.values()))
        out.append(f"removed by historian.audit_keep_days: {len(audit.removed)} audit files, up to {until}")
    return out


def _verify(console: Console, folder: Path, known: Catalogue, audit: AuditCatalogue) -> int:
    bad = 0
    for broken in audit.breaks():
        bad += 1
        console.print(f"the audit chain is broken: {broken}", soft_wrap=True)
    for file in audit.files.values():
        try:
            check_audit(folder / AUDIT, file)
        except (BadValue, OSError) as error:
            bad += 1
            console.print(f"not what was written: {error}", soft_wrap=True)
    if audit.files:
        console.print(f"{len(audit.files)} audit files looked at, {bad} faults")
    bad_segments = 0
    for entry in known.segments.values():
        try:
            check(folder / entry.file, entry)
        except (BadValue, OSError) as error:
            bad_segments += 1
            console.print(f"not what was written: {error}", soft_wrap=True)
    whole = len(known.segments) - bad_segments
    console.print(f"{whole} of {len(known.segments)} segments are what was written")
    return int(bad + bad_segments + known.bad_lines + audit.bad_lines > 0)


def _date(ms: int) -> str:
    return f"{from_ms(ms):%Y-%m-%d %H:%M}"
