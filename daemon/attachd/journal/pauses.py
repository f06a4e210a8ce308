"""What is wrong with the world, as all workers share it: kept in the journal, so that a restart obeys it too."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from attachd.model import Cure, Scope


def project(issue: str) -> str:
    """The project of an issue key."""
    return issue.rpartition("-")[0]


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
        """Return True if it holds files up now: one that ends by a probe or by hand does so until then."""
        return self.cure is not Cure.TIME or self.until > now


def read(connection: sqlite3.Connection) -> list[Pause]:
    """All that are remembered, also those whose time is over (they count how often it happened in a row)."""
    found = connection.execute("SELECT scope, subject, kind, reason, cure, since, until, wait, times, told FROM pause")
    return [Pause(Scope(r[0]), r[1], r[2], r[3], Cure(r[4]), *r[5:]) for r in found]


#: Which files wait until they are due: one index each, so that a start does not look through all that ever was attached.
_WAITS = ("state = 'SEEN'", "state = 'READY' AND due > 0", "state = 'DOUBTFUL'", "state IN ('ATTACHED', 'REFUSED')")


def tame(connection: sqlite3.Connection, now: float) -> None:
    """Shorten every wait that ends later than it can: the journal's time may be short of some of what had passed.

    Written back once, so that a wait that was written in 2038 holds nothing for years.
    """
    connection.execute("UPDATE pause SET until = :now + wait WHERE until > :now + wait + 1", {"now": now})
    for waits in _WAITS:
        connection.execute(f"UPDATE file SET due = :now + wait WHERE {waits} AND due > :now + wait + 1", {"now": now})


def find(connection: sqlite3.Connection, scope: Scope, subject: str = "") -> Pause | None:
    """The one of this scope and subject, if there is any."""
    return next((p for p in read(connection) if (p.scope, p.subject) == (scope, subject)), None)


def put(connection: sqlite3.Connection, pause: Pause) -> None:
    """Remember *pause*, in the place of an earlier one of the same scope and subject."""
    earlier = find(connection, pause.scope, pause.subject)
    if earlier is not None and earlier.since != pause.since:
        ended(connection, earlier, min(earlier.until, pause.since))
    connection.execute(
        "INSERT OR REPLACE INTO pause (scope, subject, kind, reason, cure, since, until, wait, times, told)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(pause.scope, pause.subject, pause.kind, pause.reason, pause.cure),
            *(pause.since, pause.until, pause.wait, pause.times, pause.told),
        ),
    )


def drop(connection: sqlite3.Connection, scope: Scope, subject: str, now: float) -> bool:
    """Forget one; True if there was one."""
    earlier = find(connection, scope, subject)
    if earlier is None:
        return False
    ended(connection, earlier, now if earlier.holds(now) else earlier.until)
    connection.execute("DELETE FROM pause WHERE scope = ? AND subject = ?", (scope, subject))
    return True


#: Shorter pauses make no difference to days, and older ones than this many seconds are forgotten.
_WORTH_SECONDS, _KEPT_SECONDS = 60.0, 366 * 86400.0


def ended(connection: sqlite3.Connection, pause: Pause, until: float) -> None:
    """Keep the time that a pause took; what is open for a try (``until`` 0) was kept when it was opened."""
    if (pause.until or pause.cure is not Cure.TIME) and until - pause.since >= _WORTH_SECONDS:
        connection.execute("INSERT INTO paused VALUES (?, ?, ?, ?)", (pause.scope, pause.subject, pause.since, until))
        connection.execute("DELETE FROM paused WHERE until < ?", (until - _KEPT_SECONDS,))


def seconds_paused(connection: sqlite3.Connection, subjects: Collection[str], since: float, now: float) -> float:
    """How much of the time since *since* was spent in pauses that reach everything or one of *subjects*."""
    kept = connection.execute("SELECT subject, since, until FROM paused WHERE until > ?", (since,)).fetchall()
    spans = [(r[1], r[2]) for r in kept if r[0] in {"", *subjects}]
    spans += [
        (each.since, now if each.holds(now) else each.until)
        for each in read(connection)
        if each.subject in {"", *subjects} and (each.until or each.holds(now))
    ]
    return _covered([(max(begin, since), min(end, now)) for begin, end in spans])


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of what *spans* cover together, each second once."""
    total, reached = 0.0, -math.inf
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
