"""What is known of the site while the process runs: which API, who we are there, its clock, its limits.

Shared by all workers. Nothing of it outlives the process: it is asked again at each start.
"""

from __future__ import annotations

import threading
import urllib.parse
from collections import OrderedDict
from dataclasses import dataclass

from attachd.clock import Clock
from attachd.delivery.server_clock import ServerTime
from attachd.jira.reply import Exchange, Reply
from attachd.jira.site_info import CONFIGURED, Limits

#: How old the limits may be before a file is refused for them, in seconds.
LIMITS_SECONDS = 60.0
#: How many attachments an issue holds at most on Cloud (the sample of ``GET issue/limit/report``).
ATTACHMENTS = 2000
#: After so many seconds attachd finds out again whether contents can be read, who we are, which API the site speaks and how
#: much a request may hold.
TRUSTED_SECONDS = 86_400.0
#: How many checksums of attachments are remembered: what an attachment contains never changes.
DIGESTS = 10_000
#: How long it counts that an issue was seen, in seconds, and how many issues are remembered.
SEEN_SECONDS, SEEN_ISSUES = 600.0, 10_000


@dataclass(frozen=True, slots=True)
class SeenIssue:
    """An issue that Jira has shown us, when (CLOCK_BOOTTIME), and how many attachments it held (None: not said)."""

    at: float
    attachments: int | None


class Site:
    """One Jira. ``version`` is "" until it is known which API it speaks; ``pages`` is the address below which people see it."""

    def __init__(self, url: str, deployment: str, clock: Clock, *, skew: float = 0.0) -> None:
        """*deployment* is the configuration's: auto, cloud or datacenter; *skew* is that of ``ServerTime``."""
        self.url = url
        self.pages = url
        self.configured = CONFIGURED.get(deployment, "")
        self.version = self.configured
        self.author: str | None = None
        self._signature: str | None = None
        self._met_at: float | None = None
        self.limits: Limits | None = None
        self.lock = threading.Lock()
        self._clock = clock
        self.time = ServerTime(skew)
        self.digests: OrderedDict[str, bytes] = OrderedDict()
        self.deleted: set[str] = set()
        #: When listings of an issue began to be old, and when the last such one came.
        self.old_since: dict[str, tuple[float, float]] = {}
        self._closed: tuple[int, float] | None = None
        self._issues: dict[str, SeenIssue] = {}
        self._seeing = threading.Lock()

    @property
    def introduced(self) -> bool:
        """Return True if the site has been known for less than a day: what one answer said may have been wrong."""
        return self._met_at is not None and self._clock.boot() - self._met_at < TRUSTED_SECONDS

    @introduced.setter
    def introduced(self, known: bool) -> None:
        self._met_at = self._clock.boot() if known else None

    @property
    def cloud(self) -> bool:
        """Return True if it is Jira Cloud."""
        return self.version == "3"

    def hear(self, outcome: Exchange) -> Exchange:
        """Set our idea of the server's clock by a reply's ``Date``; pass the reply on."""
        if isinstance(outcome, Reply) and outcome.date is not None:
            self.time.heard(outcome.date, self._clock.boot())
        return outcome

    def remember_digest(self, attachment: str, sha256: bytes) -> None:
        """Remember what an attachment contains, so that the next look does not read it again."""
        with self._seeing:
            self.digests[attachment] = sha256
            if len(self.digests) > DIGESTS:
                self.digests.popitem(last=False)

    def close_contents(self, generation: int) -> None:
        """Remember that credentials of this *generation* do not open the contents of attachments."""
        self._closed = generation, self._clock.boot()

    def opens_contents(self, generation: int) -> bool:
        """Return True if the contents of attachments can be read, or if it is time to find that out.

        That is so the first time, a day later, and with other credentials.
        """
        if self._closed is None:
            return True
        known, since = self._closed
        return known != generation or self._clock.boot() - since >= TRUSTED_SECONDS

    def stored(self, created: float, begun: float, ended: float) -> None:
        """Jira stored a file of ours at *created* by its clock, and between *begun* and *ended* by CLOCK_BOOTTIME."""
        self.time.stored(created, begun, ended)

    def signed_by(self, author: str) -> None:
        """Jira stored a file of ours under this account. If it had told us another, it is asked again."""
        if self.author is not None and author != self.author:
            self.author = None
            self.introduced = self._signature == author and self.introduced
        self._signature = author

    def old(self, issue: str, boot: float, apart: float) -> float:
        """An old listing of an issue came. Return since when they are; one *apart* seconds after the last is the first again."""
        since, last = self.old_since.get(issue, (boot, boot))
        since = boot if boot - last >= apart else since
        self.old_since[issue] = since, boot
        return since

    def forget_signature(self) -> None:
        """The credentials are others now, and may be those of another account."""
        self._signature = None

    def account(self, told: str | None) -> str | None:
        """Return who we are, if what Jira *told* us agrees with how it signs what we attach; else None."""
        return told if self._signature in (None, told) else None

    def page(self, issue: str) -> str:
        """The address of an issue's page."""
        return f"{self.pages}/browse/{urllib.parse.quote(issue)}"

    def saw(self, issue: str, attachments: int | None) -> None:
        """Remember that an issue is there, and what it holds."""
        with self._seeing:
            if len(self._issues) >= SEEN_ISSUES:
                self._issues.pop(next(iter(self._issues)))
            self._issues[issue] = SeenIssue(self._clock.boot(), attachments)

    def accepted(self, issue: str, files: int) -> None:
        """Remember that an issue took so many files more."""
        held = self.held(issue)
        self.saw(issue, None if held is None else held + files)

    def lost_sight(self, issue: str) -> None:
        """Jira declined something for this issue: what was seen of it no longer counts."""
        with self._seeing:
            self._issues.pop(issue, None)

    def has_seen(self, issue: str) -> bool:
        """Return True if the issue was there a short while ago."""
        with self._seeing:
            seen = self._issues.get(issue)
        return seen is not None and self._clock.boot() - seen.at < SEEN_SECONDS

    def held(self, issue: str) -> int | None:
        """How many attachments the issue holds, where that is known."""
        with self._seeing:
            seen = self._issues.get(issue)
        return seen.attachments if seen and self._clock.boot() - seen.at < SEEN_SECONDS else None

    def free_slots(self, issue: str) -> int | None:
        """How many files more the issue takes on Cloud, where that is known; never 0: that it is full is Jira's to say."""
        held = self.held(issue) if self.cloud else None
        return None if held is None else max(1, ATTACHMENTS - held)

    @property
    def clock_known(self) -> bool:
        """Return True if a reply with a date has been seen by this process."""
        return self.time.known

    def now(self) -> float:
        """The server's time; CLOCK_BOOTTIME carries it on, so that our own clock may be set meanwhile."""
        return self.time.now(self._clock.boot()) if self.time.known else self._clock.wall()

    @property
    def slack(self) -> float | None:
        """How far ``now`` may be off, in seconds; None where that was not measured."""
        return self.time.slack(self._clock.boot())
