"""The frozen values that all rooms share: what a file is, what became of it, and what is wrong with the world.

Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """Where a file stands, as the journal keeps it (the transitions are in ``journal/schema.sql``)."""

    SEEN = "SEEN"  #: found in an issue's folder; settling, or blocked. Never promised anything yet.
    READY = "READY"  #: settled and routed; may be sent.
    SENDING = "SENDING"  #: the intent is durable; bytes may have left.
    DOUBTFUL = "DOUBTFUL"  #: may have been stored; the issue is looked at before anything is sent again.
    ATTACHED = "ATTACHED"  #: Jira holds it under a known attachment id; to be moved to done.
    REFUSED = "REFUSED"  #: a verdict about this file or its issue; to be moved to failed.
    DONE = "DONE"
    FAILED = "FAILED"
    WITHDRAWN = "WITHDRAWN"  #: taken away from the inbox before it was sent.


FINISHED = frozenset({State.DONE, State.FAILED, State.WITHDRAWN})
#: Rows whose bytes may have left this machine. They are matched to a file by its SHA-256, never by size and time alone.
SENT = frozenset({State.SENDING, State.DOUBTFUL, State.ATTACHED, State.REFUSED})


class Word(StrEnum):
    """The one set of words for people, JSON, metrics and hooks."""

    WAITING = "waiting"
    BLOCKED = "blocked"
    SENDING = "sending"
    IN_DOUBT = "in-doubt"
    ATTACHED = "attached"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


WORDS = {
    State.SEEN: Word.WAITING,
    State.READY: Word.WAITING,
    State.SENDING: Word.SENDING,
    State.DOUBTFUL: Word.IN_DOUBT,
    State.ATTACHED: Word.ATTACHED,
    State.REFUSED: Word.FAILED,
    State.DONE: Word.ATTACHED,
    State.FAILED: Word.FAILED,
    State.WITHDRAWN: Word.WITHDRAWN,
}


def word(state: State, blocked: str | None) -> Word:
    """Return the user's word for a journal state; a reason in *blocked* counts more than the state of an unfinished file."""
    return Word.BLOCKED if blocked and state not in FINISHED else WORDS[state]


class Fingerprint(NamedTuple):
    """What tells one content of a path from another without reading it; times in nanoseconds since the epoch.

    ``dev`` and ``ino`` count only within one boot and mount: they change at a remount, and inodes are reused at once.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    dev: int
    ino: int


# --- The fate of one file ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stored:
    """Jira holds exactly these bytes: ``attachment`` is its id (always text), ``name`` the name that Jira gave it."""

    attachment: str
    name: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Misstored:
    """Jira holds *something* under ``attachment``, but not of the size that was sent; a person must look."""

    attachment: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A complete answer by which Jira declines this file or this issue; nothing was stored."""

    reason: str


@dataclass(frozen=True, slots=True)
class Contested:
    """A 403 or 404 in Jira's own words. attachd finds out the cause before it moves anything (``delivery/blame.py``)."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """Proof that nothing of it was stored: it may be sent again at once."""

    reason: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """It may have been stored. attachd looks at the issue's attachments before it sends it again.

    ``brief``: Jira declined the request as a whole; one listing shows what it stored all the same.
    ``share``: the most files in the next request with it, if it turns out to be missing; 1 is alone.
    ``nonsense``: a 200 that proves nothing; two such rounds are enough.
    """

    reason: str
    brief: bool = False
    share: int = 1
    nonsense: bool = False


Fate = Stored | Misstored | Refused | Contested | NotDelivered | InDoubt


# --- What is wrong with the world -------------------------------------------------------------------------------


class Scope(StrEnum):
    """How far a pause reaches; people are shown the widest one that applies."""

    ISSUE = "issue"
    PROJECT = "project"
    ENDPOINT = "endpoint"  #: adding attachments, on every issue; looking at issues goes on
    SITE = "site"
    ACCOUNT = "account"
    OPERATOR = "operator"  #: paused by hand


class Cure(StrEnum):
    """What ends a pause."""

    TIME = "time"  #: its end: the next upload is let through
    PROBE = "probe"  #: a harmless request that succeeds
    HAND = "hand"  #: ``attachd resume``


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with something larger than one file. It never overrides a fate.

    ``subject`` is the issue or project, or "" for the wider scopes. ``wait`` is in seconds, as Jira asked; None for a wait that
    grows with each repetition. ``kind`` names the cause in logs and metrics.
    """

    scope: Scope
    kind: str
    reason: str
    subject: str = ""
    wait: float | None = None
    cure: Cure = Cure.TIME


def signed64(number: int) -> int:
    """Fold a number into SQLite's 64 bits: times after 2262 and the inodes of some file systems are larger."""
    return (number + 2**63) % 2**64 - 2**63


def printable(raw: bytes) -> str:
    r"""Show a file name in one line: UTF-8 as it is; control characters and undecodable bytes as ``\x..``."""
    text = raw.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Unserved(NamedTuple):
    """Why the web page is not served at its address now, what to do, and since when (wall clock)."""

    listen: str
    reason: str
    remedy: str
    since: float
