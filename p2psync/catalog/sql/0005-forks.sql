-- Feeds that forked: from `seq` on nothing of them counts. `proof` is the record that proves it.
CREATE TABLE fork (feed BLOB PRIMARY KEY, seq INTEGER NOT NULL, proof BLOB NOT NULL) WITHOUT ROWID;
