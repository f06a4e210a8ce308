"""Issues that have another key by now, as two answers of Jira have said."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


def merge_lane(connection: sqlite3.Connection, lane: str, resolved: str, issue: str = "", now: float = 0.0) -> None:
    """The issue *lane* was moved to another key, as is proven: from now on both are one lane."""
    connection.execute("UPDATE OR REPLACE moved SET lane = ? WHERE lane = ?", (resolved, lane))
    connection.execute("DELETE FROM moved WHERE asked = ?", (resolved,))
    connection.execute("INSERT OR REPLACE INTO moved VALUES (?, ?, ?, ?)", (lane, resolved, issue, now))
    connection.execute("UPDATE file SET lane = ? WHERE lane = ? AND finished_at IS NULL", (resolved, lane))
    connection.execute("UPDATE OR IGNORE listed SET lane = ? WHERE lane = ?", (resolved, lane))
    # Paused by hand under its old key, it stays so under the new one.
    connection.execute(
        "UPDATE OR IGNORE pause SET subject = ? WHERE scope = 'operator' AND subject = ?", (resolved, lane)
    )


@dataclass(frozen=True, slots=True)
class Moved:
    """The key *asked* leads to the issue that is reached as *lane*; *issue* is Jira's number of it, "" if not known."""

    asked: str
    lane: str
    issue: str


def moved_before(connection: sqlite3.Connection, since: float, now: float) -> list[Moved]:
    """Moved issues for which files wait, and of which Jira has not been asked *since* then."""
    found = connection.execute(
        "SELECT asked, lane, issue FROM moved WHERE (checked_at <= ? OR checked_at > ?) AND EXISTS"
        " (SELECT 1 FROM file WHERE file.lane = moved.lane AND file.asked = moved.asked AND finished_at IS NULL"
        " AND state IN ('READY', 'DOUBTFUL'))",
        (since, now),
    )
    return [Moved(*record) for record in found]


def confirm_moved(connection: sqlite3.Connection, asked: str, issue: str, now: float) -> None:
    """Jira has said once more that this key is moved."""
    connection.execute("UPDATE moved SET issue = ?, checked_at = ? WHERE asked = ?", (issue, now, asked))


def split_lane(connection: sqlite3.Connection, asked: str) -> int:
    """Forget that a key was moved: its files that wait go to it again. Returns how many.

    What was sent under the other key and is in doubt is looked for there.
    """
    connection.execute("DELETE FROM moved WHERE asked = ?", (asked,))
    changed = connection.execute(
        "UPDATE file SET lane = asked WHERE asked = ? AND lane <> asked AND state IN ('SEEN', 'READY')"
        " AND doubt_attempt IS NULL",
        (asked,),
    )
    return changed.rowcount
