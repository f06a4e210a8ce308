"""Being told to end, by SIGTERM or SIGINT, or to read the configuration anew, by SIGHUP.

Without locks: a handler runs in the middle of whatever the main thread does.

``threading.Event.set`` in a handler waits for ever where the main thread is inside ``wait`` of the same event. So the
handlers do nothing, and the interpreter itself writes a byte into a pipe (``signal.set_wakeup_fd``), which can be waited
for.
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
    """Let the wake-up descriptor tell."""


class Signals:
    """From entering to leaving, signals are noted; ``wait`` waits for one. For the main thread."""

    def __init__(self, *, reloads: bool = False) -> None:
        """*reloads*: SIGHUP does not ask for the end, as a terminal does that is closed, but is noted for ``reload``."""
        self._reloads, self._ending, self._reload = reloads, False, False

    def __enter__(self) -> Self:
        """Take over the signals."""
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _HEARD:
            signal.signal(number, _nothing)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening. The signals stay without effect: the process is about to end, and must not be torn out of that."""
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def ring(self) -> None:
        """Wake ``wait`` from any thread, as a signal would."""
        with suppress(BlockingIOError):
            os.write(self._writer, b"\0")

    def wait(self, seconds: float) -> bool:
        """Wait for a signal or a ring, at most *seconds*; True from the first one on that asks for the end."""
        if not self._ending and select.select([self._reader], [], [], seconds)[0]:
            numbers = set(os.read(self._reader, 4096))
            reload = {signal.SIGHUP} & numbers if self._reloads else set()
            self._reload |= bool(reload)
            self._ending = bool(numbers - reload)
        return self._ending

    def reload(self) -> bool:
        """Whether the configuration is to be read anew, since this was asked last."""
        asked, self._reload = self._reload, False
        return asked
