"""Contested refusals: a 403 or 404 of Jira that is no verdict yet, because our account may be what is at fault.

Three columns are about them: ``contested`` is the status and ``contested_at`` when Jira first gave it; ``proof`` says
what speaks for believing it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from attachd.journal import rows
from attachd.journal.rows import Proof

#: The columns of a row whose refusal was no verdict: they say nothing any more.
CLEARED = {"contested": None, "contested_at": None, "proof": Proof.NONE}
#: The same, for a refusal whose time is remembered: a day is counted from the first one.
CLEARED_FOR_A_TRY = {"contested": None, "proof": Proof.NONE}

#: The kinds of pauses while a role seems to be lost: of a project, and of an issue that used to accept files.
PROJECT_PAUSE, ISSUE_PAUSE = "forbidden", "refused"
#: How long a 403 must last, without anything that speaks against the account, until it is believed.
FORBIDDEN_SECONDS = 86_400.0

_WAITING = "contested IS NOT NULL AND state = 'READY'"
#: Of issues that have never accepted a file. A 403, and a refusal of an issue that has accepted files, wait for somebody to
#: give the permission back: they are worth another try.
_UNKNOWN = (
    "proof <> 'none' AND contested = 404 AND NOT EXISTS (SELECT 1 FROM file AS other"
    " WHERE other.attachment IS NOT NULL AND other.site = file.site AND other.issue = file.issue)"
)


def waiting(connection: sqlite3.Connection) -> list[rows.Row]:
    """Return the rows whose refusal is contested, the first refused first."""
    found = connection.execute(f"{rows.SELECT} WHERE {_WAITING} ORDER BY contested_at")
    return [rows.from_sql(record) for record in found]


def clear_all(connection: sqlite3.Connection) -> None:
    """Forget every contested refusal: those files are sent again."""
    connection.execute(
        "UPDATE file SET contested = NULL, contested_at = NULL, proof = :none WHERE state = 'READY'",
        {"none": Proof.NONE},
    )


def confirm(connection: sqlite3.Connection, issue: str) -> tuple[int, int]:
    """An operator confirms the refusals of one issue ("": all). Returns how many are believed, and how many are tried again."""
    one = "" if not issue else " AND issue = :issue"
    about = {"issue": issue, "proof": Proof.OPERATOR}
    believed = connection.execute(f"UPDATE file SET proof = :proof WHERE {_WAITING}{one} AND {_UNKNOWN}", about)
    again = connection.execute(f"UPDATE file SET due = 0, wait = 0 WHERE {_WAITING}{one} AND NOT ({_UNKNOWN})", about)
    return believed.rowcount, again.rowcount


#: So many issues with contested refusals: the account is more likely at fault (docs/design/delivery.md, the fuse).
FUSE = 3


@dataclass(frozen=True, slots=True)
class ContestedIssue:
    """An issue that Jira does not show us: how many files wait for it, since when, and what Jira said."""

    issue: str
    files: int
    since: float
    reason: str


def issues(connection: sqlite3.Connection, site: str) -> list[ContestedIssue]:
    """Return the issues that were refused alike and have never accepted a file; none where they are fewer than ``FUSE``."""
    found = connection.execute(
        "SELECT issue, files, since, reason FROM (SELECT issue, count(*) AS files, min(coalesce(contested_at, since)) AS since,"
        f" min(reason) AS reason FROM file WHERE {_WAITING} AND contested = 404 AND proof = :asked"
        " GROUP BY issue) AS refused WHERE NOT EXISTS"
        " (SELECT 1 FROM file WHERE attachment IS NOT NULL AND site = :site AND issue = refused.issue) ORDER BY issue",
        {"asked": Proof.ACCOUNT, "site": site},
    ).fetchall()
    if len(found) < FUSE:
        return []
    return [ContestedIssue(issue, files, since, reason or "") for issue, files, since, reason in found]


# What speaks for the account: issues that accept files.


def accepted_before(connection: sqlite3.Connection, site: str, issue: str) -> bool:
    """Return True if this issue has ever accepted a file."""
    found = connection.execute(
        "SELECT 1 FROM file WHERE attachment IS NOT NULL AND site = ? AND issue = ? LIMIT 1", (site, issue)
    )
    return found.fetchone() is not None


def accepted_after(connection: sqlite3.Connection, moment: float, like: str = "%") -> bool:
    """Return True if an issue whose key matches the LIKE pattern accepted a file after *moment*."""
    found = connection.execute(
        "SELECT 1 FROM file WHERE attachment IS NOT NULL AND verdict_at > ? AND issue LIKE ? ESCAPE '!' LIMIT 1",
        (moment, like),
    )
    return found.fetchone() is not None


def witnesses(
    connection: sqlite3.Connection, site: str, since: float, other_than: str, struck_since: float = 0.0
) -> list[str]:
    """Return issues that accepted a file *since* then, the latest first.

    Without those that were struck off after that and since *struck_since*: an older strike has to prove right again.
    """
    found = connection.execute(
        "SELECT issue, (SELECT verdict_at FROM file WHERE file.issue = issue_queue.issue AND attachment IS NOT NULL"
        " AND verdict_at >= :since AND site = :site AND state IN ('ATTACHED', 'DONE')"
        " ORDER BY verdict_at DESC LIMIT 1) AS latest FROM issue_queue WHERE issue <> :other AND latest >"
        " coalesce((SELECT at FROM struck WHERE struck.issue = issue_queue.issue AND at > :believed), 0)"
        " ORDER BY latest DESC LIMIT 50",
        {"since": since, "other": other_than, "site": site, "believed": struck_since},
    )
    return [record[0] for record in found]


def strike(connection: sqlite3.Connection, issue: str, now: float) -> None:
    """An issue that accepted files cannot be seen any more: it is no witness until it accepts another one."""
    connection.execute("INSERT OR REPLACE INTO struck VALUES (?, ?)", (issue, now))
