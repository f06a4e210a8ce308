"""What waits, which of it for more than its turn, and in which order. Reads only; works beside a running daemon.

What is asked of a ``Journal`` is answered in the wall clock's time, for people; what is asked of a connection in the journal's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from attachd.journal import lookup, rows
from attachd.journal.database import Journal
from attachd.journal.rows import Row


def waiting_in(journal: Journal, lanes: Sequence[str]) -> int:
    """How many files of these issues could be sent if their turn came."""
    marks = rows.marks(lanes)
    return int(journal.value(f"SELECT count(*) FROM file WHERE state = 'READY' AND lane IN ({marks})", lanes))


def sending(journal: Journal) -> list[Row]:
    """What is being sent."""
    return lookup.select(journal, "WHERE state = 'SENDING' ORDER BY attempt LIMIT 100")


#: Which files wait for more than their turn, each kind by the index that knows it: a million others may wait for theirs. What
#: settles is looked through, which is over in moments.
_TROUBLED = (
    ("file_blocked", "blocked IS NOT NULL AND finished_at IS NULL"),
    ("file_contested", "contested IS NOT NULL AND state = 'READY'"),
    ("file_doubtful", "state = 'DOUBTFUL'"),
    ("file_seen", "state = 'SEEN' AND (reason IS NOT NULL OR lacks IS NOT NULL)"),
    ("file_verdict", "state IN ('ATTACHED', 'REFUSED') AND due > 0"),
)


def troubled(journal: Journal, limit: int = 20) -> list[Row]:
    """Files that wait for more than their turn: blocked, held, in doubt, or with a verdict and not moved yet.

    And those that settle but for which something has to happen, or a longer time to pass, than that nobody changes them.
    """
    found = {
        row.id: row
        for index, which in _TROUBLED
        for row in lookup.select(journal, f"INDEXED BY {index} WHERE {which} ORDER BY since LIMIT ?", (limit,))
    }
    return sorted(found.values(), key=lambda row: (row.since, row.id))[:limit]


#: Held refusals of so many issues: the fault is more likely the account's (delivery.md 3).
FUSE = 3


@dataclass(frozen=True, slots=True)
class Suspect:
    """An issue whose files were refused, and wait for a person: how many, since when, and what Jira said."""

    lane: str
    files: int
    since: float
    reason: str


def suspects(connection: sqlite3.Connection, site: str) -> list[Suspect]:
    """The issues that are refused alike, and have never accepted a file; empty where they are fewer than ``FUSE``."""
    found = connection.execute(
        "SELECT lane, files, since, reason FROM (SELECT lane, count(*) AS files, min(coalesce(contested_at, since)) AS since,"
        " min(reason) AS reason FROM file WHERE contested IS NOT NULL AND state = 'READY' AND contested = 404 AND held = 1"
        " GROUP BY lane) AS refused WHERE NOT EXISTS"
        " (SELECT 1 FROM file WHERE attachment IS NOT NULL AND site = ? AND lane = refused.lane) ORDER BY lane",
        (site,),
    ).fetchall()
    return (
        [Suspect(lane, files, since, reason or "") for lane, files, since, reason in found]
        if len(found) >= FUSE
        else []
    )


def waiting_since(connection: sqlite3.Connection, moment: float) -> tuple[int, Row | None]:
    """How many files have waited since before *moment*, and the one that was seen first."""
    unfinished = "FROM file WHERE finished_at IS NULL AND seen_at <= ?"
    count = connection.execute(f"SELECT count(*) {unfinished}", (moment,)).fetchone()[0]
    if not count:
        return 0, None
    first = connection.execute(
        rows.SELECT + "WHERE finished_at IS NULL AND seen_at <= ? ORDER BY seen_at, id LIMIT 1", (moment,)
    ).fetchone()
    return count, rows.from_sql(first)


def blocked_before(journal: Journal, moment: float, limit: int) -> list[Row]:
    """Files that have been blocked since before *moment*, the longest first."""
    which, moment = "blocked IS NOT NULL AND finished_at IS NULL AND since <= ?", journal.timeline().kept(moment)
    return lookup.select(journal, f"INDEXED BY file_blocked WHERE {which} ORDER BY since LIMIT ?", (moment, limit))


def oldest_waiting(journal: Journal) -> float | None:
    """When the file was seen that has waited for longest; None where nothing waits. Reads an index, however long the history."""
    first = "SELECT min(id) FROM file INDEXED BY file_inode WHERE finished_at IS NULL"
    oldest: float | None = journal.value(f"SELECT seen_at FROM file WHERE id = ({first})")
    return None if oldest is None else journal.timeline().shown(oldest)


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for its turn to be sent to one issue; ``oldest`` is when the first of it was seen."""

    issue: str
    files: int
    oldest: float


def queues(journal: Journal, limit: int) -> list[Queue]:
    """The issues for which files could be sent, the longest queue first."""
    oldest = "SELECT seen_at FROM file INDEXED BY file_ready WHERE state = 'READY' AND lane = issue ORDER BY epoch, id LIMIT 1"
    found = journal.rows(
        f"SELECT issue, ready, ({oldest}) FROM (SELECT issue, ready FROM lane WHERE ready > 0 ORDER BY ready DESC LIMIT ?)",
        (limit,),
    )
    line = journal.timeline()
    return [Queue(issue, files, line.shown(seen)) for issue, files, seen in found if seen is not None]


def settling(journal: Journal, limit: int) -> list[Row]:
    """Files that have to be unchanged for a while before they are sent, and that nothing else holds; the next first."""
    which = "INDEXED BY file_seen WHERE state = 'SEEN' AND reason IS NULL AND lacks IS NULL AND blocked IS NULL"
    return lookup.select(journal, f"{which} ORDER BY quiet_boot, id LIMIT ?", (limit,))


def first_in(journal: Journal, lane: str, limit: int) -> list[Row]:
    """The files of one issue whose turn comes next."""
    which = "INDEXED BY file_ready WHERE state = 'READY' AND lane = ?"
    return lookup.select(journal, f"{which} ORDER BY epoch, id LIMIT ?", (lane, limit))
