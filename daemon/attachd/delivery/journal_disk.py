"""The disk of the journal fails: everything waits. The log says so once, again while it lasts, and when it is over."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from attachd import errors
from attachd.delivery.runtime import Runtime
from attachd.journal import outbox, shared_memory
from attachd.journal.pauses import Pause
from attachd.logger import get_logger
from attachd.model import Cure, Scope

log = get_logger()

#: What kind of pause it is; the journal cannot hold it.
KIND = "journal-disk"


@dataclass(slots=True)
class _Full:
    """When the log last said that the disk fails (CLOCK_BOOTTIME), and since when it does (journal's time); or 0."""

    told: float = 0.0
    since: float = 0.0


def met(runtime: Runtime, error: sqlite3.OperationalError) -> None:
    """Nothing can be written down, so nothing is begun; what was under way is adopted when there is room again."""
    runtime.adopting = True
    runtime.journal.note(error)
    boot, full = runtime.clock.boot(), runtime.memory(_Full)
    with runtime.lock:
        again = boot - (full.told or boot) >= runtime.config.limits.remind_hours * 3600
        if full.told and not again:
            return
        full.told, full.since = boot, full.since or runtime.clock.now()
    log.error(
        "journal.full",
        reason=str(error),
        folder=str(runtime.journal.path.parent),
        remedy=errors.JOURNAL_DISK_REMEDY,
        seconds=round(runtime.clock.now() - full.since),
    )


def over(runtime: Runtime) -> None:
    """Say once that what is written is durable again; a small step may find room where the next one does not."""
    full = runtime.memory(_Full)
    if not full.told or runtime.journal.failing or not shared_memory.has_room(runtime.journal.path.parent):
        return
    with runtime.lock:
        if not full.told:
            return
        since, full.told, full.since = full.since, 0.0, 0.0
    now = runtime.clock.now()
    reason = "the disk of the state folder could not be written"
    held = Pause(Scope.SITE, "", KIND, reason, Cure.PROBE, since, now, 0.0, 1)
    with runtime.journal.transaction() as connection:
        # While it lasted there was nowhere to write that down.
        outbox.put_pause(connection, "paused", held, since)
        outbox.put_pause(connection, "resumed", held, now)
    log.info("journal.writable", seconds=round(now - since))
