"""How long scanning takes, as far as it is work and not a wait for a file system that does not answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from attachd.clock import Clock

#: A step that takes longer counts as this much. The steps are single folders and files: only a file system that does not
#: answer, or the content of a large file, takes longer.
_LONGEST_STEP = 1.0

_T = TypeVar("_T")


class Effort:
    """Counts the seconds of scanning, step by step.

    After a scan the inbox is left alone for a multiple of what it took. One that hung until a share's server came back
    took minutes; what was put there since would wait for hours.
    """

    def __init__(self, clock: Clock) -> None:
        """Nothing was done yet."""
        self._clock, self._last, self._spent = clock, clock.boot(), 0.0

    def step(self) -> None:
        """Something was done."""
        now = self._clock.boot()
        self._spent += min(now - self._last, _LONGEST_STEP)
        self._last = now

    def waited(self) -> None:
        """What passed since the last step was no work: others had their turn."""
        self._last = self._clock.boot()

    def each(self, things: Iterable[_T]) -> Iterator[_T]:
        """The same *things*, each a step."""
        for thing in things:
            self.step()
            yield thing

    def spent(self) -> float:
        """The seconds until now; only the difference of two answers means anything."""
        self.step()
        return self._spent
