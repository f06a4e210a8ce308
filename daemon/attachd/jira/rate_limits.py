"""Reads from Jira's headers how long to wait."""

from __future__ import annotations

import math
from dataclasses import dataclass

from attachd.jira.reply import Reply, parse_date


def retry_after(reply: Reply) -> float | None:
    """``Retry-After`` in seconds, from either form; None if it is missing or invalid.

    A date counts against the reply's own ``Date``, not against our clock. Headers that begin with ``Beta-`` are
    announcements and are never obeyed (Atlassian, "Rate limiting"); 0 is what Data Center says when tokens are left.
    """
    text = reply.header("retry-after").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        then = parse_date(text)
        seconds = then - reply.date if then is not None and reply.date is not None else math.nan
    return max(0.0, seconds) if math.isfinite(seconds) else None


@dataclass(frozen=True, slots=True)
class Pace:
    """What a reply says about the next requests.

    ``near``: Cloud says that less than a fifth of a limit is left. ``dry_seconds``: on Data Center no token of the
    account's bucket is left, and there is another after so many seconds.
    """

    near: bool = False
    dry_seconds: float = 0.0


#: The longest wait for the next token; for a longer one, a 429 gives the time.
_LONGEST_DRY_SECONDS = 300.0


def pace(reply: Reply) -> Pace:
    """Read the headers that stand on good answers too (Atlassian, "Rate limiting" and "Adjusting your code")."""
    near = reply.header("x-ratelimit-nearlimit").strip().lower() == "true"
    remaining, fill = _number(reply, "x-ratelimit-remaining"), _number(reply, "x-ratelimit-fillrate")
    interval = _number(reply, "x-ratelimit-interval-seconds")
    if remaining is None or remaining >= 1 or not fill or not interval:
        # Cloud says what remains of a second's burst too; only Data Center says how its bucket fills.
        return Pace(near)
    return Pace(near, min(retry_after(reply) or interval / fill, _LONGEST_DRY_SECONDS))


def _number(reply: Reply, name: str) -> float | None:
    try:
        value = float(reply.header(name))
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
