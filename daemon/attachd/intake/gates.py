"""What holds a file back before it is taken: its writer, its quiet time, its size and age, its end.

Pure decisions, given the time. Every gate only delays: none of them has a verdict, and none moves a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import assert_never

from attachd.config import Settle
from attachd.fs.leases import STILL_OPEN, Writer
from attachd.journal.admission import Moment
from attachd.journal.rows import Row
from attachd.model import printable

#: What is said of a file whose size another has that is being sent to the same issue: which of the two is which only shows then.
COMPARED_LATER = (
    "a file of its size is being sent to this issue, or moved; whether it is the same one shows when that has ended"
)
#: Such a file is looked at again so many seconds later.
COMPARED_SECONDS = 5.0

#: A file that somebody has open is looked at again after half the time that it has been unchanged, within these bounds.
SHORTEST_PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS = 1.0, 30.0


#: The rules of a folder where the configuration says nothing.
DEFAULTS = Settle()


class Marker(Enum):
    """Whether another file has to say that this one is complete."""

    NOT_ASKED = auto()  #: no ``ready_suffix``; or it came back from failed, where it was complete already
    MISSING = auto()
    THERE = auto()


@dataclass(frozen=True, slots=True)
class Ready:
    """The file can be taken. *lacks* is the end that is missing all the same, as ``truncation`` words it.

    *sha256* is that of its content, if it was asked for.
    """

    lacks: str | None = None
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """It stays as it is, and is looked at again at *until* (CLOCK_BOOTTIME); None: when a scan comes to it.

    *reason* is a sentence for a person, None where it only has to be quiet. *over*: nothing holds it any more at *until*.
    """

    until: float | None
    reason: str | None = None
    lacks: str | None = None
    over: bool = False


@dataclass(frozen=True, slots=True)
class Blocked:
    """Only a person, or a change of the file, can let it pass; *reason* is a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The file changed or vanished while attachd looked at it. The next scan looks again."""


#: Whether a file can be taken.
Verdict = Ready | Wait | Blocked | Changed


def quiet_needed(size: int, rules: Settle, writer: Writer, marker: Marker = Marker.NOT_ASKED) -> float:
    """How many seconds a file must have been unchanged; empty ones longer, because scanners make a placeholder first.

    Where its marker is there its sender has said that it is complete, and it need not be quiet at all.
    """
    if marker is Marker.THERE:
        return 0.0
    quiet = rules.quiet_seconds
    if writer is not Writer.NOBODY:
        quiet = max(quiet, rules.quiet_seconds_unproven)
    return max(quiet, rules.empty_seconds) if size == 0 else quiet


def settled_at(row: Row, needed: float) -> float:
    """When a SEEN row will have settled, on CLOCK_BOOTTIME, if it stays as it is."""
    return row.quiet_boot + needed


def before_opening(
    row: Row, rules: Settle, moment: Moment, marker: Marker = Marker.NOT_ASKED, *, returned: bool = False
) -> Ready | Wait | Blocked:
    """Judge what needs no look at the file: it must have been quiet, if only for as long as a closed file has to be.

    One that *returned* from failed had passed once, so that its age does not bar it any more.
    """
    if marker is Marker.MISSING:
        return Wait(None, released_by(row, rules))
    quiet = _quiet(row, quiet_needed(row.size, rules, Writer.NOBODY, marker), moment)
    if isinstance(quiet, Wait):
        return quiet
    reason = _of_size(row, rules) or ("" if returned else _too_old(row, rules, moment))
    return Blocked(reason) if reason else _too_young(row, rules, moment)


def released_by(row: Row, rules: Settle) -> str:
    """What is said of a file whose marker is not there yet."""
    name = printable(row.path.rpartition(b"/")[2])
    return f"it is released by {name}{rules.ready_suffix}, which is not there yet"


def _of_size(row: Row, rules: Settle) -> str:
    if rules.min_bytes is not None and row.size < rules.min_bytes:
        return f"it is smaller than min_bytes = {rules.min_bytes}"
    if rules.max_bytes is not None and row.size > rules.max_bytes:
        return f"it is larger than max_bytes = {rules.max_bytes}"
    return ""


def _too_old(row: Row, rules: Settle, moment: Moment) -> str:
    most = rules.max_age_seconds
    return f"it is older than max_age_seconds = {most:g}" if most is not None and _age(row, moment) > most else ""


def _too_young(row: Row, rules: Settle, moment: Moment) -> Ready | Wait:
    """A file whose time lies in the future is as old as it has been seen unchanged."""
    least = rules.min_age_seconds or 0.0
    left = least - max(_age(row, moment), moment.boot - row.quiet_boot)
    if left <= 0:
        return Ready()
    return Wait(moment.boot + left, f"it is younger than min_age_seconds = {least:g}", over=True)


def _age(row: Row, moment: Moment) -> float:
    """Seconds since the file was changed, by its own word and the wall clock."""
    return moment.now + moment.ahead - row.mtime_ns / 1e9


def of_writer(
    row: Row, rules: Settle, moment: Moment, writer: Writer, marker: Marker = Marker.NOT_ASKED
) -> Ready | Wait:
    """Judge what the system says about who writes to the file."""
    match writer:
        case Writer.NOBODY:
            return Ready()
        case Writer.SOMEBODY:
            return Wait(moment.boot + _patience(moment.boot - row.quiet_boot), STILL_OPEN)
        case Writer.UNKNOWN:
            return _quiet(row, quiet_needed(row.size, rules, writer, marker), moment)
        case _:
            assert_never(writer)


def of_ending(row: Row, rules: Settle, moment: Moment, lacks: str | None) -> Ready | Wait:
    """Judge a file that *lacks* the end of its format: it waits to be completed, and goes as it is after a while."""
    until = settled_at(row, rules.incomplete_seconds)
    return Wait(until, lacks=lacks, over=True) if lacks and moment.boot < until else Ready(lacks)


def _quiet(row: Row, needed: float, moment: Moment) -> Ready | Wait:
    at = settled_at(row, needed)
    return Ready() if at <= moment.boot else Wait(at)


def _patience(unchanged: float) -> float:
    return min(max(unchanged / 2, SHORTEST_PATIENCE_SECONDS), LONGEST_PATIENCE_SECONDS)
