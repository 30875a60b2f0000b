-- Records of one plant or of many. Everything is made in the first schema of the search path:
--   psql -d plants -c 'CREATE SCHEMA ems' && PGOPTIONS='-c search_path=ems' psql -1 -d plants -f schema.sql
-- Rows are added, and never changed, by whoever sends them. PostgreSQL 13 or newer, encoding UTF8.

CREATE TABLE about (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    kind text NOT NULL, version integer NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid()  -- another database is to be told everything
);
INSERT INTO about (kind, version) VALUES ('hybrid-ems records', 1);

CREATE TABLE plant (
    plant_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation text NOT NULL, portfolio text NOT NULL, plant text NOT NULL,
    UNIQUE (organisation, portfolio, plant)
);
CREATE TABLE point (
    point_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plant_id integer NOT NULL REFERENCES plant,
    subsystem text NOT NULL, asset text NOT NULL, point text NOT NULL,
    unit text NOT NULL,                         -- '' where it has none
    UNIQUE (plant_id, asset, point)
);
-- One opening of a historian's file. The number of a record is (store, boot, opened_at, seq).
CREATE TABLE opening (
    opening_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plant_id integer NOT NULL REFERENCES plant,
    store text NOT NULL, boot bigint NOT NULL, opened_at timestamptz NOT NULL,
    UNIQUE (plant_id, store, boot, opened_at)
);
CREATE TABLE quality (quality smallint PRIMARY KEY, name text NOT NULL);
INSERT INTO quality VALUES (0, 'good'), (1, 'stale'), (2, 'out_of_range'), (3, 'not_finite'),
    (4, 'comm_failed'), (5, 'device_bad'), (6, 'frozen');

-- Every record under its number: of a snapshot when it was, of all others the whole as well.
CREATE TABLE record (
    opening_id integer NOT NULL REFERENCES opening,
    seq bigint NOT NULL,
    kind text NOT NULL,                         -- readings command outcome refusal event sample gone
    at timestamptz,                             -- NULL: it was kept no more when it was sent
    late boolean NOT NULL,
    body json,                                  -- as it was sent; NULL for readings
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (opening_id, seq)
);
CREATE INDEX record_at ON record (at) WHERE kind <> 'readings';

-- Values, a month a partition; a hypertable where TimescaleDB is installed in this database.
DO $make$
BEGIN
    EXECUTE 'CREATE TABLE reading (
        at timestamptz NOT NULL,                -- when the edge decided on it
        source_at timestamptz NOT NULL,         -- when the device sampled it
        value double precision,                 -- NULL where there was none
        seq bigint NOT NULL,                    -- of its record
        point_id integer NOT NULL, opening_id integer NOT NULL,
        quality smallint NOT NULL,
        PRIMARY KEY (point_id, at, opening_id)
    )' || CASE WHEN to_regproc('create_hypertable') IS NULL THEN ' PARTITION BY RANGE (at)' ELSE '' END;
    IF to_regproc('create_hypertable') IS NOT NULL THEN
        PERFORM create_hypertable('reading', 'at');
    END IF;
END $make$;

-- What the plant itself counted and hashed of each thousand numbers; `digest` says what is stored of them.
CREATE TABLE block (
    opening_id integer NOT NULL REFERENCES opening,
    first bigint NOT NULL, last bigint NOT NULL,
    records bigint NOT NULL, readings bigint NOT NULL, sha256 bytea NOT NULL,
    PRIMARY KEY (opening_id, first)
);
-- What the plant is asked for again: INSERT INTO resend VALUES (opening_id, first, last).
CREATE TABLE resend (opening_id integer NOT NULL REFERENCES opening, first bigint NOT NULL, last bigint NOT NULL);

CREATE FUNCTION to_ms(timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE
    AS $$ SELECT round(extract(epoch FROM $1) * 1000)::bigint $$;
CREATE FUNCTION from_ms(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE
    AS $$ SELECT timestamptz '1970-01-01 00:00+00' + $1 * interval '1 millisecond' $$;

-- Makes the partition of the month in which `the_day` is, where there is none.
CREATE FUNCTION room_for(the_day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    month date := date_trunc('month', the_day::timestamp)::date;
    name text := 'reading_' || to_char(month, 'YYYY_MM');
BEGIN
    IF to_regclass(name) IS NOT NULL
        OR NOT EXISTS (SELECT 1 FROM pg_partitioned_table WHERE partrelid = 'reading'::regclass) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(7306087, 'reading'::regclass::oid::int);
    IF to_regclass(name) IS NULL THEN  -- attached afterwards, so that nobody waits who reads or writes others
        EXECUTE format('CREATE TABLE %I (LIKE reading INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE reading ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name,
            month::text || ' 00:00+00', (month + interval '1 month')::date::text || ' 00:00+00');
    END IF;
END $$;

-- Count and SHA-256 of what is stored of the numbers first_seq to last_seq: records in the order of their
-- numbers, then readings in the order of number and name. Integers and numbers as the wire has them.
CREATE FUNCTION digest(the_opening integer, first_seq bigint, last_seq bigint,
    OUT records bigint, OUT readings bigint, OUT sha256 bytea) LANGUAGE plpgsql STABLE AS $$
DECLARE
    earliest timestamptz; latest timestamptz; head bytea; tail bytea;
BEGIN
    SELECT count(*), min(r.at) FILTER (WHERE kind = 'readings'), max(r.at) FILTER (WHERE kind = 'readings'),
        string_agg(int8send(seq) || convert_to(kind, 'UTF8') || int8send(coalesce(to_ms(r.at), -1))
            || int4send(octet_length(coalesce(body::text, ''))) || convert_to(coalesce(body::text, ''), 'UTF8'),
            '' ORDER BY seq)
        INTO records, earliest, latest, head
        FROM record r WHERE opening_id = the_opening AND seq BETWEEN first_seq AND last_seq;
    SELECT count(*), string_agg(int8send(v.seq) || int4send(octet_length(p.name)) || convert_to(p.name, 'UTF8')
            || CASE WHEN v.value IS NULL THEN '\x00'::bytea ELSE '\x01'::bytea || float8send(v.value) END
            || int2send(v.quality) || int8send(to_ms(v.source_at)), '' ORDER BY v.seq, p.name COLLATE "C")
        INTO readings, tail
        FROM (SELECT point_id, asset || '.' || point AS name FROM point
              WHERE plant_id = (SELECT plant_id FROM opening WHERE opening_id = the_opening)) p
        JOIN reading v ON v.point_id = p.point_id AND v.opening_id = the_opening
            AND v.at BETWEEN earliest AND latest AND v.seq BETWEEN first_seq AND last_seq;
    sha256 := pg_catalog.sha256(coalesce(head, ''::bytea) || coalesce(tail, ''::bytea));
END $$;

-- A function of this schema finds what is in this schema, whoever calls it; indexes are taken however little
-- is known of tables that have just been filled.
DO $settle$
BEGIN
    EXECUTE format('ALTER FUNCTION room_for(date) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION digest(integer, bigint, bigint) SET search_path = %I, pg_temp', current_schema());
    ALTER FUNCTION digest(integer, bigint, bigint) SET plan_cache_mode = force_custom_plan;
    ALTER FUNCTION digest(integer, bigint, bigint) SET enable_seqscan = off;
END $settle$;

CREATE VIEW readings AS
    SELECT r.at, l.organisation, l.portfolio, l.plant, p.subsystem, p.asset, p.point, r.value, p.unit,
           q.name AS quality, r.source_at
    FROM reading r JOIN point p USING (point_id) JOIN plant l USING (plant_id) JOIN quality q USING (quality);
CREATE VIEW events AS
    SELECT r.at, l.organisation, l.portfolio, l.plant, r.body ->> 'event' AS event, r.body -> 'fields' AS fields
    FROM record r JOIN opening o USING (opening_id) JOIN plant l USING (plant_id) WHERE r.kind = 'event';
CREATE VIEW commands AS
    SELECT c.at, l.organisation, l.portfolio, l.plant, c.kind, c.body ->> 'point' AS point,
           (c.body ->> 'value')::double precision AS value, c.body ->> 'cause' AS cause,
           c.body ->> 'reason' AS reason, c.body ->> 'owner' AS owner, c.body ->> 'plan_id' AS plan_id,
           (c.body ->> 'epoch')::bigint AS epoch, (c.body ->> 'command_seq')::bigint AS command_seq
    FROM record c JOIN opening o USING (opening_id) JOIN plant l USING (plant_id)
    WHERE c.kind IN ('command', 'refusal');
CREATE VIEW outcomes AS
    SELECT r.at, l.organisation, l.portfolio, l.plant, (r.body ->> 'epoch')::bigint AS epoch,
           (r.body ->> 'command_seq')::bigint AS command_seq, r.body ->> 'outcome' AS outcome,
           r.body ->> 'detail' AS detail
    FROM record r JOIN opening o USING (opening_id) JOIN plant l USING (plant_id) WHERE r.kind = 'outcome';
CREATE VIEW samples AS                          -- what devices recorded by themselves, by their own time
    SELECT (r.body ->> 'source_at')::timestamptz AS source_at, l.organisation, l.portfolio, l.plant,
           r.body ->> 'point' AS point, (r.body ->> 'value')::double precision AS value,
           r.body ->> 'quality' AS quality, (r.body ->> 'told_at')::timestamptz AS told_at,
           r.body ->> 'clock' AS clock, r.at AS arrived_at
    FROM record r JOIN opening o USING (opening_id) JOIN plant l USING (plant_id) WHERE r.kind = 'sample';
-- Blocks that are not here as the plant has them; none where all is well. Reads everything it is asked about.
CREATE VIEW unlike AS
    SELECT b.opening_id, b.first, b.last, b.records AS records_sent, d.records, b.readings AS readings_sent, d.readings
    FROM block b CROSS JOIN LATERAL digest(b.opening_id, b.first, b.last) d
    WHERE (b.records, b.readings, b.sha256) IS DISTINCT FROM (d.records, d.readings, d.sha256);
