-- Extended attributes of a placed path: `xattrs` those of the placed version, `shown` those the disk showed when it was last
-- looked at (both msgpack, NULL for none and for never seen), `look` how that went (planner/xattrs.py).
ALTER TABLE placed ADD COLUMN xattrs BLOB;
ALTER TABLE placed ADD COLUMN shown BLOB;
ALTER TABLE placed ADD COLUMN look INTEGER NOT NULL DEFAULT 0;
CREATE INDEX placed_look ON placed (look) WHERE look > 1;
