"""The settings of a stand-in. All except addresses may change while it runs."""

from __future__ import annotations

import datetime
import math
from collections import deque
from dataclasses import dataclass, field, fields
from typing import Any

#: The default limit for a file in bytes: 1 GiB on Cloud, 10 MiB on Data Center.
UPLOAD_LIMITS = {"Cloud": 1 << 30, "Server": 10 << 20}


@dataclass(eq=False)
class Settings:
    """The switches of a stand-in, as attributes of its store."""

    deployment: str = "Cloud"  #: "Cloud" or "Server" (Data Center says "Server" too)
    base_path: str = ""  #: the gateway too stands below it
    user: str = "demo@example.com"
    token: str = "standin-token"  # noqa: S105  the made-up secret of a made-up server
    account_id: str = "712020:00000000-0000-4000-8000-000000000001"
    cloud_id: str = "00000000-0000-4000-8000-00000000000c"  #: the gateway is at /ex/jira/CLOUD_ID

    #: Credentials are good at the gateway alone (a 401 at the site), and there for what ``scopes`` allow.
    scoped: bool = False
    scopes: set[str] = field(default_factory=lambda: {"read:jira-work", "write:jira-work", "read:jira-user"})
    client_id: str = "standin-client"  #: who may ask the token endpoint, /oauth/token or /rest/oauth2/latest/token
    client_secret: str = "standin-client-secret"  # noqa: S105
    refresh_token: str = ""  #: the one that is good now; empty: none is
    rotate: bool = True  #: each refresh replaces it; the old one is dead from then on
    token_seconds: float = 3600.0  #: how long an access token is good
    access_tokens: dict[str, float] = field(default_factory=dict)  #: those given, and when each ends; {} ends them all
    echo_tokens: bool = False  #: a refused refresh repeats the secrets that it was asked with

    #: Wrong credentials make the caller anonymous, and issues invisible (404); otherwise they get a 401 everywhere.
    anonymous_fallthrough: bool = True
    auto_issues: bool = False  #: every well-formed key exists as soon as it is asked for
    projects: set[str] = field(default_factory=set)  #: where ``auto_issues`` counts; empty: everywhere
    read_only: set[str] = field(default_factory=set)  #: issue keys and project keys whose uploads draw a 403
    invisible: set[str] = field(default_factory=set)  #: issue keys and project keys that draw a 404

    attachments_enabled: bool = True
    upload_limit: int = 0  #: bytes in one file; 0 at the start: the default of the deployment
    files_per_request: int = 60
    attachment_limit: int = 2000  #: attachments on one issue
    proxy_limit: int = 0  #: bytes in the body of an upload beyond which a proxy says 413; 0: none
    part_header_limit: int = 512  #: bytes in the headers of one part, as in Commons FileUpload 1.6
    atomic: bool = True  #: a request is stored as a whole or not at all; otherwise part by part, as they arrive
    hide_attachment_field: bool = False
    shuffle: bool = False  #: the reply lists the attachments in the reverse order of the parts
    created_as_millis: bool = False
    clock_skew: float = 0.0  #: seconds by which this server's clock is ahead
    date_skew: float = 0.0  #: seconds by which the Date header, which a proxy writes, is ahead of that
    listing_lag: float = 0.0  #: an issue shows only what was stored so many seconds ago
    secure_schemes: set[str] = field(
        default_factory=lambda: {"basic"}
    )  #: of Authorization; what opens /secure/attachment

    inbox: str = "inbox"  #: where the page tells people to drop files

    limits: bool = False
    limit_scale: float = 1.0  #: shrinks the windows of the limits
    count_files_as_writes: bool = False
    bucket_size: int = 50  #: requests that Data Center grants at once, and ...
    bucket_fill: int = 10  #: ... how many more each second

    @property
    def cloud(self) -> bool:
        """Return True for Cloud, False for Data Center."""
        return self.deployment == "Cloud"

    def configure(self, changes: dict[str, Any]) -> None:
        """Set attributes by name, and turn lists into sets. An unknown name is an error and changes nothing."""
        known = {f.name for f in fields(Settings)}
        if unknown := sorted(set(changes) - known):
            raise ValueError(f"no such setting: {', '.join(unknown)}")
        for name, value in changes.items():
            setattr(self, name, set(value) if isinstance(getattr(self, name), set) else value)


# How often one issue may be written to (Cloud), and how many requests an account may make (Data Center).

#: Writes to one issue, and the seconds within which so many are granted.
WINDOWS = ((20, 2.0), (100, 30.0))
#: The share of a limit below which Jira warns.
NEAR = 0.2


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer of the tightest limit. ``wait`` is 0 if the request is granted."""

    limit: int
    remaining: int
    wait: float

    @property
    def headers(self) -> dict[str, str]:
        """Return it as Cloud's headers, except those of a refusal."""
        near = {"X-RateLimit-NearLimit": "true"} if self.remaining < NEAR * self.limit else {}
        return {"X-RateLimit-Limit": str(self.limit), "X-RateLimit-Remaining": str(self.remaining)} | near


class IssueWrites:
    """Cloud's limit on writes to one issue."""

    def __init__(self, settings: Settings) -> None:
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
        self._settings = settings
        self._tokens = math.inf
        self._at = 0.0

    def admit(self, now: float) -> tuple[bool, dict[str, str]]:
        """Grant or refuse a request. Both answers have the headers."""
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
    """Return Cloud's headers for a request that comes too early. *now* is the server's time since the epoch."""
    reset = datetime.datetime.fromtimestamp(now + wait, datetime.UTC)
    return {
        "Retry-After": str(max(1, math.ceil(wait))),
        "RateLimit-Reason": reason,
        "X-RateLimit-Reset": reset.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
