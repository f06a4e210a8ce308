"""Whether every loop of the service makes progress. A loop beats when it made progress or had nothing to do, and only then.

A loop that is silent for too long hangs. What it waits for decides what follows, and the code says so where it waits:

    with heartbeat.on_share():
        descriptor = os.open(name, flags, dir_fd=folder)

On a share (a NAS that does not answer) the service is degraded, and a restart would only hang again. Jira gets more time, because
several requests may time out one after the other. Anywhere else the loop is stuck: attachd stops pinging the service manager
(sd_notify(3), WATCHDOG=1), which restarts the service.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from types import FrameType
from typing import NamedTuple, ParamSpec, TypeVar

#: How long a loop may be silent, in seconds, where it did not ask for more.
PATIENCE_SECONDS = 120.0

#: How long a loop may be silent while it waits for Jira: every wait has a timeout, but several may follow each other.
_JIRA_SECONDS = 900.0

_P = ParamSpec("_P")
_T = TypeVar("_T")


# --- What a thread waits for --------------------------------------------------------------------------------------------


class Awaited(Enum):
    """What a marked region waits for."""

    SHARE = auto()  #: the file system of inbox, done or failed
    JIRA = auto()  #: an answer from the network


#: What each thread waits for, by its ident; the innermost region last.
_regions: dict[int, list[Awaited]] = {}


class _Mine(threading.local):
    """The regions of the calling thread."""

    def __init__(self) -> None:
        self.regions: list[Awaited] = []
        _regions[threading.get_ident()] = self.regions


_mine = _Mine()


class Mark:
    """Marks a region: as a context manager, as the decorator of a function, or around each step of an iteration.

    A generator must not yield inside the region, because the region then includes what its consumer does.
    """

    __slots__ = ("_awaited",)

    def __init__(self, awaited: Awaited) -> None:
        self._awaited = awaited

    def __enter__(self) -> None:
        _mine.regions.append(self._awaited)

    def __exit__(self, *_: object) -> None:
        _mine.regions.pop()

    @contextmanager
    def holding(self, lock: AbstractContextManager[object]) -> Iterator[None]:
        """Hold a lock. Only waiting for it is in the region: the thread that has it may hang there."""
        with ExitStack() as stack:
            with self:
                stack.enter_context(lock)
            yield

    def __call__(self, function: Callable[_P, _T]) -> Callable[_P, _T]:
        """Mark all of *function*."""

        @functools.wraps(function)
        def marked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            with self:
                return function(*args, **kwargs)

        return marked

    def each(self, things: Iterable[_T]) -> Iterator[_T]:
        """Yield *things*; only finding the next one is in the region."""
        steps = iter(things)
        while True:
            with self:
                try:
                    thing = next(steps)
                except StopIteration:
                    return
            yield thing


_SHARE, _JIRA = Mark(Awaited.SHARE), Mark(Awaited.JIRA)


def on_share() -> Mark:
    """Mark calls to the file system of inbox, done or failed, which may hang for as long as its server is away."""
    return _SHARE


def on_jira() -> Mark:
    """Mark waits for Jira, or for another thread that waits for it."""
    return _JIRA


def _awaited(thread: int) -> Awaited | None:
    return next(reversed(_regions.get(thread, ())), None)


# --- The beats ----------------------------------------------------------------------------------------------------------


class Pulse(NamedTuple):
    """The last beat of one loop: its time (CLOCK_MONOTONIC), its thread, and the state of its progress counter."""

    at: float
    thread: int
    patience: float = PATIENCE_SECONDS
    progress: Callable[[], int] = lambda: 0
    got: int = 0


@dataclass(frozen=True, slots=True)
class Hang:
    """A loop that has been silent for too long. ``degraded``: it waits for a share, which no restart would end."""

    loop: str
    seconds: float
    where: str
    degraded: bool

    @property
    def words(self) -> str:
        """Return a clause that stays the same while the hang lasts."""
        return f"{self.loop} {'is waiting for the file system' if self.degraded else 'is stuck'} ({self.where})"

    def __str__(self) -> str:
        what = "has been waiting for the file system" if self.degraded else "has been stuck"
        return f"{self.loop} {what} for {self.seconds:.0f} s ({self.where})"


class Beats:
    """The beats of all loops, each under the name of its thread."""

    def __init__(self, awake: Callable[[], float]) -> None:
        """*awake* returns CLOCK_MONOTONIC: while the machine sleeps, no loop is silent."""
        self._awake = awake
        self._lock = threading.Lock()
        self._pulses: dict[str, Pulse] = {}

    def beat(self) -> None:
        """Note that the calling thread made progress, or has nothing to do."""
        thread = threading.current_thread()
        pulse = Pulse(self._awake(), threading.get_ident())
        with self._lock:
            self._pulses[thread.name] = pulse

    @contextmanager
    def busy(self, patience: float, progress: Callable[[], int]) -> Iterator[None]:
        """Take each change of *progress* for a beat, and allow *patience* more seconds of silence."""
        self.beat()
        name = threading.current_thread().name
        with self._lock:
            self._pulses[name] = self._pulses[name]._replace(
                patience=PATIENCE_SECONDS + patience, progress=progress, got=progress()
            )
        try:
            yield
        finally:
            self.beat()

    def leave(self) -> None:
        """Forget the calling thread, which ends in order."""
        with self._lock:
            self._pulses.pop(threading.current_thread().name, None)

    def hangs(self) -> list[Hang]:
        """Return the loops that have been silent for too long."""
        now = self._awake()
        with self._lock:
            self._pulses = {name: _looked_at(pulse, now) for name, pulse in self._pulses.items()}
            silent = {name: p for name, p in self._pulses.items() if now - p.at > p.patience}
        return [found for name, pulse in silent.items() if (found := _hang(name, pulse, now)) is not None]


def _looked_at(pulse: Pulse, now: float) -> Pulse:
    got = pulse.progress()
    return pulse if got == pulse.got else pulse._replace(at=now, got=got)


def _hang(name: str, pulse: Pulse, now: float) -> Hang | None:
    seconds, frame = now - pulse.at, sys._current_frames().get(pulse.thread)  # noqa: SLF001 - documented for exactly this
    if frame is None:
        return Hang(name, seconds, "its thread is gone", degraded=False)
    return judge(name, seconds, _awaited(pulse.thread), innermost(frame))


def judge(loop: str, seconds: float, awaited: Awaited | None, where: str) -> Hang | None:
    """Decide what a silence of so many *seconds* means; None if it is not a hang yet."""
    if awaited is Awaited.JIRA and seconds < _JIRA_SECONDS:
        return None
    return Hang(loop, seconds, where, degraded=awaited is Awaited.SHARE)


def innermost(frame: FrameType) -> str:
    """Return the module of ours in which a thread is, and the line, for people; "?" if it is in none."""
    here: FrameType | None = frame
    while here is not None:
        module = here.f_globals.get("__name__", "")
        if module.startswith("attachd.") and module != __name__:
            return f"{module}, line {here.f_lineno}"
        here = here.f_back
    return "?, line 0"
