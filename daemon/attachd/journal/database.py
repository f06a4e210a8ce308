"""The journal's file: opened, created, migrated, and changed in transactions that are durable when they return.

SQLite in WAL mode with ``synchronous=FULL``: NORMAL loses acknowledged transactions at a power cut, and a lost one is a
file attached twice. One connection and a lock serve all threads; each transaction is short and does no other I/O.
"""

from __future__ import annotations

import errno
import importlib.resources
import os
import shutil
import sqlite3
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from attachd import errors
from attachd.clock import Clock
from attachd.journal import shared_memory, timeline
from attachd.journal.timeline import Timeline

#: The version of ``schema.sql``; a journal of a later version is refused, one of an earlier version is migrated.
VERSION = 1
#: From version N to N + 1: a script each. A copy of the old file is kept beside it.
MIGRATIONS: Mapping[int, str] = {}
FILE_NAME = "journal.db"


class Journal:
    """One open journal. Threads share it; ``transaction`` and ``rows`` take its lock."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Wrap an open *connection* to *path*; use ``open_journal`` or ``open_for_reading``."""
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()
        self.clock = Clock()
        #: SQLite's reason why nothing can be written, and since when (wall clock); None while transactions are durable.
        self.failing: tuple[str, float] | None = None
        self._data_version = int(self.value("PRAGMA data_version"))

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Change the journal: everything within is durable when this returns, or nothing of it is.

        If not *durable*, it survives the end of the process, but a power cut only after the next durable one: enough for what
        a scan would find out again. Transactions reach the disk in their order.

        ``BEGIN IMMEDIATE``, because a deferred transaction that reads first and writes later fails at once when another
        process wrote in between (https://sqlite.org/lang_transaction.html).
        """
        with self._lock:
            if durable:
                yield from self._within_transaction()
                return
            # In WAL mode NORMAL only omits the sync at each commit (sqlite.org/pragma.html).
            self._connection.execute("PRAGMA synchronous = NORMAL")
            try:
                yield from self._within_transaction()
            finally:
                self._connection.execute("PRAGMA synchronous = FULL")

    def _within_transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self._connection.execute("COMMIT")
            self.failing = None
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                self.note(error)
            raise

    def note(self, error: sqlite3.OperationalError) -> None:
        """Remember that the journal's disk fails, if *error* says so. The next durable transaction forgets it."""
        if errors.disk_fails(error) and self.failing is None:
            self.failing = str(error), self.clock.wall()

    @contextmanager
    def transaction_for_reading(self) -> Iterator[sqlite3.Connection]:
        """Read several things; also works on a journal that was opened for reading."""
        with self._lock:
            yield self._connection

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[sqlite3.Row]:
        """Read the complete list: a snapshot that stays open would let the WAL grow without end."""
        with self._lock:
            return self._connection.execute(sql, parameters).fetchall()

    def value(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        """Read the first column of the first row, or None."""
        found = self.rows(sql, parameters)
        return found[0][0] if found else None

    def timeline(self) -> Timeline:
        """Read how to convert the journal's times to the wall clock's, which people are shown."""
        with self._lock:
            return timeline.read(self._connection, self.clock)

    def changed_by_others(self) -> bool:
        """Return True if another process has written to it since the last call. Reads a counter, and writes nothing.

        See https://sqlite.org/pragma.html#pragma_data_version.
        """
        before, self._data_version = self._data_version, int(self.value("PRAGMA data_version"))
        return self._data_version != before

    def reserve(self) -> None:
        """Keep room for the index of the write-ahead log. Call it now and then; a full disk cannot take the room back."""
        with self._lock, suppress(OSError):
            shared_memory.reserve(self.path)

    def close(self) -> None:
        """Close the journal; the last connection also folds the WAL back into the file."""
        with self._lock:
            self._connection.close()


def get(connection: sqlite3.Connection, key: str) -> Any:
    """Read one of the journal's own facts (site, inbox id, epoch ...), or None."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def put(connection: sqlite3.Connection, key: str, value: str | float) -> None:
    """Write one of the journal's own facts."""
    connection.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
    )


def increment(connection: sqlite3.Connection, key: str, by: int = 1) -> int:
    """Increment *key*, which begins at 0, and return it."""
    put(connection, key, (get(connection, key) or 0) + by)
    return int(get(connection, key))


def open_journal(folder: Path) -> Journal:
    """Open the journal in *folder*, and create the folder (0700) and the journal if they are missing.

    Raises ``errors.Mistake``: 78 if the journal is of a later version, is damaged or may not be written; 75 if the disk is full
    or fails.
    """
    make_folder(folder)
    return open_at(folder / FILE_NAME)


def make_folder(folder: Path) -> None:
    """Make the journal's folder (0700) if it is missing. Raises ``errors.Mistake`` (78; 75 if the disk fails)."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(folder / FILE_NAME, error) from error


def open_at(path: Path) -> Journal:
    """Open the journal in the file *path*, as ``open_journal``; its folder must exist."""
    try:
        if not shared_memory.is_safe(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        connection = _connect(f"file:{urllib.parse.quote(str(path))}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _bring_up_to_date(path, connection)
        shared_memory.reserve(path)
    except (sqlite3.DatabaseError, OSError) as error:
        raise unusable(path, error) from error
    return Journal(path, connection)


def open_for_reading(folder: Path, *, older: bool = False) -> Journal | None:
    """Open the journal without changing anything, also beside a running daemon. None if there is none, or only the empty file
    that a crash left.

    Raises ``errors.Mistake`` for an earlier version unless *older*: of such a journal only the table ``meta`` can be relied on.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        connection = _connect_beside(path, "ro")
        version = _version_if_made(connection)
        _refuse_newer(path, version)
        if version == 0:
            connection.close()
            return None
        if version < VERSION and not older:
            connection.close()
            raise _outdated(path, version)
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from error
    return Journal(path, connection)


@contextmanager
def changing(folder: Path) -> Iterator[sqlite3.Connection | None]:
    """Begin one transaction of a verb, beside a running daemon or without one; None if there is no journal.

    Raises ``errors.Mistake`` if the journal cannot be written: by this user, on a full disk, or because of its version.
    """
    reading = open_for_reading(folder)
    if reading is None:
        yield None
        return
    reading.close()
    try:
        connection = _connect_beside(reading.path, "rw")
        with closing(connection):
            connection.execute("PRAGMA synchronous = FULL")
            with Journal(reading.path, connection).transaction() as transaction:
                yield transaction
    except sqlite3.DatabaseError as error:
        raise unusable(reading.path, error) from error


def _connect_beside(path: Path, mode: str) -> sqlite3.Connection:
    """Connect as a verb, beside a running daemon or without one. Reading works on a full disk."""
    if shared_memory.is_safe(path):
        return _connect(f"file:{urllib.parse.quote(str(path))}?mode={mode}")
    # No other process has it open. SQLite then keeps the index in its own memory (sqlite.org/wal.html, "Use of WAL Without
    # Shared-Memory"), for which it has to lock the file, and so to open it for writing.
    connection = _connect(f"file:{urllib.parse.quote(str(path))}?mode=rw")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    return connection


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30.0)
    connection.row_factory = sqlite3.Row
    # To undo a statement that fires a trigger, SQLite would open a file in /var/tmp, which takes longer than the statement and
    # may be full (sqlite.org/tempfiles.html, "Statement Journal Files").
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _version_if_made(connection: sqlite3.Connection) -> int:
    """Return the version, or 0 if a crash cut the making short at its first page.

    SQLite writes that page with a rollback journal, before there is a WAL, and a reader cannot roll it back
    (sqlite.org/rescode.html, SQLITE_READONLY_ROLLBACK).
    """
    try:
        return _version(connection)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname == "SQLITE_READONLY_ROLLBACK":
            return 0
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _bring_up_to_date(path: Path, connection: sqlite3.Connection) -> None:
    version = _version(connection)
    _refuse_newer(path, version)
    if version == 0:
        schema = importlib.resources.files(__package__).joinpath("schema.sql").read_text("utf-8")
        _run(connection, schema, VERSION)
        sync(path.parent)
        return
    for step in range(version, VERSION):
        _keep_copy(path, connection, step)
        _run(connection, MIGRATIONS[step], step + 1)


def _run(connection: sqlite3.Connection, script: str, version: int) -> None:
    """Run *script* and set the version as one transaction: a crash leaves the old journal, or none."""
    connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {version};\nCOMMIT;")


def _keep_copy(path: Path, connection: sqlite3.Connection, version: int) -> None:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = path.with_name(f"{path.name}.version-{version}")
    if not copy.exists():
        partial = copy.with_name(f"{copy.name}.part")
        shutil.copy2(path, partial)
        sync(partial)
        partial.rename(copy)
        sync(path.parent)


def sync(path: Path) -> None:
    """Sync a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_newer(path: Path, version: int) -> None:
    if version > VERSION:
        raise errors.Mistake(
            errors.Problem(
                str(path),
                f"is of version {version}, written by a later attachd; this one knows version {VERSION}.",
                "Install that later version again, or restore the copy that it kept beside the journal.",
            )
        )


def _outdated(path: Path, version: int) -> errors.Mistake:
    return errors.Mistake(
        errors.Problem(
            str(path),
            f"is of version {version}, and only read here; this attachd works with version {VERSION}.",
            "The next `attachd run` or `attachd once` brings it up to date, and keeps a copy.",
        ),
        exit_code=1,
    )


def unusable(path: Path, error: Exception) -> errors.Mistake:
    """Explain that the journal cannot be read or written: 75 if that can pass by itself, else 78."""
    return errors.Mistake(
        errors.Problem(
            str(path),
            f"cannot be used as the journal: {error}.",
            "Check the folder's owner, its mode and the free space; if the file is damaged, restore a copy (`attachd restore`) "
            "or move it aside: files in the inbox are then looked up in Jira before anything is sent.",
        ),
        exit_code=errors.exit_code(error, path.parent),
    )
