-- A pairing in progress stands at a place: a relay's URL, or "lan" with the mailbox's id in hex.
ALTER TABLE pairing RENAME COLUMN relay TO place;
