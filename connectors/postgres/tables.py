"""What of a plant is where in the database, over one session."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psycopg import errors, sql

from connectors.historian.spool import Head, Record, Span
from connectors.link import Refused
from connectors.postgres.digest import CODES, Digest, body_of
from connectors.postgres.session import Connection, Session
from connectors.sqlite_file import from_ms
from connectors.telemetry.outbox import Claim
from ems.points import POINTS, split_point_id
from ems.site import Site

SCHEMA_FILE = Path(__file__).with_name("schema.sql")
KIND, VERSION = "hybrid-ems records", 1
STAGING = """
    CREATE TEMP TABLE new_record (seq bigint, kind text, at_ms bigint, body json) ON COMMIT DELETE ROWS;
    CREATE TEMP TABLE new_reading (seq bigint, at_ms bigint, source_ms bigint, value double precision,
        point_id integer, quality smallint) ON COMMIT DELETE ROWS
    """
# Rows once written stay as they are; only a row of the same number counts as written.
PUT_RECORDS = """
    INSERT INTO record (opening_id, seq, kind, at, late, body)
    SELECT %s, seq, kind, from_ms(at_ms), %s, body FROM new_record ON CONFLICT DO NOTHING
    """
PUT_READINGS = """
    INSERT INTO reading (at, source_at, value, seq, point_id, opening_id, quality)
    SELECT from_ms(at_ms), from_ms(source_ms), value, seq, point_id, %s, quality FROM new_reading
    ORDER BY point_id, at_ms ON CONFLICT DO NOTHING
    """
ISLANDS = """
    SELECT min(seq), max(seq) FROM (
        SELECT seq, seq - row_number() OVER (ORDER BY seq) AS island FROM record
        WHERE opening_id = %s AND seq >= %s
    ) one GROUP BY island ORDER BY 1
    """


class Tables:
    """Tables of one plant.

    Parameters
    ----------
    session : open.
    timeout_s : of each batch [s wall].
    """

    def __init__(self, session: Session, schema: str, site: Site, timeout_s: float) -> None:
        self._session, self._schema, self._site, self._timeout_s = session, schema, site, timeout_s
        self._plant_id = 0
        self._openings: dict[tuple[str, int, int], int] = {}
        self._points: dict[str, int] = {}
        self._months: set[tuple[int, int]] = set()

    def open(self) -> str:
        """Find the tables, or make them; the name of this database. Raises LinkError."""
        with self._session.within(self._timeout_s) as db:
            self._schema_there(db)
            try:
                row = db.execute("SELECT kind, version, id::text FROM about").fetchone()
            except (errors.UndefinedTable, errors.UndefinedColumn):
                row = None
            where = f"the schema {self._schema} of {self._session.where}"
            if row is None or row[0] != KIND:
                raise Refused(f"{where} holds tables of somebody else; allowed: a schema of our own")
            if row[1] != VERSION:
                raise Refused(f"{where} has version {row[1]}; this program writes version {VERSION}")
            h = self._site.hierarchy
            path = (h.organisation, h.portfolio, h.plant)
            self._plant_id = self._known(db, "plant", ("organisation", "portfolio", "plant"), path)
            self._read_points(db)
            db.execute(STAGING)
        return str(row[2])

    def put(self, claim: Claim, records: Sequence[Record]) -> None:
        """Store records that are not there yet. Raises LinkError, Unfit."""
        with self._session.within(self._timeout_s) as db:
            opening_id = self._opening(
                db, claim
            )  # each for itself: what is rolled back must not be known here
            self._room(db, records)
            points = self._points_of(db, records)
        with self._session.within(self._timeout_s) as db, db.transaction():
            with db.cursor().copy("COPY new_record FROM STDIN") as copy:
                for r in records:
                    copy.write_row((r.seq, r.kind, r.at_ms, body_of(r)))
            with db.cursor().copy("COPY new_reading FROM STDIN") as copy:
                for r in records:
                    if r.values is None or r.at_ms is None:
                        continue
                    for point, (value, quality, lag_ms) in r.values.items():
                        source_ms = r.at_ms - lag_ms
                        copy.write_row((r.seq, r.at_ms, source_ms, value, points[point], CODES[quality]))
            db.execute(PUT_READINGS, (opening_id,))
            db.execute(PUT_RECORDS, (opening_id, claim.late))

    def digest(self, claim: Claim) -> Digest:
        """Count and hash of what is stored of these numbers, as the database makes them. Raises LinkError."""
        with self._session.within(self._timeout_s) as db:
            asked = (self._opening(db, claim), claim.span.first, claim.span.last)
            row = db.execute("SELECT records, readings, sha256 FROM digest(%s, %s, %s)", asked).fetchone()
        assert row is not None
        return Digest(*row)  # type: ignore[arg-type]

    def tell(self, claim: Claim, block: Digest) -> None:
        """Store what the plant itself counts and hashes of a block. Raises LinkError."""
        with self._session.within(self._timeout_s) as db:
            of = (self._opening(db, claim), claim.span.first, claim.span.last)
            text = "INSERT INTO block VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
            db.execute(text, (*of, *block))

    def told(self, store: str, after: tuple[int, int]) -> tuple[tuple[int, int], Span, Digest] | None:
        """The next block of a store after one: its place, numbers, and what the plant told of it."""
        text = (
            "SELECT b.opening_id, b.first, o.boot, b.last, b.records, b.readings, b.sha256 "
            "FROM block b JOIN opening o USING (opening_id) WHERE o.plant_id = %s AND o.store = %s "
            "AND (b.opening_id, b.first) > (%s, %s) ORDER BY 1, 2 LIMIT 1"
        )
        with self._session.within(self._timeout_s) as db:
            row: Any = db.execute(text, (self._plant_id, store, *after)).fetchone()
        if row is None:
            return None
        return (row[0], row[1]), Span(boot=row[2], first=row[1], last=row[3]), Digest(*row[4:])

    def stored(self, store: str, boot: int, head: Head, first: int) -> list[tuple[int, int]]:
        """Spans of the numbers from `first` on that are stored of one opening. Raises LinkError."""
        span = Span(boot=boot, first=first, last=head.last)
        claim = Claim(store=store, opened_ms=head.opened_ms, span=span, late=True)
        with self._session.within(self._timeout_s) as db:
            rows: Any = db.execute(ISLANDS, (self._opening(db, claim), first)).fetchall()
        return [(a, b) for a, b in rows]

    def resends(self, store: str) -> list[Span]:
        """What somebody wants again, once. Raises LinkError."""
        text = (
            "DELETE FROM resend r USING opening o WHERE o.opening_id = r.opening_id AND o.plant_id = %s "
            "AND o.store = %s RETURNING o.boot, r.first, r.last"
        )
        with self._session.within(self._timeout_s) as db:
            rows: Any = db.execute(text, (self._plant_id, store)).fetchall()
        return [Span(boot=boot, first=first, last=last) for boot, first, last in rows if 0 < first <= last]

    def _schema_there(self, db: Connection) -> None:
        """Make the tables in a schema that is not there, or empty."""
        with db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(7306087)")
            there = db.execute("SELECT to_regnamespace(%s)", (self._schema,)).fetchone() != (None,)
            full = db.execute(
                "SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace(%s) LIMIT 1", (self._schema,)
            ).fetchone()
            if full is not None:
                return
            try:
                with db.transaction():
                    if not there:
                        db.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(self._schema)))
                    db.execute(SCHEMA_FILE.read_bytes())
            except errors.InsufficientPrivilege as error:
                why = str(error).splitlines()[0]
                raise Refused(
                    f"the schema {self._schema} of {self._session.where} is not there, and is not for us to "
                    f"make ({why}): have it made with schema.sql (docs/links.md)"
                ) from None

    def _known(self, db: Connection, table: str, columns: Sequence[str], values: Sequence[Any]) -> int:
        """The number of a row, which is added where it is not there."""
        names = [sql.Identifier(c) for c in columns]
        same = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(n) for n in names)
        parts = {
            "key": sql.Identifier(f"{table}_id"),
            "table": sql.Identifier(table),
            "names": sql.SQL(", ").join(names),
            "marks": sql.SQL(", ").join([sql.Placeholder()] * len(names)),
            "same": same,
        }
        find = sql.SQL("SELECT {key} FROM {table} WHERE {same}").format(**parts)
        row = db.execute(find, values).fetchone()
        if row is None:
            add = "INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"
            db.execute(sql.SQL(add).format(**parts), values)
            row = db.execute(find, values).fetchone()
        assert row is not None, "it was just added, and nobody removes one"
        return int(row[0])  # type: ignore[call-overload, no-any-return]

    def _opening(self, db: Connection, claim: Claim) -> int:
        key = (claim.store, claim.span.boot, claim.opened_ms)
        if key not in self._openings:
            columns = ("plant_id", "store", "boot", "opened_at")
            values = (self._plant_id, claim.store, claim.span.boot, from_ms(claim.opened_ms))
            self._openings[key] = self._known(db, "opening", columns, values)
        return self._openings[key]

    def _room(self, db: Connection, records: Sequence[Record]) -> None:
        days = {from_ms(r.at_ms).date().replace(day=1) for r in records if r.at_ms is not None}
        for day in days:
            if (day.year, day.month) not in self._months:
                db.execute("SELECT room_for(%s)", (day,))
                self._months.add((day.year, day.month))

    def _read_points(self, db: Connection) -> None:
        """Numbers of points; where the site file has them elsewhere or otherwise by now, so has the table."""
        text = "SELECT point_id, asset, point, subsystem, unit FROM point WHERE plant_id = %s"
        rows: Any = db.execute(text, (self._plant_id,)).fetchall()
        for point_id, asset, point, *found in rows:
            name = f"{asset}.{point}"
            self._points[name] = point_id
            now = self._place(name)
            if any(now) and tuple(found) != now:
                text = "UPDATE point SET subsystem = %s, unit = %s WHERE point_id = %s"
                db.execute(text, (*now, point_id))

    def _place(self, name: str) -> tuple[str, str]:
        """Subsystem and unit of a point; empty where the site file does not know it."""
        asset, point = split_point_id(name)
        kind = self._site.asset_kinds().get(asset)
        specs = () if kind is None else POINTS[kind]
        unit = next((s.unit for s in specs if s.name == point), "")
        return self._site.hierarchy.subsystem_of.get(asset, ""), unit

    def _points_of(self, db: Connection, records: Sequence[Record]) -> dict[str, int]:
        names = {name for r in records if r.values is not None for name in r.values}
        for name in sorted(names - self._points.keys()):
            values = (self._plant_id, *split_point_id(name), *self._place(name))
            db.execute(
                "INSERT INTO point (plant_id, asset, point, subsystem, unit) VALUES (%s, %s, %s, %s, %s) "
                "ON CONFLICT DO NOTHING",
                values,
            )
            key = (self._plant_id, *split_point_id(name))
            text = "SELECT point_id FROM point WHERE plant_id = %s AND asset = %s AND point = %s"
            row: Any = db.execute(text, key).fetchone()
            self._points[name] = row[0]
        return self._points
