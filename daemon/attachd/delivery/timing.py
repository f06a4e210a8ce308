"""How long requests take: counted in buckets, as Prometheus' histograms are, without their library."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

#: Upper bounds in seconds; what takes longer is in a last one without a bound.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(slots=True)
class Histogram:
    """How many requests fell into each bucket, and how long all took together, in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0


class Timings:
    """The histograms of all calls, by the name of the call; shared by the workers."""

    def __init__(self) -> None:
        """Begin empty: what an earlier process counted is forgotten."""
        self._lock = threading.Lock()
        self._by_call: dict[str, Histogram] = {}

    @contextmanager
    def timed(self, call: str) -> Iterator[None]:
        """Count what is done within, however it ends."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.observe(call, time.monotonic() - began)

    def observe(self, call: str, seconds: float) -> None:
        """Count one request."""
        with self._lock:
            histogram = self._by_call.setdefault(call, Histogram())
            histogram.counts[bisect.bisect_left(BUCKETS, seconds)] += 1
            histogram.total += seconds

    def read(self) -> Mapping[str, Histogram]:
        """What was counted until now."""
        with self._lock:
            return {call: Histogram([*each.counts], each.total) for call, each in self._by_call.items()}
