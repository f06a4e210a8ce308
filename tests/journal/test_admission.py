"""What intake writes into the journal: which columns each step changes, and that it leaves all others alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from attachd.journal import admission, database, identity, rows
from attachd.journal.admission import Hold, Moment, Place
from attachd.journal.rows import Row
from attachd.model import Fingerprint, State

BEFORE, NOW = Moment(1_000.0, 10.0, 1), Moment(2_000.0, 300.0, 9)
PRINT, OTHER_PRINT = Fingerprint(3, 5, 6, 7, 8), Fingerprint(30, 50, 60, 70, 80)
OTHER_IDENTITY = {"size": 30, "mtime_ns": 50, "ctime_ns": 60, "dev": 70, "ino": 80, "epoch": 9}

#: A row that has been through much, so that what is set back shows.
TRIED = {"contested": 403, "contested_at": 900.0, "proof": "account", "site_faults": 2, "share": 1, "suspect_at": 800.0}
WAITING = {"reason": "It waits.", "blocked": "Somebody has to act.", "lacks": "%%EOF", "due": 5_000.0, "wait": 60.0}
MISSED = {"missing": 1, "missing_boot": 200.0}
SENT = {"attempt": 1, "sent_at": 950.0, "site": "https://x", "sha256": b"c" * 32}
VERDICT = {"verdict_at": 990.0, "reason": "No."}
DOUBT = {"doubt_attempt": 1, "doubt_at": 950.0}
NEEDS: dict[State, dict[str, Any]] = {
    State.SENDING: SENT,
    State.DOUBTFUL: SENT | DOUBT,
    State.ATTACHED: SENT | VERDICT | {"attachment": "7"},
    State.REFUSED: VERDICT,
    State.FAILED: VERDICT | {"finished_at": 995.0},
    State.WITHDRAWN: {"finished_at": 995.0},
}


@pytest.fixture(scope="module")
def transaction(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """Give an open transaction, as all of these functions are given."""
    made = database.open_journal(tmp_path_factory.mktemp("home") / "state")
    with made.transaction() as connection:
        yield connection
    made.close()


@pytest.fixture
def journal(transaction: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Give an empty journal; what a test writes is undone, because making a journal takes longer than any of these tests."""
    transaction.execute("SAVEPOINT empty")
    yield transaction
    transaction.execute("ROLLBACK TO empty")


def put(journal: sqlite3.Connection, state: State, path: bytes = b"TEST-1/a.txt", **values: Any) -> Row:
    """Bring a row to a state, with these columns besides."""
    place = Place(path, path.partition(b"/")[0].decode(), path.rpartition(b"/")[2].decode())
    (row_id,) = admission.add(journal, [admission.New(place, PRINT)], BEFORE)
    if state is not State.SEEN:
        admission.ready(journal, {row_id: None}, BEFORE.now)
    if state is State.FAILED:
        rows.change(journal, row_id, {"state": State.REFUSED} | VERDICT)
    rows.change(journal, row_id, {"state": state} | NEEDS.get(state, {}) | values)
    return rows.one(journal, row_id)


def changes(journal: sqlite3.Connection, before: Row) -> dict[str, Any]:
    """Every column that holds something else now."""
    after = rows.one(journal, before.id)
    return {name: now for name, was, now in zip(rows.COLUMNS, before, after, strict=True) if was != now}


def moved(journal: sqlite3.Connection, folder_key: str, issue: str) -> None:
    journal.execute("INSERT INTO moved (folder_key, issue) VALUES (?, ?)", (folder_key, issue))


# --- Follow ---------------------------------------------------------------------------------------------------------

RENAMED = Place(b"TEST-1/sub/b.txt", "TEST-1", "b.txt")
ELSEWHERE = Place(b"OPS-7/b.txt", "OPS-7", "b.txt")


def test_a_row_follows_its_file_within_the_issue_and_keeps_what_was_tried(journal: sqlite3.Connection) -> None:
    row = put(journal, State.READY, **TRIED | WAITING | MISSED)
    rows.change(journal, row.id, {"generation": row.id})
    row = rows.one(journal, row.id)

    admission.follow(journal, row, RENAMED, OTHER_PRINT, NOW)

    where = {"path": RENAMED.path, "name": "b.txt", "generation": 0}
    assert changes(journal, row) == OTHER_IDENTITY | where | {"missing": 0, "missing_boot": None}


def test_a_row_that_follows_to_another_issue_begins_anew_there(journal: sqlite3.Connection) -> None:
    row = put(journal, State.READY, **TRIED | WAITING)

    admission.follow(journal, row, ELSEWHERE, PRINT, NOW)

    where = {"path": ELSEWHERE.path, "name": "b.txt", "folder_key": "OPS-7", "issue": "OPS-7", "epoch": 9}
    fresh = {
        "contested": None,
        "contested_at": None,
        "proof": "none",
        "site_faults": 0,
        "due": 0,
        "wait": 0,
        "blocked": None,
    }
    assert changes(journal, row) == where | fresh


def test_a_row_that_follows_goes_to_the_key_under_which_the_issue_is_reached(journal: sqlite3.Connection) -> None:
    moved(journal, "OPS-7", "NEW-5")
    row = put(journal, State.READY)

    admission.follow(journal, row, ELSEWHERE, PRINT, NOW)

    assert [changes(journal, row)[key] for key in ("folder_key", "issue")] == ["OPS-7", "NEW-5"]


@pytest.mark.parametrize("state", [State.SEEN, State.READY])
def test_what_was_never_sent_takes_its_new_name(journal: sqlite3.Connection, state: State) -> None:
    row = put(journal, state)

    admission.follow(journal, row, RENAMED, PRINT, NOW)

    assert rows.one(journal, row.id).name == "b.txt"


@pytest.mark.parametrize(
    ("state", "doubt"),
    [*((state, {}) for state in (State.SENDING, State.ATTACHED, State.REFUSED)), (State.DOUBTFUL, DOUBT), (State.READY, DOUBT)],
)  # fmt: skip
def test_what_was_sent_keeps_the_name_under_which_it_is_looked_for(
    journal: sqlite3.Connection, state: State, doubt: dict[str, Any]
) -> None:
    row = put(journal, state, **doubt)

    admission.follow(journal, row, RENAMED, PRINT, NOW)

    assert changes(journal, row) == {"path": RENAMED.path, "epoch": 9}


# --- Settle again ---------------------------------------------------------------------------------------------------

NO_HOLD = {"reason": None, "blocked": None, "lacks": None, "due": 0, "wait": 0}
UNTRIED = {"sha256": None, "contested": None, "contested_at": None, "proof": "none", "site_faults": 0, "share": 60}
WORN = TRIED | WAITING | MISSED | {"sha256": b"c" * 32}


def test_of_an_unsent_file_that_changed_only_the_suspicion_is_remembered(journal: sqlite3.Connection) -> None:
    row = put(journal, State.READY, **WORN)

    admission.settle_anew(journal, row, OTHER_PRINT, NOW)

    seen = {"state": "SEEN", "since": 2_000.0, "quiet_boot": 300.0, "missing": 0, "missing_boot": None}
    assert changes(journal, row) == OTHER_IDENTITY | NO_HOLD | UNTRIED | seen


def test_a_file_that_changes_while_it_settles_has_been_seen_since_it_came(journal: sqlite3.Connection) -> None:
    row = put(journal, State.SEEN)

    admission.settle_anew(journal, row, OTHER_PRINT, NOW)

    assert changes(journal, row) == OTHER_IDENTITY | {"quiet_boot": 300.0}


@pytest.mark.parametrize("now", [PRINT._replace(ctime_ns=99), PRINT._replace(size=4), PRINT._replace(mtime_ns=4)])
@pytest.mark.parametrize("suspect", [False, True])
def test_the_suspicion_that_a_file_is_attached_stays_whatever_is_done_to_it(
    journal: sqlite3.Connection, now: Fingerprint, suspect: bool
) -> None:
    """A touch is no new content, and nobody can tell: the content was never read."""
    row = put(journal, State.READY, suspect_at=800.0)

    admission.settle_anew(journal, row, now, NOW, suspect=suspect)

    assert rows.one(journal, row.id).suspect_at == 800.0


def test_a_file_that_nobody_suspected_becomes_suspect_while_the_journal_is_lost(journal: sqlite3.Connection) -> None:
    row = put(journal, State.READY)

    admission.settle_anew(journal, row, PRINT._replace(size=4), NOW, suspect=True)

    assert rows.one(journal, row.id).suspect_at == 0.0


def test_a_suspect_that_leaves_before_it_was_read_is_remembered_by_its_size(journal: sqlite3.Connection) -> None:
    suspect, other = (
        put(journal, State.SEEN, suspect_at=0.0),
        put(journal, State.SEEN, path=b"TEST-1/other.txt", size=77),
    )

    admission.withdraw(journal, suspect, NOW, "")
    admission.withdraw(journal, other, NOW, "")

    assert identity.heard(journal, suspect.size, NOW.now) == {identity.ANYTHING}
    assert identity.heard(journal, suspect.size, NOW.now + identity.SIZE_REMEMBERED_SECONDS) == frozenset()
    assert identity.heard(journal, 77, NOW.now) == frozenset()


# --- Set back -------------------------------------------------------------------------------------------------------

HELD = Hold("It waits still.", "Another has to act.", "</html>", 6_000.0, 70.0)


def test_what_was_ready_settles_anew_and_says_what_holds_it(journal: sqlite3.Connection) -> None:
    row = put(journal, State.READY, **TRIED | WAITING)

    admission.set_back(journal, row, HELD, NOW)

    seen = {"state": "SEEN", "since": 2_000.0, "quiet_boot": 300.0, "contested": None, "contested_at": None}
    assert changes(journal, row) == HELD.columns | seen


def test_what_settles_already_goes_on_and_says_what_holds_it(journal: sqlite3.Connection) -> None:
    row = put(journal, State.SEEN)

    admission.set_back(journal, row, HELD, NOW)

    assert changes(journal, row) == HELD.columns


@pytest.mark.parametrize(
    ("held", "same"),
    [
        (Hold("a", "b", "c", 10.0), True),
        (Hold("a", "b", "c", 10.9), True),
        (Hold("a", "b", "c", 9.1), True),
        (Hold("a", "b", "c", 11.0), False),
        (Hold("a", "b", "c", 9.0), False),
        (Hold("x", "b", "c", 10.0), False),
        (Hold("a", "x", "c", 10.0), False),
        (Hold("a", "b", "x", 10.0), False),
    ],
)
def test_what_holds_a_row_is_written_only_where_it_differs(journal: sqlite3.Connection, held: Hold, same: bool) -> None:
    row = put(journal, State.SEEN, reason="a", blocked="b", lacks="c", due=10.0)

    assert admission.says(row, held) is same


# --- Withdraw, detach, depart ---------------------------------------------------------------------------------------


def withdrawn(reason: str) -> dict[str, Any]:
    return {"state": "WITHDRAWN", "since": 2_000.0, "finished_at": 2_000.0, "reason": reason}


def test_what_was_ready_is_withdrawn_and_says_why(journal: sqlite3.Connection) -> None:
    row = put(journal, State.READY, **WAITING)

    admission.withdraw(journal, row, NOW, "It was taken away.")

    assert changes(journal, row) == withdrawn("It was taken away.")


@pytest.mark.parametrize("end", [admission.withdraw, admission.detach])
def test_what_was_only_seen_leaves_no_trace_and_others_stay(journal: sqlite3.Connection, end: Any) -> None:
    row, other = put(journal, State.SEEN), put(journal, State.SEEN, b"TEST-1/b.txt")

    end(journal, row, NOW, "It was taken away.")

    assert rows.find(journal, row.id) is None
    assert changes(journal, other) == {}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.READY, {"reason": "Replaced."}),
        (State.SENDING, {}),
        (State.DOUBTFUL, {}),
        (State.ATTACHED, {"due": 0, "wait": 0}),
        (State.REFUSED, {"due": 0, "wait": 0}),
    ],
)
def test_a_row_loses_its_path_and_what_has_a_verdict_is_closed_at_once(
    journal: sqlite3.Connection, state: State, expected: dict[str, Any]
) -> None:
    row = put(journal, state, **WAITING)

    admission.detach(journal, row, NOW, "Replaced.")

    assert changes(journal, row) == {"generation": row.id} | expected


@pytest.mark.parametrize(
    ("said", "reason"),
    [("It was replaced.", "It was replaced."), (None, "it was taken out of the inbox before it was attached")],
)
def test_what_departs_before_it_is_sent_again_is_withdrawn(
    journal: sqlite3.Connection, said: str | None, reason: str
) -> None:
    row = put(journal, State.READY, **DOUBT, reason=said)

    admission.confirm_missing(journal, row, NOW)

    after = rows.one(journal, row.id)
    assert (after.state, after.finished_at, after.reason) == (State.WITHDRAWN, 2_000.0, reason)


@pytest.mark.parametrize(
    ("state", "due"),
    [(State.DOUBTFUL, {}), (State.ATTACHED, {"due": 0, "wait": 0}), (State.REFUSED, {"due": 0, "wait": 0})],
)
def test_what_departs_after_its_verdict_is_closed_at_once(
    journal: sqlite3.Connection, state: State, due: dict[str, Any]
) -> None:
    row = put(journal, state, **WAITING)

    admission.confirm_missing(journal, row, NOW)

    assert changes(journal, row) == {"missing": 2, "missing_boot": 300.0} | due


@pytest.mark.parametrize(("before", "after"), [(0, 2), (1, 2), (2, 3), (5, 6)])
def test_what_departs_is_missing_for_good(journal: sqlite3.Connection, before: int, after: int) -> None:
    row = put(journal, State.DOUBTFUL, missing=before)

    admission.confirm_missing(journal, row, NOW)

    assert rows.one(journal, row.id).missing == after


# --- Missing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "before", "due"),
    [
        (State.ATTACHED, 0, {}),
        (State.ATTACHED, 1, {"due": 0, "wait": 0}),
        (State.REFUSED, 0, {}),
        (State.REFUSED, 1, {"due": 0, "wait": 0}),
        (State.REFUSED, 2, {"due": 0, "wait": 0}),
        (State.READY, 1, {}),
        (State.DOUBTFUL, 1, {}),
    ],
)
def test_the_second_listing_without_its_file_lets_a_verdict_be_closed(
    journal: sqlite3.Connection, state: State, before: int, due: dict[str, Any]
) -> None:
    row = put(journal, state, missing=before, **WAITING)

    assert admission.count_missing(journal, row, NOW) == before + 1
    assert changes(journal, row) == {"missing": before + 1, "missing_boot": 300.0} | due


# --- What is found --------------------------------------------------------------------------------------------------


def test_a_row_is_at_its_path_until_it_is_detached_or_finished(journal: sqlite3.Connection) -> None:
    here, finished = put(journal, State.READY), put(journal, State.WITHDRAWN, b"TEST-1/b.txt")
    detached = put(journal, State.READY, b"TEST-1/c.txt")
    admission.detach(journal, detached, NOW, "Replaced.")

    found = [identity.still_at_path(journal, row.id) for row in (here, finished, detached)]

    assert found == [here, None, None]
    assert identity.still_at_path(journal, 99) is None


UNDER = [b"TEST-1/a.txt", b"TEST-1/b.txt", b"TEST-1/sub/c.txt"]


def below(journal: sqlite3.Connection, after: bytes, limit: int = 9) -> list[bytes]:
    return [row.path for row in admission.under(journal, b"TEST-1", after, limit)]


def test_what_lies_under_a_folder_comes_in_the_order_of_its_paths(journal: sqlite3.Connection) -> None:
    for path in [*reversed(UNDER), b"TEST-0/z", b"TEST-1.txt", b"TEST-10/a", b"TEST-10/b"]:
        put(journal, State.SEEN, path)
    put(journal, State.WITHDRAWN, b"TEST-1/finished.txt")
    admission.detach(journal, put(journal, State.READY, b"TEST-1/detached.txt"), NOW, "Replaced.")

    assert below(journal, b"") == UNDER
    assert below(journal, b"", limit=2) == UNDER[:2]
    assert below(journal, b"TEST-1/b.txt") == UNDER[2:]
    assert below(journal, UNDER[2]) == []


@pytest.mark.parametrize(
    ("now", "epoch", "found"),
    [
        (PRINT, 1, True),
        (PRINT._replace(ctime_ns=99), 1, True),
        (PRINT, 9, False),
        *((PRINT._replace(**{name: 99}), 1, False) for name in ("dev", "ino", "size", "mtime_ns")),
    ],
)
def test_a_renamed_file_is_known_by_device_inode_size_and_time_of_one_epoch(
    journal: sqlite3.Connection, now: Fingerprint, epoch: int, found: bool
) -> None:
    row = put(journal, State.READY)

    assert list(identity.at_inodes(journal, [now], epoch).values()) == ([[row]] if found else [])


def test_only_what_has_not_settled_counts_as_unsettled(journal: sqlite3.Connection) -> None:
    put(journal, State.SEEN)
    put(journal, State.SEEN, b"TEST-1/b.txt", blocked="Somebody has to act.")
    put(journal, State.SEEN, b"OPS-7/c.txt", size=4)
    put(journal, State.READY, b"TEST-1/d.txt", size=5)

    assert identity.unsettled_sizes(journal) == {("TEST-1", 3), ("OPS-7", 4)}


FAILED_AS = {"root": "failed", "target": b"TEST-1/old.txt"}


@pytest.mark.parametrize(
    ("state", "differs", "found"),
    [
        (State.FAILED, {}, [b"TEST-1/old.txt"]),
        (State.REFUSED, {}, []),
        (State.FAILED, {"folder_key": "OPS-7"}, []),
        (State.FAILED, {"size": 4}, []),
        (State.FAILED, {"mtime_ns": 4}, []),
        (State.FAILED, {"root": None, "target": None}, []),
    ],
)
def test_a_failed_file_is_like_this_one_by_issue_size_and_time(
    journal: sqlite3.Connection, state: State, differs: dict[str, Any], found: list[bytes]
) -> None:
    put(journal, state, b"TEST-1/old.txt", **FAILED_AS | differs)

    assert identity.failed_alike(journal, put(journal, State.SEEN)) == found
