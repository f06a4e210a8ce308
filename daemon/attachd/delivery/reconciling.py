"""Whether what is in doubt has arrived: rows held against a listing of their issue. Pure.

Ours is an attachment with the same stored name and size, by our author, created no earlier than our first doubtful
attempt, that the journal credits to no other row and that no listing had shown before that attempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attachd.jira import names
from attachd.jira.listing import Attachment, Listing
from attachd.journal.rows import EVERY, Row

#: How far the server's clock and its ``created`` may differ, in seconds.
CLOCK_SLACK_SECONDS = 120.0

#: The ``doubt_at`` of an attempt of which nobody remembers when it was made.
UNKNOWN = 0.0


@dataclass(frozen=True, slots=True)
class Arrived:
    """Exactly one attachment can be this row's."""

    attachment: Attachment


@dataclass(frozen=True, slots=True)
class Unclear:
    """Several can, or several rows want it, or its name is another: only the content tells."""

    candidates: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """No attachment can be this row's."""


Finding = Arrived | Unclear | Absent


def reconcile(
    rows: Sequence[Row], listing: Listing, credited: Mapping[str, int], listed: Mapping[str, int], author: str | None
) -> dict[int, Finding]:
    """Say for each row what the listing shows. *credited*: attachment to row; *listed*: id to the attempt before it was seen."""
    possible = {row.id: [a for a in listing.attachments if _may_be(row, a, credited, listed, author)] for row in rows}
    named = {row.id: [a for a in possible[row.id] if _same_name(row, a)] for row in rows}
    return {row.id: _finding(row, named, possible) for row in rows}


def to_be_compared(row: Row, finding: Finding) -> Finding:
    """Have the content decide where a person has looked at the attachment that fits, and found another file."""
    if isinstance(finding, Arrived) and _is_judged(row, finding.attachment):
        return Unclear((finding.attachment,))
    return finding


def as_judged(row: Row, finding: Finding) -> Finding:
    """Leave out what a person has looked at, of that whose content could not be compared."""
    if not isinstance(finding, Unclear):
        return finding
    left = tuple(each for each in finding.candidates if not _is_judged(row, each))
    return Unclear(left) if left else Absent()


def _is_judged(row: Row, attachment: Attachment) -> bool:
    """Whether a person looked at it, or (retry --not-attached) at all that there was at ``judged_at``."""
    ids = (row.judged or "").split()
    if attachment.id in ids:
        return True
    if EVERY not in ids:
        return False
    at, created = row.judged_at, attachment.created
    return at is None or created is None or created <= at + CLOCK_SLACK_SECONDS


def _finding(
    row: Row, named: Mapping[int, Sequence[Attachment]], possible: Mapping[int, Sequence[Attachment]]
) -> Finding:
    mine = named[row.id]
    if not mine:
        # Under another name it is only a candidate; one that fits another row by name is that row's.
        taken = {a.id for other, found in named.items() if other != row.id for a in found}
        renamed = tuple(a for a in possible[row.id] if a.id not in taken)
        return Unclear(renamed) if renamed else Absent()
    wanted_by_others = any(a in found for other, found in named.items() if other != row.id for a in mine)
    # Of an attempt whose time is unknown name and size prove nothing: the issue may have held such a file for years.
    if len(mine) == 1 and not wanted_by_others and row.doubt_at != UNKNOWN:
        return Arrived(mine[0])
    return Unclear(tuple(mine))


def _same_name(row: Row, attachment: Attachment) -> bool:
    return names.comparable(attachment.name) == names.comparable(row.name)


def _may_be(
    row: Row, attachment: Attachment, credited: Mapping[str, int], listed: Mapping[str, int], author: str | None
) -> bool:
    us = author if row.author is None else row.author  # "": by whom it was attached is unknown
    earliest = (row.doubt_at or 0.0) - CLOCK_SLACK_SECONDS
    return (
        attachment.size == row.size
        and credited.get(attachment.id, row.id) == row.id
        and (attachment.author is None or not us or attachment.author == us)
        and (attachment.created is None or attachment.created >= earliest)
        and not (attachment.id in listed and listed[attachment.id] < (row.doubt_attempt or 0))
    )
