"""The disk of the journal fails: everything waits. It is told once, again while it lasts, and when it is over."""

from __future__ import annotations

import sqlite3

import structlog

from attachd.delivery.runtime import Desk
from attachd.journal import outbox, shared_memory
from attachd.journal.pauses import Pause
from attachd.model import Cure, Scope

log = structlog.get_logger()

#: What kind of pause it is; the journal cannot hold it.
KIND = "journal-disk"


def met(desk: Desk, error: sqlite3.OperationalError) -> None:
    """Nothing can be written down, so nothing is begun; what was under way is adopted when there is room again."""
    desk.adopting = True
    desk.journal.note(error)
    boot = desk.clock.boot()
    with desk.lock:
        again = boot - (desk.full_told or boot) >= desk.config.limits.remind_hours * 3600
        if desk.full_told and not again:
            return
        desk.full_told, desk.full_since = boot, desk.full_since or desk.clock.now()
    log.error(
        "journal.full",
        reason=str(error),
        folder=str(desk.journal.path.parent),
        remedy="make room on the disk of the state folder, or mend it",
        seconds=round(desk.clock.now() - desk.full_since),
    )


def over(desk: Desk) -> None:
    """Say once that what is written is durable again; a small step may find room where the next one does not."""
    if not desk.full_told or desk.journal.failing or not shared_memory.has_room(desk.journal.path.parent):
        return
    with desk.lock:
        if not desk.full_told:
            return
        since, desk.full_told, desk.full_since = desk.full_since, 0.0, 0.0
    now = desk.clock.now()
    reason = "the disk of the state folder did not take what is written"
    held = Pause(Scope.SITE, "", KIND, reason, Cure.PROBE, since, now, 0.0, 1)
    with desk.journal.transaction() as connection:
        # While it lasted there was nowhere to write that down.
        outbox.put_pause(connection, "paused", held, since)
        outbox.put_pause(connection, "resumed", held, now)
    log.info("journal.writable", seconds=round(now - since))
