-- What differs on this disk and is not to be published (receive-only folders, readers): the fingerprint it was last seen
-- with, so that it is not read again; all zeros for something deleted here.
CREATE TABLE local_change (
    dir BLOB NOT NULL, name BLOB NOT NULL, change TEXT NOT NULL,
    dev INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    PRIMARY KEY (dir, name)
) WITHOUT ROWID;
