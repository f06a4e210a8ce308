"""Find the rows that a file may be: by its path, its inode, its content, and what notes say about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from attachd.journal import rows
from attachd.model import Fingerprint


def at_paths(connection: sqlite3.Connection, paths: Sequence[bytes]) -> dict[bytes, rows.Row]:
    """Return the unfinished rows of what lies at *paths* (a few thousand at most)."""
    wanted = rows.filled(paths)
    found = connection.execute(
        f"{rows.SELECT}INDEXED BY file_at_path WHERE path IN ({rows.marks(wanted)}) AND generation = 0 AND finished_at IS NULL",
        wanted,
    )
    return {row.path: row for row in map(rows.from_sql, found)}


def at_inodes(
    connection: sqlite3.Connection, prints: Collection[Fingerprint], epoch: int
) -> dict[tuple[int, int, int, int], list[rows.Row]]:
    """Return unfinished rows that had one of these inodes, with its size and mtime, in this epoch: the file may be renamed.

    The keys are device, inode, size and mtime. Rows whose path holds other content now are included, because programs rename
    files over each other, as logs are rotated.
    """
    wanted = {content(print_) for print_ in prints}
    inodes = rows.filled([print_.ino for print_ in prints])
    found = connection.execute(
        f"{rows.SELECT}WHERE ino IN ({rows.marks(inodes)}) AND epoch = ? AND finished_at IS NULL ORDER BY id",
        (*inodes, epoch),
    )
    by_content: dict[tuple[int, int, int, int], list[rows.Row]] = {}
    for row in map(rows.from_sql, found):
        if (held := content(row.fingerprint)) in wanted:
            by_content.setdefault(held, []).append(row)
    return by_content


def content(print_: Fingerprint) -> tuple[int, int, int, int]:
    """Return what a rename does not change: device, inode, size and mtime."""
    return print_.dev, print_.ino, print_.size, print_.mtime_ns


#: What was sent, or is being sent, and is not finished; with the indexes of it.
_SENT = "state IN ('SENDING', 'DOUBTFUL', 'ATTACHED', 'REFUSED')"
_TO_BE_SENT_AGAIN = "state = 'READY' AND doubt_attempt IS NOT NULL AND finished_at IS NULL"
_EVER_DOUBTFUL = f"INDEXED BY file_ever_doubtful WHERE {_TO_BE_SENT_AGAIN}"


def sent(connection: sqlite3.Connection, keys: Collection[str], sizes: Collection[int]) -> list[rows.Row]:
    """Return the unfinished rows of one issue, of these sizes, whose bytes may have left. *keys* are all keys of the issue.

    Only their SHA-256 shows whether a file is theirs.
    """
    some, some_keys = rows.filled(sizes), rows.filled(keys)
    within = f"folder_key IN ({rows.marks(some_keys)}) AND size IN ({rows.marks(some)})"
    found = connection.execute(f"{rows.SELECT}WHERE {_SENT} AND {within}", (*some_keys, *some)).fetchall()
    again = connection.execute(
        f"{rows.SELECT}{_EVER_DOUBTFUL} AND issue IN ({rows.marks(some_keys)}) AND {within}",
        (*some_keys, *some_keys, *some),
    )
    return sorted(map(rows.from_sql, [*found, *again]), key=lambda row: row.id)


def missing(connection: sqlite3.Connection) -> list[rows.Row]:
    """Return rows that were sent, are not being sent now, and whose file is not known to be at their path."""
    elsewhere = "(generation <> 0 OR missing > 0)"
    found = connection.execute(f"{rows.SELECT}WHERE {_SENT} AND {elsewhere} AND state <> 'SENDING'").fetchall()
    again = connection.execute(f"{rows.SELECT}{_EVER_DOUBTFUL} AND {elsewhere}")
    return sorted(map(rows.from_sql, [*found, *again]), key=lambda row: row.id)


def unsettled_sizes(connection: sqlite3.Connection) -> set[tuple[str, int]]:
    """Return key and size of each file that has not settled or is blocked: nobody knows yet which row it is."""
    return set(map(tuple, connection.execute("SELECT DISTINCT folder_key, size FROM file WHERE state = 'SEEN'")))


def uncertain(connection: sqlite3.Connection, size: int) -> list[rows.Row]:
    """Return failed rows of this size whose content may be attached all the same, the newest first.

    They are of every issue and site, because an issue can have two keys and a site two addresses. Rows whose doubt another row
    took over are left out, unless that one was withdrawn before it was settled.
    """
    found = connection.execute(
        rows.SELECT + "WHERE may_be_attached = 1 AND state = 'FAILED' AND size = ? AND (heir IS NULL OR EXISTS"
        " (SELECT 1 FROM file AS later WHERE later.id = file.heir AND later.state = 'WITHDRAWN')) ORDER BY id DESC",
        (size,),
    )
    return [rows.from_sql(record) for record in found]


#: Heard instead of a checksum: any content of that size may be attached.
ANYTHING = b""
#: How long a size is remembered: what a person has in hand meanwhile is back by then.
SIZE_REMEMBERED_SECONDS = 24 * 3600.0


def heard(connection: sqlite3.Connection, size: int, now: float) -> frozenset[bytes]:
    """Return the checksums of files of this size that may be attached, or ``ANYTHING``, although no journal knows of it."""
    found = connection.execute(
        "SELECT sha256 FROM hearsay WHERE size = ? AND coalesce(at > ?, 1)", (size, now - SIZE_REMEMBERED_SECONDS)
    )
    return frozenset(record[0] for record in found)


def remember_size(connection: sqlite3.Connection, size: int, now: float) -> None:
    """Remember that a file of this size, which nobody has read and which is away now, may be attached."""
    connection.execute("INSERT OR REPLACE INTO hearsay (size, sha256, at) VALUES (?, ?, ?)", (size, ANYTHING, now))


def hear(connection: sqlite3.Connection, said: Collection[tuple[int, bytes]]) -> None:
    """Remember what notes say: (size, SHA-256) of files that may be attached."""
    connection.executemany("INSERT OR IGNORE INTO hearsay (size, sha256) VALUES (?, ?)", said)


def failed_alike(connection: sqlite3.Connection, row: rows.Row) -> list[bytes]:
    """Return where below failed the files of this row's issue lie that have its size and time."""
    found = connection.execute(
        "SELECT target FROM file WHERE state = 'FAILED' AND folder_key = ? AND size = ? AND mtime_ns = ? AND target IS NOT NULL",
        (row.folder_key, row.size, row.mtime_ns),
    )
    return [record[0] for record in found]


def still_at_path(connection: sqlite3.Connection, row_id: int) -> rows.Row | None:
    """Return the row as it is now, or None if it is finished or its path holds other content."""
    found = connection.execute(
        rows.SELECT + "WHERE id = ? AND generation = 0 AND finished_at IS NULL", (row_id,)
    ).fetchone()
    return rows.from_sql(found) if found else None
