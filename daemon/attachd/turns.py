"""Who works takes turns, so that threads do not take the interpreter from each other at every system call.

CPython lets go of its lock around each call to the system, and wakes whoever waits for it; with several busy threads most of
these wake-ups find the lock taken again, and cost more than the call did. A turn is long instead: a request is made ready, an
answer is written down, its files are moved, some hundred files are looked at. Who waits for Jira, or for what was written to
come to the disk, has no turn.

It is a courtesy and no lock: nothing relies on it. Whoever has the turn may hang in a call to a share that does not answer, and
must not hold up who serves the others; so it is taken over by the next one after a second. For the same reason no lock may be
held by who comes back from ``left``, if it is one that others wait for while they have the turn.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: Who has waited so long for the turn takes it over.
LONGEST_WAIT = 1.0


class Turns:
    """One turn for all threads, had by those who ask for it in the order in which they asked."""

    def __init__(self) -> None:
        """Nobody has it."""
        self._lock = threading.Lock()
        self._holder: threading.Lock | None = None
        self._waiting: deque[threading.Lock] = deque()
        self._mine = threading.local()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Work in turn. Not within another ``taken`` of the same thread, which would wait for itself."""
        self._take()
        try:
            yield
        finally:
            self._give_up()

    @contextmanager
    def left(self) -> Iterator[None]:
        """Wait for something: who has the turn leaves it to others meanwhile."""
        had = self._give_up()
        try:
            yield
        finally:
            if had:
                self._take()

    def _take(self) -> None:
        mine = threading.Lock()
        mine.acquire()
        self._mine.turn = mine
        with self._lock:
            if self._holder is None:
                self._holder = mine
                return
            self._waiting.append(mine)
        mine.acquire(timeout=LONGEST_WAIT)
        with self._lock:
            if self._holder is not mine:
                # Not among them: it was handed over, and taken over from here before this thread had noticed.
                with suppress(ValueError):
                    self._waiting.remove(mine)
                self._holder = mine

    def _give_up(self) -> bool:
        """Hand the turn on, unless somebody has taken it over. True if this thread had asked for it."""
        mine, self._mine.turn = getattr(self._mine, "turn", None), None
        with self._lock:
            if mine is not None and self._holder is mine:
                self._holder = self._waiting.popleft() if self._waiting else None
                if self._holder is not None:
                    self._holder.release()
        return mine is not None
