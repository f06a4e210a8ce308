"""Which attachment is credited to which file: never one whose bytes are another's, and never twice what Jira has."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from attachd.delivery import moved_issues
from attachd.journal import backup
from attachd.model import State
from memory_jira import ACCOUNT, Fault, Stored, World, world

#: Cloud; Data Center that opens contents to us, as it does to a password; and one that does not.
SITES = pytest.mark.parametrize("site", ["cloud", "open", "closed"])
OLD = 1_600_000_000_000_000_000
LOST = {"breaks": httpx.ReadTimeout}


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def at(tmp_path: Path) -> Iterator[object]:
    worlds = []

    def make(site: str) -> World:
        made = World(tmp_path, deployment="Cloud" if site == "cloud" else "Server")
        made.jira.readable = site != "closed"
        worlds.append(made)
        return made

    yield make
    for made in worlds:
        made.end()


def contents(w: World, issue: str = "TEST-1") -> Counter[bytes]:
    return Counter(stored.content for stored in w.jira.on(issue))


def proven(w: World) -> None:
    """What lies in done is in Jira, under the id that the journal names, as often as it was filed."""
    held = {stored.id: stored for stored in w.jira.stored}
    for row in w.rows("WHERE state = 'DONE'"):
        assert row.target is not None
        assert held[row.attachment or ""].content == (w.done / os.fsdecode(row.target)).read_bytes(), row


def by_hand(
    w: World, content: bytes, name: str = "log.txt", *, issue: str = "TEST-1", ago: float = 0.0, **more: str
) -> None:
    number = str(next(w.jira._ids))
    w.jira.stored.append(Stored(number, issue, name, content, w.clock.time - ago, **more))


def sent_again_and_filed(w: World, content: bytes = b"first") -> None:
    """Its first attempt has no answer, and is stored at 400 s."""
    w.drop("TEST-1/log.txt", content)
    w.jira.faults.append(Fault(**LOST, commit=400.0))
    w.deliver()
    while w.states() != ["DONE"]:
        w.clock.advance(31.0)
        w.deliver()
        assert w.clock.time < 1_800_000_390


def another_of_its_name(w: World) -> None:
    """Another file, of which nothing was stored, is looked for while the first attempt of the earlier one is stored."""
    w.clock.time = 1_800_000_395.0
    w.drop("TEST-1/log.txt", b"other")
    w.jira.faults.append(Fault(**LOST))
    w.deliver()
    w.clock.advance(10.0)
    w.settle()


# --- Another file of the same name and size -------------------------------------------------------------------------


@SITES
def test_what_comes_late_of_a_file_that_was_sent_again_is_no_other_files(at, site: str) -> None:
    w = at(site)
    sent_again_and_filed(w)

    another_of_its_name(w)

    proven(w)
    expected = Counter({b"first": 2}) if site == "closed" else Counter({b"first": 2, b"other": 1})
    assert contents(w) == expected
    if site == "closed":
        assert (w.rows()[1].state, w.rows()[1].may_be_attached) == (State.FAILED, 1)


@SITES
@pytest.mark.parametrize("looked", [False, True], ids=["in doubt", "to be sent again"])
@pytest.mark.parametrize("replaced", [False, True], ids=["taken out", "replaced"])
def test_what_comes_late_of_a_file_that_left_the_inbox_is_no_other_files(
    at, site: str, *, replaced: bool, looked: bool
) -> None:
    w = at(site)
    w.drop("TEST-1/log.txt", b"first")
    w.jira.faults.append(Fault(**LOST, commit=400.0))
    w.deliver()
    while looked and w.row("TEST-1/log.txt").state is State.DOUBTFUL:
        w.clock.advance(31.0)
        w.step()
    w.drop("TEST-1/log.txt", b"newer") if replaced else (w.inbox / "TEST-1/log.txt").unlink()
    while w.unfinished():
        w.clock.advance(31.0)
        w.deliver()
    assert w.rows()[0].state is State.WITHDRAWN
    assert w.clock.time < 1_800_000_390

    another_of_its_name(w)

    proven(w)
    newer = Counter({b"newer": int(replaced)})
    assert contents(w) == Counter([b"first"] if site == "closed" else [b"first", b"other"]) + newer
    if site == "closed":
        assert (w.rows()[-1].state, w.rows()[-1].may_be_attached) == (State.FAILED, 1)


@SITES
def test_a_file_that_was_taken_out_and_dropped_again_is_found_all_the_same(at, site: str) -> None:
    """Whichever of its two attempts was stored: it is the same content."""
    w = at(site)
    w.drop("TEST-1/log.txt", b"first")
    w.jira.faults.append(Fault(**LOST))
    w.deliver()
    (w.inbox / "TEST-1/log.txt").unlink()
    while w.unfinished():
        w.clock.advance(31.0)
        w.deliver()
    w.drop("TEST-1/log.txt", b"first")
    w.jira.faults.append(Fault(**LOST, commit="all"))

    w.settle()

    proven(w)
    assert contents(w) == Counter([b"first"])
    assert w.states() == ["WITHDRAWN", "DONE"]


@SITES
def test_a_namesake_that_somebody_attached_with_our_account_is_not_the_file(at, site: str) -> None:
    w = at(site)
    w.drop("TEST-1/log.txt", b"ours.")
    w.jira.faults.append(Fault(**LOST))
    w.deliver()
    by_hand(w, b"hand.")

    w.settle()

    if site == "closed":  # Nothing tells the two apart: what it rests on is said.
        assert w.rows()[0].ground == "name, size and time"
        return
    proven(w)
    assert contents(w) == Counter([b"hand.", b"ours."])


@SITES
@pytest.mark.parametrize("first", ["hand.", "ours."])
def test_our_own_is_found_beside_a_namesake(at, site: str, first: str) -> None:
    w = at(site)
    w.drop("TEST-1/log.txt", b"ours.")
    w.jira.faults.append(Fault(**LOST, commit="all"))
    w.deliver()
    by_hand(w, b"hand.")
    w.jira.stored.sort(key=lambda stored: stored.content.decode() != first)

    w.settle()

    proven(w)
    assert contents(w) == Counter([b"hand.", b"ours."])
    assert w.states() == (["FAILED"] if site == "closed" else ["DONE"])


def test_another_accounts_namesake_with_the_same_content_is_not_our_attempt(w: World) -> None:
    w.drop("TEST-1/log.txt", b"ours.")
    w.jira.faults.append(Fault(**LOST))
    w.deliver()
    by_hand(w, b"ours.", author="712020:somebody")

    w.settle()

    assert contents(w) == Counter({b"ours.": 2})
    assert w.row("TEST-1/log.txt").attachment == w.jira.on("TEST-1")[-1].id


# --- A journal that was lost, or is old -----------------------------------------------------------------------------


@SITES
def test_after_a_lost_journal_a_namesake_is_not_the_file(at, site: str) -> None:
    w = at(site)
    w.clock.time = os.stat(w.drop("TEST-1/log.txt", b"new..", OLD)).st_ctime + 5
    by_hand(w, b"older", ago=300.0)
    w.lose_journal()

    w.settle()

    proven(w)
    if site == "closed":
        assert contents(w) == Counter([b"older"])
        assert f"attachment {w.jira.stored[0].id}" in (w.rows()[0].reason or "")
        assert w.rows()[0].may_be_attached == 1
    else:
        assert contents(w) == Counter([b"older", b"new.."])


@SITES
def test_after_a_lost_journal_equal_bytes_under_another_name_are_not_the_file(at, site: str) -> None:
    w = at(site)
    w.clock.time = os.stat(w.drop("TEST-1/log.txt", b"bytes")).st_ctime + 5
    by_hand(w, b"bytes", "other.txt")
    w.lose_journal()

    w.settle()

    assert sorted(w.jira.names("TEST-1")) == ["log.txt", "other.txt"]


@SITES
def test_after_a_restore_a_file_that_kept_an_old_time_is_not_a_younger_namesake(at, site: str, tmp_path: Path) -> None:
    w = at(site)
    w.drop("TEST-2/other.txt")
    w.deliver()
    w.end()
    backup.backup(w.home / "state", tmp_path / "copy.db")
    backup.restore(w.home / "state", tmp_path / "copy.db")
    w.clock.time = os.stat(w.drop("TEST-1/log.txt", b"new..", OLD)).st_ctime + 5
    by_hand(w, b"older", ago=3600.0)
    w.restart()

    w.settle()

    proven(w)
    assert contents(w)[b"new.."] == (0 if site == "closed" else 1)
    if site == "closed":
        assert w.row("TEST-1/log.txt").may_be_attached == 1


@SITES
@pytest.mark.parametrize("off", [-90_000.0, 3600.0])
def test_after_a_lost_journal_with_a_wrong_clock_nothing_is_sent_twice(at, site: str, off: float) -> None:
    """This machine's clock, and with it the file's ctime, is off: the attachment seems to be older than the file."""
    w = at(site)
    ctime = os.stat(w.drop("TEST-1/log.txt", b"bytes")).st_ctime
    w.clock.time = ctime
    w.jira.stored.append(Stored("77", "TEST-1", "log.txt", b"bytes", ctime + off + 1))
    w.lose_journal()

    w.settle()

    assert contents(w) == Counter([b"bytes"])
    assert w.states() == (["FAILED"] if site == "closed" else ["DONE"])


# --- Time -----------------------------------------------------------------------------------------------------------


@SITES
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("ahead", [-300.0, 7200.0])
def test_a_proxys_clock_makes_nothing_absent(at, site: str, ahead: float, first: bool) -> None:
    """What was stored seems to be older than its attempt; once files were attached Jira's own clock is known."""
    w = at(site)
    w.jira.date_ahead = ahead
    for number in range(0 if first else 3):
        w.drop(f"TEST-2/{number}.txt")
        w.deliver()
    w.drop("TEST-1/log.txt", b"bytes")
    w.jira.faults.append(Fault(**LOST, commit="all"))

    w.settle()

    assert contents(w) == Counter([b"bytes"])
    unsure = site == "closed" and first and ahead > 0
    assert str(w.row("TEST-1/log.txt").state) == ("FAILED" if unsure else "DONE")
    if unsure:
        assert f"attachment {w.jira.on('TEST-1')[0].id} may be this file" in (w.row("TEST-1/log.txt").reason or "")


def test_what_was_measured_of_a_proxys_clock_outlives_the_process(at) -> None:
    w = at("closed")
    w.jira.date_ahead = 7200.0
    for number in range(3):
        w.drop(f"TEST-2/{number}.txt")
        w.deliver()
    w.restart()
    w.drop("TEST-1/log.txt", b"bytes")
    w.jira.faults.append(Fault(**LOST, commit="all"))

    w.settle()

    assert str(w.row("TEST-1/log.txt").state) == "DONE"


def test_by_a_measured_clock_what_is_older_is_not_waited_for(at) -> None:
    w = at("closed")
    by_hand(w, b"older", ago=3600.0)
    for number in range(3):
        w.drop(f"TEST-2/{number}.txt")
        w.deliver()
    w.drop("TEST-1/log.txt", b"new..")
    w.jira.faults.append(Fault(**LOST))

    w.settle()

    assert contents(w) == Counter([b"older", b"new.."])


# --- Contents -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble", [{"status": 503, "body": b""}, {"status": 429, "body": b""}, {"breaks": httpx.ReadError}]
)
@SITES
def test_a_content_that_cannot_be_read_now_is_waited_for(at, site: str, trouble: dict) -> None:
    w = at(site)
    w.jira.readable = True
    w.drop("TEST-1/log.txt", b"bytes")
    w.jira.faults.append(Fault(**LOST, commit="all"))
    w.jira.content_faults += [Fault(**trouble)] * 3
    w.deliver()
    w.clock.advance(6.0)
    w.deliver()
    assert w.states() == ["DOUBTFUL"]

    w.settle(hours=1)

    assert w.states() == ["DONE"]
    assert (w.rows()[0].ground, contents(w)) == ("content", Counter([b"bytes"]))


def test_whether_a_site_opens_contents_is_found_out_once_a_day(at) -> None:
    w = at("closed")

    def asked() -> int:
        return sum("/secure/" in path for _, path in w.jira.requests)

    for number in range(3):
        w.drop(f"TEST-1/{number}.txt")
        w.jira.faults.append(Fault(**LOST, commit="all"))
        w.settle(hours=1)
    assert asked() == 1
    w.clock.advance(90_000.0)
    w.jira.readable = True
    w.drop("TEST-1/later.txt")
    w.jira.faults.append(Fault(**LOST, commit="all"))
    w.settle(hours=1)

    assert asked() == 2
    assert [row.ground for row in w.rows()] == ["name, size and time"] * 3 + ["content"]


def test_what_was_read_is_not_read_again_at_each_look(w: World) -> None:
    by_hand(w, b"hand.")
    w.drop("TEST-1/log.txt", b"ours.")
    w.jira.faults.append(Fault(**LOST))

    w.settle()

    assert sum("/content/" in path for _, path in w.jira.requests) == 1
    assert contents(w) == Counter([b"hand.", b"ours."])


# --- A listing that lags --------------------------------------------------------------------------------------------


@SITES
@pytest.mark.parametrize("status", [400, 429])
@pytest.mark.parametrize("lag", [1.0, 80.0])
def test_what_was_stored_of_a_declined_request_is_not_sent_again_where_listings_lag(
    at, site: str, status: int, lag: float
) -> None:
    w = at(site)
    w.jira.lag = lag
    for number in range(4):
        w.drop(f"TEST-1/{number}.txt", b"content %d" % number)
    words = {"errorMessages": ["one is bad"], "errors": {}}
    w.jira.faults.append(Fault(status=status, body=words, commit="half", shared=True))

    w.settle()

    assert contents(w) == Counter(b"content %d" % number for number in range(4))
    assert w.states() == ["DONE"] * 4


def test_a_listing_that_shows_something_younger_settles_a_declined_request_at_once(w: World) -> None:
    for number in range(3):
        w.drop(f"TEST-1/{number}.txt", b"content %d" % number)
    w.jira.faults.append(Fault(status=400, body={"errorMessages": ["one is bad"], "errors": {}}))
    w.scan()
    w.step()
    w.drop("TEST-1/young.txt", b"young")

    w.deliver()
    w.clock.advance(6.0)
    w.work()
    w.clock.advance(2.0)
    w.work()

    assert w.states() == ["DONE"] * 4
    assert contents(w) == Counter([b"content 0", b"content 1", b"content 2", b"young"])


def test_a_listing_that_goes_back_in_time_ends_no_doubt(w: World) -> None:
    """Two earlier ones had shown another attachment; replicas take turns."""
    by_hand(w, b"other", "other.txt", ago=5000.0)
    w.drop("TEST-1/log.txt", b"bytes")
    w.jira.faults.append(Fault(**LOST, commit=60.0))
    w.deliver()
    for _ in range(2):
        w.clock.advance(26.0)
        w.work()
    w.jira.lag = 6000.0
    for _ in range(12):
        w.clock.advance(40.0)
        w.work()
    assert w.states() == ["DOUBTFUL"]
    w.jira.lag = 0.0

    w.settle(hours=1)

    assert contents(w)[b"bytes"] == 1


def test_an_attachment_that_was_deleted_makes_no_listing_old(w: World) -> None:
    w.drop("TEST-1/gone.txt", b"gone")
    w.deliver()
    w.jira.stored.clear()
    w.drop("TEST-1/log.txt", b"bytes")
    w.jira.faults.append(Fault(**LOST))

    w.settle(hours=1)

    assert contents(w) == Counter([b"bytes"])
    assert w.row("TEST-1/log.txt").state is State.DONE


# --- Issues that were moved, and answers that are mixed up ----------------------------------------------------------


@SITES
def test_two_folders_of_one_moved_issue_share_no_attachment(at, site: str) -> None:
    """Only one of the two was stored, under a name and in a size that both have."""
    w = at(site)
    w.jira.moved["OLD-1"] = "NEW-5"
    w.drop("OLD-1/log.txt", b"first")
    w.drop("NEW-5/log.txt", b"other")
    w.jira.faults += [Fault(**LOST, commit="all"), Fault(**LOST)]
    w.scan()
    w.step()
    w.step()
    assert Counter(w.states()) == Counter({"DOUBTFUL": 2})

    w.settle()

    proven(w)
    if site == "closed":
        assert "DONE" not in w.states() or contents(w, "NEW-5") == Counter([b"first", b"other"])
    else:
        assert contents(w, "NEW-5") == Counter([b"first", b"other"])
        assert w.states() == ["DONE", "DONE"]


def test_an_answer_that_mixes_two_issues_up_once_merges_nothing(w: World) -> None:
    w.drop("TEST-1/log.txt", b"one")
    w.jira.faults.append(Fault(**LOST))
    w.deliver()
    w.clock.advance(6.0)
    w.jira.mixed_up = ["TEST-2"]

    w.settle(hours=1)
    w.restart()
    w.drop("TEST-1/later.txt", b"later")
    w.settle(hours=1)

    assert (contents(w), contents(w, "TEST-2")) == (Counter([b"one", b"later"]), Counter())


def test_a_mix_up_that_lasts_leads_to_no_other_issue(w: World) -> None:
    """TEST-1 is answered with TEST-2 again and again; asked for itself, TEST-2 is a third one's neighbour."""
    w.drop("TEST-1/log.txt", b"one")
    w.jira.faults.append(Fault(**LOST))
    w.deliver()
    usual = w.jira._list

    def mixed(issue: str, known: bool) -> httpx.Response:
        return usual({"TEST-1": "TEST-2", "TEST-2": "TEST-1"}.get(issue, issue), known)

    w.jira._list = mixed  # type: ignore[method-assign]
    for _ in range(10):
        w.clock.advance(31.0)
        w.deliver()
    assert w.states() == ["DOUBTFUL"]
    del w.jira._list

    w.settle(hours=1)

    assert (contents(w), contents(w, "TEST-2")) == (Counter([b"one"]), Counter())


def learned(w: World) -> None:
    w.jira.moved["OLD-1"] = "NEW-5"
    w.drop("OLD-1/log.txt", b"one")
    w.jira.faults.append(Fault(**LOST, commit="all"))
    w.settle(hours=1)
    assert w.runtime.journal.value("SELECT issue FROM moved WHERE folder_key = 'OLD-1'") == "NEW-5"


@pytest.mark.parametrize("restarted", [False, True])
def test_a_moved_issue_is_asked_about_again_and_a_contradiction_ends_it(w: World, restarted: bool) -> None:
    learned(w)
    w.jira.moved.clear()
    if restarted:
        w.restart()
    w.clock.advance(5.0 if restarted else moved_issues.TRUSTED_SECONDS + 60.0)

    w.drop("OLD-1/later.txt", b"later")
    w.settle(hours=1)

    assert contents(w, "OLD-1")[b"later"] == 1
    assert w.runtime.journal.value("SELECT count(*) FROM moved") == 0


def test_no_answer_is_no_contradiction(w: World) -> None:
    learned(w)
    w.restart()
    w.drop("OLD-1/later.txt", b"later")
    w.jira.look_faults += [Fault(status=503, body=b"")] * 9

    w.settle(hours=1)

    assert contents(w, "NEW-5") == Counter([b"one", b"later"])
    assert w.runtime.journal.value("SELECT issue FROM moved WHERE folder_key = 'OLD-1'") == "NEW-5"


# --- What is kept of the first doubtful attempt ---------------------------------------------------------------------


def doubted_twice(w: World) -> None:
    """Two attempts without an answer; the first is stored late, after the second began."""
    w.drop("TEST-1/log.txt", b"bytes")
    w.jira.faults += [Fault(**LOST, commit=250.0), Fault(**LOST)]
    w.deliver()
    while w.rows()[0].tries < 2:
        w.clock.advance(31.0)
        w.deliver()
        assert w.clock.time < 1_800_000_249


@SITES
def test_the_first_attempt_counts_after_a_second_one(at, site: str) -> None:
    """What the first stored is found, although a listing between the two had shown it or it is older than the second."""
    w = at(site)
    doubted_twice(w)
    row = w.rows()[0]
    assert (row.doubt_attempt, row.attempt) == (1, 2)
    assert row.doubt_at == 1_800_000_000.0

    w.settle()

    assert contents(w) == Counter([b"bytes"])
    assert w.states() == ["DONE"]


def test_a_checksum_of_the_first_attempt_is_kept_while_a_second_one_is_streamed(w: World) -> None:
    content = bytes(5 * 1024 * 1024)
    w.drop("TEST-1/large.bin", content)
    w.jira.faults.append(Fault(**LOST, commit=400.0))
    w.deliver()
    usual = w.jira._upload

    def cut(request: httpx.Request, _issue: str, _known: bool) -> httpx.Response:
        w.jira._upload = usual  # type: ignore[method-assign]
        next(iter(request.stream))  # type: ignore[arg-type,call-overload]
        raise httpx.WriteError("as told")

    w.jira._upload = cut  # type: ignore[method-assign]
    while w.rows()[0].tries < 2:
        w.clock.advance(31.0)
        w.scan()
        w.step()
    assert (str(w.rows()[0].state), len(w.jira.stored)) == ("READY", 0)
    w.clock.advance(400.0)

    w.settle()

    assert [stored.content for stored in w.jira.on("TEST-1")] == [content]
    assert [(str(row.state), row.ground) for row in w.rows()] == [("DONE", "content")]


def test_a_file_that_was_in_doubt_shares_no_request(w: World) -> None:
    w.drop("TEST-1/log.txt", b"bytes")
    w.jira.faults.append(Fault(**LOST))
    w.deliver()
    for _ in range(3):
        w.clock.advance(95.0)
        w.step()
    w.clock.advance(5.0)
    for number in range(3):
        w.drop(f"TEST-1/{number}.txt", b"%d" % number)
    assert w.states() == ["READY"]

    w.settle(hours=1)

    assert ["log.txt"] in w.jira.uploads[1:]
    assert contents(w) == Counter([b"bytes", b"0", b"1", b"2"])


def test_the_account_of_the_attempt_counts_and_not_the_one_of_now(w: World) -> None:
    w.drop("TEST-1/log.txt", b"bytes")
    w.jira.faults.append(Fault(**LOST, commit="all"))
    w.deliver()
    w.runtime.site.author = "712020:another"

    w.settle(hours=1)

    assert w.rows()[0].author == ACCOUNT
    assert contents(w) == Counter([b"bytes"])


def test_a_content_that_never_opens_holds_up_no_other_file(w: World) -> None:
    """One attachment that Jira has lost the bytes of answers with 500 for ever."""
    usual, broken = w.jira._content, []

    def content(number: str) -> httpx.Response:
        return w.jira._reply(500, b"") if number in broken else usual(number)

    w.jira._content = content  # type: ignore[method-assign]
    for name in ("a.txt", "b.txt"):
        w.drop(f"TEST-1/{name}", name.encode())
    w.jira.faults.append(Fault(**LOST, commit="all"))
    w.deliver()
    broken.append(w.jira.on("TEST-1")[0].id)

    w.settle(hours=1)

    assert Counter(map(str, (row.state for row in w.rows()))) == Counter(["DOUBTFUL", "DONE"])
    assert len(w.jira.stored) == 2


def test_a_service_that_stops_reads_no_content_to_its_end(w: World) -> None:
    w.drop("TEST-1/log.txt", b"bytes")
    w.jira.faults.append(Fault(**LOST, commit="all"))
    w.deliver()
    w.jira.before = w.runtime.stopping.set
    w.clock.advance(6.0)

    w.step()

    assert w.states() == ["DOUBTFUL"]


def test_an_answer_that_names_another_files_attachment_proves_nothing(w: World) -> None:
    w.drop("TEST-1/first.txt", b"first")
    w.deliver()
    (first,) = w.jira.stored
    w.drop("TEST-1/other.txt", b"other")
    w.jira.faults.append(Fault(status=200, body=[{"id": first.id, "filename": "other.txt", "size": 5}]))

    w.settle(hours=1)

    proven(w)
    assert contents(w) == Counter([b"first", b"other"])
