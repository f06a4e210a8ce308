"""Faults on demand: which requests go wrong, how, and how often. ``fault_actions`` carries them out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

#: Every kind of fault, and what it does. "Stored" speaks of uploads; every kind but those marked U fits any request.
KINDS: Final = {
    # A reply of the author's choice.
    "status": "Answers `status` (500) with `headers`, `body`, `content_type`, the request having been read whole. "
    "`early`: before the body is read, and closes; `stall`: likewise, but stops reading and keeps the connection.",
    # The connection.
    "reset": "Cuts the connection with a TCP reset at `point` (reply).",
    "close": "Cuts the connection with an orderly FIN at `point` (reply).",
    "stall": "Stops at `point` (reply-none): body (reads no more after `bytes`), reply-none (stored, never answers), "
    "reply-before (not stored, never answers), until the client goes; with `delay`, cuts after so many seconds.",
    # Time.
    "late": "U Not stored when the request ends (reset, or an answer of `status`), but `delay` seconds later.",
    "slow": "Waits `delay` seconds, then answers as usual, with `headers` besides.",
    "trickle": "Answers byte by byte, each after `delay` seconds, and closes.",
    # A 200 that proves nothing.
    "html200": "200 with an HTML login page; nothing is stored.",
    "empty200": "200 with an empty body; nothing is stored.",
    "emptylist200": "200 with an empty list of attachments; nothing is stored.",
    "nojson200": "200 with half a JSON text; nothing is stored.",
    "noids200": "200, stored; the attachments in the answer have no ids.",
    "wrongsize200": "200, stored; the sizes in the answer are one byte too large.",
    "login200": "200, stored, correct, but with X-Seraph-LoginReason: AUTHENTICATED_FAILED.",
    # A 200 that is correct but unusual.
    "object200": "U 200, stored; one object where a list is usual (of several files, the first).",
    "shuffle200": "200, stored; the attachments in another order than the parts.",
    # Ordinary refusals.
    "captcha": "403, HTML, X-Authentication-Denied-Reason: CAPTCHA_CHALLENGE.",
    "unauthorized": "401 in Jira's JSON, X-Seraph-LoginReason: AUTHENTICATED_FAILED.",
    "scope": "401 of the gateway: the token lacks a scope.",
    "xsrf": "403, plain text: XSRF check failed.",
    "redirect": "302 to `location`.",
    "proxy413": "413 as a reverse proxy says it, in HTML.",
    "ratelimit": "429 with `reason` (jira-burst-based) and `retry_after` (1).",
    # What happens to the files.
    "rename": "U Stored under `name` (STEM-renamed.EXT), and the answer says so.",
    "half": "U The first `count` files (half of them) are stored, then all are refused with `status` (400); "
    "None: with a reset.",
    "twice": "U Stored twice; the answer has the first ids.",
}

#: Where a connection is cut, in the order of a request's life.
POINTS: Final = {
    "accept": "as soon as the connection is made (with where='any'), else as soon as the head was read",
    "headers": "as soon as the head was read",
    "body": "after `bytes` of the body, at the latest before its end",
    "last-byte": "after the whole body; nothing is stored",
    "reply": "after the whole body; stored, and not a byte of an answer",
    "reply-head": "stored; in the middle of the answer's head",
    "reply-body": "stored; after `bytes` of the answer's body, else in the middle of it",
    "reply-none": "(stall) stored, and never answered",
    "reply-before": "(stall) not stored, and never answered",
}

#: The names of requests in faults.
PLACES: Final = (
    "upload",
    "listing",
    "myself",
    "serverInfo",
    "meta",
    "permissions",
    "attachment",
    "comment",
    "content",
    "tenant",
    "token",
    "other",
    "any",
)

#: In ``Fault.status``: the usual status of the kind. None means no answer at all.
USUAL: Final = 0

_STORES_NOTHING: Final = {
    "status",
    "late",
    "html200",
    "empty200",
    "emptylist200",
    "nojson200",
    "captcha",
    "unauthorized",
    "scope",
    "xsrf",
    "redirect",
    "proxy413",
    "ratelimit",
}
_POINTS_BEFORE_STORING: Final = {"accept", "headers", "body", "last-byte", "reply-before"}


@dataclass(frozen=True)
class Fault:
    """A fault of ``times`` requests (-1: all) to ``where``, after the first ``after`` requests."""

    kind: str
    where: str = "upload"
    times: int = 1
    after: int = 0
    issue: str | None = None
    point: str = ""
    status: int | None = USUAL
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    content_type: str = "text/plain"
    delay: float | None = None
    bytes: int | None = None
    name: str | None = None  #: the name under which files are stored, for every kind
    commit: bool | None = None  #: True or False: whether files are stored; None: as usual for the kind
    count: int | None = None
    early: bool = False
    stall: bool = False
    location: str = "/login.jsp?os_destination=%2F"
    reason: str = "jira-burst-based"
    retry_after: str = "1"

    def __post_init__(self) -> None:
        """Refuse a misspelt kind, point or place, because such a fault would never strike."""
        if self.kind not in KINDS or self.where not in PLACES or (self.point and self.point not in POINTS):
            raise ValueError(f"no such fault: {self.kind} {self.point} {self.where}".replace("  ", " "))
        if not self.point:
            object.__setattr__(self, "point", "reply-none" if self.kind == "stall" else "reply")

    @property
    def stores(self) -> bool:
        """Return True if the files of the request are stored before the answer."""
        if self.commit is not None:
            return self.commit
        cutting = self.kind in ("reset", "close", "stall")
        return not (self.kind in _STORES_NOTHING or (cutting and self.point in _POINTS_BEFORE_STORING))

    def concerns(self, where: str, issue: str | None) -> bool:
        """Return True if this fault counts a request to *where* about *issue*."""
        return self.where in (where, "any") and (self.issue is None or self.issue.upper() == (issue or "").upper())

    @property
    def on_connection(self) -> bool:
        """Return True if the fault strikes before the request is known."""
        return self.point == "accept" and self.where == "any" and self.issue is None


def from_json(values: dict[str, Any]) -> Fault:
    """Return the fault that an HTTP request describes. An unknown option is an error."""
    known = {f.name for f in fields(Fault)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"no such option: {', '.join(unknown)}")
    return Fault(**values)


@dataclass
class _Pending:
    fault: Fault
    skip: int
    left: int


class Faults:
    """The faults for coming requests. Any thread may add to them."""

    def __init__(self) -> None:
        self._pending: list[_Pending] = []
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """Add *faults*. If several fit a request, the first one strikes."""
        with self._lock:
            self._pending += [_Pending(fault, fault.after, fault.times) for fault in faults]

    def clear(self) -> None:
        """Remove all faults that have not struck yet."""
        with self._lock:
            self._pending.clear()

    def pending(self) -> list[Fault]:
        """List the faults that can still strike."""
        with self._lock:
            return [pending.fault for pending in self._pending]

    def take(self, where: str, issue: str | None) -> Fault | None:
        """Return the fault of this request, and count the request."""
        return self._take(lambda fault: not fault.on_connection and fault.concerns(where, issue))

    def take_on_connection(self) -> Fault | None:
        """Return the fault that cuts this connection before anything is read, and count the connection."""
        return self._take(lambda fault: fault.on_connection)

    def _take(self, fits: Callable[[Fault], bool]) -> Fault | None:
        with self._lock:
            struck: _Pending | None = None
            for pending in self._pending:
                if not fits(pending.fault):
                    continue
                if pending.skip:
                    pending.skip -= 1
                elif struck is None:
                    struck = pending
            if struck is None:
                return None
            struck.left -= 1
            if struck.left == 0:
                self._pending.remove(struck)
            return struck.fault
