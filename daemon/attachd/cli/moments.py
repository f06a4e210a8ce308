"""Times as people write them on a command line: a length, or a moment in the past."""

from __future__ import annotations

import datetime
import re

from attachd.errors import Mistake, Problem
from attachd.model import printable

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: Longer than this is a slip of the finger; without ``--for`` a pause has no end.
_LONGEST_SECONDS = 366 * 86400


def length(text: str, option: str) -> float:
    """Read ``90s``, ``30m``, ``2h`` or ``3d``, a year at most, into seconds. Raises ``model.Mistake`` (2)."""
    seconds = _seconds(text)
    if seconds and seconds <= _LONGEST_SECONDS:
        return seconds
    what = f"{_shown(text)} is longer than a year." if seconds else f"{_shown(text)} is no length of time."
    remedy = "Leave it out to pause until `attachd resume`." if seconds else "Write it like 90s, 30m, 2h or 3d."
    raise Mistake(Problem(option, what, remedy), exit_code=2)


def since(text: str, option: str, now: float) -> float:
    """When it was, in seconds since the epoch: so long ago (``2h``), or a day or moment of RFC 3339, in local time where
    it names no offset (``2026-11-22`` is its midnight). Raises ``model.Mistake`` (2).
    """
    if seconds := _seconds(text):
        return now - seconds
    try:
        return datetime.datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        what = f"{_shown(text)} is neither a length of time nor a day."
        remedy = "Write it like 2h or 7d, 2026-11-22 or 2026-11-22T08:30."
        raise Mistake(Problem(option, what, remedy), exit_code=2) from None


def _seconds(text: str) -> float:
    """The seconds of a number and a unit; 0 where it is something else."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip(), re.ASCII)
    return float(int(found[1]) * _UNITS[found[2]]) if found else 0.0


def _shown(text: str) -> str:
    return f"'{printable(text.encode('utf-8', 'surrogateescape'))}'"
