"""The two clocks that decisions are given: one for people, one that nobody can set."""

from __future__ import annotations

import time


class Clock:
    """The machine's clocks. Tests give another that they move themselves."""

    def now(self) -> float:
        """Seconds since the epoch; it jumps when somebody sets it."""
        return time.time()

    def boot(self) -> float:
        """Seconds since boot, suspended time included (CLOCK_BOOTTIME, clock_gettime(2)); it never jumps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
