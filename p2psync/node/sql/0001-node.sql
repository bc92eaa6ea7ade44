-- What this installation remembers beside its folders: one file per home.

-- Small values by name: device-name, relay (the URL used when none is given).
CREATE TABLE setting (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- The folders of this device. path is absolute, in the bytes of the filesystem. role is the one
-- asked for; catalog is the name of its file under home/folders.
CREATE TABLE folder (
    id BLOB PRIMARY KEY NOT NULL,
    label TEXT NOT NULL,
    path BLOB NOT NULL UNIQUE,
    role INTEGER NOT NULL,
    catalog TEXT NOT NULL
) WITHOUT ROWID;

-- Blind stores of a folder.
CREATE TABLE store (
    folder BLOB NOT NULL,
    url TEXT NOT NULL,
    relay_key BLOB NOT NULL,
    namespace BLOB NOT NULL,
    PRIMARY KEY (folder, relay_key)
) WITHOUT ROWID;

-- Pairings in progress: a step's own encoding, which holds a session key (the file is 0600). target is, for a
-- joiner, the directory the folders go to; expires_at is in seconds since 1970;
-- agreed is, for an admin, 1 when the user confirmed in advance whoever redeems the code, and for a joiner 1 when a
-- single folder takes the target itself and not a directory below it.
CREATE TABLE pairing (
    relay TEXT NOT NULL,
    nameplate INTEGER NOT NULL,
    side TEXT NOT NULL,
    step TEXT NOT NULL,
    state BLOB NOT NULL,
    target BLOB NOT NULL,
    expires_at REAL NOT NULL,
    agreed INTEGER NOT NULL,
    PRIMARY KEY (relay, nameplate, side)
) WITHOUT ROWID;
