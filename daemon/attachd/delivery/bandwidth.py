"""The limit to what all workers together send: ``upload.max_bytes_per_second``.

A bucket of tokens, told by the time at which it is even. Every piece is paid for before it is sent; what is not used
is saved for half a second, which makes up for the time that the sending itself takes, and no longer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

#: For how long what is not used is saved.
SAVED_SECONDS = 0.5
#: How often each worker's turn comes when all of them send: a server that waits for the next piece must not give up.
TURN_SECONDS = 0.5


def paid_at(paid: float, now: float, size: int, rate: int) -> float:
    """When *size* bytes more are paid for, given when all earlier ones were or will be. Pure."""
    return max(paid, now - SAVED_SECONDS) + size / rate


def piece_bytes(rate: int, workers: int, most: int) -> int:
    """How much is sent in one turn, at most *most*; all of that where *rate* is 0, no limit. Pure."""
    return max(1, min(most, int(rate * TURN_SECONDS / workers))) if rate else most


def pieces(size: int, most: int) -> Iterator[int]:
    """Divide *size* into pieces, so that what is paid for at once lets others take their turn in between. Pure."""
    while size > 0:
        yield min(size, most)
        size -= most


class Bandwidth:
    """What the workers have paid for; on CLOCK_BOOTTIME, so that nobody waits for a clock that was set back."""

    def __init__(self) -> None:
        """Start with everything paid."""
        self._paid = 0.0
        self._lock = threading.Lock()

    def charge(self, size: int, rate: int, now: float) -> float:
        """Put down that *size* bytes are to be sent; returns in how many seconds they may be. Without a *rate*: at once."""
        if not rate:
            return 0.0
        with self._lock:
            self._paid = paid_at(self._paid, now, size, rate)
            return max(0.0, self._paid - now)
