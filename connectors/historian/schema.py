"""Tables of the historian's file. For a shell the views `readings` and `commands` spell out the names."""

from connectors.sqlite_file import Schema
from connectors.status_table import STATUS_SQL
from ems.telemetry import Quality

ARCHIVE = "archive"  # folder of the long-term store, beside the file
# Written to disk: never renumber, only add.
QUALITY_CODES = {
    Quality.GOOD: 0,
    Quality.STALE: 1,
    Quality.OUT_OF_RANGE: 2,
    Quality.NOT_FINITE: 3,
    Quality.COMM_FAILED: 4,
    Quality.DEVICE_BAD: 5,
    Quality.FROZEN: 6,
}
QUALITIES = {code: quality for quality, code in QUALITY_CODES.items()}

TABLES = """
    CREATE TABLE boot (boot INTEGER PRIMARY KEY AUTOINCREMENT, opened_ms INTEGER NOT NULL);
    CREATE TABLE point (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE quality (id INTEGER PRIMARY KEY, name TEXT NOT NULL);  -- names of QUALITY_CODES
    INSERT INTO quality VALUES (0, 'good'), (1, 'stale'), (2, 'out_of_range'), (3, 'not_finite'),
        (4, 'comm_failed'), (5, 'device_bad'), (6, 'frozen');
    -- In order of time, as they come: a commit touches one or two pages however many points there are.
    CREATE TABLE reading (
        at_ms INTEGER NOT NULL,     -- when the edge decided on it
        point_id INTEGER NOT NULL,
        value REAL,                 -- NULL where there was none
        quality INTEGER NOT NULL,
        lag_ms INTEGER NOT NULL,    -- at_ms minus the device's own time
        PRIMARY KEY (at_ms, point_id)
    ) WITHOUT ROWID;
    CREATE TABLE latest (
        point_id INTEGER PRIMARY KEY, value REAL, quality INTEGER NOT NULL, source_ms INTEGER NOT NULL,
        arrived_s REAL NOT NULL
    );
    -- Audit: rows are only ever added. n counts what one opening of the file recorded.
    CREATE TABLE command (
        boot INTEGER NOT NULL, n INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        epoch INTEGER NOT NULL, seq INTEGER NOT NULL, point_id INTEGER NOT NULL, value REAL,
        cause TEXT NOT NULL, reason TEXT NOT NULL, owner TEXT NOT NULL, plan_id TEXT,
        limits_hash TEXT NOT NULL,
        PRIMARY KEY (boot, n)
    ) WITHOUT ROWID;
    CREATE INDEX command_at ON command (at_ms);
    CREATE TABLE outcome (
        boot INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
        outcome TEXT NOT NULL, detail TEXT NOT NULL, finished_ms INTEGER NOT NULL,
        PRIMARY KEY (boot, epoch, seq)
    ) WITHOUT ROWID;
    CREATE TABLE refusal (
        boot INTEGER NOT NULL, n INTEGER NOT NULL, at_ms INTEGER NOT NULL, point_id INTEGER NOT NULL,
        value REAL,                 -- NULL stands for NaN, which was asked for
        cause TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL,
        PRIMARY KEY (boot, n)
    ) WITHOUT ROWID;
    CREATE INDEX refusal_at ON refusal (at_ms);
    CREATE TABLE event (
        boot INTEGER NOT NULL, n INTEGER NOT NULL, at_ms INTEGER NOT NULL, kind TEXT NOT NULL,
        fields TEXT NOT NULL,       -- JSON
        PRIMARY KEY (boot, n)
    ) WITHOUT ROWID;
    CREATE INDEX event_at ON event (at_ms);
    CREATE TABLE condition (id INTEGER PRIMARY KEY CHECK (id = 1), body TEXT NOT NULL);
    CREATE VIEW readings AS
        SELECT strftime('%Y-%m-%dT%H:%M:%fZ', at_ms / 1000.0, 'unixepoch') AS at, p.name AS point, r.value,
               q.name AS quality
        FROM reading r JOIN point p ON p.id = r.point_id JOIN quality q ON q.id = r.quality;
    CREATE VIEW commands AS
        SELECT strftime('%Y-%m-%dT%H:%M:%fZ', c.at_ms / 1000.0, 'unixepoch') AS at, p.name AS point, c.value,
               c.cause, c.reason, c.owner, c.plan_id, o.outcome, o.detail
        FROM command c JOIN point p ON p.id = c.point_id
        LEFT JOIN outcome o ON o.boot = c.boot AND o.epoch = c.epoch AND o.seq = c.seq;
    """
ALARMS = "CREATE TABLE alarms (id INTEGER PRIMARY KEY CHECK (id = 1), body TEXT NOT NULL);"
# Written to disk: never renumber, only add.
SPOOLED = {"readings": 0, "command": 1, "outcome": 2, "refusal": 3, "event": 4, "sample": 5}


def _numbered(table: str, a: str, b: str) -> str:
    """A row that was there before is not numbered again: a trigger does not see what a conflict left out."""
    return f"""
    CREATE TRIGGER {table}_numbered AFTER INSERT ON {table} BEGIN
        INSERT INTO spool VALUES (NEW.boot,
            (SELECT coalesce(max(seq), 0) + 1 FROM spool WHERE boot = NEW.boot), {SPOOLED[table]}, {a}, {b});
    END;"""  # noqa: S608  (constants of this module)


NUMBERING = """
    CREATE TABLE store (id TEXT NOT NULL);  -- of this file; one that is made anew has another
    INSERT INTO store VALUES (lower(hex(randomblob(8))));
    -- Every row once more, as a number and a key, in the order in which they were written: seq has no gap.
    CREATE TABLE spool (
        boot INTEGER NOT NULL, seq INTEGER NOT NULL, kind INTEGER NOT NULL,
        a INTEGER NOT NULL, b INTEGER NOT NULL,     -- at_ms of a snapshot; epoch and seq; n
        PRIMARY KEY (boot, seq)
    ) WITHOUT ROWID;
    """
AUDITED = (("command", "NEW.n", "0"), ("outcome", "NEW.epoch", "NEW.seq"), ("refusal", "NEW.n", "0"))
SPOOL = NUMBERING + "".join(_numbered(*t) for t in (*AUDITED, ("event", "NEW.n", "0")))
# What devices recorded by themselves. `sample` is a record like a command: numbered, packed and sent.
# `recorded` keeps the same for those who ask by point and time, and knows each when it is told again.
RECORDED = """
    CREATE TABLE sample (
        boot INTEGER NOT NULL, n INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,     -- when it arrived
        point_id INTEGER NOT NULL, value REAL, quality INTEGER NOT NULL,
        source_ms INTEGER NOT NULL, -- its place in time: the device's where that is believed
        told_ms INTEGER,            -- the device's own time; NULL: it told none
        clock TEXT NOT NULL,        -- of TimeBasis
        PRIMARY KEY (boot, n)
    ) WITHOUT ROWID;
    CREATE TABLE recorded (
        id INTEGER PRIMARY KEY AUTOINCREMENT, point_id INTEGER NOT NULL, value REAL, quality INTEGER NOT NULL,
        source_ms INTEGER NOT NULL, told_ms INTEGER, at_ms INTEGER NOT NULL, clock TEXT NOT NULL
    );
    -- A clock that is not believed may tell one time twice, after each start of its device for one.
    CREATE UNIQUE INDEX recorded_once ON recorded (point_id, told_ms, ifnull(value, ''))
        WHERE clock = 'device';
    CREATE INDEX recorded_by_time ON recorded (point_id, source_ms);
    CREATE TABLE mark (
        device TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (device, name)
    );
    CREATE VIEW samples AS
        SELECT strftime('%Y-%m-%dT%H:%M:%fZ', r.source_ms / 1000.0, 'unixepoch') AS source_at,
               p.name AS point, r.value, q.name AS quality, r.clock,
               strftime('%Y-%m-%dT%H:%M:%fZ', r.at_ms / 1000.0, 'unixepoch') AS arrived_at
        FROM recorded r JOIN point p ON p.id = r.point_id JOIN quality q ON q.id = r.quality;
    """
SAMPLES = RECORDED + _numbered("sample", "NEW.n", "0")
HISTORY = Schema(
    name="historian",
    application_id=0x454D5348,  # "EMSH"
    version=4,
    sql=TABLES + STATUS_SQL + ALARMS + SPOOL + SAMPLES,
    added={2: ALARMS, 3: SPOOL, 4: SAMPLES},
)
