-- What versions of a path that are gone from its frontier covered beyond what the frontier itself covers: nothing, as long
-- as every member's vectors take in those of what they cover. With it the frontier does not depend on the order of arrival.
CREATE TABLE beyond (
    dir BLOB NOT NULL, name BLOB NOT NULL, feed BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (dir, name, feed)
) WITHOUT ROWID;
