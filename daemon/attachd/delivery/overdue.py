"""Files that are given up after ``limits.give_up_days``: they were tried, and something always spoke against them."""

from __future__ import annotations

from attachd.delivery import outcome, recording
from attachd.delivery.desk import Desk
from attachd.journal import pauses, queue, rows
from attachd.journal.rows import Row

DAY = 86_400.0


def give_up(desk: Desk) -> list[Row]:
    """Refuse what has waited for too long; time in pauses does not count. Returns the rows as they are then.

    Only what was tried a short while ago: after a long downtime everything gets a fresh try first.
    """
    days, now = desk.config.limits.give_up_days, desk.clock.now()
    if not days:
        return []
    busy = desk.busy()
    with desk.journal.transaction() as connection:
        waiting = [row for row in queue.tried_in_vain(connection, now - days * DAY, now) if row.lane not in busy]
        given_up = []
        for row in waiting:
            subjects = {row.lane, pauses.project(row.lane)}
            if now - row.seen_at - pauses.seconds_paused(connection, subjects, row.seen_at, now) < days * DAY:
                continue
            reason = (
                f"it was given up after {days} days (limits.give_up_days); at last: {row.reason or 'no reason known'}"
            )
            values = outcome.refused(reason, now, may_be_attached=row.ever_doubtful)
            if rows.change_if_same(connection, row, values):
                given_up.append(rows.one(connection, row.id))
    recording.tell(given_up)
    if given_up:
        desk.bell.ring()
    return given_up
