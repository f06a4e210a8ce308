"""What an administrator tells the journal by hand: wait, and go on. Works beside a running daemon, and without one."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace

from attachd.journal import contested, moved_issues, outbox, pauses
from attachd.journal.pauses import Pause
from attachd.journal.timeline import Timeline
from attachd.model import Cure, Scope

#: The kind of pause that Jira itself asked for: nobody here can end it.
ASKED_BY_JIRA = "rate-limit"
BY_HAND = "by-hand"


@dataclass(frozen=True, slots=True)
class Resumed:
    """What ``resume`` ended, and what it could not.

    ``ended`` are over; ``tried`` end when the next try succeeds, which is due now; ``kept`` are Jira's to end.
    ``believed`` files are filed as refused, ``again`` are sent once more. ``forgotten`` are keys of the issue that were taken
    to be moved: their files go to the key of their folder again.
    """

    ended: tuple[Pause, ...]
    tried: tuple[Pause, ...]
    kept: tuple[Pause, ...]
    believed: int
    again: int
    forgotten: tuple[str, ...] = ()


def shown(done: Resumed, line: Timeline) -> Resumed:
    """Return what was resumed with its times by the wall clock."""
    ended, tried, kept = (tuple(map(line.pause, each)) for each in (done.ended, done.tried, done.kept))
    return replace(done, ended=ended, tried=tried, kept=kept)


def knows(connection: sqlite3.Connection, issue: str) -> bool:
    """Return True if there has ever been a file for this issue."""
    sent = "SELECT 1 FROM issue_queue WHERE issue = :issue"
    unsent = "SELECT 1 FROM file INDEXED BY file_inode WHERE finished_at IS NULL AND issue = :issue"
    return connection.execute(f"{sent} UNION ALL {unsent} LIMIT 1", {"issue": issue}).fetchone() is not None


def pause(connection: sqlite3.Connection, issue: str, now: float, seconds: float | None) -> Pause:
    """Pause one issue ("": everything) until ``resume``, or for so many seconds. An earlier one by hand is replaced."""
    earlier = pauses.find(connection, Scope.OPERATOR, issue)
    goes_on = earlier is not None and earlier.holds(now)
    if earlier is not None and not goes_on:
        pauses.drop(connection, earlier.scope, earlier.subject, now)
    since = earlier.since if earlier is not None and goes_on else now
    cure, wait = (Cure.HAND, 0.0) if seconds is None else (Cure.TIME, seconds)
    made = Pause(Scope.OPERATOR, issue, BY_HAND, "paused by hand", cure, since, now + wait, wait, 1, now)
    pauses.put(connection, made)
    if not goes_on:
        outbox.put_pause(connection, "paused", made, now)
    return made


def resume(connection: sqlite3.Connection, issue: str, now: float) -> Resumed:
    """End what holds one issue alone ("": everything), and count its files from zero for ``limits.issue_files_per_hour``.

    What only a try can end is tried at once. What Jira asked us to wait is waited. What was learned about the one issue, that
    it was moved or can no longer be seen, is forgotten.
    """
    forgotten = _forget(connection, issue) if issue else ()
    holding = [p for p in pauses.read(connection) if issue in ("", p.subject) and p.holds(now)]
    kept = tuple(p for p in holding if p.kind == ASKED_BY_JIRA)
    tried = tuple(p for p in holding if p not in kept and p.cure is Cure.PROBE)
    ended = tuple(p for p in holding if p not in kept and p not in tried)
    for each in ended:
        pauses.drop(connection, each.scope, each.subject, now)
        outbox.put_pause(connection, "resumed", each, now)
    for each in tried:
        pauses.put(connection, replace(each, until=0.0))
    believed, again = contested.confirm(connection, issue)
    connection.execute("UPDATE issue_queue SET counted_from = ? WHERE ? IN ('', issue)", (now, issue))
    return Resumed(ended, tried, kept, believed, again, forgotten)


def _forget(connection: sqlite3.Connection, issue: str) -> tuple[str, ...]:
    """Forget what was learned about an issue; returns the keys that were taken to lead to it."""
    connection.execute("DELETE FROM struck WHERE issue = ?", (issue,))
    found = connection.execute("SELECT folder_key FROM moved WHERE issue = ? ORDER BY folder_key", (issue,)).fetchall()
    for record in found:
        moved_issues.split_issue(connection, record[0])
    return tuple(record[0] for record in found)
