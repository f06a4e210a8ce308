"""How often one issue may be written to (Cloud), and how many requests an account may make (Data Center)."""

from __future__ import annotations

import datetime
import math
from collections import deque
from dataclasses import dataclass

from attachd.standin.settings import Settings

#: Writes to one issue, and the seconds within which so many are granted.
WINDOWS = ((20, 2.0), (100, 30.0))
#: The share of a limit below which Jira warns.
NEAR = 0.2


@dataclass(frozen=True, slots=True)
class Grant:
    """What the tightest limit says: ``wait`` is 0 if the request is granted."""

    limit: int
    remaining: int
    wait: float

    @property
    def headers(self) -> dict[str, str]:
        """Say it in Cloud's headers, but for those of a refusal."""
        near = {"X-RateLimit-NearLimit": "true"} if self.remaining < NEAR * self.limit else {}
        return {"X-RateLimit-Limit": str(self.limit), "X-RateLimit-Remaining": str(self.remaining)} | near


class IssueWrites:
    """Cloud's limit on writes to one issue."""

    def __init__(self, settings: Settings) -> None:
        """Start with no write seen."""
        self._settings = settings
        self._seen: dict[int, deque[float]] = {}

    def admit(self, issue: int, writes: int, now: float) -> Grant:
        """Grant *writes* to *issue* at *now* and remember them, or say how long to wait."""
        seen = self._seen.setdefault(issue, deque())
        longest = max(seconds for _, seconds in WINDOWS) * self._settings.limit_scale
        while seen and seen[0] <= now - longest:
            seen.popleft()
        grants = [self._judge(seen, writes, now, limit, seconds) for limit, seconds in WINDOWS]
        tightest = max(grants, key=lambda grant: (grant.wait, -grant.remaining / grant.limit))
        if tightest.wait == 0:
            seen.extend([now] * writes)
        return tightest

    def _judge(self, seen: deque[float], writes: int, now: float, limit: int, seconds: float) -> Grant:
        window = seconds * self._settings.limit_scale
        recent = [at for at in seen if at > now - window]
        excess = len(recent) + writes - limit
        if excess <= 0:
            return Grant(limit, -excess, 0.0)
        frees = recent[min(excess, len(recent)) - 1] if recent else now
        return Grant(limit, 0, max(frees + window - now, 0.001))


class Bucket:
    """Data Center's token bucket of one account."""

    def __init__(self, settings: Settings) -> None:
        """Start full."""
        self._settings = settings
        self._tokens = math.inf
        self._at = 0.0

    def admit(self, now: float) -> tuple[bool, dict[str, str]]:
        """Grant a request or not; the headers stand on either answer."""
        size, fill, interval = self._settings.bucket_size, self._settings.bucket_fill, self._settings.limit_scale
        self._tokens = min(size, self._tokens + (now - self._at) / interval * fill)
        self._at = now
        granted = self._tokens >= 1
        self._tokens -= granted
        wait = 0 if self._tokens >= 1 else math.ceil((1 - self._tokens) * interval / fill)
        return granted, {
            "X-RateLimit-Limit": str(size),
            "X-RateLimit-Remaining": str(int(self._tokens)),
            "X-RateLimit-Interval-Seconds": str(max(1, round(interval))),
            "X-RateLimit-FillRate": str(fill),
            "retry-after": str(wait),
        }


def refusal_headers(reason: str, wait: float, now: float) -> dict[str, str]:
    """Say in Cloud's headers that a request comes too early; *now* is the server's time since the epoch."""
    reset = datetime.datetime.fromtimestamp(now + wait, datetime.UTC)
    return {
        "Retry-After": str(max(1, math.ceil(wait))),
        "RateLimit-Reason": reason,
        "X-RateLimit-Reset": reset.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
