-- What one blind store holds: a row for every object, sealed bytes of the small kinds.

-- kind is the first letter of the key: p (pack), e (entry), k (envelope).
-- feed, seq, hash stand only with entries; previous is the hash the entry says it follows.
-- A row with deleted_at (seconds since 1970) is hidden and counts against the quota until it is collected.
CREATE TABLE object (
    key TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    size INTEGER NOT NULL,
    feed BLOB,
    seq INTEGER,
    hash BLOB,
    previous BLOB,
    deleted_at REAL
) WITHOUT ROWID;

-- Bytes of entries and envelopes, apart from the rows that LIST walks. Packs are files.
CREATE TABLE body (
    key TEXT PRIMARY KEY NOT NULL,
    data BLOB NOT NULL
);

-- Heads, siblings and gaps are found by feed and position.
CREATE INDEX object_by_feed ON object (feed, seq, hash) WHERE feed IS NOT NULL;

CREATE INDEX object_by_deletion ON object (deleted_at) WHERE deleted_at IS NOT NULL;

-- One row of counters, kept in the transaction that changes the objects: no COUNT(*) over millions of rows.
CREATE TABLE total (
    objects INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    revision INTEGER NOT NULL
);

INSERT INTO total VALUES (0, 0, 0);
