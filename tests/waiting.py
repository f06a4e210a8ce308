"""Waiting for what comes about by itself: other threads, other processes."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], seconds: float = 90.0, every: float = 0.02) -> None:
    """Look *every* so many seconds until *condition* holds; fails where it does not within *seconds*."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(every)
