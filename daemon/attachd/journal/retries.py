"""What ``retry`` takes back from failed: each intent is durable before its file moves, and is deleted afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from attachd.journal import rows


class Intent(NamedTuple):
    """One failed file on its way back; ``schema.sql`` explains each column."""

    file: int
    source: bytes
    wanted: bytes
    target: bytes
    size: int
    mtime_ns: int
    sha256: bytes | None
    reserved_dev: int | None
    reserved_ino: int | None
    since: float
    newest: int

    @property
    def reservation(self) -> tuple[int, int] | None:
        """Return (device, inode) of the empty file that reserves the name, or None."""
        if self.reserved_dev is None or self.reserved_ino is None:
            return None
        return self.reserved_dev, self.reserved_ino


_COLUMNS = ", ".join(Intent._fields)


def begin(connection: sqlite3.Connection, intents: Iterable[Intent]) -> list[Intent]:
    """Write down the intents, and return them as written. Raises ``sqlite3.IntegrityError`` if a file or a name of them is on
    its way already.
    """
    marks = ", ".join("?" * len(Intent._fields))
    newest = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'file'").fetchone()
    intents = [intent._replace(newest=newest[0] if newest else 0) for intent in intents]
    connection.executemany(f"INSERT INTO retry ({_COLUMNS}) VALUES ({marks})", intents)
    return intents


def unfinished(connection: sqlite3.Connection) -> list[Intent]:
    """Return all intents, the oldest first. While no ``retry`` runs, a process that died has left them."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM retry ORDER BY since, file")
    return [Intent(*record) for record in found]


def aimed_at(connection: sqlite3.Connection, targets: Collection[bytes]) -> list[Intent]:
    """Return the intents whose target is one of these paths below the inbox."""
    if connection.execute("SELECT 1 FROM retry LIMIT 1").fetchone() is None:
        return []
    some = rows.filled(targets)
    found = connection.execute(f"SELECT {_COLUMNS} FROM retry WHERE target IN ({rows.marks(some)})", some)
    return [Intent(*record) for record in found]


def change(connection: sqlite3.Connection, intent: Intent) -> None:
    """Write down another name, reservation or checksum of an intent."""
    values = (intent.target, intent.sha256, intent.reserved_dev, intent.reserved_ino, intent.file)
    connection.execute(
        "UPDATE retry SET target = ?, sha256 = ?, reserved_dev = ?, reserved_ino = ? WHERE file = ?", values
    )


def end(connection: sqlite3.Connection, file_ids: Collection[int]) -> None:
    """Delete the intents of these files: they are done, or given up."""
    connection.executemany("DELETE FROM retry WHERE file = ?", [(file_id,) for file_id in file_ids])


def taken_up(connection: sqlite3.Connection, intent: Intent) -> bool:
    """Return True if intake has since seen a file of this size at the target, or with this content anywhere."""
    found = connection.execute(
        "SELECT 1 FROM file WHERE id > ? AND size = ? AND (path = ? OR sha256 = ?) LIMIT 1",
        (intent.newest, intent.size, intent.target, intent.sha256),
    )
    return found.fetchone() is not None


def forget_notes(connection: sqlite3.Connection, row_ids: Sequence[int]) -> None:
    """Forget the notes of these files, which are gone."""
    connection.executemany("UPDATE file SET note = NULL WHERE id = ?", [(row_id,) for row_id in row_ids])


def taken_back(connection: sqlite3.Connection, row_ids: Sequence[int], judged_at: float | None) -> None:
    """Record that ``retry`` takes these files back.

    With *judged_at* (Jira's clock), a person states that no issue held its file then. Without it nothing is known about
    attachments, as when a person moves a file back by hand.
    """
    connection.executemany("UPDATE file SET returned = 'retry' WHERE id = ?", [(row_id,) for row_id in row_ids])
    if judged_at is not None:
        judged = [(rows.EVERY, judged_at, row_id) for row_id in row_ids]
        connection.executemany("UPDATE file SET judged = ?, judged_at = ? WHERE id = ?", judged)


def left_there(connection: sqlite3.Connection, row_ids: Sequence[int]) -> None:
    """Record that ``retry`` left these files in failed: if one comes back later, a person has moved it, and means that."""
    connection.executemany("UPDATE file SET returned = NULL WHERE id = ?", [(row_id,) for row_id in row_ids])


def doubt(connection: sqlite3.Connection, row_id: int) -> None:
    """Record that a failed file may be attached: attachd looks for it before it sends it again."""
    connection.execute("UPDATE file SET may_be_attached = 1 WHERE id = ? AND sha256 IS NOT NULL", (row_id,))
