"""Staying under Jira's write limit of an issue instead of running into it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

#: Cloud allows 20 writes in 2 s and 100 in 30 s on one issue (Atlassian, "Rate limiting"); a little is left for others.
WINDOWS = ((2.0, 18), (30.0, 95))


def free_at(times: Sequence[float], now: float) -> float:
    """When the next request may begin, given the times of the earlier ones in order; *now* or earlier means at once."""
    earliest = now
    for seconds, most in WINDOWS:
        if len(times) >= most:
            earliest = max(earliest, times[-most] + seconds)
    return earliest


class Pacer:
    """The times of the last requests of each lane, on CLOCK_BOOTTIME; lanes that are quiet are forgotten."""

    def __init__(self) -> None:
        """Start with none."""
        self._lanes: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def wait(self, lane: str, now: float) -> float:
        """How many seconds this lane has to wait; 0 for not at all."""
        with self._lock:
            times = self._lanes.get(lane)
            return max(0.0, free_at(times, now) - now) if times else 0.0

    def count(self, lane: str, now: float) -> None:
        """A request of this lane begins."""
        with self._lock:
            self._lanes.setdefault(lane, deque(maxlen=max(most for _, most in WINDOWS))).append(now)
            if len(self._lanes) > 1000:
                horizon = now - max(seconds for seconds, _ in WINDOWS)
                self._lanes = {key: times for key, times in self._lanes.items() if times[-1] > horizon}

    def soonest(self, now: float) -> float | None:
        """In how many seconds the first lane that has to wait may go on; None if none has to."""
        with self._lock:
            waits = [free_at(times, now) - now for times in self._lanes.values()]
        return min((wait for wait in waits if wait > 0), default=None)
