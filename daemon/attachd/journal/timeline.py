"""Convert between the journal's time and the wall clock.

The journal compares times of its own, which go on with CLOCK_BOOTTIME. So setting the wall clock neither ends nor prolongs a
wait. Within one boot the journal's time continues across restarts to the second. Between two boots only the wall clock shows
how long the machine was off. It is believed up to half a day, because it can be wrong by years until it is set.

People read the wall clock. Each stretch of time (one boot) records how far the wall clock is ahead of the journal's time.
"""

from __future__ import annotations

import bisect
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from attachd.clock import Clock
from attachd.journal import rows
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row

#: The longest time between two boots that is believed, in seconds.
LONGEST_OFF_SECONDS = 12 * 3600.0
#: How often the service writes down the time, in seconds. After a power cut so much of the time may be missing.
MARK_SECONDS = 3600.0
#: If the wall clock has moved by less, nobody has set it.
SET_SECONDS = 1.0

#: The columns of a row that people read; ``sent_at`` and ``doubt_at`` are in the server's time, and ``suspect_at`` in the files'.
_TIMES = ("since", "seen_at", "due", "blind_since", "contested_at", "verdict_at", "finished_at")


class Stretch(NamedTuple):
    """One boot: when it began and was *marked* last (journal's time), and how far the wall clock was *ahead* then.

    ``offset`` is the journal's time minus CLOCK_BOOTTIME.
    """

    began: float
    boot: str
    offset: float
    ahead: float
    marked: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Both times at one moment, and the stretches before it. Pure."""

    now: float
    wall: float
    stretches: Sequence[Stretch] = ()

    def shown(self, moment: float) -> float:
        """Return what the wall clock shows, or showed, at a moment of the journal. 0 stands for no moment, and stays."""
        at = bisect.bisect_right(self.stretches, moment, key=lambda each: each.began)
        return moment + self.stretches[at - 1].ahead if moment and at else moment

    def kept(self, shown: float) -> float:
        """Return the latest moment of the journal at which the wall clock showed this, or passed over it as it was set."""
        before = [0.0, *(stretch.ahead for stretch in self.stretches)]
        for stretch, earlier in reversed(list(zip(self.stretches, before, strict=False))):
            if shown - stretch.ahead >= stretch.began or shown > stretch.began + earlier:
                return max(shown - stretch.ahead, stretch.began)
        return shown

    def row(self, row: Row) -> Row:
        """Return a row with its times by the wall clock: to be read, not to be written back or compared."""
        if not any(stretch.ahead for stretch in self.stretches):
            return row
        return rows.changed(row, {name: self.shown(at) for name in _TIMES if (at := getattr(row, name))})

    def pause(self, pause: Pause) -> Pause:
        """Return a pause with its times by the wall clock."""
        shown = self.shown
        return replace(pause, since=shown(pause.since), until=shown(pause.until), told=shown(pause.told))


def read(connection: sqlite3.Connection, clock: Clock) -> Timeline:
    """Read both times; works beside the service or without it, and writes nothing."""
    known, wall = _known(connection), clock.wall()
    if not known:
        return Timeline(wall, wall)
    last = known[-1]
    now = _now(last, clock, wall)
    if not _is_this_boot(last, clock):
        return Timeline(now, wall, [*known, _begun(now, wall, clock)])
    # A small difference does not count, or the times that people read would flicker.
    ahead = last.ahead if abs(wall - now - last.ahead) < SET_SECONDS else float(round(wall - now))
    return Timeline(now, wall, [*known[:-1], last._replace(ahead=ahead)])


def begin(connection: sqlite3.Connection, clock: Clock) -> None:
    """Let *clock* continue the journal's time, as the service does when it starts."""
    known, wall = _known(connection), clock.wall()
    if known and _is_this_boot(known[-1], clock):
        clock.go_on(known[-1].offset)
        return
    # No file was finished in the future, whatever an earlier version, or the hour before a power cut, took for the time.
    finished = connection.execute("SELECT max(finished_at) FROM file WHERE finished_at IS NOT NULL").fetchone()[0]
    now = max(finished or 0.0, _now(known[-1], clock, wall) if known else wall)
    stretch = _begun(now, wall, clock)
    # Two stretches that show the same times are one.
    if len(known) > 1 and known[-1].ahead == known[-2].ahead:
        connection.execute("DELETE FROM stretch WHERE began = ?", (known[-1].began,))
    connection.execute("INSERT OR REPLACE INTO stretch VALUES (?, ?, ?, ?, ?)", stretch)
    clock.go_on(stretch.offset)


def due(connection: sqlite3.Connection, clock: Clock) -> bool:
    """Return True if ``mark`` has something to write down."""
    known = _known(connection)
    return bool(known) and (clock.now() - known[-1].marked >= MARK_SECONDS or bool(_set_by(known[-1], clock)))


def mark(connection: sqlite3.Connection, clock: Clock) -> float:
    """Write down the time. Return by how many seconds the wall clock was set since the last mark; 0 if it was not set."""
    last, now = _known(connection)[-1], clock.now()
    moved = _set_by(last, clock)
    ahead = float(round(last.ahead + moved)) if moved else last.ahead
    connection.execute("UPDATE stretch SET marked = ?, ahead = ? WHERE began = ?", (now, ahead, last.began))
    return moved


def _set_by(last: Stretch, clock: Clock) -> float:
    moved = clock.wall() - clock.now() - last.ahead
    return moved if abs(moved) >= SET_SECONDS else 0.0


def _known(connection: sqlite3.Connection) -> list[Stretch]:
    found = connection.execute("SELECT began, boot, offset, ahead, marked FROM stretch ORDER BY began")
    return [Stretch(*record) for record in found]


def _begun(now: float, wall: float, clock: Clock) -> Stretch:
    return Stretch(now, clock.boot_id(), now - clock.boot(), _whole(wall - now), now)


def _whole(ahead: float) -> float:
    """Round to seconds; less than one is 0, because people are shown none."""
    return float(round(ahead)) if abs(ahead) >= SET_SECONDS else 0.0


def _is_this_boot(last: Stretch, clock: Clock) -> bool:
    return bool(last.boot) and last.boot == clock.boot_id() and last.offset + clock.boot() >= last.marked - SET_SECONDS


def _now(last: Stretch, clock: Clock, wall: float) -> float:
    if _is_this_boot(last, clock):
        return last.offset + clock.boot()
    off = wall - (last.marked + last.ahead)
    return last.marked + min(max(off, 0.0), LONGEST_OFF_SECONDS)
