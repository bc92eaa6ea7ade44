-- Where the user says another device is: host:port each, names allowed, in the order in which they are dialled.
CREATE TABLE device_address (
    identity BLOB NOT NULL,
    place INTEGER NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (identity, place)
) WITHOUT ROWID;
