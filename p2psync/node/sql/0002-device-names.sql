-- What other devices last called themselves (presence), so that one that is off is still listed by its name.
CREATE TABLE device_name (
    identity BLOB PRIMARY KEY NOT NULL,
    name TEXT NOT NULL
) WITHOUT ROWID;
