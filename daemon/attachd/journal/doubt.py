"""What delivery reads and writes of files that may have arrived: whose turn it is, and what was listed and credited before."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import NamedTuple

from attachd.journal import rows


def orphans(connection: sqlite3.Connection) -> list[rows.Row]:
    """Rows that a process left SENDING when it died."""
    return [rows.from_sql(record) for record in connection.execute(rows.SELECT + "WHERE state = 'SENDING'")]


def doubtful_issues(connection: sqlite3.Connection, now: float, busy: Collection[str], site: str) -> list[str]:
    """Issues of a site with files in doubt whose next look is due, the most overdue first."""
    found = connection.execute(
        "SELECT issue FROM file WHERE state = 'DOUBTFUL' AND due <= ? AND coalesce(site, ?) = ?"
        " GROUP BY issue ORDER BY min(due) LIMIT ?",
        (now, site, site, len(busy) + 1),
    )
    return [record[0] for record in found if record[0] not in busy]


def in_doubt(connection: sqlite3.Connection, issue: str, site: str) -> list[rows.Row]:
    """All files of a site's issue that are in doubt: one listing serves them all."""
    found = connection.execute(
        rows.SELECT + "WHERE state = 'DOUBTFUL' AND issue = ? AND coalesce(site, ?) = ? ORDER BY id",
        (issue, site, site),
    )
    return [rows.from_sql(record) for record in found]


def may_own(connection: sqlite3.Connection, issue: str, since: float, site: str) -> list[rows.Row]:
    """All files of a site's issue that may own an attachment that shows up.

    Those that are or were in doubt; those that failed *since* then because they may be attached, or left the inbox *since* then,
    which may still arrive; and those that were sent again and attached *since* then: what comes late of their first attempt is
    theirs too.
    """
    found = connection.execute(
        rows.SELECT + "WHERE doubt_attempt IS NOT NULL AND finished_at IS NULL AND issue = ?"
        " AND coalesce(site, ?) = ? AND (state IN ('READY', 'DOUBTFUL') OR may_be_attached = 1) ORDER BY id",
        (issue, site, site),
    ).fetchall()
    found += connection.execute(
        rows.SELECT + "WHERE may_be_attached = 1 AND state = 'FAILED' AND doubt_attempt IS NOT NULL AND heir IS NULL"
        " AND issue = ? AND verdict_at >= ? AND coalesce(site, ?) = ?",
        (issue, since, site, site),
    ).fetchall()
    found += connection.execute(
        rows.SELECT + "INDEXED BY file_withdrawn WHERE state = 'WITHDRAWN' AND doubt_attempt IS NOT NULL AND issue = ?"
        " AND finished_at >= ? AND coalesce(site, ?) = ?",
        (issue, since, site, site),
    ).fetchall()
    found += connection.execute(
        rows.SELECT + "WHERE issue = ? AND verdict_at >= ? AND attachment IS NOT NULL AND state IN ('ATTACHED', 'DONE')"
        " AND attempt > doubt_attempt AND site = ?",
        (issue, since, site),
    ).fetchall()
    return [rows.from_sql(record) for record in found]


def in_doubt_elsewhere(connection: sqlite3.Connection, row: rows.Row) -> list[str]:
    """Other issues with a file of this one's stored name and size that was sent and has no verdict, or was ever in doubt."""
    # Each half has an index of its own.
    alike = "issue <> :issue AND name = :name AND size = :size"
    found = connection.execute(
        f"SELECT issue FROM file WHERE doubt_attempt IS NOT NULL AND finished_at IS NULL AND {alike}"
        f" UNION SELECT issue FROM file WHERE state = 'SENDING' AND {alike}",
        {"issue": row.issue, "name": row.name, "size": row.size},
    )
    return [record[0] for record in found]


def credited(connection: sqlite3.Connection, site: str, attachments: Sequence[str]) -> dict[str, int]:
    """Which of these attachment ids of a site the journal credits to a row, and to which."""
    return {attachment: owner.id for attachment, owner in owners(connection, site, attachments).items()}


class Owner(NamedTuple):
    """The row to which an attachment is credited, and its size: None if the attachment was stored in another one."""

    id: int
    size: int | None


def owners(connection: sqlite3.Connection, site: str, attachments: Sequence[str]) -> dict[str, Owner]:
    """Return the rows to which the journal credits these attachment ids of a site."""
    found: dict[str, Owner] = {}
    for start in range(0, len(attachments), 250):
        some = rows.filled(attachments[start : start + 250])
        credit = connection.execute(
            "SELECT attachment, id, CASE WHEN state IN ('ATTACHED', 'DONE') THEN size END FROM file"
            f" WHERE attachment IN ({rows.marks(some)}) AND site = ?",
            [*some, site],
        )
        found |= {attachment: Owner(row_id, size) for attachment, row_id, size in credit}
    return found


#: Of so many files that failed last it is asked why.
_LAST_FAILED = 20


def issues_refused_alike(connection: sqlite3.Connection, site: str, reason: str) -> int:
    """How many issues had a file refused for the same *reason* lately, with no file accepted since."""
    accepted = connection.execute("SELECT max(attempt) FROM file WHERE attachment IS NOT NULL").fetchone()[0] or 0
    last = connection.execute(
        "SELECT issue, reason, attempt, site FROM file WHERE state IN ('REFUSED', 'FAILED') ORDER BY id DESC LIMIT ?",
        (_LAST_FAILED,),
    )
    return len({issue for issue, why, at, where in last if (why, where) == (reason, site) and (at or 0) > accepted})


def listed_before(connection: sqlite3.Connection, issue: str) -> dict[str, int]:
    """Ids that listings of this issue have shown, each with the number of the last attempt before the first of these."""
    found = connection.execute("SELECT attachment, attempt FROM listed WHERE issue = ?", (issue,))
    return dict(found.fetchall())


def remember_listing(connection: sqlite3.Connection, issue: str, attachments: Collection[str], attempt: int) -> None:
    """Remember what a listing showed; *attempt* is the last attempt that was begun before it was asked for."""
    connection.executemany(
        "INSERT INTO listed (issue, attachment, attempt) VALUES (?, ?, ?)"
        " ON CONFLICT (issue, attachment) DO UPDATE SET times = times + 1",
        [(issue, attachment, attempt) for attachment in attachments],
    )


def to_be_shown(connection: sqlite3.Connection, issue: str, site: str, since: float) -> list[str]:
    """Ids that a listing of this issue shows unless they were deleted or it is old: two earlier ones did, or Jira gave them
    to files of ours *since* then. The newest first.
    """
    found = connection.execute(
        "SELECT attachment FROM listed WHERE issue = :issue AND times > 1"
        " UNION SELECT attachment FROM file WHERE issue = :issue AND site = :site AND verdict_at >= :since"
        " AND attachment IS NOT NULL AND state IN ('ATTACHED', 'DONE')",
        {"issue": issue, "site": site, "since": since},
    )
    return sorted((record[0] for record in found), key=lambda number: (len(number), number), reverse=True)


def sent_by(connection: sqlite3.Connection, site: str, attachments: Sequence[str]) -> dict[str, int]:
    """For those of these attachments that are ours: the number of the first attempt that can have stored each."""
    found: dict[str, int] = {}
    for start in range(0, len(attachments), 250):
        some = rows.filled(attachments[start : start + 250])
        sent = connection.execute(
            "SELECT attachment, coalesce(doubt_attempt, attempt, 0) FROM file"
            f" WHERE attachment IN ({rows.marks(some)}) AND site = ?",
            [*some, site],
        )
        found |= dict(sent.fetchall())
    return found


def misstored_elsewhere(connection: sqlite3.Connection, issue: str, since: float) -> bool:
    """Return True if Jira has stored a file of another issue in a wrong size since then: it failed, and has an attachment."""
    found = connection.execute(
        "SELECT 1 FROM file WHERE attachment IS NOT NULL AND state IN ('REFUSED', 'FAILED') AND issue <> ? AND verdict_at >= ?"
        " LIMIT 1",
        (issue, since),
    )
    return found.fetchone() is not None
