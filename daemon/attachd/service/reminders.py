"""Reminders for the operator: files that wait too long, and pauses that last. Also: giving files up.

attachd logs each cause once, then every ``limits.remind_hours`` while it lasts, and once when it is over; also across
restarts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from attachd import errors
from attachd.delivery import blame, outcome, record
from attachd.delivery.runtime import Runtime
from attachd.journal import contested, lookup, outbox, pauses, queue, reminders, rows, timeline
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.logger import get_logger
from attachd.model import Cure, printable

# A file is given up after ``limits.give_up_days`` of tries. A file that may be attached at another site is given up after
# ``doubt.give_up_hours``, unless the operator says that both are the same site.

DAY = 86_400.0


def give_up(runtime: Runtime) -> list[Row]:
    """Refuse files that have waited too long; time in pauses does not count. Returns the changed rows.

    Only files that were tried recently: after a long downtime each file gets a new try first.
    """
    given_up = [*_left_elsewhere(runtime), *_tried_in_vain(runtime)]
    record.tell(given_up)
    if given_up:
        runtime.wakeup.notify()
    return given_up


def _left_elsewhere(runtime: Runtime) -> list[Row]:
    now, hours, given_up = runtime.clock.now(), runtime.config.doubt.give_up_hours, list[Row]()
    with runtime.journal.transaction() as connection:
        for row in queue.left_elsewhere(connection, now - hours * 3600, runtime.site.url):
            reason = (
                f"it may be attached at {row.site}, where it was sent before jira.url was changed. {outcome.PERSON}"
            )
            if rows.change_if_same(connection, row, outcome.refused(row, reason, now)):
                given_up.append(rows.one(connection, row.id))
    return given_up


def _tried_in_vain(runtime: Runtime) -> list[Row]:
    days, now = runtime.config.limits.give_up_days, runtime.clock.now()
    if not days:
        return []
    busy = runtime.busy()
    with runtime.journal.transaction() as connection:
        waiting = [row for row in queue.tried_in_vain(connection, now - days * DAY, now) if row.issue not in busy]
        given_up = []
        for row in waiting:
            subjects = {row.issue, pauses.project(row.issue)}
            if now - row.seen_at - pauses.seconds_paused(connection, subjects, row.seen_at, now) < days * DAY:
                continue
            reason = (
                f"attachd gave up after {days} days (limits.give_up_days). The last reason: {row.reason or 'unknown'}"
            )
            values = outcome.refused(row, reason, now)
            if rows.change_if_same(connection, row, values):
                given_up.append(rows.one(connection, row.id))
    return given_up


log = get_logger()


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem that has lasted since *since*; ``about`` goes into the log."""

    since: float
    about: dict[str, Any]


def step(runtime: Runtime) -> None:
    """Give up files that are overdue, then log the reminders that are due."""
    with errors.left_to_workers():
        mark_time(runtime)
        give_up(runtime)
        remind(runtime)


def mark_time(runtime: Runtime) -> None:
    """Record the time now and then, and log it if the wall clock was set."""
    with runtime.journal.transaction_for_reading() as connection:
        if not timeline.due(connection, runtime.clock):
            return
    with runtime.journal.transaction(durable=False) as connection:
        moved = timeline.mark(connection, runtime.clock)
    if moved:
        log.warning("clock.set", seconds=round(moved), reason="the wall clock was set; waits keep their length")


def remind(runtime: Runtime) -> None:
    """Log the reminders that are due. Cheap: a few look-ups by index, and a write only if there is a reminder."""
    now = runtime.clock.now()
    limits = runtime.config.limits
    warn, again = limits.warn_after_minutes * 60, limits.remind_hours * 3600
    with runtime.journal.transaction() as connection:
        outbox.trim(connection)
        lines = [_of_pause(connection, each, now) for each in _paused(connection, now, again)]
        for key, find in CAUSES.items():
            lines += _of_cause(connection, key, find(connection, runtime, now), now, warn, again)
    for line in lines:
        line()


Line = Callable[[], None]


def _paused(connection: sqlite3.Connection, now: float, again: float) -> list[Pause]:
    return [p for p in pauses.read(connection) if p.holds(now) and reminders.is_due(p.told, p.since, now, 0.0, again)]


def _of_pause(connection: sqlite3.Connection, pause: Pause, now: float) -> Line:
    pauses.put(connection, replace(pause, told=now))
    about: dict[str, Any] = {"scope": pause.scope, "subject": pause.subject, "kind": pause.kind, "reason": pause.reason}
    if pause.cure is Cure.HAND:
        about["remedy"] = "`attachd resume` ends the pause"
    return lambda: log.warning("delivery.still_paused", **about, seconds=round(now - pause.since))


def _of_cause(
    connection: sqlite3.Connection, key: str, found: Trouble | None, now: float, warn: float, again: float
) -> list[Line]:
    if found is None:
        return [lambda: log.info(f"{key}.over")] if reminders.over(connection, key) else []
    if not reminders.is_due(reminders.told(connection, key), found.since, now, warn, again):
        return []
    reminders.note(connection, key, now)
    outbox.put(connection, "stuck", now, found.about | {"cause": key, "since": found.since})
    return [lambda: log.warning(key, **found.about, seconds=round(now - found.since))]


# --- The causes -------------------------------------------------------------------------------------------------


def _waiting(connection: sqlite3.Connection, runtime: Runtime, now: float) -> Trouble | None:
    """Find files that have waited longer than ``limits.warn_after_minutes``."""
    count, oldest = lookup.waiting_since(connection, now - runtime.config.limits.warn_after_minutes * 60)
    if oldest is None:
        return None
    about = {"files": count, "id": oldest.ident, "issue": oldest.issue, "file": printable(oldest.path)}
    reason = oldest.said or "it is waiting for its turn"
    remedy = "`attachd status` lists them, `attachd why FILE` says what holds a file"
    return Trouble(oldest.seen_at, about | {"reason": reason, "remedy": remedy})


def _unrouted(connection: sqlite3.Connection, runtime: Runtime, now: float) -> Trouble | None:
    """Find folders with files that are not issue folders."""
    folders = connection.execute("SELECT folder, reason, files, since FROM unrouted ORDER BY since").fetchall()
    late = [f for f in folders if now - f[3] >= runtime.config.limits.warn_after_minutes * 60]
    if not late:
        return None
    folder, reason, _, since = late[0]
    about = {"folders": len(late), "files": sum(f[2] for f in late), "folder": printable(folder) or "the inbox itself"}
    return Trouble(since, about | {"reason": reason})


def _contested(connection: sqlite3.Connection, runtime: Runtime, now: float) -> Trouble | None:
    """Find refusals that wait for a person."""
    del now
    issues = contested.issues(connection, runtime.site.url)
    if not issues:
        return None
    remedy = "check the names of these folders and the account's permissions. `attachd resume` files them as refused"
    return Trouble(min(each.since for each in issues), blame.in_numbers(issues) | {"remedy": remedy})


#: The log event of each cause, and how to find it; None if there is no such trouble.
CAUSES: dict[str, Callable[[sqlite3.Connection, Runtime, float], Trouble | None]] = {
    "files.waiting_long": _waiting,
    "files.without_issue": _unrouted,
    blame.CONTESTED: _contested,
}
