"""When attachd last reminded people of a problem, and when it does so again (``limits.remind_hours``)."""

from __future__ import annotations

import sqlite3

from attachd.journal import database


def is_due(told: float | None, since: float, now: float, warn_seconds: float, remind_seconds: float) -> bool:
    """Return True if it is time to remind people of a problem that lasts *since* then. *told* is the last reminder. Pure.

    A clock that was set back counts as time that has passed: a second reminder is better than none.
    """
    if told is None:
        return now - since >= warn_seconds
    return not 0 <= now - told < remind_seconds


def note(connection: sqlite3.Connection, key: str, now: float) -> None:
    """Record that people are reminded of *key* now."""
    database.put(connection, f"told.{key}", now)


def told(connection: sqlite3.Connection, key: str) -> float | None:
    """Return when people were last reminded of *key*; None if it is new."""
    found = database.get(connection, f"told.{key}")
    return None if found is None else float(found)


def over(connection: sqlite3.Connection, key: str) -> bool:
    """*key* is over; True if people had been told of it."""
    return connection.execute("DELETE FROM meta WHERE key = ?", (f"told.{key}",)).rowcount > 0
