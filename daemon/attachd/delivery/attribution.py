"""Compares rows with a listing of their issue: has what is in doubt arrived? Pure.

Where the content can be read, it decides: nothing is credited that was not compared. Where it cannot, an attachment is a row's
only if nothing speaks against it: stored name, size, author, a time after the row's first doubtful attempt, no other row that it
may belong to. Never credited is what the journal credits to another row, what a listing had shown before that attempt, and
what another account stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from attachd.delivery.server_clock import ASSUMED_SLACK_SECONDS
from attachd.jira import filenames
from attachd.jira.attachments import Attachment
from attachd.jira.contents import Content, Digest, NotYet, Unreadable
from attachd.journal.rows import EVERY, Row
from attachd.model import State

#: Rows that wait for what a look shows.
WAITING = frozenset({State.DOUBTFUL, State.READY})
#: On what ground an attachment is credited to a file; ``file.ground`` in the journal.
BY_CONTENT = "content"
BY_METADATA = "name, size and time"

#: The ``doubt_at`` of an attempt of which nobody remembers when it was made.
UNKNOWN = 0.0


def in_words(ground: str) -> str:
    """Say what the credit of an attachment rests on."""
    return "compared by its content" if ground == BY_CONTENT else f"by {ground}, because its content could not be read"


@dataclass(frozen=True, slots=True)
class Arrived:
    """This attachment is the row's; *ground* is what that rests on."""

    attachment: Attachment
    ground: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """One of these may be the row's, and the content, which alone would tell, cannot be read: a person must look."""

    candidates: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class Pending:
    """One of these may be the row's, and the content, which alone would tell, cannot be read at this moment."""

    candidates: tuple[Attachment, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Absent:
    """No attachment can be this row's."""


Finding = Arrived | Unclear | Pending | Absent


@dataclass(frozen=True, slots=True)
class View:
    """What an issue shows, and what the journal knows of that.

    *credited*: attachment to row. *reused*: ids of these that Jira has given out again, for other attachments. *listed*: id to
    the number of the last attempt before a listing first showed it. *author*: who we are now, None where that is not known.
    """

    attachments: Sequence[Attachment]
    credited: Mapping[str, int] = field(default_factory=dict)
    listed: Mapping[str, int] = field(default_factory=dict)
    author: str | None = None
    reused: Collection[str] = ()


class Fit(Enum):
    """How an attachment of the right size fits a row, but for its content. The first are tried first."""

    NAMED = auto()  #: in everything
    OBJECTED = auto()  #: under its name; its time or its author speaks against it, or is not told
    RENAMED = auto()  #: stored after our attempt by us, and under another name: Jira may have changed that
    EARLIER = auto()  #: by its time older than our attempt: clocks are put right, so only its content speaks for it


#: How an attachment fits that has the row's name.
_UNDER_ITS_NAME = frozenset({Fit.NAMED, Fit.OBJECTED})


def given_again(attachments: Sequence[Attachment], sizes: Mapping[str, int | None]) -> set[str]:
    """Which ids Jira has given out again, as one that was restored from a backup does: they are credited to rows of other
    *sizes*. A size of None proves nothing, because that row was stored in another one.
    """
    return {a.id for a in attachments if sizes.get(a.id) not in (None, a.size)}


def fit(row: Row, attachment: Attachment, view: View) -> Fit | None:
    """Say how an attachment fits a row; None where it cannot be the row's."""
    if attachment.size != row.size:
        return None
    attempt = row.doubt_attempt or 0  # 0: one that nobody remembers, by a journal that was lost
    if attachment.id not in view.reused:
        if view.credited.get(attachment.id, row.id) != row.id:
            return None
        if attachment.id in view.listed and view.listed[attachment.id] < attempt:
            return None
    us = (view.author if row.author is None else row.author) or None  # "": by whom it was attached is unknown
    if attempt and None not in (us, attachment.author) and attachment.author != us:
        return None
    after = _after(row, attachment)
    if filenames.comparable(attachment.name) != filenames.comparable(row.name):
        # Of an attempt that nobody remembers Jira has a file of that name, or none.
        if not attempt:
            return None
        return Fit.RENAMED if after or attachment.created is None else Fit.EARLIER
    if attempt and _long_before(row, attachment):
        return Fit.EARLIER
    # Of an attempt whose time is unknown name and size prove nothing: the issue may have held such a file for years.
    known = row.doubt_at != UNKNOWN
    return Fit.NAMED if known and after and us in (None, attachment.author) else Fit.OBJECTED


def _after(row: Row, attachment: Attachment) -> bool:
    """Return True if it was stored no earlier than our first doubtful attempt, and no earlier than the file was there."""
    slack = ASSUMED_SLACK_SECONDS if row.doubt_slack is None else row.doubt_slack
    earliest = row.doubt_at or 0.0
    if not row.doubt_attempt:
        # An inbox out of a backup has old mtimes; what is older than the ctime may be another file's.
        earliest = max(earliest, row.ctime_ns / 1e9)
    return attachment.created is not None and attachment.created >= earliest - slack


def _long_before(row: Row, attachment: Attachment) -> bool:
    """Return True if it is proven to be older than our attempt, by a clock that was measured when the attempt was made."""
    if row.doubt_slack is None or row.doubt_at is None or attachment.created is None:
        return False
    return attachment.created < row.doubt_at - row.doubt_slack - ASSUMED_SLACK_SECONDS


def candidates(rows: Sequence[Row], view: View) -> list[Attachment]:
    """The attachments whose content tells something: those that may belong to a row that waits for what a look shows."""
    waiting = [row for row in rows if row.state in WAITING]
    return [a for a in view.attachments if any(fit(row, a, view) for row in waiting)]


def reconcile(rows: Sequence[Row], view: View, contents: Mapping[str, Content]) -> dict[int, Finding]:
    """Say for each row what the listing shows. *rows* are all that may own an attachment that shows up on the issue.

    *contents* has what came of reading each of the ``candidates``; one that is missing there could not be read.
    """
    # What waits comes first: equal contents are equal to us, and what has its verdict no longer needs an attachment.
    rows = sorted(rows, key=lambda row: row.state not in WAITING)
    fits = {row.id: {a.id: kind for a in view.attachments if (kind := fit(row, a, view))} for row in rows}
    by_id = {a.id: a for a in view.attachments}
    matched = dict(_matched(rows, fits, contents))
    taken = set(matched.values())
    findings: dict[int, Finding] = {}
    for row in rows:
        if row.id in matched:
            findings[row.id] = Arrived(by_id[matched[row.id]], BY_CONTENT)
            continue
        left = {
            i: kind
            for i, kind in fits[row.id].items()
            if i not in taken and kind is not Fit.EARLIER and not _read(row, contents.get(i))
        }
        later = [i for i in left if isinstance(contents.get(i), NotYet)]
        if later:
            reason = next(c.reason for i in later if isinstance(c := contents[i], NotYet))
            findings[row.id] = Pending(tuple(by_id[i] for i in later), reason)
        else:
            unjudged = {i: kind for i, kind in left.items() if not _is_judged(row, by_id[i])}
            closed = {i for i in unjudged if _is_closed(contents.get(i))}
            others = [fits[other.id] for other in rows if other.id != row.id and not _is_earlier(other, row)]
            findings[row.id] = _unread(unjudged, others, by_id, closed=closed)
    return {row_id: _once(finding, view) for row_id, finding in findings.items()}


def _once(finding: Finding, view: View) -> Finding:
    """An id is credited once for ever. Of one that Jira has given out again only a person can say what it is."""
    if isinstance(finding, Arrived) and finding.attachment.id in view.reused:
        return Unclear((finding.attachment,))
    return finding


def _matched(
    rows: Sequence[Row], fits: Mapping[int, Mapping[str, Fit]], contents: Mapping[str, Content]
) -> Iterator[tuple[int, str]]:
    """Give each row an attachment that contains what was sent, one under its own name first."""
    done, taken = set[int](), set[str]()
    for wanted in Fit:
        for row in rows:
            for attachment, kind in fits[row.id].items():
                if kind is not wanted or row.id in done or attachment in taken:
                    continue
                content = contents.get(attachment)
                if isinstance(content, Digest) and content.sha256 == row.sha256:
                    done.add(row.id)
                    taken.add(attachment)
                    yield row.id, attachment


def _is_judged(row: Row, attachment: Attachment) -> bool:
    """Return True if a person found it to be another file, or (retry --not-attached) all that there was at ``judged_at``."""
    ids = (row.judged or "").split()
    if attachment.id in ids:
        return True
    if EVERY not in ids:
        return False
    at, created = row.judged_at, attachment.created
    return at is None or created is None or created <= at


def _read(row: Row, content: Content | None) -> bool:
    """Return True if the content was compared: then it is not this row's, or another row of the same content has it."""
    return isinstance(content, Digest) and row.sha256 is not None


def _is_closed(content: Content | None) -> bool:
    """Return True if a content cannot be read, so that only name, size and time are left."""
    return content is None or isinstance(content, Unreadable)


def _is_earlier(other: Row, row: Row) -> bool:
    """Return True if *other* is this very content, which was taken out and dropped again: what arrived of it is this row's."""
    return other.state is State.WITHDRAWN and other.sha256 is not None and other.sha256 == row.sha256


def _unread(
    left: Mapping[str, Fit], others: Sequence[Mapping[str, Fit]], by_id: Mapping[str, Attachment], *,
    closed: Collection[str],
) -> Finding:  # fmt: skip
    """Judge by name, size and time what could not be compared: what is *closed*, or a row that has no checksum.

    *others*: what fits the rows besides it.
    """
    named = [i for i, kind in left.items() if kind in _UNDER_ITS_NAME]
    if not named:
        # Under another name it is only a candidate; one that fits another row by name is that row's.
        theirs = {i for found in others for i, kind in found.items() if kind in _UNDER_ITS_NAME}
        renamed = tuple(by_id[i] for i in left if i not in theirs)
        return Unclear(renamed) if renamed else Absent()
    (only, *more) = named
    if more or left[only] is not Fit.NAMED or only not in closed:
        return Unclear(tuple(by_id[i] for i in named))
    if any(found.get(only) in _UNDER_ITS_NAME for found in others):
        return Unclear(tuple(by_id[i] for i in named))
    return Arrived(by_id[only], BY_METADATA)
