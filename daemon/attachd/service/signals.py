"""Signals that ask for the end (SIGTERM, SIGINT) or for a reload (SIGHUP), without locks.

A handler runs in the middle of the main thread's work. ``threading.Event.set`` in a handler deadlocks if the main thread is
inside ``wait`` of the same event. So the handlers do nothing, and the interpreter writes a byte into a pipe
(``signal.set_wakeup_fd``) for ``wait``.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from types import FrameType
from typing import Self

_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Leave the signal to the wake-up descriptor."""


class Signals:
    """Collects signals while the context lasts; ``wait`` waits for one. For the main thread."""

    def __init__(self, *, reloads: bool = False) -> None:
        """*reloads*: SIGHUP asks for a reload, not for the end, as it does when a terminal is closed."""
        self._reloads, self._ending, self._reload = reloads, False, False

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _HEARD:
            signal.signal(number, _nothing)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening. The signals stay without effect, because they must not interrupt the end of the process."""
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def ring(self) -> None:
        """Wake ``wait`` from any thread, as a signal would."""
        with suppress(BlockingIOError):
            os.write(self._writer, b"\0")

    def wait(self, seconds: float) -> bool:
        """Wait for a signal or ``ring``, at most *seconds*. Return True once a signal has asked for the end."""
        if not self._ending and select.select([self._reader], [], [], seconds)[0]:
            numbers = set(os.read(self._reader, 4096))
            reload = {signal.SIGHUP} & numbers if self._reloads else set()
            self._reload |= bool(reload)
            self._ending = bool(numbers - reload)
        return self._ending

    def reload(self) -> bool:
        """Return True if a reload was requested since the last call."""
        asked, self._reload = self._reload, False
        return asked
