"""The door to SQLite: private files, whole migrations, whole transactions, errors a user can act on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from p2psync.errors import BugError, StorageError, UserError
from p2psync.store.sqlite import Database

FIRST = "-- The first.\nCREATE TABLE thing (\n    name TEXT PRIMARY KEY, -- a name; of a thing\n    n INTEGER\n);\n"
SECOND = "ALTER TABLE thing ADD COLUMN more TEXT;\nCREATE INDEX thing_n ON thing (n);\n-- the end\n"


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """Makes a package of migrations with a fresh name."""
    made = 0

    def make(*scripts: str, names: list[str] | None = None) -> str:
        nonlocal made
        made += 1
        name = f"sql_{abs(hash(request.node.nodeid))}_{made}"
        directory = tmp_path / "packages" / name
        directory.mkdir(parents=True)
        (directory / "__init__.py").touch()
        (directory / "notes.txt").touch()
        for number, script in enumerate(scripts, 1):
            (directory / (names[number - 1] if names else f"{number:04}-step.sql")).write_text(script)
        monkeypatch.syspath_prepend(tmp_path / "packages")
        return name

    return make


@pytest.fixture
def database(tmp_path: Path, make_package):  # type: ignore[no-untyped-def]
    opened = Database(tmp_path / "test.db", make_package(FIRST, SECOND))
    yield opened
    opened.close()


def names_in(database: Database) -> list[str]:
    return [row[0] for row in database.query("SELECT name FROM thing ORDER BY name")]


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_files_are_private_under_any_umask(tmp_path: Path, make_package, mask: int) -> None:  # type: ignore[no-untyped-def]
    old = os.umask(mask)
    try:
        database = Database(tmp_path / "test.db", make_package(FIRST))
        database.execute("INSERT INTO thing VALUES ('a', 1)")
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("test.db*")}
    finally:
        os.umask(old)
    assert modes == {"test.db": 0o600, "test.db-wal": 0o600, "test.db-shm": 0o600}
    database.close()


def test_an_open_file_that_others_could_read_is_closed_to_them(tmp_path: Path, make_package) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "test.db"
    path.touch()
    path.chmod(0o644)
    Database(path, make_package(FIRST)).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_commits_are_made_durable(database: Database) -> None:
    assert database.scalar("PRAGMA journal_mode") == "wal"
    assert database.scalar("PRAGMA synchronous") == 2


def test_what_was_written_is_there_after_reopening(tmp_path: Path, make_package) -> None:  # type: ignore[no-untyped-def]
    package = make_package(FIRST)
    database = Database(tmp_path / "test.db", package)
    database.executemany("INSERT INTO thing VALUES (?, ?)", [("a", 1), ("b", 2)])
    database.close()
    database = Database(tmp_path / "test.db", package)
    assert database.query("SELECT * FROM thing ORDER BY name") == [("a", 1), ("b", 2)]
    assert database.query_one("SELECT n FROM thing WHERE name = :name", {"name": "b"}) == (2,)
    assert database.query_one("SELECT n FROM thing WHERE name = 'c'") is None
    assert database.scalar("SELECT n FROM thing WHERE name = 'c'") is None
    assert database.execute("UPDATE thing SET n = 0") == 2
    database.close()


def test_a_later_schema_is_reached_step_by_step_with_its_rows(tmp_path: Path, make_package) -> None:  # type: ignore[no-untyped-def]
    database = Database(tmp_path / "test.db", make_package(FIRST))
    database.execute("INSERT INTO thing VALUES ('a', 1)")
    database.close()
    database = Database(tmp_path / "test.db", make_package(FIRST, SECOND))
    assert database.query("SELECT * FROM thing") == [("a", 1, None)]
    assert database.scalar("PRAGMA user_version") == 2
    database.close()


def test_a_database_of_a_later_version_is_refused_and_left_alone(tmp_path: Path, make_package) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "test.db"
    Database(path, make_package(FIRST, SECOND)).close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="update p2psync"):
        Database(path, make_package(FIRST))
    assert path.read_bytes() == before


def test_a_migration_that_fails_midway_leaves_the_old_schema(tmp_path: Path, make_package) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "test.db"
    Database(path, make_package(FIRST)).close()
    with pytest.raises(BugError):
        Database(path, make_package(FIRST, "ALTER TABLE thing ADD COLUMN more TEXT;\nCREATE TABLE thing (x);\n"))
    database = Database(path, make_package(FIRST))
    assert [row[1] for row in database.query("PRAGMA table_info(thing)")] == ["name", "n"]
    database.close()


@pytest.mark.parametrize("names", [["0002-a.sql"], ["0001-a.sql", "0003-b.sql"], ["0001-a.sql", "0001-b.sql"]])
def test_migrations_out_of_order_are_our_bug(make_package, names: list[str]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BugError):
        Database.in_memory(make_package(*[FIRST] * len(names), names=names))


def test_a_transaction_that_raises_writes_nothing(database: Database) -> None:
    with pytest.raises(KeyboardInterrupt), database.transaction():
        database.execute("INSERT INTO thing (name) VALUES ('a')")
        raise KeyboardInterrupt
    assert names_in(database) == []
    with database.transaction():
        database.execute("INSERT INTO thing (name) VALUES ('b')")
    assert names_in(database) == ["b"]


def test_an_inner_transaction_shares_the_fate_of_the_outer_one(database: Database) -> None:
    with pytest.raises(ValueError), database.transaction():
        with database.transaction():
            database.executemany("INSERT INTO thing (name) VALUES (?)", [("a",), ("b",)])
        raise ValueError
    assert names_in(database) == []


def test_a_caught_failure_of_an_inner_transaction_undoes_only_that(database: Database) -> None:
    with database.transaction():
        database.execute("INSERT INTO thing (name) VALUES ('a')")
        with pytest.raises(BugError):
            database.executemany("INSERT INTO thing (name) VALUES (?)", [("b",), ("a",)])
        database.execute("INSERT INTO thing (name) VALUES ('c')")
    assert names_in(database) == ["a", "c"]


def test_a_failed_insert_of_many_rows_takes_its_transaction_along(database: Database) -> None:
    """Even if nobody lets the error through; an outer transaction goes on as after any inner one that failed."""
    insert, rows = "INSERT INTO thing (name) VALUES {rows}", [(f"n{number}",) for number in range(70)]
    with database.transaction():
        database.execute("INSERT INTO thing (name) VALUES ('n69')")
        with pytest.raises(BugError, match="would stay"), database.transaction():
            with contextlib.suppress(BugError):
                database.insert(insert, rows)
            database.insert(insert, [("b",)])
        database.insert(insert, [("c",)])
    assert names_in(database) == ["c", "n69"]


def test_threads_take_turns_with_whole_transactions(database: Database) -> None:
    database.execute("INSERT INTO thing (name, n) VALUES ('count', 0)")

    def add() -> None:
        for _ in range(50):
            with database.transaction():
                n = database.scalar("SELECT n FROM thing")
                database.execute("UPDATE thing SET n = ?", (n + 1,))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.scalar("SELECT n FROM thing") == 200


def test_a_full_disk_is_a_storage_error_and_the_rows_stay(database: Database) -> None:
    database.execute("INSERT INTO thing (name) VALUES ('a')")
    database.query(f"PRAGMA max_page_count = {database.scalar('PRAGMA page_count')}")
    with pytest.raises(StorageError, match=r"test\.db.*full"), database.transaction():
        database.execute("INSERT INTO thing (name) VALUES ('b')")
        database.execute("INSERT INTO thing (name, more) VALUES ('c', zeroblob(1000000))")
    assert names_in(database) == ["a"]


def test_a_read_only_database_is_a_storage_error(database: Database) -> None:
    database.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError, match=r"test\.db.*read-only"):
        database.execute("INSERT INTO thing (name) VALUES ('b')")


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, make_package, content: bytes) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "test.db").write_bytes(content)
    with pytest.raises(StorageError, match=r"test\.db is damaged; move it away"):
        Database(tmp_path / "test.db", make_package(FIRST))


def test_a_missing_directory_is_a_storage_error(tmp_path: Path, make_package) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(StorageError, match="absent"):
        Database(tmp_path / "absent" / "test.db", make_package(FIRST))


def test_use_after_close_and_wrong_sql_are_our_bugs(database: Database) -> None:
    with pytest.raises(BugError):
        database.execute("SELEKT 1")
    database.close()
    database.close()
    with pytest.raises(BugError):
        database.query("SELECT 1")


_KILLED = """
import os, signal, sys
from pathlib import Path
from p2psync.store.sqlite import Database

class Dying(Database):
    def execute(self, sql, parameters=()):
        if sql.startswith("CREATE INDEX"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(sql, parameters)

sys.path.insert(0, sys.argv[1])
Dying(Path(sys.argv[2]), sys.argv[3])
"""


def test_a_kill_during_a_migration_leaves_the_old_schema(tmp_path: Path, make_package) -> None:  # type: ignore[no-untyped-def]
    """Property 60."""
    path, old, new = tmp_path / "test.db", make_package(FIRST), make_package(FIRST, SECOND)
    Database(path, old).close()
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "packages"), str(path), new]
    assert subprocess.run(command, cwd=Path.cwd(), timeout=60).returncode == -signal.SIGKILL
    database = Database(path, old)
    assert [row[1] for row in database.query("PRAGMA table_info(thing)")] == ["name", "n"]
    database.close()
    database = Database(path, new)
    assert database.scalar("PRAGMA user_version") == 2
    database.close()


def test_what_is_read_together_is_of_one_state_although_another_thread_writes(tmp_path: Path) -> None:
    database = Database(tmp_path / "one.db", "p2psync.store.sql")
    started = threading.Event()

    def write() -> None:
        started.set()
        database.execute("UPDATE total SET objects = objects + 1, revision = revision + 1")

    with database.reading():
        objects = database.scalar("SELECT objects FROM total")
        thread = threading.Thread(target=write)
        thread.start()
        started.wait(10)
        thread.join(0.05)
        assert database.scalar("SELECT revision FROM total") == objects
    thread.join(10)
    assert database.query_one("SELECT objects, revision FROM total") == (1, 1)
    database.close()
