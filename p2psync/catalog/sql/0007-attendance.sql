-- Attended time (seconds; planner/attendance.py), and what the clock said (Unix seconds) when it was last looked at.
CREATE TABLE attended (id INTEGER PRIMARY KEY CHECK (id = 1), seconds REAL NOT NULL, seen REAL NOT NULL);

-- When something of a member last came: by the clock (NULL: nothing yet), and in attended time (else since it is known).
CREATE TABLE heard (identity BLOB PRIMARY KEY, at REAL, attended REAL NOT NULL) WITHOUT ROWID;
