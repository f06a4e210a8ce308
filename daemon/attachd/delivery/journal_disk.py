"""The disk of the journal fails: everything waits. It is told once, again while it lasts, and when it is over."""

from __future__ import annotations

import sqlite3

import structlog

from attachd import errors
from attachd.delivery.runtime import Runtime
from attachd.journal import outbox, shared_memory
from attachd.journal.pauses import Pause
from attachd.model import Cure, Scope

log = structlog.get_logger()

#: What kind of pause it is; the journal cannot hold it.
KIND = "journal-disk"


def met(runtime: Runtime, error: sqlite3.OperationalError) -> None:
    """Nothing can be written down, so nothing is begun; what was under way is adopted when there is room again."""
    runtime.adopting = True
    runtime.journal.note(error)
    boot = runtime.clock.boot()
    with runtime.lock:
        again = boot - (runtime.full_told or boot) >= runtime.config.limits.remind_hours * 3600
        if runtime.full_told and not again:
            return
        runtime.full_told, runtime.full_since = boot, runtime.full_since or runtime.clock.now()
    log.error(
        "journal.full",
        reason=str(error),
        folder=str(runtime.journal.path.parent),
        remedy=errors.JOURNAL_DISK_REMEDY,
        seconds=round(runtime.clock.now() - runtime.full_since),
    )


def over(runtime: Runtime) -> None:
    """Say once that what is written is durable again; a small step may find room where the next one does not."""
    if not runtime.full_told or runtime.journal.failing or not shared_memory.has_room(runtime.journal.path.parent):
        return
    with runtime.lock:
        if not runtime.full_told:
            return
        since, runtime.full_told, runtime.full_since = runtime.full_since, 0.0, 0.0
    now = runtime.clock.now()
    reason = "the disk of the state folder did not take what is written"
    held = Pause(Scope.SITE, "", KIND, reason, Cure.PROBE, since, now, 0.0, 1)
    with runtime.journal.transaction() as connection:
        # While it lasted there was nowhere to write that down.
        outbox.put_pause(connection, "paused", held, since)
        outbox.put_pause(connection, "resumed", held, now)
    log.info("journal.writable", seconds=round(now - since))
