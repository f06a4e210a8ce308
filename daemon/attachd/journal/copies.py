"""The journal copied while it is in use, and put back. What is put back is old: nothing that it calls unfinished is believed."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from attachd.journal import database
from attachd.journal.database import FILE_NAME
from attachd.model import Mistake, Problem

#: What the journal that was there before is called after ``restore``; a later one gets a number behind it.
BEFORE = f"{FILE_NAME}.before-restore"
_FRESH = f"{FILE_NAME}.restoring"
#: SQLite's own files beside a database (sqlite.org/tempfiles.html); they belong to it under any name.
_BESIDE = ("-wal", "-shm")


def backup(folder: Path, target: Path) -> int:
    """Copy the journal in *folder* to the new file *target* (0600), as it is at one moment, while the service works.

    On disk when this returns, whole; where it fails there is no *target*. Returns its bytes. Raises ``FileNotFoundError`` where
    there is no journal, and ``model.Mistake`` where *target* is there already or cannot be written.
    """
    journal = database.open_for_reading(folder)
    if journal is None:
        raise FileNotFoundError(folder)
    partial = target.with_name(f".{target.name}.part")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        with journal.transaction_for_reading() as connection, closing(sqlite3.connect(partial)) as copy:
            connection.backup(copy)
            # In one file, which can be carried away.
            copy.execute("PRAGMA journal_mode = DELETE")
        _sync(partial)
        os.link(partial, target)
    except FileExistsError as error:
        raise Mistake(Problem(str(target), "is there already.", "Name another file."), exit_code=1) from error
    except (OSError, sqlite3.Error) as error:
        remedy = (
            "It is written by the user that the state folder belongs to: name a folder in which that user may write."
        )
        raise Mistake(Problem(str(target), f"cannot be written: {error}.", remedy), exit_code=1) from error
    finally:
        journal.close()
        partial.unlink(missing_ok=True)
    _sync(target.parent)
    return target.stat().st_size


def restore(folder: Path, source: Path) -> tuple[int, Path | None]:
    """Put the copy *source* in the place of the journal in *folder*, on which no service may work.

    The journal that was there is kept beside it. In the new one every unfinished file is in doubt, with or without a row: it may
    have been attached since the copy was made, so it is looked up in Jira before anything is sent. Dies this in between, there
    is no journal, and the next start knows that one was lost, which means the same.

    Returns how many unfinished files it knows, and where the earlier journal is. Raises ``model.Mistake`` for what is no whole
    journal, or of a later version.
    """
    fresh, current = folder / _FRESH, folder / FILE_NAME
    _remove(fresh)
    unfinished = _prepare(source, fresh)
    kept = _free(folder) if current.exists() else None
    if kept is not None:
        for suffix in ("", *_BESIDE):
            beside = current.with_name(current.name + suffix)
            if beside.exists():
                beside.rename(kept.with_name(kept.name + suffix))
    fresh.rename(current)
    _sync(folder)
    return unfinished, kept


def _prepare(source: Path, fresh: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as copy:
            found = copy.execute("PRAGMA quick_check").fetchone()[0]
            version = int(copy.execute("PRAGMA user_version").fetchone()[0])
            if found != "ok" or version == 0:
                raise Mistake(_no_journal(source, "it is damaged" if version else "it is none"), exit_code=1)
            with closing(sqlite3.connect(fresh)) as target:
                copy.backup(target)
    except sqlite3.Error as error:
        _remove(fresh)
        raise Mistake(_no_journal(source, str(error)), exit_code=1) from error
    fresh.chmod(0o600)
    try:
        journal = database.open_at(fresh)
    except Mistake:
        _remove(fresh)
        raise
    try:
        with journal.transaction() as connection:
            return _doubt(connection)
    finally:
        journal.close()
        _sync(fresh)


def _doubt(connection: sqlite3.Connection) -> int:
    """Whatever may have been sent since is looked up first. A file may have been attached since it was last changed."""
    connection.execute("UPDATE file SET suspect_at = ctime_ns / 1e9 WHERE state = 'SEEN'")
    connection.execute(
        "UPDATE file SET state = 'SEEN', suspect_at = ctime_ns / 1e9, blocked = NULL, lacks = NULL, due = 0, wait = 0"
        " WHERE state = 'READY' OR (state = 'SENDING' AND sha256 IS NULL)"
    )
    database.put(connection, "lost", 1)
    return int(connection.execute("SELECT count(*) FROM file WHERE finished_at IS NULL").fetchone()[0])


def _free(folder: Path) -> Path:
    number, kept = 1, folder / BEFORE
    while kept.exists():
        number += 1
        kept = folder / f"{BEFORE}-{number}"
    return kept


def _remove(path: Path) -> None:
    for suffix in ("", *_BESIDE):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _no_journal(source: Path, why: str) -> Problem:
    return Problem(
        str(source), f"is no journal that can be restored: {why}.", "Name a file that `attachd backup` made."
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
