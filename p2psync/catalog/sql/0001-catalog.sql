-- What this device knows in clear about one folder. `dir` and `name` are a path's parent (components joined by `/`) and
-- its last component; both are exact bytes.

-- Single values: folder, genesis, replica, root, required heads.
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- One row a feed: whose it is, how far we hold it, how far our own entries have told of it, and why it is held back.
CREATE TABLE feed (
    feed BLOB PRIMARY KEY,
    identity BLOB,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    announced INTEGER NOT NULL DEFAULT 0,
    held TEXT
) WITHOUT ROWID;

-- Entries as received, to pass on: to stores that lack them, later to peers.
CREATE TABLE entry (feed BLOB NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, data BLOB NOT NULL, UNIQUE (feed, seq));

-- How far each feed's author had seen the other feeds when writing its last entry.
CREATE TABLE seen (feed BLOB NOT NULL, other BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (feed, other)) WITHOUT ROWID;

-- Membership records in the order they were accepted; replayed when the catalog is opened.
CREATE TABLE membership (position INTEGER PRIMARY KEY, author BLOB NOT NULL, data BLOB NOT NULL);

-- Envelopes and other small blind objects every store should hold.
CREATE TABLE object (key TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;

-- The frontier of every path: record bytes of the versions no other covers.
CREATE TABLE version (
    dir BLOB NOT NULL, name BLOB NOT NULL, feed BLOB NOT NULL, seq INTEGER NOT NULL, idx INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (dir, name, feed, seq)
) WITHOUT ROWID;

-- Losers somebody touched: their conflict copy is published under its own name and never derived again.
CREATE TABLE settled (
    dir BLOB NOT NULL, name BLOB NOT NULL, feed BLOB NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (dir, name, feed, seq)
) WITHOUT ROWID;

-- The version that should stand at a path. A derived conflict copy names in source_* the path whose loser it is.
CREATE TABLE wanted (
    dir BLOB NOT NULL, name BLOB NOT NULL, feed BLOB NOT NULL, seq INTEGER NOT NULL, idx INTEGER NOT NULL,
    kind INTEGER NOT NULL, size INTEGER NOT NULL, vector BLOB NOT NULL,
    source_dir BLOB, source_name BLOB,
    chunk BLOB, -- the first chunk of its content, if it has any
    PRIMARY KEY (dir, name)
) WITHOUT ROWID;
CREATE INDEX wanted_source ON wanted (source_dir, source_name) WHERE source_dir IS NOT NULL;

-- What this disk holds: the version last agreed with and the file's fingerprint then. kind 3 = its deletion was applied.
CREATE TABLE placed (
    id INTEGER PRIMARY KEY,
    dir BLOB NOT NULL, name BLOB NOT NULL, feed BLOB NOT NULL, seq INTEGER NOT NULL, idx INTEGER NOT NULL,
    hash BLOB NOT NULL, kind INTEGER NOT NULL, vector BLOB NOT NULL,
    dev INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, mode INTEGER NOT NULL, target BLOB, content BLOB,
    UNIQUE (dir, name)
);
CREATE INDEX placed_inode ON placed (inode);

-- Reverse index: which placed file holds a chunk, and where. `prefix` is the chunk id's first 8 bytes.
CREATE TABLE file_chunk (
    prefix INTEGER NOT NULL, placed INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (prefix, placed, position)
) WITHOUT ROWID;
CREATE INDEX file_chunk_placed ON file_chunk (placed);

-- Packs: state 0 = announced by a record, 1 = sealed here and perhaps on its way, 2 = a store has confirmed it.
CREATE TABLE pack (
    id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, epoch BLOB NOT NULL, salt BLOB NOT NULL, size INTEGER NOT NULL,
    generation INTEGER NOT NULL, state INTEGER NOT NULL, chunks BLOB
);

-- Where a chunk lies: frame `idx` of a pack. verified = this device sealed it or has opened it.
CREATE TABLE location (
    prefix INTEGER NOT NULL, pack INTEGER NOT NULL, idx INTEGER NOT NULL, position INTEGER NOT NULL,
    sealed_size INTEGER NOT NULL, plain_size INTEGER NOT NULL, verified INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (prefix, pack, idx)
) WITHOUT ROWID;
CREATE INDEX location_pack ON location (pack);

-- Chunks that travel inside an entry.
CREATE TABLE inline_chunk (chunk BLOB PRIMARY KEY, feed BLOB NOT NULL, seq INTEGER NOT NULL, idx INTEGER NOT NULL) WITHOUT ROWID;

-- Chunks of chunk lists, kept in clear here (they are no part of any file on disk).
CREATE TABLE list_chunk (chunk BLOB PRIMARY KEY, data BLOB NOT NULL);

-- Work queues: they live here, so that memory does not grow with the folder.
CREATE TABLE need (
    id INTEGER PRIMARY KEY, dir BLOB NOT NULL, name BLOB NOT NULL, live INTEGER NOT NULL, size INTEGER NOT NULL,
    chunk BLOB, prefix INTEGER, -- the first chunk: while nothing can give that one, the path is not looked at
    UNIQUE (dir, name)
);
CREATE INDEX need_order ON need (live, id);
CREATE TABLE upload (id INTEGER PRIMARY KEY, chunk BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, pack INTEGER);
CREATE INDEX upload_pack ON upload (pack);

-- Disk operations under way: durable before the rename that makes them visible, cleared once that rename is durable.
CREATE TABLE intent (
    id INTEGER PRIMARY KEY, batch INTEGER NOT NULL, operation TEXT NOT NULL, dir BLOB NOT NULL, name BLOB NOT NULL,
    old BLOB, new BLOB
);

-- What the user should know about a path: unreadable, special, refused, colliding.
CREATE TABLE problem (dir BLOB NOT NULL, name BLOB NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (dir, name)) WITHOUT ROWID;
