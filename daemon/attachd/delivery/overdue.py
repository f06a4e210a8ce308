"""Files that are given up: after ``limits.give_up_days``, as something always spoke against them; and after
``doubt.give_up_hours``, as they can be looked for at another site alone, and nobody said that it is this one.
"""

from __future__ import annotations

from attachd.delivery import outcome, record
from attachd.delivery.runtime import Desk
from attachd.journal import pauses, queue, rows
from attachd.journal.rows import Row

DAY = 86_400.0


def give_up(desk: Desk) -> list[Row]:
    """Refuse what has waited for too long; time in pauses does not count. Returns the rows as they are then.

    Only what was tried a short while ago: after a long downtime everything gets a fresh try first.
    """
    given_up = [*_left_elsewhere(desk), *_tried_in_vain(desk)]
    record.tell(given_up)
    if given_up:
        desk.bell.ring()
    return given_up


def _left_elsewhere(desk: Desk) -> list[Row]:
    now, hours, given_up = desk.clock.now(), desk.config.doubt.give_up_hours, list[Row]()
    with desk.journal.transaction() as connection:
        for row in queue.left_elsewhere(connection, now - hours * 3600, desk.site.url):
            reason = (
                f"it may be attached at {row.site}, where it was sent before jira.url was changed; {outcome.PERSON}"
            )
            if rows.change_if_same(connection, row, outcome.refused(reason, now, may_be_attached=True)):
                given_up.append(rows.one(connection, row.id))
    return given_up


def _tried_in_vain(desk: Desk) -> list[Row]:
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
    return given_up
