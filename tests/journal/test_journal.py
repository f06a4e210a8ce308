"""The journal: its invariants, its versions, and what is durable when."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from attachd.errors import Mistake
from attachd.journal import admission, database, identity, lookup, pauses, queue, rows
from attachd.journal.admission import Moment, Place
from attachd.journal.database import Journal
from attachd.model import SENT, Cure, Fingerprint, Scope, State, Word

NOW = Moment(1_800_000_000.0, 100.0, 1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = database.open_journal(tmp_path / "state")
    yield made
    made.close()


def added(journal: Journal, path: bytes = b"TEST-1/a.txt", *, ready: bool = True, size: int = 3, name: str = "") -> int:
    issue = path.partition(b"/")[0].decode()
    place = Place(path, issue, name or path.rpartition(b"/")[2].decode("utf-8", "replace"))
    with journal.transaction() as connection:
        (row_id,) = admission.add(connection, [admission.New(place, Fingerprint(size, 5, 6, 7, 8))], NOW)
        if ready:
            admission.ready(connection, {row_id: None}, NOW.now)
    return row_id


def row(journal: Journal, row_id: int) -> rows.Row:
    with journal.transaction() as connection:
        return rows.one(connection, row_id)


def change(journal: Journal, row_id: int, **values: object) -> None:
    with journal.transaction() as connection:
        rows.change(connection, row_id, values)


def sending(journal: Journal, row_id: int, checksum: bytes | None = b"c" * 32) -> None:
    sums = [checksum] if checksum else None
    about = {"author": "me", "site": "https://x", "sent_at": 1.0, "now": 2.0, "wall": 2.0, "checksums": sums}
    with journal.transaction() as connection:
        queue.intend(connection, [rows.one(connection, row_id)], **about)  # type: ignore[arg-type]


def test_it_is_written_ahead_and_synchronised_in_full(journal: Journal) -> None:
    """NORMAL loses acknowledged transactions at a power cut, and a lost one is a file attached twice."""
    assert journal.value("PRAGMA journal_mode") == "wal"
    assert journal.value("PRAGMA synchronous") == 2


def test_what_need_not_be_durable_is_written_without_waiting_for_the_disk_and_the_rest_as_before(
    journal: Journal,
) -> None:
    def level() -> int:
        return int(journal.value("PRAGMA synchronous"))

    with journal.transaction(durable=False) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 1
    assert level() == 2
    with pytest.raises(ZeroDivisionError), journal.transaction(durable=False):
        raise ZeroDivisionError
    assert level() == 2
    with journal.transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_the_folder_is_for_the_service_alone(tmp_path: Path, journal: Journal) -> None:
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


ALLOWED = {
    "SEEN": {"READY", "DOUBTFUL"},
    "READY": {"SEEN", "SENDING", "DOUBTFUL", "ATTACHED", "REFUSED", "WITHDRAWN"},
    "SENDING": {"SEEN", "READY", "DOUBTFUL", "ATTACHED", "REFUSED"},
    "DOUBTFUL": {"READY", "ATTACHED", "REFUSED", "WITHDRAWN"},
    "ATTACHED": {"DONE"},
    "REFUSED": {"FAILED"},
    "DONE": set(),
    "FAILED": set(),
    "WITHDRAWN": set(),
}
ROUTES = {
    "SEEN": [],
    "READY": ["READY"],
    "SENDING": ["READY", "SENDING"],
    "DOUBTFUL": ["READY", "SENDING", "DOUBTFUL"],
    "ATTACHED": ["READY", "SENDING", "ATTACHED"],
    "REFUSED": ["READY", "REFUSED"],
    "DONE": ["READY", "SENDING", "ATTACHED", "DONE"],
    "FAILED": ["READY", "REFUSED", "FAILED"],
    "WITHDRAWN": ["READY", "WITHDRAWN"],
}


def go(journal: Journal, row_id: int, state: str) -> None:
    """Take a row to a state with all that the CHECKs ask of it."""
    needs: dict[str, object] = {"attempt": 1, "sent_at": 1.0, "site": "x", "sha256": b"c" * 32}
    if state == "DOUBTFUL":
        needs |= {"doubt_attempt": 1, "doubt_at": 1.0}
    if state in ("ATTACHED", "DONE"):
        needs |= {"attachment": f"A{row_id}", "verdict_at": 1.0}
    if state in ("REFUSED", "FAILED"):
        needs |= {"reason": "no", "verdict_at": 1.0}
    needs["finished_at"] = 1.0 if state in ("DONE", "FAILED", "WITHDRAWN") else None
    change(journal, row_id, state=state, **needs)


@pytest.mark.parametrize("before", list(ALLOWED))
@pytest.mark.parametrize("after", list(ALLOWED))
def test_a_row_goes_only_the_ways_that_are_drawn(journal: Journal, before: str, after: str) -> None:
    row_id = added(journal, ready=False)
    for state in ROUTES[before]:
        go(journal, row_id, state)
    if after == before:
        return
    if after in ALLOWED[before]:
        go(journal, row_id, after)
        assert row(journal, row_id).state == after
    else:
        with pytest.raises(sqlite3.IntegrityError):
            go(journal, row_id, after)
        assert row(journal, row_id).state == before


@pytest.mark.parametrize(
    ("state", "broken"),
    [
        ("SENDING", {"sent_at": None}),
        ("DOUBTFUL", {"sha256": None}),
        ("ATTACHED", {"attachment": None}),
        ("ATTACHED", {"root": "failed", "target": b"TEST-1/a"}),
        ("REFUSED", {"root": "done", "target": b"TEST-1/a"}),
        ("READY", {"root": "done", "target": b"TEST-1/a"}),
        ("REFUSED", {"reason": None}),
        ("READY", {"size": -1}),
        ("READY", {"generation": 99}),
        ("READY", {"finished_at": 1.0}),
        ("READY", {"sha256": b"short"}),
    ],
)
def test_the_database_holds_the_invariants(journal: Journal, state: str, broken: dict[str, object]) -> None:
    row_id = added(journal, ready=False)
    for step in ROUTES[state]:
        go(journal, row_id, step)

    with pytest.raises(sqlite3.IntegrityError):
        change(journal, row_id, **broken)


def test_one_unfinished_row_for_what_lies_at_a_path(journal: Journal) -> None:
    added(journal)

    with pytest.raises(sqlite3.IntegrityError):
        added(journal)


def test_a_finished_row_never_matches(journal: Journal) -> None:
    go(journal, added(journal), "WITHDRAWN")

    assert added(journal) == 2


def test_an_attachment_belongs_to_one_row_for_ever(journal: Journal) -> None:
    first, second = added(journal, b"TEST-1/a"), added(journal, b"TEST-1/b")
    for row_id in (first, second):
        sending(journal, row_id)
    change(journal, first, state="ATTACHED", attachment="7", verdict_at=1.0)
    change(journal, first, state="DONE", finished_at=1.0)

    with pytest.raises(sqlite3.IntegrityError):
        change(journal, second, state="ATTACHED", attachment="7", verdict_at=1.0)


def test_another_site_counts_its_attachments_anew(journal: Journal) -> None:
    for number, path in enumerate((b"TEST-1/a", b"TEST-1/b")):
        sending(journal, added(journal, path))
        change(journal, number + 1, state="ATTACHED", attachment="7", verdict_at=1.0, site=f"https://{number}")

    assert journal.value("SELECT count(*) FROM file WHERE attachment = '7'") == 2


def test_two_files_are_never_promised_one_name(journal: Journal) -> None:
    for path in (b"TEST-1/a", b"TEST-1/b"):
        go(journal, added(journal, path), "REFUSED")
    change(journal, 1, root="failed", target=b"TEST-1/x")

    with pytest.raises(sqlite3.IntegrityError):
        change(journal, 2, root="failed", target=b"TEST-1/x")


def test_an_unfinished_file_is_never_forgotten(journal: Journal) -> None:
    added(journal)

    with pytest.raises(sqlite3.IntegrityError), journal.transaction() as connection:
        connection.execute("DELETE FROM file")


def test_a_transaction_that_fails_changes_nothing(journal: Journal) -> None:
    row_id = added(journal)

    def half() -> None:
        with journal.transaction() as connection:
            rows.change(connection, row_id, {"reason": "half"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert row(journal, row_id).reason is None


def test_undecodable_names_are_kept_as_they_are(journal: Journal) -> None:
    row_id = added(journal, b"TEST-1/caf\xe9\n.txt")

    assert row(journal, row_id).path == b"TEST-1/caf\xe9\n.txt"


def test_a_journal_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    database.open_journal(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (tmp_path / "journal.db").read_bytes()

    for opening in (database.open_journal, database.open_for_reading):
        with pytest.raises(Mistake, match="version 99") as caught:
            opening(tmp_path)
        assert caught.value.exit_code == 78
    assert (tmp_path / "journal.db").read_bytes() == before


def test_a_migration_keeps_a_copy_of_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = database.open_journal(tmp_path)
    added(old)
    old.close()
    version = database.VERSION
    monkeypatch.setattr(database, "VERSION", version + 1)
    monkeypatch.setattr(database, "MIGRATIONS", {version: "ALTER TABLE file ADD COLUMN extra TEXT;"})

    new = database.open_journal(tmp_path)

    assert new.value("SELECT extra FROM file") is None
    assert new.value("PRAGMA user_version") == version + 1
    new.close()
    kept = sqlite3.connect(tmp_path / f"journal.db.version-{version}")
    assert kept.execute("PRAGMA user_version").fetchone()[0] == version
    assert kept.execute("SELECT path FROM file").fetchone()[0] == b"TEST-1/a.txt"
    kept.close()


def test_a_migration_that_fails_leaves_the_old_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database.open_journal(tmp_path).close()
    version = database.VERSION
    monkeypatch.setattr(database, "VERSION", version + 1)
    monkeypatch.setattr(database, "MIGRATIONS", {version: "ALTER TABLE file ADD COLUMN extra TEXT; SELECT nonsense;"})
    with pytest.raises(Mistake):
        database.open_journal(tmp_path)
    monkeypatch.setattr(database, "VERSION", version)

    journal = database.open_journal(tmp_path)

    assert "extra" not in [column["name"] for column in journal.rows("PRAGMA table_info(file)")]
    assert journal.value("PRAGMA user_version") == version
    journal.close()


def test_reading_a_journal_of_an_earlier_version_says_who_brings_it_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.open_journal(tmp_path).close()
    monkeypatch.setattr(database, "VERSION", database.VERSION + 1)

    with pytest.raises(Mistake, match="attachd run"):
        database.open_for_reading(tmp_path)


def test_a_damaged_journal_is_a_mistake_in_words(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"this is no database" * 100)

    with pytest.raises(Mistake, match="cannot be used as the journal"):
        database.open_journal(tmp_path)


def test_one_whose_making_was_cut_short_is_none_yet_and_is_made_by_the_next_start(tmp_path: Path) -> None:
    """Killed between making the file and its tables: no verb stumbles over it, and the service starts."""
    made = sqlite3.connect(tmp_path / database.FILE_NAME)
    made.execute("PRAGMA journal_mode = WAL")
    made.close()

    assert database.open_for_reading(tmp_path) is None
    assert database.open_for_reading(tmp_path, older=True) is None
    with database.changing(tmp_path) as connection:
        assert connection is None

    database.open_journal(tmp_path).close()
    opened = database.open_for_reading(tmp_path)
    assert opened is not None
    assert opened.rows("SELECT * FROM file") == []
    opened.close()


def test_there_is_no_journal_to_read_before_one_was_made(tmp_path: Path) -> None:
    assert database.open_for_reading(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_to_the_folder_for_temporary_files(journal: Journal, tmp_path: Path) -> None:
    """A trigger makes SQLite keep a way back from each statement; in a file, where it is not told otherwise."""
    assert journal.value("PRAGMA temp_store") == 2, "MEMORY"
    found = database.open_for_reading(journal.path.parent)
    assert found is not None
    assert found.value("PRAGMA temp_store") == 2
    found.close()


# --- The queue --------------------------------------------------------------------------------------------------


def issues(journal: Journal, epoch: int = 1) -> list[str]:
    with journal.transaction() as connection:
        return list(queue.issues(connection, epoch))


def test_the_issue_served_longest_ago_is_next_and_one_never_served_comes_first(journal: Journal) -> None:
    for issue in (b"A-1", b"B-1", b"C-1"):
        for number in range(3):
            added(journal, issue + b"/%d" % number)
    sending(journal, 4)  # B-1
    sending(journal, 1)

    assert issues(journal) == ["C-1", "B-1", "A-1"]


def test_an_issue_whose_files_the_scan_has_still_to_find_is_passed_over(journal: Journal) -> None:
    """After a restart that may be all of a thousand, and each worker would ask for the files of each of them."""
    added(journal, b"A-1/old")
    assert issues(journal, NOW.epoch) == ["A-1"]
    assert issues(journal, NOW.epoch + 1) == []


def test_a_issue_without_ready_files_is_not_offered(journal: Journal) -> None:
    added(journal)
    sending(journal, 1)

    assert issues(journal) == []
    change(journal, 1, state="READY")
    assert issues(journal) == ["TEST-1"]


def test_many_issues_are_all_offered_once(journal: Journal) -> None:
    for number in range(200):
        added(journal, b"T-%d/a" % (number + 1))
        if number % 3 == 0:
            sending(journal, number + 1)
            change(journal, number + 1, state="READY")

    found = issues(journal)

    assert len(found) == len(set(found)) == 200


def sendable(journal: Journal, issue: str = "TEST-1", now: float = 1e10) -> list[int]:
    with journal.transaction() as connection:
        return [found.id for found in queue.sendable(connection, issue, now, NOW.epoch, 60)]


def test_what_waits_is_blocked_or_of_an_earlier_epoch_is_not_sent(journal: Journal) -> None:
    for number in range(4):
        added(journal, b"TEST-1/%d" % number)
    change(journal, 1, due=2e10)
    change(journal, 2, blocked="no")
    change(journal, 3, epoch=0)

    assert sendable(journal) == [4]


@pytest.mark.parametrize("state", ["ATTACHED", "DONE"])
def test_a_name_in_done_is_one_rows(journal: Journal, state: str) -> None:
    """Before its file is filed it is promised to it, afterwards it belongs to it; to itself it is free."""
    row_id = added(journal)
    for each in ROUTES[state]:
        go(journal, row_id, each)
    change(journal, row_id, root="done", target=b"TEST-1/a.txt")

    with journal.transaction() as connection:
        checked = [
            (ask(connection, "done", b"TEST-1/a.txt", row_id), ask(connection, "done", b"TEST-1/a.txt", row_id + 1))
            for ask in (queue.promised, queue.belongs_to_another)
        ]
        assert not queue.promised(connection, "failed", b"TEST-1/a.txt", 0)
        assert not queue.belongs_to_another(connection, "done", b"TEST-1/b.txt", 0)

    assert checked == [(False, state == "ATTACHED"), (False, state == "DONE")]


EARLIER = {"doubt_attempt": 1, "doubt_at": 1.0, "sha256": b"d" * 32}


@pytest.mark.parametrize(
    ("earlier", "author"),
    [
        ({"author": "another"}, "me"),
        (EARLIER | {"author": "me"}, "me"),
        (EARLIER | {"author": None}, "me"),
        # What comes late of the earlier attempt is the other account's.
        (EARLIER | {"author": "another"}, ""),
        (EARLIER | {"author": ""}, ""),
    ],
)
def test_an_attempt_is_by_whoever_may_have_stored_its_file(
    journal: Journal, earlier: dict[str, object], author: str
) -> None:
    row_id = added(journal)
    change(journal, row_id, **earlier)

    sending(journal, row_id)

    assert row(journal, row_id).author == author


@pytest.mark.parametrize(
    ("earlier", "told", "kept"),
    [
        (EARLIER, None, b"d" * 32),
        (EARLIER, b"c" * 32, b"c" * 32),
        ({"sha256": b"d" * 32}, None, None),
        ({"sha256": b"d" * 32}, b"c" * 32, b"c" * 32),
    ],
)
def test_only_the_checksum_of_an_earlier_doubtful_attempt_is_kept_until_there_is_a_new_one(
    journal: Journal, earlier: dict[str, object], told: bytes | None, kept: bytes | None
) -> None:
    row_id = added(journal)
    change(journal, row_id, **earlier)

    sending(journal, row_id, told)

    assert row(journal, row_id).sha256 == kept


def test_nothing_of_a_doubtful_files_name_and_size_is_sent(journal: Journal) -> None:
    for path, size in ((b"TEST-1/a", 3), (b"TEST-1/x/a", 3), (b"TEST-1/y/a", 4), (b"TEST-2/a", 3)):
        added(journal, path, size=size, name="a")
    sending(journal, 1)
    go(journal, 1, "DOUBTFUL")

    assert sendable(journal) == [3]
    assert sendable(journal, "TEST-2") == [4]


def test_a_contested_answer_holds_its_whole_issue(journal: Journal) -> None:
    for number in range(3):
        added(journal, b"TEST-1/%d" % number)
    change(journal, 2, contested=404, contested_at=1.0)

    assert sendable(journal) == []


def test_threads_share_one_journal(journal: Journal) -> None:
    def work(thread: int) -> None:
        for number in range(50):
            added(journal, b"T-%d/%d" % (thread + 1, number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert journal.value("SELECT count(*) FROM file") == 200
    assert journal.value("SELECT sum(ready) FROM issue_queue") == 200


@pytest.mark.parametrize(
    ("state", "columns"),
    [
        (State.SEEN, {}),
        (State.READY, {}),
        (State.DOUBTFUL, {"doubt_at": 2.0, "doubt_attempt": 1}),
        (State.ATTACHED, {"attachment": "1", "verdict_at": 2.0}),
        (State.REFUSED, {"reason": "r", "verdict_at": 2.0}),
    ],
)
def test_a_wait_that_a_jumped_clock_wrote_is_shortened_to_its_length(
    journal: Journal, state: State, columns: dict[str, object]
) -> None:
    row_id = added(journal, ready=state is not State.SEEN)
    if state in SENT:
        sending(journal, row_id)
        change(journal, row_id, state=state, **columns)
    change(journal, row_id, due=4e9, wait=60.0)
    held = pauses.Pause(Scope.SITE, "", "k", "r", Cure.TIME, 0.0, 4e9, 30.0, 1)
    with journal.transaction() as connection:
        pauses.put(connection, held)
        pauses.tame(connection, 1000.0)
        (pause,) = pauses.read(connection)

    assert row(journal, row_id).due == 1060.0
    assert pause.until == 1030.0


def test_waits_are_shortened_without_a_search_through_all_that_ever_was_attached(journal: Journal) -> None:
    statements: list[str] = []
    with journal.transaction() as connection:
        connection.set_trace_callback(statements.append)
        pauses.tame(connection, 1000.0)
        connection.set_trace_callback(None)

    files = [sql for sql in statements if sql.startswith("UPDATE file")]
    plans = [record["detail"] for sql in files for record in journal.rows(f"EXPLAIN QUERY PLAN {sql}")]
    assert files
    assert not [plan for plan in plans if plan == "SCAN file"]


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT issue FROM file WHERE state = 'DOUBTFUL' AND due <= ?", (1,)),
        (rows.SELECT + "WHERE state = 'READY' AND issue = ? AND due <= ?", ("T", 1)),
        (rows.SELECT + "WHERE path IN (?, ?) AND generation = 0 AND finished_at IS NULL", (b"a", b"b")),
        (rows.SELECT + "WHERE ino = ? AND dev = ? AND finished_at IS NULL", (1, 1)),
        (rows.SELECT + "WHERE state IN ('ATTACHED', 'REFUSED') AND due <= ? ORDER BY due", (1,)),
        (rows.SELECT + "WHERE may_be_attached = 1 AND state = 'FAILED' AND folder_key = ? AND size = ?", ("T", 1)),
    ],
)
def test_what_is_asked_often_is_asked_by_an_index(journal: Journal, sql: str, parameters: tuple[object, ...]) -> None:
    """A million waiting files must cost what one costs."""
    plan = [record["detail"] for record in journal.rows("EXPLAIN QUERY PLAN " + sql, parameters)]

    assert all("INDEX" in step for step in plan if step.startswith(("SCAN", "SEARCH"))), plan


def searched(journal: Journal, call: Callable[[], object]) -> list[str]:
    """How SQLite finds files for a look-up: the steps of its plans that read the table or an index of it."""
    statements: list[str] = []
    journal._connection.set_trace_callback(statements.append)
    call()
    journal._connection.set_trace_callback(None)
    asked = [sql for sql in statements if "FROM file" in sql]
    assert asked
    plans = [record["detail"] for sql in asked for record in journal.rows(f"EXPLAIN QUERY PLAN {sql}")]
    return [step for step in plans if "file" in step.split()]


@pytest.mark.parametrize(
    "call",
    [
        lambda j: lookup.last_at_path(j, b"T-1/a.txt"),
        lambda j: lookup.filed(j, "done", b"T-1/a.txt"),
        lambda j: lookup.noted(j, b"T-1/a.txt.why.txt"),
        lambda j: lookup.failed_below(j, b"T-1"),
        lambda j: lookup.failed_of(j, "T-1"),
        lambda j: lookup.history(j, "T-1", None, 50),
        lambda j: lookup.history(j, "T-1", Word.FAILED, 50, since=1.0),
        lambda j: lookup.history(j, "", Word.FAILED, 50),
        lambda j: lookup.history(j, "", Word.WITHDRAWN, 50),
        lambda j: lookup.history(j, "", Word.BLOCKED, 50),
        lambda j: lookup.history(j, "", Word.WAITING, 50),
        lambda j: lookup.history(j, "", None, 50, since=1.0),
        lambda j: lookup.history(j, "", Word.ATTACHED, 50, since=1.0),
        lambda j: lookup.issues_accepted(j, ""),
        lambda j: lookup.issues_accepted(j, "T-1"),
        lambda j: lookup.accepted(j, "T-1"),
    ],
)
def test_no_question_reads_the_whole_history(journal: Journal, call: Callable[[Journal], object]) -> None:
    """It is kept for ever by default: after years it has millions of files."""
    steps = searched(journal, lambda: call(journal))

    # An index that holds part of the files may be read from its beginning to its end.
    parts = ("file_inode", "file_verdict")
    assert [step for step in steps if step.startswith("SCAN") and not any(part in step for part in parts)] == []


def test_whose_file_a_new_one_is_does_not_depend_on_how_many_wait_for_its_issue(journal: Journal) -> None:
    steps = searched(journal, lambda: identity.sent(journal._connection, ["T-1"], [7]))

    assert not [step for step in steps if "file_ready" in step], steps


def test_a_search_ends_in_time_and_says_how_far_it_came(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_SEARCHED_AT_ONCE", 10)
    ids = [added(journal, path=b"T-%d/report-%d.pdf" % (number // 10, number)) for number in range(40)]

    def names(wanted: str, seconds: float = 60.0) -> tuple[list[str], bool]:
        found = lookup.search(journal, wanted, 5, seconds=seconds)
        return [row.path.decode().partition("/")[2] for row in found.files], found.back_to is None

    assert names("REPORT-3") == ([f"report-{number}.pdf" for number in (39, 38, 37, 36, 35)], True)
    assert names("report-7.") == (["report-7.pdf"], True)
    assert names("report-7.", seconds=0.0) == ([], False)
    assert names("report-33", seconds=0.0) == (["report-33.pdf"], False)
    # What is exactly one is found however old it is.
    assert names(f"f{ids[7]}", seconds=0.0)[0][-1] == "report-7.pdf"
    assert names("T-0/report-7.pdf", seconds=0.0) == (["report-7.pdf"], False)
    assert names("t-0", seconds=0.0)[0] == [f"report-{number}.pdf" for number in (9, 8, 7, 6, 5)]


def test_states_and_transitions_are_those_of_the_model(journal: Journal) -> None:
    drawn = {(r[0], r[1]) for r in journal.rows("SELECT before, after FROM transition")}

    assert drawn == {(before, after) for before, afters in ALLOWED.items() for after in afters}
    assert {state for pair in drawn for state in pair} == {str(state) for state in State}


def test_rows_that_are_changed_together_each_get_their_own(journal: Journal) -> None:
    ids = [added(journal, b"TEST-1/%d.txt" % number) for number in range(150)]
    with journal.transaction() as connection:
        rows.change_many(connection, {i: {"due": 5.0, "wait": float(i), "reason": f"no {i}"} for i in ids[:140]})
        found = {each.id: each for each in rows.many(connection, reversed(ids))}

    assert list(found) == ids
    assert [(i, found[i].due, found[i].wait, found[i].reason) for i in ids[:140]] == [
        (i, 5.0, float(i), f"no {i}") for i in ids[:140]
    ]
    assert {(found[i].due, found[i].reason) for i in ids[140:]} == {(0.0, None)}


def test_of_rows_that_cannot_all_be_changed_none_of_the_statement_is(journal: Journal) -> None:
    one, other = added(journal), added(journal, b"TEST-1/b.txt")
    with journal.transaction() as connection:
        with pytest.raises(sqlite3.IntegrityError):
            rows.change_many(connection, {one: {"state": "SEEN"}, other: {"state": "DONE"}})
        with pytest.raises(LookupError, match="F999"):
            rows.change_many(connection, {999: {"due": 1.0}})

    assert {row(journal, one).state, row(journal, other).state} == {State.READY}


def test_files_that_are_noted_together_get_their_ids_in_order(journal: Journal) -> None:
    new = [admission.New(Place(b"TEST-1/%d.txt" % n, "TEST-1", f"{n}"), Fingerprint(n, 5, 6, 7, n)) for n in range(130)]
    with journal.transaction() as connection:
        ids = admission.add(connection, new, NOW)
        assert admission.add(connection, [], NOW) == []

    assert [row(journal, i).path for i in ids] == [file.place.path for file in new]


def test_a_journal_whose_making_was_cut_short_before_it_had_a_log_is_none_yet(tmp_path: Path) -> None:
    """SQLite writes the very first page by its older way, with a rollback journal; a reader cannot undo that."""
    with closing(sqlite3.connect(tmp_path / "being-made.db", isolation_level=None)) as making:
        making.execute("PRAGMA cache_size = 1")
        making.execute("CREATE TABLE t (x)")
        making.execute("BEGIN IMMEDIATE")
        making.executemany("INSERT INTO t VALUES (?)", ([bytes(2000)] for _ in range(50)))
        shutil.copy(tmp_path / "being-made.db", tmp_path / "journal.db")
        shutil.copy(tmp_path / "being-made.db-journal", tmp_path / "journal.db-journal")

    assert database.open_for_reading(tmp_path) is None
    with closing(database.open_journal(tmp_path)) as journal:
        assert journal.value("PRAGMA user_version") == database.VERSION


def test_the_index_of_the_log_has_its_blocks_ahead_of_its_growth(tmp_path: Path) -> None:
    journal = database.open_journal(tmp_path)
    index = tmp_path / "journal.db-shm"
    with closing(journal):
        before = index.stat()
        # Somebody reads for so long that the log grows.
        os.truncate(tmp_path / "journal.db-wal", 300 * 1024 * 1024)
        journal.reserve()
        grown = index.stat()

    assert before.st_size >= 256 * 1024
    assert before.st_blocks * 512 >= before.st_size
    assert grown.st_size > before.st_size
    assert grown.st_blocks * 512 >= grown.st_size
