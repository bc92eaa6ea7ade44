-- Snapshots of feeds: first and last entry (last 0: its last part has not come yet), the entry behind which nothing was
-- held when it came, how many parts have come, and the attended time (seconds) when the first did. settled = 1: what it leaves out was drawn the consequences of.
CREATE TABLE snapshot (
    feed BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, behind INTEGER NOT NULL, parts INTEGER NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0, attended REAL NOT NULL,
    PRIMARY KEY (feed, first)
) WITHOUT ROWID;

-- How far a snapshot's author had ever seen the other feeds when writing it.
CREATE TABLE snapshot_seen (
    feed BLOB NOT NULL, first INTEGER NOT NULL, other BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (feed, first, other)
) WITHOUT ROWID;

-- In which part of its feed's newest snapshot, and where in it, the record of a version stands.
CREATE TABLE restated (
    feed BLOB NOT NULL, seq INTEGER NOT NULL, idx INTEGER NOT NULL, part INTEGER NOT NULL, place INTEGER NOT NULL,
    PRIMARY KEY (feed, seq, idx)
) WITHOUT ROWID;

-- 1 = a snapshot left the chunk out: who reads from there on does not find it, so nothing new may rely on that entry.
ALTER TABLE inline_chunk ADD COLUMN stale INTEGER NOT NULL DEFAULT 0;
CREATE INDEX inline_chunk_feed ON inline_chunk (feed, seq) WHERE stale = 0;
CREATE INDEX inline_chunk_stale ON inline_chunk (chunk) WHERE stale = 1;

-- Which entry tells of a pack (none while it is on its way to a store); stale as for inline chunks.
ALTER TABLE pack ADD COLUMN feed BLOB;
ALTER TABLE pack ADD COLUMN seq INTEGER;
ALTER TABLE pack ADD COLUMN stale INTEGER NOT NULL DEFAULT 0;
CREATE INDEX pack_told ON pack (feed, seq) WHERE stale = 0;
CREATE INDEX pack_stale ON pack (id) WHERE stale = 1;
