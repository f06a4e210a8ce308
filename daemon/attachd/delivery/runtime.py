"""What the workers share: the journal, the site, the folders, and which issues are being served at this moment."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from attachd.clock import Clock
from attachd.config import Config, Rulebook
from attachd.delivery.outcome import Doubts
from attachd.delivery.pacer import Bandwidth, Pacer, Parallel
from attachd.delivery.site import Site
from attachd.heartbeat import Beats
from attachd.jira import connection
from attachd.jira.oauth import Identity
from attachd.jira.reply import Exchange
from attachd.journal.database import Journal
from attachd.model import Unserved
from attachd.share.inbox_marker import Guard

# How long requests take: counted in buckets, as Prometheus' histograms are, without their library.

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


#: However long the last look is waited for.
MOST_SURE_SECONDS = 30.0


class Wakeup:
    """Wakes a worker: something may be there to do. A wakeup while nobody waits is not lost.

    It wakes one at a time, because most often there is work for one. A worker that takes work wakes another before it
    is busy, so that this one looks for more.
    """

    def __init__(self) -> None:
        """Start without any wakeup."""
        self._condition = threading.Condition()
        self._count = 0

    def notify(self) -> None:
        """Wake one of the workers that wait."""
        with self._condition:
            self._count += 1
            self._condition.notify()

    def notify_all(self) -> None:
        """Wake all workers that wait."""
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def count(self) -> int:
        """How many wakeups there were: ask before looking for work, and pass it to ``wait``."""
        with self._condition:
            return self._count

    def wait(self, seen: int, seconds: float) -> None:
        """Wait for a wakeup after the *seen* ones, at most so many seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self._count != seen, seconds)


Memory = TypeVar("Memory")


@dataclass(slots=True)
class Runtime:
    """Made once per process. The sets are guarded by ``lock``; everything else is safe to share by itself.

    ``stopping``: nothing new is begun. ``cutting``: uploads still under way end before their last boundary.
    ``reader`` is the journal once more, for the parts that read all of it (page, metrics, notices), so that they delay nothing.
    ``started`` is when the process was, by the journal's time. ``duties`` are what one worker does at a time, and is doing now.
    ``memories`` is what single modules remember between two steps (``memory``).
    ``secret_changed`` tells whether the token's source has changed since it was last read; ``network`` whether a path below the
    inbox lies on a network file system, where nothing tells which program writes.
    """

    journal: Journal
    reader: Journal
    config: Config
    clock: Clock
    site: Site
    guard: Guard
    credentials: Identity
    stopping: threading.Event = field(default_factory=threading.Event)
    cutting: threading.Event = field(default_factory=threading.Event)
    wakeup: Wakeup = field(default_factory=Wakeup)
    secret_changed: Callable[[], bool] = lambda: False
    network: Callable[[bytes], bool] = lambda _path: False
    lock: threading.Lock = field(default_factory=threading.Lock)
    pacer: Pacer = field(default_factory=Pacer)
    parallel: Parallel = field(init=False)
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    issues: set[str] = field(default_factory=set)
    filing: set[int] = field(default_factory=set)
    duties: set[str] = field(default_factory=set)
    adopting: bool = False
    memories: dict[type, Any] = field(default_factory=dict)
    started: float = field(init=False)
    timings: Timings = field(default_factory=Timings)
    progress: dict[int, Callable[[], int]] = field(default_factory=dict)
    page_trouble: Unserved | None = None
    beats: Beats = field(init=False)
    rulebook: Rulebook = field(init=False)

    def reconfigure(self, config: Config) -> None:
        """Go on with another configuration of the same folders and the same site. Each step takes it up where it reads it."""
        self.config, self.rulebook = config, Rulebook(config)

    def __post_init__(self) -> None:
        """Begin with as many uploads at once as are configured."""
        self.rulebook = Rulebook(self.config)
        self.started = self.clock.now()
        self.parallel = Parallel(self.config.upload.parallel)
        self.beats = Beats(self.clock.awake)

    @property
    def doubts(self) -> Doubts:
        """How long and how often is looked for what is in doubt."""
        return Doubts(self.config.doubt.looks_seconds, self.config.doubt.give_up_hours * 3600)

    @property
    def sure_seconds(self) -> float:
        """How old a look at the inbox's marker may be when something is sent or moved.

        Another host that takes the inbox over looks for what it finds there until its last look. What leaves here was in the
        inbox before that, and leaves at most so long after it: by half the time until that look.
        """
        return min(MOST_SURE_SECONDS, self.doubts.looks_seconds[-1] / 2)

    def reply_seconds(self, size: int) -> float:
        """How long the reply to a body of *size* bytes may take after its last byte."""
        upload = self.config.upload
        return float(upload.reply_seconds) + size / upload.slowest_bytes_per_second

    def ask(self, call: Callable[[], Exchange]) -> Exchange:
        """Ask Jira something harmless, as ``connection.ask``."""
        with self.timings.timed("question"):
            return connection.ask(call, self.stopping)

    def busy(self) -> set[str]:
        """The issues that are being served."""
        with self.lock:
            return set(self.issues)

    def memory(self, kind: type[Memory]) -> Memory:
        """Return what a module remembers between two steps: for the whole process one value of the *kind* that it defines."""
        with self.lock:
            found: Memory = self.memories.setdefault(kind, kind())
        return found

    def being_filed(self) -> set[int]:
        """Return the rows whose files are being moved."""
        with self.lock:
            return set(self.filing)

    def may_begin(self) -> bool:
        """Return True if something new may be begun: the inbox is there, and the service goes on."""
        return self.guard.sight.there and not self.stopping.is_set()

    @contextmanager
    def alone(self, duty: str) -> Iterator[bool]:
        """Reserve what one worker does at a time; yields False if another one is doing it."""
        with self.lock:
            mine = duty not in self.duties
            self.duties.add(duty)
        try:
            yield mine
        finally:
            if mine:
                with self.lock:
                    self.duties.discard(duty)

    def take(self, issue: str) -> bool:
        """Reserve an issue for the calling worker; False if another has it."""
        with self.lock:
            if issue in self.issues:
                return False
            self.issues.add(issue)
        self.wakeup.notify()
        return True

    def give_back(self, issue: str) -> None:
        """Release an issue."""
        with self.lock:
            self.issues.discard(issue)

    @contextmanager
    def filed_by_us(self, row_ids: Sequence[int]) -> Iterator[frozenset[int]]:
        """Reserve rows for filing; yields those that no other worker is filing, so that nobody moves the same file twice."""
        with self.lock:
            ours = frozenset(row_ids) - self.filing
            self.filing |= ours
        if ours:
            self.wakeup.notify()
        try:
            yield ours
        finally:
            with self.lock:
                self.filing -= ours
