"""The clocks: one for decisions, which nobody can set, and the one on the wall, for people and files."""

from __future__ import annotations

import functools
import os
import time
from contextlib import suppress
from pathlib import Path


class Clock:
    """The machine's clocks. Tests give another that they move themselves."""

    #: The journal's time minus CLOCK_BOOTTIME; None until ``go_on``.
    _offset: float | None = None

    def now(self) -> float:
        """Return the journal's time: it goes on evenly across restarts, whatever the wall clock is set to.

        Seconds since the epoch, as the wall clock showed them when the journal was made. Every wait, age and limit counts on
        it. Without a journal (``go_on``) it is the wall clock.
        """
        return self.wall() if self._offset is None else self._offset + self.boot()

    def wall(self) -> float:
        """Return the seconds since the epoch by the wall clock: for people, dates and the times of files. It can be set."""
        return time.time()

    def boot(self) -> float:
        """Return the seconds since boot, suspended time included (CLOCK_BOOTTIME, clock_gettime(2)); it never jumps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def awake(self) -> float:
        """Return the seconds that the machine was awake (CLOCK_MONOTONIC, clock_gettime(2)): for what only runs then.

        A thread that waits, and a machine that sleeps meanwhile, have not hung.
        """
        return time.monotonic()

    def boot_id(self) -> str:
        """Return the name of this boot, or "" if it is unknown. Only values of ``boot`` from the same boot can be compared."""
        return _boot_id()

    def go_on(self, offset: float) -> None:
        """From now on, the journal's time is *offset* plus ``boot``."""
        self._offset = offset


@functools.cache
def _boot_id() -> str:
    """Join the kernel's id of this boot (random(4)) and the time namespace, whose ``boot`` is its own (time_namespaces(7))."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/time")
    with suppress(OSError):
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text('ascii').strip()} {namespace}".strip()
    return ""
