"""The one door to SQLite: a database file with numbered migrations, transactions and translated errors.

Owns: how a file is opened (mode 0600 under any umask, WAL, synchronous=FULL, so a committed transaction survives a
power cut), how its schema moves forward, and the translation of every sqlite3 error. Does not know: what is in the
tables; the stores and the catalog bring their own SQL.

Invariants:
1. Each migration and its number in `PRAGMA user_version` are committed together: a kill leaves the old schema or the
   new one, never a mixture.
2. A database newer than this code is not touched.
3. Rows are written by `transaction()` or by single statements; either is all or nothing.

Any thread may use a `Database`; one lock serialises them, and a transaction holds it from begin to commit. Calls block
on the disk, so they belong in a worker thread. Never `await` inside a transaction: another task of the same thread
would join it.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

from p2psync.errors import BugError, P2psyncError, StorageError, UserError

Parameters = Sequence[Any] | Mapping[str, Any]

_BUSY_SECONDS = 10.0
"""How long to wait for another process (a command beside the running peer) before giving up."""
_MIGRATION = re.compile(r"(\d{4})-[a-z0-9-]+\.sql")
_FAULT = 0xFF
"""SQLite's extended result codes carry the primary one in the low byte."""
_DAMAGE_LINES = 5


_WRITTEN_AT_ONCE = (64, 8, 1)
"""Rows inserted by one statement: 64 of them take a quarter less than one by one, and leave the interpreter to other threads
for longer than the turn takes."""
_ASKED_AT_ONCE = (128, 16, 1)
"""Keys looked up by one statement (1.8 µs each where nothing is found, 5.2 alone): few sizes, so that all stay prepared."""


class Database:
    """One SQLite file, or a private database in memory when `path` is None.

    `migrations` names the package that holds `0001-….sql`, `0002-….sql`, …. StorageError when the file cannot be
    opened or is damaged, UserError when a later version of p2psync has written it.
    """

    def __init__(self, path: Path | None, migrations: str) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        self._torn = False
        """Whether an insert of many rows has failed in the open transaction, so that it must be undone."""
        if path is not None:
            _make_private(path)
        with self._translated():
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
        try:
            self._configure()
            self._migrate(_read_migrations(migrations))
        except BaseException:
            self.close()
            raise

    @classmethod
    def in_memory(cls, migrations: str) -> Database:
        """A database that is gone with its process: simulations and tests."""
        return cls(None, migrations)

    def close(self) -> None:
        """Close the file. Closing twice does no harm."""
        with self._lock, self._translated():
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are committed together, or none when the block raises.

        Re-entrant: an inner transaction is committed by the outermost one; if the inner block raises, only what it
        wrote is undone, so that the outer one may catch the error and go on.
        """
        with self._lock:
            name = f"inner{self._depth}"
            self.execute(f"SAVEPOINT {name}" if self._depth else "BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                if self._torn:
                    raise BugError(f"{self._place()}: some rows of an insert that failed would stay")
                self._depth -= 1
                self.execute(f"RELEASE {name}" if self._depth else "COMMIT")
            except BaseException:
                self._undo(name)
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Several queries that see one state: no other thread writes in between."""
        with self._lock:
            yield

    # Errors are translated in each method, not by a context manager: small files are thousands of short statements.

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement and return how many rows it changed (-1 when that has no meaning)."""
        with self._lock:
            try:
                if self._depth and not self._connection.in_transaction:
                    raise StorageError(f"{self._place()} took a transaction back; free some space and try again")
                return self._connection.execute(sql, parameters).rowcount
            except sqlite3.Error as error:
                raise self._translation(error) from error

    def executemany(self, sql: str, rows: Iterable[Parameters]) -> None:
        """Run one statement for every row, in one transaction."""
        with self.transaction(), self._translated():
            self._connection.executemany(sql, rows)

    def insert(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """`executemany` of an insert with many rows to a statement: `{rows}` in it stands for them.

        An open transaction is joined and fails with it: an inner one would have SQLite copy every page aside first.
        """
        with self._lock:
            if not self._depth:
                with self.transaction():
                    return self.insert(sql, rows)
            place = 0
            try:
                for size in _WRITTEN_AT_ONCE:
                    while len(rows) - place >= size:
                        block = rows[place : place + size]
                        place += size
                        self.execute(_writing(sql, size, len(block[0])), list(chain.from_iterable(block)))
            except BaseException:
                self._torn = True
                raise

    def query(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """All rows of a query; bound it with LIMIT when the table grows with the folder."""
        with self._lock:
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise self._translation(error) from error

    def query_one(self, sql: str, parameters: Parameters = ()) -> tuple[Any, ...] | None:
        """The first row, or None."""
        with self._lock:
            try:
                cursor = self._connection.execute(sql, parameters)
                row: tuple[Any, ...] | None = cursor.fetchone()
                cursor.close()  # an unfinished read would keep the WAL from being checkpointed
                return row
            except sqlite3.Error as error:
                raise self._translation(error) from error

    def look_up(self, sql: str, keys: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """The rows of many keys with few statements, in one state. `{asked}` in the query stands for a table of the keys
        with columns `column1`, `column2`, …; `CROSS JOIN` behind it makes SQLite begin there."""
        found: list[tuple[Any, ...]] = []
        place = 0
        with self.reading():
            for size in _ASKED_AT_ONCE:
                while len(keys) - place >= size:
                    block = keys[place : place + size]
                    place += size
                    found += self.query(_asking(sql, size, len(block[0])), list(chain.from_iterable(block)))
        return found

    def scalar(self, sql: str, parameters: Parameters = ()) -> Any:
        """The first column of the first row, or None when there is no row."""
        row = self.query_one(sql, parameters)
        return None if row is None else row[0]

    def damage(self) -> list[str]:
        """What `PRAGMA integrity_check` finds, a few lines at most; empty when every page is sound. Reads the whole file."""
        try:
            found = [str(row[0]) for row in self.query(f"PRAGMA integrity_check({_DAMAGE_LINES})")]
        except StorageError as error:
            return [str(error)]
        return [] if found == ["ok"] else found

    def _configure(self) -> None:
        self.execute("PRAGMA foreign_keys = OFF")
        self.query("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = FULL")

    def _migrate(self, migrations: list[str]) -> None:
        if self._version() > len(migrations):
            raise UserError(f"{self._place()} was written by a later version of p2psync; update p2psync")
        for number, script in enumerate(migrations, 1):
            if self._version() >= number:
                continue
            with self.transaction():
                if self._version() >= number:  # another process was faster
                    continue
                for statement in _statements(script):
                    self.execute(statement)
                self.execute(f"PRAGMA user_version = {number}")

    def _version(self) -> int:
        return int(self.scalar("PRAGMA user_version"))

    def _undo(self, name: str) -> None:
        """Roll back the innermost transaction after an error."""
        self._depth, self._torn = int(name.removeprefix("inner")), False
        if not self._connection.in_transaction:
            return  # SQLite already rolled back by itself, as it does when the disk is full
        try:
            if self._depth == 0:
                self.execute("ROLLBACK")
            else:
                self.execute(f"ROLLBACK TO {name}")
                self.execute(f"RELEASE {name}")
        except StorageError:
            # The disk fails while undoing: closing discards the transaction, the first error is the one to report.
            self._connection.close()

    def _place(self) -> str:
        return "the database in memory" if self.path is None else f"the database {self.path}"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._translation(error) from error

    def _translation(self, error: sqlite3.Error) -> P2psyncError:
        """The one place where sqlite3 errors become ours."""
        place = self._place()
        match getattr(error, "sqlite_errorcode", 0) & _FAULT:
            case sqlite3.SQLITE_FULL:
                return StorageError(f"{place} cannot be written: the disk is full; free some space")
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
                return StorageError(f"{place} cannot be written: it is read-only; check its owner and permissions")
            case sqlite3.SQLITE_CANTOPEN:
                return StorageError(f"{place} cannot be opened; check that its directory exists and is writable")
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StorageError(f"{place} is in use by another process; stop that one and try again")
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return StorageError(f"{place} is damaged; move it away, or put back a copy, and start again")
            case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_NOMEM | sqlite3.SQLITE_PROTOCOL | sqlite3.SQLITE_NOLFS:
                return StorageError(f"{place} cannot be read or written: {error}; check the disk")
            case sqlite3.SQLITE_TOOBIG:
                return StorageError(f"{place} cannot hold a value of that size")
        return BugError(f"{place}: {error}")


@lru_cache(maxsize=64)
def _writing(sql: str, rows: int, parts: int) -> str:
    return sql.format(rows=", ".join(["(" + ", ".join("?" * parts) + ")"] * rows))


@lru_cache(maxsize=64)
def _asking(sql: str, keys: int, parts: int) -> str:
    row = "(" + ", ".join("?" * parts) + ")"
    return sql.replace("{asked}", "(VALUES " + ", ".join([row] * keys) + ") AS asked")


def _make_private(path: Path) -> None:
    """Make the file exist with mode 0600 before SQLite opens it; its -wal and -shm files take the same mode."""
    try:
        try:
            made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            # Not opened here: closing a second descriptor would drop this process's locks on a database in use.
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            return
        try:
            os.fchmod(made, 0o600)  # a umask of 0777 would have left nothing
            os.fsync(made)
        finally:
            os.close(made)
        sync_directory(path.parent)
    except OSError as error:
        raise StorageError(f"the database {path} cannot be opened: {error.strerror}") from error


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable. OSError as the system gives it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_migrations(package: str) -> list[str]:
    """The scripts of a package in order; they are numbered 0001, 0002, … without gaps."""
    found = {}
    for item in resources.files(package).iterdir():
        if name := _MIGRATION.fullmatch(item.name):
            number = int(name[1])
            if number in found:
                raise BugError(f"{package} has two migrations {number}")
            found[number] = item.read_text(encoding="utf-8")
    if sorted(found) != list(range(1, len(found) + 1)):
        raise BugError(f"the migrations of {package} are not numbered 1, 2, 3, …")
    return [found[number] for number in sorted(found)]


def _statements(script: str) -> Iterator[str]:
    """Cut a script at its statements, which end at line ends: executescript() would commit by itself."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement  # a trailing comment, or a mistake that SQLite will name
