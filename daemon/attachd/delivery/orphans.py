"""Rows that stayed SENDING: their process died, or could not write the answer down. They are in doubt."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from attachd.delivery import outcome, pause, record
from attachd.delivery.runtime import Runtime
from attachd.journal import doubt, pauses
from attachd.journal.rows import Row


def adopt_all(runtime: Runtime) -> None:
    """At the start, take over the rows that an earlier process left SENDING. Without a checksum they were never sent whole.

    Looks start again: their seconds count from the start of this process.
    """
    now = runtime.clock.now()
    with runtime.journal.transaction() as connection:
        pauses.tame(connection, now)
    pause.probe_at_start(runtime)
    with runtime.journal.transaction() as connection:
        _adopt(runtime, connection, doubt.orphans(connection), now)
        first = runtime.doubts.looks_seconds[0]
        connection.execute(
            "UPDATE file SET due = max(due, ?), wait = max(wait, ?) WHERE state = 'DOUBTFUL' AND brief = 0",
            (now + first, first),
        )


def adopt_own(runtime: Runtime) -> None:
    """Take over the rows that stayed SENDING because an answer could not be written down, as after a crash."""
    now, busy = runtime.clock.now(), runtime.busy()
    with runtime.journal.transaction() as connection:
        _adopt(runtime, connection, [row for row in doubt.orphans(connection) if row.issue not in busy], now)
    runtime.adopting = bool(busy)


def _adopt(runtime: Runtime, connection: sqlite3.Connection, orphans: Sequence[Row], now: float) -> None:
    record.apply(connection, orphans, {row.id: outcome.orphaned(row, now, runtime.doubts) for row in orphans}, now)
