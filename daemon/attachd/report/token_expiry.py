"""Reminders of the token's last day. No API reports it, so the operator configures it (``jira.auth.token_expires``)."""

from __future__ import annotations

import datetime

#: So many days before the end attachd logs a reminder, each once.
MARKS_DAYS = (1, 7, 14, 30)
REMEDY = "create a new token, put it where [jira.auth] says, and set jira.auth.token_expires to its last day"


def today(now: float) -> datetime.date:
    """Return the local date at *now*, in seconds since the epoch."""
    return datetime.datetime.fromtimestamp(now).astimezone().date()


def words(expires: datetime.date, day: datetime.date) -> str:
    """Say on *day* when the token expires."""
    left = (expires - day).days
    if left < 0:
        return f"the token expired on {expires} (jira.auth.token_expires)"
    when = {0: "today", 1: "tomorrow"}.get(left, f"in {left} days")
    return f"the token expires {when} ({expires})"


def nears(expires: datetime.date, day: datetime.date) -> bool:
    """Return True if it is time for a reminder."""
    return (expires - day).days <= max(MARKS_DAYS)


def due(expires: datetime.date, day: datetime.date, before: str | None) -> str | None:
    """Return a mark to record if a reminder is due on *day*, or None; *before* is the last mark that was recorded.

    There is one reminder at each of ``MARKS_DAYS``, and one a day from the last day on. Another last day starts over.
    """
    if not nears(expires, day):
        return None
    left = (expires - day).days
    mark = str(day) if left <= 0 else str(min(mark for mark in MARKS_DAYS if left <= mark))
    fresh = f"{expires} {mark}"
    return fresh if fresh != before else None
