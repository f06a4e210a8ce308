"""Copy the journal while it is in use, and put a copy back. A copy is old, so nothing that it calls unfinished is believed."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from attachd.clock import Clock
from attachd.errors import Mistake, Problem
from attachd.journal import contested, database, terms, timeline
from attachd.journal.database import FILE_NAME

#: The name of the earlier journal after ``restore``; the next one gets a number.
BEFORE = f"{FILE_NAME}.before-restore"
_FRESH = f"{FILE_NAME}.restoring"
#: Added to the reason of a refusal that may be out of date.
MAY_BE = "it may have been attached since: look at the issue before you move it back"
#: SQLite's own files beside a database (sqlite.org/tempfiles.html); they belong to it under any name.
_BESIDE = ("-wal", "-shm")


def backup(folder: Path, target: Path) -> int:
    """Copy the journal in *folder* to the new file *target* (0600), as it is at one moment, while the service works.

    When this returns, the copy is whole and on disk; if it fails there is no *target*. Return its bytes. Raises
    ``FileNotFoundError`` if there is no journal, and ``errors.Mistake`` if *target* exists or cannot be written.
    """
    journal = database.open_for_reading(folder)
    if journal is None:
        raise FileNotFoundError(folder)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with journal.transaction_for_reading() as connection, closing(sqlite3.connect(partial)) as copy:
            connection.backup(copy)
            # In one file, which can be carried away.
            copy.execute("PRAGMA journal_mode = DELETE")
        database.sync(partial)
        os.link(partial, target)
    except FileExistsError as error:
        raise Mistake(Problem(str(target), "is there already.", "Name another file."), exit_code=1) from error
    except (OSError, sqlite3.Error) as error:
        what = f"cannot be written by the user that the state folder belongs to: {error}."
        remedy = (
            "Name a folder in which that user may write, on a file system with hard links, with room for the journal."
        )
        raise Mistake(Problem(str(target), what, remedy), exit_code=1) from error
    finally:
        journal.close()
        with suppress(OSError):
            partial.unlink()
    database.sync(target.parent)
    return target.stat().st_size


def restore(folder: Path, source: Path) -> tuple[int, Path | None]:
    """Put the copy *source* in the place of the journal in *folder*. No service may use that journal.

    The earlier journal is kept beside it. In the new one every unfinished file is in doubt, with or without a row: it may have
    been attached since the copy was made, so attachd looks it up in Jira before it sends anything. After a crash in between
    there is no journal, and the next start notices that one was lost, which means the same.

    ``checked`` has found *source* to be whole. Return how many unfinished files it knows, and where the earlier journal is.
    Raises ``errors.Mistake`` for a later version.
    """
    fresh, current = folder / _FRESH, folder / FILE_NAME
    _remove(fresh)
    try:
        unfinished = _prepare(source, fresh, _last_id(current))
        kept = _put_aside(folder, current)
        fresh.rename(current)
    except (OSError, sqlite3.Error) as error:
        what = f"the journal cannot be put there: {error}."
        raise Mistake(Problem(str(folder), what, "See to its room, its owner and its mode."), exit_code=1) from error
    finally:
        _remove(fresh)
    database.sync(folder)
    return unfinished, kept


def checked(source: Path) -> str | None:
    """Check that a copy is a whole journal, and return the id of its inbox, or None. Raises ``errors.Mistake`` (1)."""
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as copy:
            found = copy.execute("PRAGMA quick_check").fetchone()[0]
            tables = {row[0] for row in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            whole = found == "ok" and {"file", "meta", "issue_queue", "transition"} <= tables
            inbox = copy.execute("SELECT value FROM meta WHERE key = 'inbox'").fetchone() if whole else None
    except sqlite3.Error as error:
        raise Mistake(_no_journal(source, str(error)), exit_code=1) from error
    if not whole:
        why = "it is damaged" if found != "ok" else "it belongs to another program"
        raise Mistake(_no_journal(source, why), exit_code=1)
    return str(inbox[0]) if inbox else None


def _last_id(current: Path) -> int:
    """Return the highest id that the current journal has given; 0 if there is none, or it cannot be read."""
    # Not read-only: only a writer removes SQLite's files beside it again.
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{current.as_uri()}?mode=rw", uri=True)) as old:
        return int((old.execute("SELECT seq FROM sqlite_sequence WHERE name = 'file'").fetchone() or (0,))[0])
    return 0


def _prepare(source: Path, fresh: Path, last_id: int) -> int:
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as copy, closing(sqlite3.connect(fresh)) as target:
        copy.backup(target)
    fresh.chmod(0o600)
    journal = database.open_at(fresh)
    try:
        with journal.transaction() as connection:
            unfinished = doubt(connection, timeline.read(connection, Clock()).now)
            # Whatever the inbox's marker says: this journal is not the one that worked last.
            terms.forget(connection)
            # No id is given twice: logs and notes name files by them.
            if not connection.execute(
                "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'file'", (last_id,)
            ).rowcount:
                connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('file', ?)", (last_id,))
        # Only one file is renamed. SQLite reports no error if it cannot fold the WAL in, for example on a full disk.
        journal.rows("PRAGMA journal_mode = DELETE")
    finally:
        journal.close()
    if any(fresh.with_name(fresh.name + suffix).exists() for suffix in _BESIDE):
        raise OSError(errno.ENOSPC, "not all of it could be written")
    database.sync(fresh)
    return unfinished


def doubt(connection: sqlite3.Connection, now: float) -> int:
    """Put every unfinished file of an old journal in doubt, and return how many there are.

    Any of them may have been attached since the copy was made. Files in doubt get all their looks again. A file that lost its
    path is found as a new one, if it exists. A refused file that still lies in the inbox goes to failed, as one that may be
    attached.
    """
    connection.execute("UPDATE file SET state = 'READY', due = 0, wait = 0 WHERE state = 'SENDING' AND sha256 IS NULL")
    connection.execute(
        "UPDATE file SET state = 'WITHDRAWN', since = :now, finished_at = :now, blocked = NULL,"
        " reason = 'its content was replaced before it was attached' WHERE state = 'READY' AND generation <> 0",
        {"now": now},
    )
    contested.clear_all(connection)
    connection.execute(
        "UPDATE file SET state = 'DOUBTFUL', since = :now, blocked = NULL, lacks = NULL"
        " WHERE state = 'READY' AND doubt_attempt IS NOT NULL AND doubt_at IS NOT NULL AND sha256 IS NOT NULL",
        {"now": now},
    )
    connection.execute(
        "UPDATE file SET looks = 0, brief = 0, blind_since = NULL, due = 0, wait = 0 WHERE state = 'DOUBTFUL'"
    )
    connection.execute(
        "UPDATE file SET may_be_attached = 1, reason = reason || :remark WHERE state = 'REFUSED' AND may_be_attached = 0",
        {"remark": f"; {MAY_BE}"},
    )
    connection.execute(
        "UPDATE file SET state = 'SEEN', blocked = NULL, lacks = NULL, due = 0, wait = 0, quiet_boot = 0"
        " WHERE state = 'READY' AND doubt_attempt IS NULL"
    )
    connection.execute("UPDATE file SET suspect_at = 0 WHERE state = 'SEEN'")
    database.put(connection, "lost", 1)
    return int(connection.execute("SELECT count(*) FROM file WHERE finished_at IS NULL").fetchone()[0])


def _put_aside(folder: Path, current: Path) -> Path | None:
    """Rename the current journal, if any, with SQLite's files beside it, which SQLite would take for the new one's."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{current.as_uri()}?mode=rw", uri=True)) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    there = [suffix for suffix in ("", *_BESIDE) if current.with_name(current.name + suffix).exists()]
    if not there:
        return None
    kept = _free(folder)
    for suffix in there:
        current.with_name(current.name + suffix).rename(kept.with_name(kept.name + suffix))
        database.sync(folder)
    return kept if "" in there else None


def _free(folder: Path) -> Path:
    number, kept = 1, folder / BEFORE
    while any(kept.with_name(kept.name + suffix).exists() for suffix in ("", *_BESIDE)):
        number += 1
        kept = folder / f"{BEFORE}-{number}"
    return kept


def _remove(fresh: Path) -> None:
    """Remove an unfinished journal, SQLite's files beside it, and the copy that a migration keeps."""
    for path in fresh.parent.glob(f"{fresh.name}*"):
        path.unlink()


def _no_journal(source: Path, why: str) -> Problem:
    remedy = "Name a file from `attachd backup`."
    if not source.is_file():
        return Problem(str(source), "is not a file." if source.exists() else "does not exist.", remedy)
    return Problem(str(source), f"is not a journal that attachd can restore: {why}.", remedy)
