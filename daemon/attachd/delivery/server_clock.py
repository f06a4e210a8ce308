"""What time it is at Jira, estimated from what it says: pure but for the memory of the last answers.

A ``Date`` header is the clock of whatever answered, which may be a proxy's, or that of a cache. ``created`` of an attachment
that we have just stored is Jira's own clock, the one that listings speak of. CLOCK_BOOTTIME carries both on.
"""

from __future__ import annotations

import statistics
import threading
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

#: How many answers the estimates rest on, so that a single odd one does not matter.
DATES, STORED = 9, 5
#: The slack of a clock that was not measured, in seconds.
ASSUMED_SLACK_SECONDS = 120.0
#: ``created`` and ``Date`` may be whole seconds; nodes of one site differ a little.
_GRANULARITY_SECONDS = 2.0
#: How far two clocks drift apart in a second, at most: 50 times what a quartz does.
_DRIFT = 0.0005
#: An upload that took longer than this says too little about the moment at which its file was stored.
_LONGEST_UPLOAD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Measured:
    """Jira's clock less CLOCK_BOOTTIME lies within *error* of *ahead*, as found out at *at*."""

    ahead: float
    error: float
    at: float


class Kept(NamedTuple):
    """A measurement for other processes: Jira's clock less CLOCK_BOOTTIME, within *slack*, as found out at *at* of one boot."""

    boot_id: str
    ahead: float
    slack: float
    at: float

    def latest(self, boot_id: str, boot: float) -> float | None:
        """The latest that it may be at Jira; None in another boot."""
        if not boot_id or boot_id != self.boot_id:
            return None
        slack = min(self.slack + (boot - self.at) * _DRIFT, ASSUMED_SLACK_SECONDS)
        return boot + self.ahead + slack


class ServerTime:
    """An estimate of Jira's clock. Any thread may use it."""

    def __init__(self, skew: float = 0.0) -> None:
        """*skew* is by how much Jira's clock was ahead of its ``Date`` headers when that was last measured."""
        self._skew = skew
        self._dates: deque[float] = deque(maxlen=DATES)
        self._stored: deque[_Measured] = deque(maxlen=STORED)
        self._lock = threading.Lock()

    @property
    def known(self) -> bool:
        """Return True if any answer has told a time."""
        return bool(self._dates or self._stored)

    @property
    def skew(self) -> float:
        """By how much Jira's clock is ahead of its ``Date`` headers, as far as is known."""
        with self._lock:
            if self._stored and self._dates:
                return _ahead(self._stored) - statistics.median(self._dates)
            return self._skew

    def heard(self, date: float, boot: float) -> None:
        """Take a ``Date`` header into account, of an answer that came at *boot*."""
        with self._lock:
            self._dates.append(date - boot)

    def stored(self, created: float, begun: float, ended: float) -> None:
        """Take into account that Jira stored a file at *created*, by its clock, between *begun* and *ended* by ours."""
        error = (ended - begun) / 2
        if 0 <= error <= _LONGEST_UPLOAD_SECONDS / 2:
            with self._lock:
                self._stored.append(_Measured(created - (begun + ended) / 2, error, ended))

    def now(self, boot: float) -> float:
        """Jira's time. Something must be known."""
        with self._lock:
            if self._stored:
                return boot + _ahead(self._stored)
            return boot + statistics.median(self._dates) + self._skew

    def slack(self, boot: float) -> float | None:
        """How far ``now`` may be off, in seconds; None while it was not measured more than once."""
        with self._lock:
            if len(self._stored) < 2:
                return None
            middles = [each.ahead for each in self._stored]
            error = max(each.error for each in self._stored)
            age = max(0.0, boot - self._stored[-1].at)
            return max(middles) - min(middles) + error + age * _DRIFT + _GRANULARITY_SECONDS


def _ahead(stored: deque[_Measured]) -> float:
    return statistics.median(each.ahead for each in stored)
