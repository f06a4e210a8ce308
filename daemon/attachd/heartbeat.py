"""Whether every loop of the service gets on. A loop beats when it made progress or had nothing to do, and at no other time.

One that is silent for too long hangs. Where it hangs decides what follows: inside a call to the inbox's file system (a NAS that
does not answer) the service is degraded, and a restart would only hang again; anywhere else it is stuck, and the service
manager is no longer told that all is well (sd_notify(3), WATCHDOG=1), so that it starts the service anew.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NamedTuple

#: How long a loop may be silent, in seconds, where it did not ask for more.
PATIENCE_SECONDS = 120.0

#: The rooms whose calls go to the file systems of inbox, done and failed.
_ROOMS = (
    *("attachd.intake.", "attachd.fs.", "attachd.share."),
    *("attachd.delivery.preflight", "attachd.filing.file_away", "attachd.jira.multipart"),
)

#: Where Jira is waited for every wait has a time-out, but several may follow each other.
_NETWORK = "attachd.jira."
_NETWORK_SECONDS = 900.0


class Pulse(NamedTuple):
    """The last beat of one loop: when (CLOCK_BOOTTIME), by which thread, and how far its work had got."""

    boot: float
    thread: int
    patience: float = PATIENCE_SECONDS
    progress: Callable[[], int] = lambda: 0
    got: int = 0


@dataclass(frozen=True, slots=True)
class Hang:
    """A loop that has been silent for too long. ``degraded``: inside a call to a file system, which no restart would end."""

    loop: str
    seconds: float
    where: str
    degraded: bool

    @property
    def words(self) -> str:
        """As a clause that stays the same while it lasts."""
        return f"{self.loop} {'is waiting for the file system' if self.degraded else 'is stuck'} ({self.where})"

    def __str__(self) -> str:
        """As a sentence."""
        what = "has been waiting for the file system" if self.degraded else "has been stuck"
        return f"{self.loop} {what} for {self.seconds:.0f} s ({self.where})"


class Beats:
    """The beats of all loops, each under the name of its thread."""

    def __init__(self, boot: Callable[[], float]) -> None:
        """*boot* tells CLOCK_BOOTTIME."""
        self._boot = boot
        self._lock = threading.Lock()
        self._pulses: dict[str, Pulse] = {}

    def beat(self) -> None:
        """The calling thread got on, or has nothing to do."""
        thread = threading.current_thread()
        pulse = Pulse(self._boot(), threading.get_ident())
        with self._lock:
            self._pulses[thread.name] = pulse

    @contextmanager
    def busy(self, patience: float, progress: Callable[[], int]) -> Iterator[None]:
        """For as long as the context lasts, whatever *progress* counts up is a beat, and silence may last *patience* more."""
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
        """The calling thread ends in order."""
        with self._lock:
            self._pulses.pop(threading.current_thread().name, None)

    def hangs(self) -> list[Hang]:
        """The loops that have been silent for too long."""
        now = self._boot()
        with self._lock:
            self._pulses = {name: _looked_at(pulse, now) for name, pulse in self._pulses.items()}
            silent = {name: p for name, p in self._pulses.items() if now - p.boot > p.patience}
        return [found for name, pulse in silent.items() if (found := _hang(name, pulse, now)) is not None]


def _looked_at(pulse: Pulse, now: float) -> Pulse:
    got = pulse.progress()
    return pulse if got == pulse.got else pulse._replace(boot=now, got=got)


def _hang(name: str, pulse: Pulse, now: float) -> Hang | None:
    frame = sys._current_frames().get(pulse.thread)  # noqa: SLF001 - documented for exactly this
    if frame is None:
        return Hang(name, now - pulse.boot, "its thread is gone", degraded=False)
    return judge(name, now - pulse.boot, *innermost(frame))


def judge(loop: str, seconds: float, module: str, line: int) -> Hang | None:
    """Decide what a silence of so many *seconds* in *module* is; None if it is no hang yet."""
    degraded = module.startswith(_ROOMS)
    if module.startswith(_NETWORK) and not degraded and seconds < _NETWORK_SECONDS:
        return None
    return Hang(loop, seconds, f"{module}, line {line}", degraded)


def innermost(frame: FrameType) -> tuple[str, int]:
    """The module of ours in which a thread is, and the line; "?" where it is in none."""
    here: FrameType | None = frame
    while here is not None:
        module = here.f_globals.get("__name__", "")
        if module.startswith("attachd."):
            return module, here.f_lineno
        here = here.f_back
    return "?", 0
