"""Issues that have another key by now, as two answers of Jira have said."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


def merge_issue(connection: sqlite3.Connection, issue: str, to: str, issue_id: str = "", now: float = 0.0) -> None:
    """The issue *issue* was moved to another key, as is proven: from now on both are one issue."""
    connection.execute("UPDATE OR REPLACE moved SET issue = ? WHERE issue = ?", (to, issue))
    connection.execute("DELETE FROM moved WHERE folder_key = ?", (to,))
    connection.execute("INSERT OR REPLACE INTO moved VALUES (?, ?, ?, ?)", (issue, to, issue_id, now))
    connection.execute("UPDATE file SET issue = ? WHERE issue = ? AND finished_at IS NULL", (to, issue))
    connection.execute("UPDATE OR IGNORE listed SET issue = ? WHERE issue = ?", (to, issue))
    # Paused by hand under its old key, it stays so under the new one.
    connection.execute("UPDATE OR IGNORE pause SET subject = ? WHERE scope = 'operator' AND subject = ?", (to, issue))


def issue_of(connection: sqlite3.Connection, key: str) -> str:
    """Return the key under which an issue is reached, as far as the journal knows; *key* itself unless it was moved."""
    found = connection.execute("SELECT issue FROM moved WHERE folder_key = ?", (key,)).fetchone()
    return str(found[0]) if found else key


def keys_of(connection: sqlite3.Connection, key: str) -> frozenset[str]:
    """Return all keys of the issue that *key* leads to, those from before it was moved included."""
    issue = issue_of(connection, key)
    former = connection.execute("SELECT folder_key FROM moved WHERE issue = ?", (issue,))
    return frozenset({key, issue, *(record[0] for record in former)})


@dataclass(frozen=True, slots=True)
class Moved:
    """The key *folder_key* leads to the issue that is reached as *issue*; *issue_id* is Jira's number of it, "" if not known."""

    folder_key: str
    issue: str
    issue_id: str


def moved_before(connection: sqlite3.Connection, since: float, now: float) -> list[Moved]:
    """Moved issues for which files wait, and of which Jira has not been asked *since* then."""
    found = connection.execute(
        "SELECT folder_key, issue, issue_id FROM moved WHERE (checked_at <= ? OR checked_at > ?) AND EXISTS"
        " (SELECT 1 FROM file WHERE file.issue = moved.issue AND file.folder_key = moved.folder_key AND finished_at IS NULL"
        " AND state IN ('READY', 'DOUBTFUL'))",
        (since, now),
    )
    return [Moved(*record) for record in found]


def confirm_moved(connection: sqlite3.Connection, folder_key: str, issue_id: str, now: float) -> None:
    """Jira has said once more that this key is moved."""
    connection.execute(
        "UPDATE moved SET issue_id = ?, checked_at = ? WHERE folder_key = ?", (issue_id, now, folder_key)
    )


def split_issue(connection: sqlite3.Connection, folder_key: str) -> int:
    """Forget that a key was moved: its files that wait go to it again. Returns how many.

    What was sent under the other key and is in doubt is looked for there.
    """
    connection.execute("DELETE FROM moved WHERE folder_key = ?", (folder_key,))
    changed = connection.execute(
        "UPDATE file SET issue = folder_key WHERE folder_key = ? AND issue <> folder_key AND state IN ('SEEN', 'READY')"
        " AND doubt_attempt IS NULL",
        (folder_key,),
    )
    return changed.rowcount
