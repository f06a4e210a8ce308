"""What delivery reads and writes: which issue is next, the intent, the verdict, the move.

Every step is repeatable: a process that dies between two of them leaves a row from which the same loop goes on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from attachd.journal import contested, database, rows
from attachd.model import State

#: Issues are read in groups, because most often the first will do.
_ISSUES_AT_ONCE = 16


def issues(connection: sqlite3.Connection, epoch: int) -> Iterator[str]:
    """Issues with files that are READY and were found in this epoch, the one served longest ago first, one never served
    before all others.
    """
    served, issue = -1, ""
    while True:
        found = connection.execute(
            "SELECT served, issue FROM issue_queue WHERE ready > 0 AND (served, issue) > (?, ?)"
            " AND EXISTS (SELECT 1 FROM file WHERE state = 'READY' AND file.issue = issue_queue.issue AND epoch = ?)"
            " ORDER BY served, issue LIMIT ?",
            (served, issue, epoch, _ISSUES_AT_ONCE),
        ).fetchall()
        yield from (record[1] for record in found)
        if len(found) < _ISSUES_AT_ONCE:
            return
        served, issue = found[-1][0], found[-1][1]


def waits(connection: sqlite3.Connection) -> bool:
    """Return True if any file is READY, even if its issue is being served or paused."""
    return connection.execute("SELECT 1 FROM issue_queue WHERE ready > 0 LIMIT 1").fetchone() is not None


def sendable(connection: sqlite3.Connection, issue: str, now: float, epoch: int, limit: int) -> list[rows.Row]:
    """The first files of *issue* that may be sent now, in the order in which they were seen.

    Those whose uploads met a fault that may be their own come after the others, until one of these is accepted. None while an
    answer of this issue is contested, and none whose stored name and size are those of a file in doubt: a listing could not tell
    the two apart. Rows of an earlier epoch wait for the scan to find their file again.
    """
    if connection.execute(
        "SELECT 1 FROM file WHERE state = 'READY' AND contested IS NOT NULL AND issue = ?", (issue,)
    ).fetchone():
        return []
    ready = (
        "AS f WHERE state = 'READY' AND issue = ? AND due <= ? AND epoch = ? AND generation = 0 AND blocked IS NULL"
        " AND NOT EXISTS"
        " (SELECT 1 FROM file AS d WHERE d.state = 'DOUBTFUL' AND d.issue = f.issue AND d.name = f.name AND d.size = f.size)"
    )
    accepted_since = "SELECT 1 FROM file AS a WHERE a.attachment IS NOT NULL AND a.attempt > f.fault_attempt"
    for which in (f" AND (site_faults = 0 OR EXISTS ({accepted_since}))", ""):
        found = connection.execute(
            f"{rows.SELECT}{ready}{which} ORDER BY id LIMIT ?", (issue, now, epoch, limit)
        ).fetchall()
        if found:
            return [rows.from_sql(record) for record in found]
    return []


#: What ``limits.issue_files_per_hour`` counts over, in seconds.
HOUR = 3600.0


def left_of_hour(connection: sqlite3.Connection, issue: str, now: float, most: int) -> tuple[int, float]:
    """How many files an issue may still get within the hour if *most* are allowed (0: any number), and when the first
    of a full hour ages out. Counts what was accepted since ``issue_queue.counted_from``.
    """
    if not most:
        return _ANY, 0.0
    accepted = (
        "FROM file WHERE issue = :issue AND attachment IS NOT NULL AND verdict_at > max(:since,"
        " coalesce((SELECT counted_from FROM issue_queue WHERE issue = :issue), 0))"
    )
    about = {"issue": issue, "since": now - HOUR, "place": most - 1}
    left = most - int(connection.execute(f"SELECT count(*) {accepted}", about).fetchone()[0])
    if left > 0:
        return left, 0.0
    full = connection.execute(f"SELECT verdict_at {accepted} ORDER BY verdict_at DESC LIMIT 1 OFFSET :place", about)
    return left, float(full.fetchone()[0]) + HOUR


_ANY = 2**31


def intend(
    connection: sqlite3.Connection,
    batch: Sequence[rows.Row],
    *,
    author: str | None,
    site: str,
    sent_at: float,
    now: float,
    wall: float,
    checksums: Sequence[bytes] | None,
    sent_slack: float | None = None,
) -> int:
    """Write down that these rows are about to be sent, in one request. Durable before the first byte leaves.

    Returns the attempt's number. *checksums* only where the whole body is one buffer; *sent_slack* is how far *sent_at* may
    be off.
    """
    attempt = database.increment(connection, "attempt")
    changes = {
        row.id: {
            "state": State.SENDING,
            "since": now,
            "attempt": attempt,
            "tries": row.tries + 1,
            # Two attempts by two accounts: what may have come of the earlier one is the other account's.
            "author": "" if row.ever_doubtful and row.author not in (None, author) else author,
            "site": site,
            "sent_at": sent_at,
            "sent_ctime_ns": _proving(row.ctime_ns, wall),
            "sent_slack": sent_slack,
            # A checksum of an earlier doubtful attempt is kept: without it that attempt could not be looked up.
            "sha256": checksums[position] if checksums else row.sha256 if row.ever_doubtful else None,
            **contested.CLEARED_FOR_A_TRY,
        }
        for position, row in enumerate(batch)
    }
    rows.change_many(connection, changes)
    connection.execute(
        "INSERT INTO issue_queue (issue, served) VALUES (?, ?) ON CONFLICT (issue) DO UPDATE SET served = excluded.served",
        (batch[0].issue, attempt),
    )
    return attempt


#: A write this soon after the last change may leave the same ctime: clocks of file systems tick every few milliseconds, some
#: every second.
_TICK_SECONDS = 1.0


def _proving(ctime_ns: int, wall: float) -> int | None:
    """The ctime by which a file that was opened under it is known to be unwritten since; None where it is too young."""
    return ctime_ns if ctime_ns / 1e9 + _TICK_SECONDS < wall else None


def checksums(connection: sqlite3.Connection, batch: Sequence[rows.Row], sums: Sequence[bytes]) -> None:
    """Write down what is about to be complete on the wire. Durable before the closing boundary leaves."""
    changes = {row.id: {"sha256": sha256} for row, sha256 in zip(batch, sums, strict=True)}
    rows.change_many(connection, changes)


def with_verdict(connection: sqlite3.Connection, now: float, limit: int, busy: Collection[int]) -> list[int]:
    """The ids of rows whose verdict is durable and whose file is still to be moved."""
    found = connection.execute(
        "SELECT id FROM file WHERE state IN ('ATTACHED', 'REFUSED') AND due <= ? ORDER BY due, id LIMIT ?",
        (now, limit + len(busy)),
    )
    return [record[0] for record in found if record[0] not in busy][:limit]


def targeted(connection: sqlite3.Connection) -> list[rows.Row]:
    """Rows whose target is chosen: after a restart or a remount these are closed before any file is matched to a row."""
    found = connection.execute(rows.SELECT + "WHERE state IN ('ATTACHED', 'REFUSED') AND target IS NOT NULL")
    return sorted(map(rows.from_sql, found), key=lambda row: row.id)


def promised(connection: sqlite3.Connection, root: str, target: bytes, row_id: int) -> bool:
    """Return True if an unfinished row other than *row_id* is on its way to this name."""
    found = connection.execute(
        "SELECT 1 FROM file WHERE root = ? AND target = ? AND finished_at IS NULL AND id <> ?", (root, target, row_id)
    )
    return found.fetchone() is not None


def belongs_to_another(connection: sqlite3.Connection, root: str, target: bytes, row_id: int) -> bool:
    """Return True if a finished row was filed under this name: what lies there belongs to it, and is never put back."""
    found = connection.execute(
        "SELECT 1 FROM file WHERE root = ? AND target = ? AND finished_at IS NOT NULL AND id <> ?",
        (root, target, row_id),
    )
    return found.fetchone() is not None


def finished(row: rows.Row, now: float, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row whose file is where its verdict put it, durably: it is closed."""
    state = State.DONE if row.state is State.ATTACHED else State.FAILED
    return {"state": state, "since": now, "finished_at": now, **extra}


def next_due(connection: sqlite3.Connection, now: float) -> float | None:
    """When the next thing that waits for a time is due (later than *now*); None where nothing does."""
    found = connection.execute(
        "SELECT min(due) FROM (SELECT min(due) AS due FROM file WHERE state = 'READY' AND due > 0 AND due > :now"
        " UNION ALL SELECT min(due) FROM file WHERE state = 'DOUBTFUL' AND due > :now"
        " UNION ALL SELECT min(due) FROM file WHERE state IN ('ATTACHED', 'REFUSED') AND due > :now"
        " UNION ALL SELECT min(until) FROM pause WHERE until > :now)",
        {"now": now},
    )
    value = found.fetchone()[0]
    return float(value) if value is not None else None


def accepted_since(connection: sqlite3.Connection, attempt: int, other_than: int) -> bool:
    """Return True if another file was accepted by a later attempt."""
    found = connection.execute(
        "SELECT 1 FROM file WHERE attachment IS NOT NULL AND attempt > ? AND id <> ? LIMIT 1", (attempt, other_than)
    )
    return found.fetchone() is not None


def tried_in_vain(connection: sqlite3.Connection, seen_before: float, now: float) -> list[rows.Row]:
    """Files seen before then that were sent or asked about, and wait for their next try."""
    found = connection.execute(
        rows.SELECT + "WHERE state = 'READY' AND due > ? AND seen_at < ? AND (tries > 0 OR contested IS NOT NULL)",
        (now, seen_before),
    )
    return [rows.from_sql(record) for record in found]


def left_elsewhere(connection: sqlite3.Connection, since_before: float, site: str) -> list[rows.Row]:
    """Files that have been in doubt since before then, and can be looked for at another site alone."""
    found = connection.execute(
        rows.SELECT + "WHERE state = 'DOUBTFUL' AND since < ? AND site <> ?", (since_before, site)
    )
    return [rows.from_sql(record) for record in found]


def oldest_issue(connection: sqlite3.Connection) -> list[str]:
    """The issue of the file that has waited longest, if any waits."""
    found = connection.execute(
        "SELECT issue FROM file WHERE state IN ('READY', 'DOUBTFUL') ORDER BY id LIMIT 1"
    ).fetchall()
    return [record[0] for record in found]


def noted(connection: sqlite3.Connection, folder: str) -> list[rows.Row]:
    """Failed rows of one folder of ``failed`` that have a note there."""
    prefix = folder.encode("utf-8", "surrogateescape")
    found = connection.execute(
        rows.SELECT + "WHERE note IS NOT NULL AND note > ? AND note < ? AND state = 'FAILED'",
        (prefix + b"/", prefix + b"0"),
    )
    return [rows.from_sql(record) for record in found]
