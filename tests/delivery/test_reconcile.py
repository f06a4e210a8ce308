"""Whose an attachment is: each combination of what is known of it, and what follows."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from attachd.delivery.attribution import (
    BY_CONTENT,
    BY_METADATA,
    Absent,
    Arrived,
    Finding,
    Pending,
    Unclear,
    View,
    candidates,
    reconcile,
)
from attachd.jira.attachments import Attachment
from attachd.jira.contents import Content, Digest, NotYet, Unreadable
from attachd.journal import rows
from attachd.journal.rows import Row
from attachd.model import State

#: The server's time of the first doubtful attempt, and of the file's ctime.
SENT, DROPPED = 1_000_000.0, 999_990.0
SHA = b"s" * 32
OTHER_SHA = b"o" * 32


def row(number: int = 1, **values: Any) -> Row:
    blank: dict[str, Any] = dict.fromkeys(rows.COLUMNS)
    blank |= {
        "id": number,
        "path": b"TEST-1/log.txt",
        "size": 7,
        "name": "log.txt",
        "state": State.DOUBTFUL,
        "sha256": SHA,
    }
    blank |= {"author": "us", "doubt_attempt": 3, "doubt_at": SENT, "doubt_slack": 2.0, "attempt": 3}
    return Row(**blank | {"ctime_ns": int(DROPPED * 1e9)} | values)


def attachment(number: str = "70", **values: Any) -> Attachment:
    return Attachment(**{"id": number, "name": "log.txt", "size": 7, "author": "us", "created": SENT + 1} | values)


#: What is asked of an attachment, and all that may be the answer.
ASKED: dict[str, dict[str, Any]] = {
    "known": {"new": 0, "credited": 0, "listed": 0},
    "size": {"same": 7, "other": 8},
    "attempt": {"ours": 3, "forgotten": 0},
    "name": {"same": "log.txt", "other": "log-1.txt"},
    "author": {"us": "us", "them": "them", "nobody": None},
    "created": {"after": SENT + 1, "early": SENT - 500, "before": SENT - 500, "unknown": None},
    "content": {
        "equal": Digest(SHA),
        "other": Digest(OTHER_SHA),
        "later": NotYet("503"),
        "closed": Unreadable("302", True),
    },
}
#: Any of these where a line does not name one. The first line that fits counts.
TABLE: list[tuple[dict[str, str], str]] = [
    ({"known": "credited"}, "absent"),
    ({"size": "other"}, "absent"),
    ({"known": "listed", "attempt": "ours"}, "absent"),
    ({"attempt": "ours", "author": "them"}, "absent"),
    # Jira may have changed the name of what we know to have sent, and then it was stored after that.
    ({"name": "other", "attempt": "forgotten"}, "absent"),
    ({"content": "equal"}, "content"),
    # By its time it is older than the attempt: clocks are put right, so only its content speaks for it.
    ({"name": "other", "created": "early"}, "absent"),
    ({"name": "other", "created": "before"}, "absent"),
    ({"attempt": "ours", "created": "before"}, "absent"),
    ({"content": "other"}, "absent"),
    ({"content": "later"}, "pending"),
    ({"name": "same", "author": "us", "created": "after"}, "metadata"),
    ({}, "person"),
]


def expected(case: dict[str, str]) -> str:
    return next(end for line, end in TABLE if line.items() <= case.items())


def said(finding: Finding) -> str:
    match finding:
        case Arrived(_, ground):
            return {BY_CONTENT: "content", BY_METADATA: "metadata"}[ground]
        case Unclear():
            return "person"
        case Pending():
            return "pending"
        case Absent():
            return "absent"


@pytest.mark.parametrize("known", ASKED["known"])
@pytest.mark.parametrize("attempt", ASKED["attempt"])
def test_each_combination(known: str, attempt: str) -> None:
    wrong = []
    for values in itertools.product(*(choices for name, choices in ASKED.items() if name not in ("known", "attempt"))):
        names = [name for name in ASKED if name not in ("known", "attempt")]
        case = {"known": known, "attempt": attempt, **dict(zip(names, values, strict=True))}
        that = attachment(**{name: ASKED[name][case[name]] for name in ("size", "name", "author", "created")})
        slack = 2.0 if case["created"] in ("before", "after") and attempt == "ours" else None
        doubted = row(doubt_attempt=ASKED["attempt"][attempt], doubt_slack=slack)
        view = View([that], {"70": 9} if known == "credited" else {}, {"70": 2} if known == "listed" else {}, "us")
        found = said(reconcile([doubted], view, {"70": ASKED["content"][case["content"]]})[1])
        if found != expected(case):
            wrong.append((case, found))
    assert wrong == []


def test_an_attachment_is_read_only_where_it_may_be_a_waiting_files() -> None:
    filed = row(2, state=State.DONE, name="done.txt", size=8)
    shown = [attachment("70"), attachment("71", name="done.txt", size=8), attachment("72", author="them")]

    assert [a.id for a in candidates([row(), filed], View(shown))] == ["70"]


# --- Several rows ---------------------------------------------------------------------------------------------------


def test_what_one_row_was_given_is_no_other_s() -> None:
    twins = [row(1), row(2)]

    found = reconcile(twins, View([attachment()]), {"70": Digest(SHA)})

    assert sorted(map(said, found.values())) == ["absent", "content"]


def test_equal_contents_go_to_the_rows_of_their_names() -> None:
    several = [row(1, name="a.txt"), row(2, name="b.txt")]
    shown = [attachment("70", name="b.txt"), attachment("71", name="a.txt")]

    found = reconcile(several, View(shown), {"70": Digest(SHA), "71": Digest(SHA)})

    assert {number: finding.attachment.id for number, finding in found.items() if isinstance(finding, Arrived)} == {
        1: "71",
        2: "70",
    }


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.DOUBTFUL, State.READY])
def test_without_contents_what_may_be_another_rows_is_nobodys(state: State) -> None:
    """One that was sent again and filed still awaits what comes late of its first attempt."""
    both = [row(1), row(2, state=state, sha256=OTHER_SHA, doubt_attempt=1, attempt=2)]

    assert said(reconcile(both, View([attachment()]), {})[1]) == "person"
    assert said(reconcile(both, View([attachment()]), {"70": Digest(SHA)})[1]) == "content"
    assert said(reconcile(both, View([attachment()]), {"70": Digest(OTHER_SHA)})[1]) == "absent"


def test_what_waits_comes_before_what_has_its_verdict() -> None:
    failed = row(1, state=State.FAILED, may_be_attached=1)

    found = reconcile([failed, row(2)], View([attachment()]), {"70": Digest(SHA)})

    assert (said(found[1]), said(found[2])) == ("absent", "content")


def test_without_contents_two_that_fit_are_for_a_person() -> None:
    found = reconcile([row()], View([attachment("70"), attachment("71")]), {})[1]

    assert isinstance(found, Unclear)
    assert [a.id for a in found.candidates] == ["70", "71"]


def test_of_two_that_fit_the_content_tells() -> None:
    contents: dict[str, Content] = {"70": Digest(OTHER_SHA), "71": Digest(SHA)}

    found = reconcile([row()], View([attachment("70"), attachment("71")]), contents)[1]

    assert isinstance(found, Arrived)
    assert found.attachment.id == "71"


def test_what_was_compared_is_believed_while_another_cannot_be_read() -> None:
    contents: dict[str, Content] = {"70": NotYet("503"), "71": Digest(SHA)}

    assert said(reconcile([row()], View([attachment("70"), attachment("71")]), contents)[1]) == "content"


def test_a_row_without_a_checksum_is_credited_with_nothing_that_could_be_read() -> None:
    assert said(reconcile([row(sha256=None)], View([attachment()]), {"70": Digest(SHA)})[1]) == "person"


def test_a_measured_clock_leaves_as_little_room_as_it_was_measured() -> None:
    shown = attachment(created=SENT - 10)

    assert said(reconcile([row(doubt_slack=2.0)], View([shown]), {})[1]) == "person"
    assert said(reconcile([row(doubt_slack=20.0)], View([shown]), {})[1]) == "metadata"
    assert said(reconcile([row(doubt_slack=None)], View([shown]), {})[1]) == "metadata"


def test_after_a_restore_what_is_older_than_the_file_lies_there_is_not_credited_unread() -> None:
    """An old mtime that a copy kept says nothing of when the file was dropped."""
    restored = row(doubt_attempt=0, doubt_at=SENT - 86_400, doubt_slack=None)

    assert said(reconcile([restored], View([attachment(created=SENT - 3_600)]), {})[1]) == "person"
    assert said(reconcile([restored], View([attachment(created=SENT)]), {})[1]) == "metadata"
