"""The journal's side of retention: walks along the finished rows, oldest first, that continue where they stopped.

Each walk keeps its place in ``meta``. Every ``ROUND_SECONDS`` it starts again, and so returns to the files that were kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from attachd.journal import database, rows
from attachd.model import State

#: How often a walk starts again.
ROUND_SECONDS = 30 * 86_400.0
#: Rows that one step of a walk passes at most.
_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk along the rows of this state that were finished before *until* (seconds since the epoch)."""

    name: str
    state: State
    until: float


@dataclass(frozen=True, slots=True)
class Next:
    """Where a walk has come to: a row to judge, or None; *more* unless it has reached its end."""

    row: rows.Row | None
    more: bool


def find(connection: sqlite3.Connection, walk: Walk, now: float) -> Next:
    """Take the next step of a walk. A file belongs to the latest row that was filed under its name; earlier rows are passed."""
    begun = database.get(connection, f"{walk.name}.begun")
    if begun is None or not 0.0 <= now - float(begun) < ROUND_SECONDS:
        database.put(connection, f"{walk.name}.begun", now)
        _set(connection, walk.name, (0.0, 0))
    place = _place(connection, walk.name)
    found = connection.execute(
        "SELECT id, finished_at, state = ? AND target IS NOT NULL FROM file"
        " WHERE finished_at IS NOT NULL AND (finished_at, id) > (?, ?) AND finished_at < ?"
        " ORDER BY finished_at, id LIMIT ?",
        (walk.state, *place, walk.until, _CHUNK),
    ).fetchall()
    for row_id, finished, lies_there in found:
        if lies_there and not _is_superseded(connection, row := rows.one(connection, row_id)):
            _set(connection, walk.name, place)
            return Next(row, more=True)
        place = (finished, row_id)
    _set(connection, walk.name, place)
    return Next(None, more=len(found) == _CHUNK)


def _is_superseded(connection: sqlite3.Connection, row: rows.Row) -> bool:
    """Return True if a later file was filed under the same name, after a person had taken this one out."""
    later = connection.execute(
        "SELECT 1 FROM file WHERE target = ? AND root = ? AND id > ? AND finished_at IS NOT NULL LIMIT 1",
        (row.target, row.root, row.id),
    )
    return later.fetchone() is not None


def passed(connection: sqlite3.Connection, walk: Walk, row: rows.Row) -> None:
    """Continue the walk behind this row."""
    assert row.finished_at is not None
    _set(connection, walk.name, (row.finished_at, row.id))


def _place(connection: sqlite3.Connection, name: str) -> tuple[float, int]:
    return float(database.get(connection, f"{name}.at") or 0.0), int(database.get(connection, f"{name}.id") or 0)


def _set(connection: sqlite3.Connection, name: str, place: tuple[float, int]) -> None:
    if place != _place(connection, name):
        database.put(connection, f"{name}.at", place[0])
        database.put(connection, f"{name}.id", place[1])


def finished_before(
    connection: sqlite3.Connection, until: float, after: tuple[float, int], limit: int
) -> list[rows.Row]:
    """Return rows that were finished before *until*, the oldest first. *after* (finished_at, id) is the last one not wanted."""
    found = connection.execute(
        rows.SELECT + "WHERE finished_at IS NOT NULL AND finished_at < ? AND (finished_at, id) > (?, ?)"
        " ORDER BY finished_at, id LIMIT ?",
        (until, *after, limit),
    )
    return [rows.from_sql(record) for record in found]


def forget(connection: sqlite3.Connection, row_ids: Sequence[int]) -> None:
    """Delete finished rows."""
    connection.executemany("DELETE FROM file WHERE id = ?", [(row_id,) for row_id in row_ids])


@dataclass(frozen=True, slots=True)
class Growth:
    """The files and bytes that came into ``done`` within *days*."""

    days: float
    files: int
    bytes: int


def growth(connection: sqlite3.Connection, now: float, days: float) -> Growth | None:
    """Return what came into ``done`` in the last *days*, or since the first file. None until a day has passed since that file."""
    first = connection.execute("SELECT min(finished_at) FROM file WHERE finished_at IS NOT NULL").fetchone()[0]
    if first is None or now - first < 86_400.0:
        return None
    days = min(days, (now - first) / 86_400.0)
    files, size = connection.execute(
        "SELECT count(*), coalesce(sum(size), 0) FROM file WHERE finished_at >= ? AND state = 'DONE'",
        (now - days * 86_400.0,),
    ).fetchone()
    return Growth(days, files, size)


def overdue(connection: sqlite3.Connection, state: State, until: float) -> tuple[int, int]:
    """Return how many files of this state have been filed since before *until*, and their bytes."""
    found = connection.execute(
        "SELECT count(*), coalesce(sum(size), 0) FROM file"
        " WHERE finished_at IS NOT NULL AND finished_at < ? AND state = ? AND target IS NOT NULL",
        (until, state),
    ).fetchone()
    return int(found[0]), int(found[1])
