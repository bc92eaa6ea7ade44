-- Files whose bytes changed although their stamp did not (bit rot), as they were when a scrub found them. They are left alone
-- as long as they look so.
CREATE TABLE rotten (
    dir BLOB NOT NULL, name BLOB NOT NULL,
    dev INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    PRIMARY KEY (dir, name)
) WITHOUT ROWID;
