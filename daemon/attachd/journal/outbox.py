"""The outbox of the hooks: events in the journal, each written in the transaction of what it reports.

Each target has a cursor of its own: the last event that it has certainly received. So each target gets every event at least
once, in order, also across restarts, and a target that is down holds up no other.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attachd.journal import database, rows
from attachd.journal.database import Journal
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.journal.timeline import Timeline

_ON = "hooks"
#: The newest events that are kept, even if a target has not received the older ones.
MOST = 100_000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: to the file of *row*, as it is now, or to what *about* describes."""

    id: int
    kind: str
    at: float
    row: Row | None
    about: Mapping[str, Any]


def shown(event: Event, line: Timeline) -> Event:
    """Return an event with its times by the wall clock."""
    since = {"since": line.shown(event.about["since"])} if "since" in event.about else {}
    return replace(event, at=line.shown(event.at), about={**event.about, **since})


def begin(journal: Journal, targets: Sequence[str]) -> None:
    """Write events for these targets from now on, or none. A new target gets only what happens from now on."""
    with journal.transaction() as connection:
        if not targets:
            connection.execute("DELETE FROM meta WHERE key = ? OR key LIKE 'hooks.%'", (_ON,))
            connection.execute("DELETE FROM event")
            return
        database.put(connection, _ON, 1)
        # Ids go on after those that are forgotten.
        last = connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'").fetchone()[
            0
        ]
        for target in targets:
            if database.get(connection, _cursor(target)) is None:
                database.put(connection, _cursor(target), last)
        known = {_cursor(target) for target in targets}
        for (key,) in connection.execute("SELECT key FROM meta WHERE key LIKE 'hooks.%'").fetchall():
            if key not in known:
                connection.execute("DELETE FROM meta WHERE key = ?", (key,))
        _forget(connection)


def put(connection: sqlite3.Connection, kind: str, now: float, about: Mapping[str, Any]) -> None:
    """Write an event that concerns no single file, if there are hooks."""
    if database.get(connection, _ON):
        connection.execute("INSERT INTO event (kind, at, about) VALUES (?, ?, ?)", (kind, now, json.dumps(about)))


def put_pause(connection: sqlite3.Connection, kind: str, pause: Pause, now: float) -> None:
    """Write the event that a pause began or ended."""
    about = {"scope": str(pause.scope), "subject": pause.subject, "kind": pause.kind, "reason": pause.reason}
    put(connection, kind, now, about | {"since": pause.since, "ends_by": str(pause.cure)})


def after(journal: Journal, target: str, limit: int) -> list[Event]:
    """Return the events that a target has not received yet, in order."""
    with journal.transaction_for_reading() as connection:
        cursor = database.get(connection, _cursor(target)) or 0
        found = connection.execute(
            "SELECT id, kind, at, file, about FROM event WHERE id > ? ORDER BY id LIMIT ?", (cursor, limit)
        ).fetchall()
        known = {row.id: row for row in rows.many(connection, [each[3] for each in found if each[3] is not None])}
    return [Event(each[0], each[1], each[2], known.get(each[3]), json.loads(each[4] or "{}")) for each in found]


@dataclass(frozen=True, slots=True)
class Behind:
    """A *target* that has not received so many events, the first of them at *since*."""

    target: str
    events: int
    since: float


def behind(connection: sqlite3.Connection) -> list[Behind]:
    """Return the targets that have not received every event, by name."""
    found = connection.execute(
        "SELECT substr(meta.key, 7), count(*), min(event.at) FROM meta JOIN event ON event.id > meta.value"
        " WHERE meta.key LIKE 'hooks.%' GROUP BY meta.key"
    )
    return [Behind(*record) for record in found]


def told(journal: Journal, target: str, event: int) -> None:
    """Record that the target received every event up to this one, and forget what all targets have received."""
    with journal.transaction(durable=False) as connection:
        database.put(connection, _cursor(target), event)
        _forget(connection)


def trim(connection: sqlite3.Connection) -> None:
    """Forget all but the newest ``MOST`` events, even if a target has not received them."""
    connection.execute("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?", (MOST,))


def _forget(connection: sqlite3.Connection) -> None:
    least = connection.execute("SELECT min(value) FROM meta WHERE key LIKE 'hooks.%'").fetchone()[0] or 0
    connection.execute("DELETE FROM event WHERE id <= max(?, (SELECT max(id) FROM event) - ?)", (least, MOST))


def _cursor(target: str) -> str:
    return f"hooks.{target}"
