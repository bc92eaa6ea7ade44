-- The sums a status shows: adding them up took a third of a second for a million files, several times for every change.
-- One row. wanted, placed: bytes of what is wanted alive, and of the files this disk holds; copies: derived conflict copies.
-- Whoever writes those rows adds the difference in the same transaction; triggers made a first scan an eighth slower.
CREATE TABLE total (
    id INTEGER PRIMARY KEY CHECK (id = 1), wanted INTEGER NOT NULL, placed INTEGER NOT NULL, copies INTEGER NOT NULL
);
INSERT INTO total (id, wanted, placed, copies) SELECT 1,
    (SELECT coalesce(sum(size), 0) FROM wanted WHERE kind <> 3),
    (SELECT coalesce(sum(size), 0) FROM placed WHERE kind = 0),
    (SELECT count(*) FROM wanted WHERE source_dir IS NOT NULL);
