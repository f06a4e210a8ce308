"""What lasts is told once, then every ``limits.remind_hours``, and once when it is over. What was told is remembered."""

from __future__ import annotations

import sqlite3

from attachd.journal import database


def is_due(told: float | None, since: float, now: float, warn_seconds: float, remind_seconds: float) -> bool:
    """Whether people are to be told of what lasts *since* then, and were *told* of last. Pure.

    A clock that was set back counts as time that has passed: better twice than never.
    """
    if told is None:
        return now - since >= warn_seconds
    return not 0 <= now - told < remind_seconds


def note(connection: sqlite3.Connection, key: str, now: float) -> None:
    """People are told of *key* now."""
    database.put(connection, f"told.{key}", now)


def told(connection: sqlite3.Connection, key: str) -> float | None:
    """When people were told of *key* last; None if it is new."""
    found = database.get(connection, f"told.{key}")
    return None if found is None else float(found)


def over(connection: sqlite3.Connection, key: str) -> bool:
    """*key* is over; True if people had been told of it."""
    return connection.execute("DELETE FROM meta WHERE key = ?", (f"told.{key}",)).rowcount > 0
