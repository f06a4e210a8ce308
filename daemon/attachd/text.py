"""Times, lengths and sizes as people write them."""

from __future__ import annotations

import datetime


def clock(moment: float, now: float) -> str:
    """A time of day; with the date where that is not today's."""
    then, today = (datetime.datetime.fromtimestamp(seconds).astimezone() for seconds in (moment, now))
    return then.strftime("%H:%M:%S" if then.date() == today.date() else "%Y-%m-%d %H:%M")


def span(seconds: float) -> str:
    """A length of time in one or two units."""
    whole = max(0, int(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= length:
            return f"{whole // length} {unit}"
    return f"{whole} s"


def size(count: float) -> str:
    """A number of bytes in a unit that suits it."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.1f} {unit}" if unit != "bytes" else "1 byte" if count == 1 else f"{count:.0f} bytes"
        count /= 1024
    return f"{count:.1f} TiB"


# --- Words ------------------------------------------------------------------------------------------------------


def files(count: int) -> str:
    """Return the number of files in words, with thousands separators."""
    return "1 file" if count == 1 else f"{count:,} files"


def issues(count: int) -> str:
    """Return the number of issues in words, with thousands separators."""
    return "1 issue" if count == 1 else f"{count:,} issues"


def capital(clause: str) -> str:
    """Return the clause as the beginning of a sentence; the name of the program stays as it is written."""
    return clause if clause.startswith("attachd") else f"{clause[:1].upper()}{clause[1:]}"


def sentence(clause: str) -> str:
    """Return the clause as a sentence with its full stop; "" stays ""."""
    return f"{capital(clause).removesuffix('.')}." if clause else ""


def moment(seconds: float) -> str:
    """A day and a time of day, as the clock on the wall of the machine shows it."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def _time_of_day(seconds: float, now: float) -> str:
    then, today = (datetime.datetime.fromtimestamp(each).astimezone() for each in (seconds, now))
    return then.strftime("%H:%M" if then.date() == today.date() else "%Y-%m-%d %H:%M")


def midnight(now: float) -> float:
    """When the day began."""
    return (
        datetime.datetime.fromtimestamp(now).astimezone().replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    )
