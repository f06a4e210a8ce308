"""Staying under Jira's limits instead of running into them: of an issue, of an account, and of what it can take at once."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence

from attachd.jira.rate_limits import Pace

#: Cloud allows 20 writes in 2 s and 100 in 30 s on one issue (Atlassian, "Rate limiting"); a little is left for others.
WINDOWS = ((2.0, 18), (30.0, 95))
#: The gap between two requests for an issue that Jira says is near its limit: half the rate that it allows for long.
NEAR_SECONDS = 0.6
#: After so many accepted requests in a row one more is sent at once, up to ``upload.parallel``.
GROW_AFTER = 10
#: With fewer writes than this behind it, an issue may have one more at once; and the longest of the windows, in seconds.
_UNLIMITED, _LONGEST_SECONDS = min(most for _, most in WINDOWS), max(seconds for seconds, _ in WINDOWS)


def free_at(times: Sequence[float], now: float, writes: int = 1) -> float:
    """When *writes* more may begin, given the times of the earlier ones in order; *now* or earlier means at once."""
    earliest = now
    for seconds, most in WINDOWS:
        before = max(1, most - writes + 1)
        if len(times) >= before:
            earliest = max(earliest, times[-before] + seconds)
    return earliest


class Pacer:
    """When requests may begin, on CLOCK_BOOTTIME: of an issue by its last ones, and of all by what Jira says is left.

    Issues that are quiet are forgotten. No call takes longer with more issues, unless one upload counts as many writes.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._issues: OrderedDict[str, deque[float]] = OrderedDict()  # the one that was served last comes last
        self._crowded: set[str] = set()  # of these, with so many writes that they may have to wait
        self._near: dict[str, float] = {}
        self._dry_until = 0.0
        self._lock = threading.Lock()

    def wait(self, issue: str, now: float, writes: int = 1) -> float:
        """How many seconds this issue has to wait before so many *writes* more; 0 for not at all."""
        with self._lock:
            return max(0.0, self._free_at(issue, now, writes) - now, self._dry_until - now)

    def _free_at(self, issue: str, now: float, writes: int) -> float:
        return max(free_at(self._issues.get(issue, ()), now, writes), self._near.get(issue, 0.0))

    def wait_for_all(self, now: float) -> float:
        """How many seconds nothing may be asked of the site; 0 for not at all."""
        with self._lock:
            return max(0.0, self._dry_until - now)

    def count(self, issue: str, now: float, writes: int = 1) -> None:
        """A request of this issue begins, that counts as so many *writes*."""
        with self._lock:
            times = self._issues.setdefault(issue, deque(maxlen=max(most for _, most in WINDOWS)))
            times.extend([now] * writes)
            self._issues.move_to_end(issue)
            if len(times) >= _UNLIMITED:
                self._crowded.add(issue)
            while (oldest := next(iter(self._issues))) != issue and self._issues[oldest][-1] <= now - _LONGEST_SECONDS:
                del self._issues[oldest]
                self._crowded.discard(oldest)

    def heed(self, issue: str, pace: Pace, now: float) -> None:
        """Slow down as a reply about this issue ("": about none) asks."""
        with self._lock:
            self._near = {key: until for key, until in self._near.items() if until > now}
            if pace.near and issue:
                self._near[issue] = now + NEAR_SECONDS
            if pace.dry_seconds:
                self._dry_until = max(self._dry_until, now + pace.dry_seconds)

    def soonest(self, now: float, writes: int = 1) -> float | None:
        """In how many seconds the first issue that has to wait may go on; None if none has to."""
        with self._lock:
            concerned = self._crowded if writes == 1 else self._issues.keys()
            waits = [self._free_at(issue, now, writes) - now for issue in concerned | self._near.keys()]
            waits.append(self._dry_until - now)
        return min((wait for wait in waits if wait > 0), default=None)


class Parallel:
    """How many uploads run at once: halved when Jira cannot take so many, one more after a run of accepted ones.

    The limit of one issue says nothing about that, since an issue never has two requests at once.
    """

    def __init__(self, most: int) -> None:
        """Begin with *most*, ``upload.parallel``."""
        self.allowed = most
        self._most = most
        self._run = 0
        self._under_way = 0
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Begin an upload; False if so many are under way as may be."""
        with self._lock:
            if self._under_way >= self.allowed:
                return False
            self._under_way += 1
            return True

    def leave(self) -> None:
        """An upload has ended, whatever came of it."""
        with self._lock:
            self._under_way -= 1

    def overloaded(self) -> None:
        """Jira answered that it is too much (429, 503), or did not answer in time."""
        with self._lock:
            self.allowed, self._run = max(1, self.allowed // 2), 0

    def accepted(self) -> bool:
        """Jira stored what was sent; True if one more may run from now on."""
        with self._lock:
            self._run += 1
            if self.allowed == self._most or self._run < GROW_AFTER:
                return False
            self.allowed, self._run = self.allowed + 1, 0
            return True


# The limit to what all workers together send: ``upload.max_bytes_per_second``.
# A bucket of tokens, told by the time at which it is even. Every piece is paid for before it is sent; what is not
# used is saved for half a second, which makes up for the time that the sending itself takes, and no longer.

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
