"""The last day of the token: no API tells it, so the operator does (``jira.auth.token_expires``), and is reminded of it."""

from __future__ import annotations

import datetime
import sqlite3
from typing import TYPE_CHECKING

import structlog

from attachd import errors
from attachd.journal import database

if TYPE_CHECKING:
    from attachd.delivery.runtime import Runtime

log = structlog.get_logger()

#: So many days before it is told, each once.
MARKS_DAYS = (1, 7, 14, 30)
_KEY = "token.told"
REMEDY = "make a new one, put it where [jira.auth] says, and write its last day into jira.auth.token_expires"


def today(now: float) -> datetime.date:
    """The date here at *now*, in seconds since the epoch."""
    return datetime.datetime.fromtimestamp(now).astimezone().date()


def words(expires: datetime.date, day: datetime.date) -> str:
    """Say on *day* when the token ends."""
    left = (expires - day).days
    if left < 0:
        return f"the token has ended on {expires}, by jira.auth.token_expires"
    when = {0: "today", 1: "tomorrow"}.get(left, f"in {left} days")
    return f"the token ends {when} ({expires})"


def nears(expires: datetime.date, day: datetime.date) -> bool:
    """Whether it is time to care."""
    return (expires - day).days <= max(MARKS_DAYS)


def due(expires: datetime.date, day: datetime.date, told: str | None) -> str | None:
    """What to remember as told if something has to be told on *day*, None if not; *told* is what was remembered last.

    Each of ``MARKS_DAYS`` before the end once, the smallest that has been reached; from the last day on, once a day.
    With another last day it begins anew.
    """
    if not nears(expires, day):
        return None
    left = (expires - day).days
    mark = str(day) if left <= 0 else str(min(mark for mark in MARKS_DAYS if left <= mark))
    fresh = f"{expires} {mark}"
    return fresh if fresh != told else None


def remind(runtime: Runtime) -> None:
    """Tell in the log what is due, once, also across restarts.

    It is written down first: a full disk must not make it be told every few seconds. Should the process die right after
    that, this one reminder is missing from the log; ``status`` and ``check`` say it all the same.
    """
    expires = runtime.config.jira.auth.token_expires
    if expires is None:
        return
    day = today(runtime.clock.wall())
    told = runtime.journal.value("SELECT value FROM meta WHERE key = ?", (_KEY,))
    fresh = due(expires, day, told)
    if fresh is None:
        return
    try:
        with runtime.journal.transaction() as connection:
            database.put(connection, _KEY, fresh)
    except sqlite3.OperationalError as error:
        if not errors.disk_fails(error):
            raise
        return
    event = "token.expired" if expires < day else "token.expiring"
    log.warning(event, reason=words(expires, day), remedy=REMEDY)
