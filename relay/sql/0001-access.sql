-- Who may do what at this relay. Nothing here says which folder, device or person a key belongs to.

-- One folder's area. The id follows from the first owner's access key and this relay's key.
CREATE TABLE namespace (
    id BLOB PRIMARY KEY,
    owner BLOB NOT NULL,
    created_at REAL NOT NULL
) WITHOUT ROWID;

-- The access list: one right (get, put, own) for each access key of a namespace.
CREATE TABLE access (
    namespace BLOB NOT NULL,
    access_key BLOB NOT NULL,
    access_right TEXT NOT NULL,
    PRIMARY KEY (namespace, access_key)
) WITHOUT ROWID;

-- Invites, by the hash of their token: who reads this file cannot use them.
CREATE TABLE invite (
    hash BLOB PRIMARY KEY,
    folders INTEGER NOT NULL,
    used INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL
) WITHOUT ROWID;
