"""The status row each process keeps of itself, in the file it writes."""

import json

from connectors.sqlite_file import ReadOnlyFile, from_ms
from ems.records import StatusRow

STATUS_SQL = """
    CREATE TABLE status (
        process TEXT PRIMARY KEY, pid INTEGER NOT NULL, at_ms INTEGER NOT NULL, fields TEXT NOT NULL
    );
    """
STATUS_UPSERT = "INSERT OR REPLACE INTO status (process, pid, at_ms, fields) VALUES (?, ?, ?, ?)"


def status_rows(file: ReadOnlyFile) -> dict[str, StatusRow]:
    """Status rows of a file, by process."""
    rows = file.rows("SELECT process, pid, at_ms, fields FROM status ORDER BY process")
    return {
        process: StatusRow(process=process, pid=pid, at=from_ms(at_ms), fields=json.loads(fields))
        for process, pid, at_ms, fields in rows
    }
