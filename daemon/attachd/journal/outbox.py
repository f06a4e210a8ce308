"""What hooks are to be told: an outbox in the journal, written in the transaction of what it tells of.

Each target has a cursor of its own: the last event that it has certainly been told. So each is told everything at least once,
in order, also across restarts, and one that is down holds up no other.
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
#: What is older than this many events is forgotten, whoever has not been told of it.
MOST = 100_000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: *row* is the file that it is about, as it is now, or *about* says what it is about."""

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
    """Write events for these targets from now on; one that is new is told what happens from now on. None: write none."""
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
    """Something happened that is about no single file; nothing is written where there are no hooks."""
    if database.get(connection, _ON):
        connection.execute("INSERT INTO event (kind, at, about) VALUES (?, ?, ?)", (kind, now, json.dumps(about)))


def put_pause(connection: sqlite3.Connection, kind: str, pause: Pause, now: float) -> None:
    """A pause began or ended."""
    about = {"scope": str(pause.scope), "subject": pause.subject, "kind": pause.kind, "reason": pause.reason}
    put(connection, kind, now, about | {"since": pause.since, "ends_by": str(pause.cure)})


def after(journal: Journal, target: str, limit: int) -> list[Event]:
    """What a target has not been told yet, the first first."""
    with journal.transaction_for_reading() as connection:
        cursor = database.get(connection, _cursor(target)) or 0
        found = connection.execute(
            "SELECT id, kind, at, file, about FROM event WHERE id > ? ORDER BY id LIMIT ?", (cursor, limit)
        ).fetchall()
        known = {row.id: row for row in rows.many(connection, [each[3] for each in found if each[3] is not None])}
    return [Event(each[0], each[1], each[2], known.get(each[3]), json.loads(each[4] or "{}")) for each in found]


@dataclass(frozen=True, slots=True)
class Behind:
    """A *target* that was not told of so many events, the first of which happened *since* then."""

    target: str
    events: int
    since: float


def behind(connection: sqlite3.Connection) -> list[Behind]:
    """The targets that have not been told everything, by name."""
    found = connection.execute(
        "SELECT substr(meta.key, 7), count(*), min(event.at) FROM meta JOIN event ON event.id > meta.value"
        " WHERE meta.key LIKE 'hooks.%' GROUP BY meta.key"
    )
    return [Behind(*record) for record in found]


def told(journal: Journal, target: str, event: int) -> None:
    """The target was told everything up to this event; what all have been told is forgotten."""
    with journal.transaction(durable=False) as connection:
        database.put(connection, _cursor(target), event)
        _forget(connection)


def trim(connection: sqlite3.Connection) -> None:
    """Forget what is too much, whoever has not been told of it."""
    connection.execute("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?", (MOST,))


def _forget(connection: sqlite3.Connection) -> None:
    least = connection.execute("SELECT min(value) FROM meta WHERE key LIKE 'hooks.%'").fetchone()[0] or 0
    connection.execute("DELETE FROM event WHERE id <= max(?, (SELECT max(id) FROM event) - ?)", (least, MOST))


def _cursor(target: str) -> str:
    return f"hooks.{target}"
