"""What is wrong with the world, as all workers share it: kept in the journal, so that a restart obeys it too."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from attachd.model import Cure, Scope


@dataclass(frozen=True, slots=True)
class Pause:
    """One thing that holds files up; ``until`` counts as a time for TIME and as the next try for PROBE."""

    scope: Scope
    subject: str
    kind: str
    reason: str
    cure: Cure
    since: float
    until: float
    wait: float
    times: int
    told: float = 0.0

    def holds(self, now: float) -> bool:
        """Whether it holds files up now: one that ends by a probe or by hand does so until then."""
        return self.cure is not Cure.TIME or self.until > now


def read(connection: sqlite3.Connection) -> list[Pause]:
    """All that are remembered, also those whose time is over (they count how often it happened in a row)."""
    found = connection.execute("SELECT scope, subject, kind, reason, cure, since, until, wait, times, told FROM pause")
    return [Pause(Scope(r[0]), r[1], r[2], r[3], Cure(r[4]), *r[5:]) for r in found]


def tame(connection: sqlite3.Connection, now: float) -> None:
    """Shorten every wait that ends later than it can: the clock was set back, or had jumped ahead when it was written.

    Written back once, so that a clock that had jumped to 2038 holds nothing for years.
    """
    connection.execute("UPDATE pause SET until = :now + wait WHERE until > :now + wait + 1", {"now": now})
    connection.execute(
        "UPDATE file SET due = :now + wait WHERE due > :now + wait + 1 AND finished_at IS NULL", {"now": now}
    )


def put(connection: sqlite3.Connection, pause: Pause) -> None:
    """Remember *pause*, in the place of an earlier one of the same scope and subject."""
    connection.execute(
        "INSERT OR REPLACE INTO pause (scope, subject, kind, reason, cure, since, until, wait, times, told)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(pause.scope, pause.subject, pause.kind, pause.reason, pause.cure),
            *(pause.since, pause.until, pause.wait, pause.times, pause.told),
        ),
    )


def drop(connection: sqlite3.Connection, scope: Scope, subject: str = "") -> bool:
    """Forget one; True if there was one."""
    done = connection.execute("DELETE FROM pause WHERE scope = ? AND subject = ?", (scope, subject))
    return done.rowcount > 0
