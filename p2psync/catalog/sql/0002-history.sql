-- What was: every version of every path, what this disk keeps of them, bases for merges, and the brake.

-- A feed and a path stand once each; the rows of `past` name them by number, so that a million versions take some 50 MB.
CREATE TABLE author (id INTEGER PRIMARY KEY, feed BLOB NOT NULL UNIQUE);
CREATE TABLE past_path (id INTEGER PRIMARY KEY, dir BLOB NOT NULL, name BLOB NOT NULL, UNIQUE (dir, name));

-- One row a version ever admitted or published. time_ms is its author's, for display and selection only.
CREATE TABLE past (
    path INTEGER NOT NULL, author INTEGER NOT NULL, seq INTEGER NOT NULL, idx INTEGER NOT NULL,
    time_ms INTEGER NOT NULL, kind INTEGER NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (path, author, seq)
) WITHOUT ROWID;
CREATE INDEX past_author ON past (author, time_ms);

-- Local versions: files that a replacement or a deletion displaced, under .p2psync/versions/<file>. `placed` is the row the
-- catalog had of it; `content` is the key of its content (see rows.content_key). by_feed/by_seq: whose version took its
-- place; taken = 1 if its content then stood nowhere else here.
CREATE TABLE kept (
    id INTEGER PRIMARY KEY, file TEXT NOT NULL UNIQUE, dir BLOB NOT NULL, name BLOB NOT NULL,
    kept_ms INTEGER NOT NULL, size INTEGER NOT NULL, content BLOB, placed BLOB NOT NULL,
    by_feed BLOB, by_seq INTEGER, taken INTEGER NOT NULL
);
CREATE INDEX kept_path ON kept (dir, name);
CREATE INDEX kept_content ON kept (content) WHERE content IS NOT NULL;
CREATE INDEX kept_taken ON kept (by_feed, kept_ms) WHERE taken = 1;

-- The last synced text-like contents, for three-way merges. The least recently used go when there are too many.
CREATE TABLE base (content BLOB PRIMARY KEY, size INTEGER NOT NULL, used INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX base_used ON base (used, size);

-- The brake: how far a feed's changes were accepted, and since when (and how many files) they are held.
CREATE TABLE brake (
    feed BLOB PRIMARY KEY, accepted INTEGER NOT NULL DEFAULT 0, held_ms INTEGER, files INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- The feed whose version would take content away that stands at a queued path; NULL where nothing is taken.
ALTER TABLE need ADD COLUMN takes BLOB;
CREATE INDEX need_takes ON need (takes) WHERE takes IS NOT NULL;
CREATE INDEX need_prefix ON need (prefix) WHERE prefix IS NOT NULL;
