"""Delivery as a whole, on real folders and a real journal: each trouble once, and what must come of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attachd.delivery import batch, preflight
from attachd.filing import file_away
from attachd.fs import folders as fs_folders
from attachd.journal import rows
from attachd.model import State
from memory_jira import Fault, Stored, World, world
from report.test_why import row

AUTH = {"user": "robot@example.com", "token": {"file": "token"}}
MTIME = 1_700_000_000_000_000_000


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def dc(tmp_path: Path) -> Iterator[World]:
    """Data Center: contents cannot be read back."""
    with world(tmp_path, deployment="Server") as made:
        yield made


def attached(w: World, issue: str = "TEST-1") -> list[bytes]:
    return sorted(s.content for s in w.jira.on(issue))


# --- What Jira stores under another name, or only in part -------------------------------------------------------


def test_a_stored_name_that_differs_is_still_the_file(w: World) -> None:
    w.drop("TEST-1/log.txt", b"one")
    w.jira.faults.append(Fault(rename="log-sanitised.txt"))

    w.deliver()

    assert w.states() == ["DONE"]
    assert w.row("TEST-1/log.txt").stored_as == "log-sanitised.txt"
    assert w.files(w.done) == {"TEST-1/log.txt": b"one"}


def test_a_batch_stored_by_half_is_looked_up_and_only_the_rest_is_sent(w: World) -> None:
    for number in range(4):
        w.drop(f"TEST-1/{number}.txt", b"content %d" % number)
    w.jira.faults.append(Fault(status=400, body={"errorMessages": ["one is bad"], "errors": {}}, commit="half"))

    w.settle()

    assert sorted(attached(w)) == [b"content %d" % n for n in range(4)]
    assert sum(map(len, w.jira.uploads)) == 4 + 2
    assert len(w.jira.uploads[0]) == 4
    assert max(len(names) for names in w.jira.uploads[1:]) <= 2
    assert w.files(w.inbox) == {}


def test_a_200_with_a_failed_login_is_stored_and_the_account_is_at_fault(w: World) -> None:
    w.drop("TEST-1/a.txt", b"a")
    w.jira.faults.append(Fault(headers={"x-seraph-loginreason": "AUTHENTICATED_FAILED"}))

    w.deliver()

    assert w.states() == ["DONE"]
    assert w.pauses() == {"account:refused"}
    w.drop("TEST-1/b.txt", b"b")
    w.deliver()
    assert attached(w) == [b"a"]
    w.settle()
    assert attached(w) == [b"a", b"b"]


@pytest.mark.parametrize("deployment", ["Cloud", "Server"])
def test_a_name_changed_on_storing_while_in_doubt_is_not_sent_again(tmp_path: Path, deployment: str) -> None:
    """Cloud tells by the content; on Data Center a person must look."""
    with world(tmp_path, deployment=deployment) as w:
        w.drop("TEST-1/log.txt", b"one")
        w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all", rename="changed.txt"))

        w.settle()

        assert attached(w) == [b"one"]
        if deployment == "Cloud":
            assert w.files(w.done) == {"TEST-1/log.txt": b"one"}
        else:
            assert "may be this file" in (w.row("TEST-1/log.txt").reason or "")
            assert "TEST-1/log.txt" in w.files(w.failed)


def test_a_wrong_size_fails_one_file_and_with_a_second_issue_pauses_the_site(w: World) -> None:
    def cut() -> Fault:
        entry = {"id": str(next(w.jira._ids)), "filename": "a.txt", "size": 3}
        return Fault(status=200, body=[entry])

    w.drop("TEST-1/a.txt", b"content")
    w.jira.faults.append(cut())
    w.deliver()
    assert w.pauses() == set()
    assert "A person must look at attachment" in w.files(w.failed)["TEST-1/a.txt.why.txt"].decode()

    w.drop("TEST-2/a.txt", b"content")
    w.jira.faults.append(cut())
    w.deliver()

    assert w.pauses() == {"site:wrong-size"}
    (pause,) = w.runtime.journal.rows("SELECT wait, reason FROM pause")
    assert 3600.0 <= pause["wait"] < 3601.0
    assert pause["reason"].startswith("files of several issues arrive in Jira with the wrong size:")
    assert "TEST-2/a.txt" in w.files(w.failed)


# --- One request ------------------------------------------------------------------------------------------------


def test_a_file_that_is_carried_to_another_issue_while_its_own_is_looked_at_is_sent_there_alone(w: World) -> None:
    content = b"x" * (preflight.LARGE_BYTES + 1)
    path = w.drop("TEST-1/a.txt", content)

    def carried() -> None:
        if w.jira.requests[-1][1].endswith("/issue/TEST-1") and path.exists():
            (w.inbox / "TEST-1").rename(w.inbox / "TEST-2")
            w.scan()

    w.jira.before = carried
    w.settle(hours=1)

    assert [(s.issue, s.content == content) for s in w.jira.stored] == [("TEST-2", True)]
    assert list(w.files(w.done)) == ["TEST-2/a.txt"]


@pytest.mark.parametrize(
    ("first", "second", "number"),
    [
        ({}, {}, 2),
        ({}, {"name": "a.txt"}, 1),
        ({"doubt_attempt": 1}, {}, 1),
        ({}, {"doubt_attempt": 1}, 1),
        ({"share": 1}, {}, 1),
        ({}, {"share": 1}, 1),
        ({"size": batch.SMALL_BYTES}, {}, 2),
        ({"size": batch.SMALL_BYTES + 1}, {}, 1),
        ({}, {"size": batch.SMALL_BYTES + 1}, 1),
    ],
)
def test_what_shares_a_request(first: dict[str, Any], second: dict[str, Any], number: int) -> None:
    alike = {"size": 7, "share": 60}
    files = [
        row(State.READY, **alike | {"name": "a.txt"} | first),
        row(State.READY, **alike | {"name": "b.txt"} | second),
    ]

    assert batch.together(files, 60, 10**9) == files[:number]


@pytest.mark.parametrize("column", ["size", "mtime_ns", "ctime_ns", "dev", "ino"])
@pytest.mark.parametrize("remounted", [False, True])
def test_only_the_file_that_was_admitted_is_opened(w: World, column: str, remounted: bool) -> None:
    """After a restart or a remount size and time are what is left to compare."""
    w.drop("TEST-1/a.txt")
    w.scan()
    admitted = w.row("TEST-1/a.txt")
    epoch = admitted.epoch + remounted
    other = rows.changed(admitted, {column: getattr(admitted, column) + 1})

    with fs_folders.Held() as folders:
        same, found = (preflight.open_same(w.inbox, each, epoch, folders) for each in (admitted, other))

    assert isinstance(same, preflight.Opened)
    preflight.close(same)
    if remounted and column not in ("size", "mtime_ns"):
        assert isinstance(found, preflight.Opened)
        preflight.close(found)
    else:
        assert found == preflight.NotTheSame()


# --- Two of one name --------------------------------------------------------------------------------------------


def test_two_doubtful_files_of_one_stored_name_and_different_sizes_are_told_apart(w: World) -> None:
    w.drop("TEST-1/a-b.txt", b"longer content")
    w.drop("TEST-1/a/b.txt", b"short")
    w.jira.faults += [Fault(breaks=httpx.ReadTimeout, commit="all"), Fault(breaks=httpx.ReadTimeout)]

    w.settle()

    assert attached(w) == [b"longer content", b"short"]
    assert len(w.files(w.done)) == 2


@pytest.mark.parametrize("committed", ["all", None])
def test_two_doubtful_files_of_one_stored_name_and_size_after_a_restart(w: World, committed: str | None) -> None:
    """The second is not sent while the first is in doubt, and each gets its own attachment."""
    w.drop("TEST-1/a-b.txt", b"first")
    w.drop("TEST-1/a/b.txt", b"other")
    w.jira.faults += [Fault(breaks=httpx.ReadTimeout, commit=committed), Fault(breaks=httpx.ReadTimeout, commit="all")]
    w.deliver()
    assert sorted(w.states()) == ["DOUBTFUL", "READY"]
    w.restart()

    w.settle()

    assert attached(w) == [b"first", b"other"]
    assert set(w.files(w.done).values()) == {b"first", b"other"}


def test_an_attachment_that_another_file_was_credited_with_is_never_taken_for_this_one(w: World) -> None:
    w.drop("TEST-1/log.txt", b"first")
    w.deliver()
    w.drop("TEST-1/log.txt", b"other")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout))

    w.settle()

    assert attached(w) == [b"first", b"other"]


def test_what_was_in_the_issue_before_the_attempt_is_not_taken_for_it(w: World) -> None:
    """A listing made for another doubt had shown it."""
    w.drop("TEST-1/x.txt", b"x")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.jira.stored.append(Stored("77", "TEST-1", "log.txt", b"alien", w.clock.time))
    w.settle()
    w.drop("TEST-1/log.txt", b"other")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout))

    w.settle()

    assert attached(w) == [b"alien", b"other", b"x"]


# --- Doubt and time ---------------------------------------------------------------------------------------------


def test_a_late_commit_is_found_by_a_later_look(w: World) -> None:
    w.drop("TEST-1/log.txt", b"one")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit=100.0))

    w.settle()

    assert attached(w) == [b"one"]
    assert w.files(w.done) == {"TEST-1/log.txt": b"one"}


def test_what_was_ever_in_doubt_is_looked_up_directly_before_it_is_sent_again(w: World) -> None:
    """The commit came after the last look, while something else held the file up."""
    w.drop("TEST-1/log.txt", b"one")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit=400.0))
    w.deliver()
    for _ in range(3):
        w.clock.advance(120.0)
        assert worker_looks(w)
    assert w.states() == ["READY"]
    w.clock.advance(300.0)

    w.work()

    assert attached(w) == [b"one"]
    assert len(w.jira.uploads) == 1
    assert w.states() == ["DONE"]


def worker_looks(w: World) -> bool:
    """One look and nothing else: an upload would come after it."""
    return w.step()


def test_a_missing_attachment_field_is_not_an_empty_list(w: World) -> None:
    w.drop("TEST-1/log.txt", b"one")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.jira.hide_field = True

    w.settle(hours=20)

    assert w.states() == ["DOUBTFUL"]
    w.settle(hours=10)
    assert attached(w) == [b"one"]
    assert "may be attached" in (w.row("TEST-1/log.txt").reason or "")
    assert "TEST-1/log.txt" in w.files(w.failed)


def test_a_file_that_failed_in_doubt_is_looked_up_when_it_comes_back(w: World) -> None:
    w.drop("TEST-1/log.txt", b"one")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.jira.hide_field = True
    w.settle(hours=30)
    w.jira.hide_field = False
    (w.failed / "TEST-1/log.txt").rename(w.inbox / "TEST-1/log.txt")

    w.settle()

    assert attached(w) == [b"one"]
    assert w.files(w.done) == {"TEST-1/log.txt": b"one"}
    assert w.files(w.failed) == {}


def test_three_rounds_of_doubt_of_one_file_while_others_are_accepted_need_a_person(w: World) -> None:
    w.drop("TEST-1/bad.txt", b"bad")
    for _ in range(3):
        w.jira.faults.append(Fault(status=500, body=b""))
        w.deliver()
        w.drop("TEST-2/good.txt", b"good %f" % w.clock.time)
        for _ in range(8):
            w.clock.advance(40.0)
            w.scan()
            if w.row("TEST-1/bad.txt").state is State.READY:
                w.jira.faults.clear()
                break
            w.work()
        w.jira.faults.clear()
    w.settle()

    assert "TEST-1/bad.txt" in w.files(w.failed) or attached(w) == [b"bad"]
    assert len(attached(w)) <= 1


def test_a_200_that_proves_nothing_is_believed_twice_at_most(w: World) -> None:
    w.drop("TEST-1/log.txt", b"one")
    w.jira.faults += [Fault(status=200, body=b"[]"), Fault(status=200, body=b"[]")]

    w.settle()

    assert len(w.jira.uploads) == 2
    assert "may be attached" in (w.row("TEST-1/log.txt").reason or "")
    assert "TEST-1/log.txt.why.txt" in w.files(w.failed)


# --- Content and path -------------------------------------------------------------------------------------------


def test_new_content_of_equal_size_and_mtime_on_the_path_of_an_attached_file_is_attached_too(w: World) -> None:
    """The first is attached but could not be filed before the process died."""
    w.drop("TEST-1/log.txt", b"first", MTIME)
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.deliver()
    w.end()
    w.drop("TEST-1/log.txt", b"other", MTIME)
    w.restart()

    w.settle()

    assert attached(w) == [b"first", b"other"]
    assert w.files(w.done) == {"TEST-1/log.txt": b"other"}


def test_a_remount_that_changes_device_numbers_sends_nothing_again(w: World) -> None:
    w.drop("TEST-1/sent.txt", b"sent")
    w.drop("TEST-2/unsent.txt", b"unsent")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.scan()
    w.step()
    w.scanner._mount = (9, 9, 9)
    with w.runtime.journal.transaction() as connection:
        connection.execute("UPDATE file SET dev = dev + 7, ino = ino + 7")

    w.settle()

    assert attached(w, "TEST-1") == [b"sent"]
    assert attached(w, "TEST-2") == [b"unsent"]
    assert len(w.rows()) == 2


def test_after_a_restart_a_file_that_was_moved_but_not_closed_is_closed_first(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename was the last thing that the process did; then the same name was dropped again."""
    w.drop("TEST-1/log.txt", b"first", MTIME)
    w.scan()
    monkeypatch.setattr(file_away, "_write", lambda runtime, results: 0)
    assert w.step(), "it is sent"
    assert not w.step(), "and moved"
    monkeypatch.undo()
    assert w.states() == ["ATTACHED"]
    assert w.files(w.done) == {"TEST-1/log.txt": b"first"}
    w.end()
    w.drop("TEST-1/log.txt", b"other", MTIME)
    w.restart()

    w.settle()

    assert attached(w) == [b"first", b"other"]
    assert set(w.files(w.done).values()) == {b"first", b"other"}


def test_a_file_moved_to_another_issue_before_it_was_sent_goes_there_alone(w: World) -> None:
    w.drop("TEST-1/log.txt", b"one")
    w.scan()
    (w.inbox / "TEST-2").mkdir()
    (w.inbox / "TEST-1/log.txt").rename(w.inbox / "TEST-2/log.txt")

    w.settle()

    assert (attached(w, "TEST-1"), attached(w, "TEST-2")) == ([], [b"one"])
    assert w.files(w.done) == {"TEST-2/log.txt": b"one"}


def test_a_folder_renamed_while_its_file_is_in_doubt_keeps_the_verdict(w: World) -> None:
    w.drop("TEST-1/log.txt", b"one")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.deliver()
    (w.inbox / "TEST-1").rename(w.inbox / "TEST-1 Printer jams")

    w.settle()

    assert attached(w) == [b"one"]
    assert w.files(w.done) == {"TEST-1/log.txt": b"one"}


def test_each_hard_link_is_a_job_of_its_own(w: World) -> None:
    path = w.drop("TEST-1/a.txt", b"linked")
    os.link(path, path.with_name("b.txt"))

    w.settle()

    assert attached(w) == [b"linked", b"linked"]
    assert sorted(w.files(w.done)) == ["TEST-1/a.txt", "TEST-1/b.txt"]


def test_a_file_taken_away_before_it_was_sent_is_withdrawn(w: World) -> None:
    w.drop("TEST-1/log.txt", b"one").chmod(0o600)
    w.scan()
    (w.inbox / "TEST-1/log.txt").unlink()
    w.settle()

    assert w.states() == ["WITHDRAWN"]
    assert w.jira.uploads == []


def test_a_file_that_changes_between_scan_and_upload_settles_anew(w: World) -> None:
    path = w.drop("TEST-1/log.txt", b"half")
    w.scan()
    with path.open("ab") as file:
        file.write(b" and half")

    w.settle()

    assert attached(w) == [b"half and half"]


# --- The inbox that is not there --------------------------------------------------------------------------------


def test_an_inbox_that_is_not_mounted_is_not_an_empty_one(w: World) -> None:
    w.drop("TEST-1/log.txt", b"one")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.deliver()
    away = w.home / "away"
    w.inbox.rename(away)
    w.inbox.mkdir()
    for _ in range(5):
        w.clock.advance(40.0)
        w.deliver()

    assert w.rows()[0].missing == 0
    assert list(w.inbox.iterdir()) == []

    w.inbox.rmdir()
    away.rename(w.inbox)
    w.settle()
    assert attached(w) == [b"one"]
    assert w.files(w.done) == {"TEST-1/log.txt": b"one"}


def test_an_inbox_whose_marker_was_deleted_is_taken_over_only_when_told(w: World) -> None:
    """In another folder than the one that carried it: what is not mounted looks so."""
    w.inbox.rename(w.home / "away")
    w.inbox.mkdir()
    w.drop("TEST-1/log.txt", b"one")
    w.restart()

    w.deliver()

    assert w.jira.uploads == []
    assert not (w.inbox / ".attachd/id").exists()
    assert "--adopt-inbox" in w.runtime.guard.sight.reason

    w.restart(adopt_inbox=True)
    w.settle()
    assert attached(w) == [b"one"]


def test_a_lost_journal_makes_everything_doubtful_and_sends_nothing_twice(w: World) -> None:
    """The file was stored, and the journal vanished with the machine's disk; the inbox is on a share."""
    w.drop("TEST-1/log.txt", b"one")
    w.drop("TEST-1/new.txt", b"new")
    changed = os.stat(w.inbox / "TEST-1/log.txt").st_ctime
    w.end()
    for path in (w.home / "state").iterdir():
        path.unlink()
    w.clock.time = changed + 50
    w.jira.stored.append(Stored("50", "TEST-1", "log.txt", b"one", changed + 1))
    w.restart()

    w.settle()

    assert attached(w) == [b"new", b"one"]
    assert w.files(w.done) == {"TEST-1/log.txt": b"one", "TEST-1/new.txt": b"new"}


# --- Blame ------------------------------------------------------------------------------------------------------


def test_an_expired_token_moves_nothing_and_a_new_one_lets_everything_flow(w: World) -> None:
    for number in range(5):
        w.drop(f"TEST-{number + 1}/log.txt", b"content %d" % number)
    good, w.jira.token = w.jira.token, "Basic other"

    for _ in range(20):
        w.deliver()
        w.clock.advance(30.0)

    assert w.jira.uploads == []
    assert w.files(w.failed) == w.files(w.done) == {}
    assert any(pause.startswith("account") for pause in w.pauses())
    w.jira.token = good
    w.settle()
    assert len(w.files(w.done)) == 5


def test_a_token_that_expires_while_it_runs_fails_nothing(w: World) -> None:
    w.drop("TEST-1/a.txt", b"a")
    w.deliver()
    w.drop("TEST-1/b.txt", b"b")
    good, w.jira.token = w.jira.token, "Basic other"

    w.deliver()

    assert w.files(w.failed) == {}
    assert w.pauses() == {"account:refused"}
    w.jira.token = good
    w.settle()
    assert attached(w) == [b"a", b"b"]


def test_a_worker_whose_request_was_refused_finds_out_why_before_it_takes_another(w: World) -> None:
    """The others send on meanwhile: with a token that expired, each of them sends one request at most."""
    w.drop("TEST-1/a.txt", b"a")
    w.deliver()
    w.drop("TEST-1/b.txt", b"b")
    w.drop("TEST-1/c.txt", b"c")
    w.jira.token = "Basic other"
    w.scan()

    while len(w.jira.uploads) < 2:
        assert w.step()

    assert w.jira.uploads[1] == ["b.txt", "c.txt"]
    assert w.pauses() == {"account:refused"}


def test_an_unknown_issue_is_believed_at_once_with_a_witness(w: World) -> None:
    w.drop("TEST-1/a.txt", b"a")
    w.deliver()
    w.jira.missing.add("OPS-404")
    w.drop("OPS-404/b.txt", b"b")

    w.deliver()

    assert "OPS-404/b.txt" in w.files(w.failed)
    assert "OPS-404/b.txt.why.txt" in w.files(w.failed)
    assert w.pauses() == set()


def test_an_unknown_issue_without_a_witness_is_held_for_a_while(w: World) -> None:
    w.jira.missing.add("OPS-404")
    w.drop("OPS-404/b.txt", b"b")

    w.deliver()

    assert w.files(w.failed) == {}
    assert w.row("OPS-404/b.txt").contested == 404
    w.clock.advance(125.0)
    w.deliver()
    assert "OPS-404/b.txt" in w.files(w.failed)


def test_three_unknown_issues_without_a_witness_blow_the_fuse(w: World) -> None:
    for number in range(3):
        w.jira.missing.add(f"OPS-{number + 1}")
        w.drop(f"OPS-{number + 1}/b.txt", b"b")

    for _ in range(10):
        w.deliver()
        w.clock.advance(130.0)

    assert w.files(w.failed) == {}
    assert len(w.jira.uploads) == 3
    w.drop("TEST-1/good.txt", b"good")
    w.settle()
    assert len([name for name in w.files(w.failed) if name.endswith("b.txt")]) == 3


def test_a_throttled_issue_holds_up_no_other(w: World) -> None:
    w.drop("TEST-1/a.txt", b"a")
    w.drop("TEST-2/b.txt", b"b")
    headers = {"retry-after": "100", "ratelimit-reason": "jira-per-issue-on-write"}
    w.jira.faults.append(Fault(status=429, body={}, headers=headers))

    w.deliver()

    assert sorted(len(w.jira.on(issue)) for issue in ("TEST-1", "TEST-2")) == [0, 1]
    assert w.pauses() == {"issue:rate-limit"}
    w.settle()
    assert (attached(w, "TEST-1"), attached(w, "TEST-2")) == ([b"a"], [b"b"])


def test_an_outage_moves_nothing_and_ends_by_itself(w: World) -> None:
    w.drop("TEST-1/a.txt", b"a")
    w.deliver()
    w.drop("TEST-1/b.txt", b"b")
    w.jira.faults += [Fault(breaks=httpx.ConnectError, early=True)] * 4
    w.deliver()
    assert w.pauses() == {"site:unreachable"}
    assert w.files(w.failed) == {}

    w.settle()

    assert attached(w) == [b"a", b"b"]


def test_a_file_larger_than_the_limit_is_refused_before_a_byte_is_sent(w: World) -> None:
    w.jira.limit = 10
    w.drop("TEST-1/big.bin", b"x" * 11)

    w.deliver()

    assert w.jira.uploads == []
    assert "the file has 11 bytes, and this Jira allows 10" in (w.row("TEST-1/big.bin").reason or "")


def test_disabled_attachments_hold_everything_up(w: World) -> None:
    w.jira.enabled = False
    w.drop("TEST-1/a.txt", b"a")

    w.deliver()

    assert w.pauses() == {"site:disabled"}
    w.jira.enabled = True
    w.settle()
    assert attached(w) == [b"a"]


@pytest.mark.parametrize("deployment", ["auto", "cloud"])
def test_a_site_that_hides_version_2_of_the_api_is_met_all_the_same(tmp_path: Path, deployment: str) -> None:
    with world(tmp_path, jira={"url": "https://jira.example.com", "deployment": deployment, "auth": AUTH}) as w:
        usual = w.jira._answer

        def answer(request: httpx.Request, path: str) -> httpx.Response:
            return w.jira._reply(404, b"<html>") if "/rest/api/2/" in path else usual(request, path)

        w.jira._answer = answer  # type: ignore[method-assign]
        w.drop("TEST-1/a.txt", b"a")

        w.deliver()

        assert attached(w) == [b"a"]


def test_a_wrong_base_path_is_told_and_nothing_is_sent(w: World) -> None:
    w.jira._answer = lambda request, path: w.jira._reply(404, b"<html>")  # type: ignore[method-assign]
    w.drop("TEST-1/a.txt", b"a")

    w.deliver()

    assert w.pauses() == {"site:proxy"}
    assert w.jira.uploads == []


# --- Sharing and order ------------------------------------------------------------------------------------------


def test_small_files_share_a_request_but_never_two_of_one_name(w: World) -> None:
    for number in range(70):
        w.drop(f"TEST-1/{number:02}.txt", b"%d" % number)
    w.drop("TEST-1/x/y.txt", b"one")
    w.drop("TEST-1/x-y.txt", b"two")

    w.settle()

    assert sum(map(len, w.jira.uploads)) == 72
    assert [len(names) for names in w.jira.uploads] == [60, 12] or len(w.jira.uploads) == 3
    assert all(len(set(names)) == len(names) for names in w.jira.uploads)


def test_a_large_folder_does_not_hold_up_a_single_file_of_another(w: World) -> None:
    for number in range(300):
        w.drop(f"TEST-1/{number:03}.txt", b"%d" % number)
    w.scan()
    w.step()
    w.drop("ZZZ-9/one.txt", b"one")
    w.scan()
    before = len(w.jira.uploads)

    w.step()

    assert w.jira.uploads[before:] == [["one.txt"]]


def test_a_moved_issue_and_its_old_key_are_one_issue(w: World) -> None:
    w.jira.moved["OLD-1"] = "NEW-7"
    w.drop("OLD-1/a.txt", b"a")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.settle()
    assert w.files(w.done) == {"OLD-1/a.txt": b"a"}

    w.drop("OLD-1/b.txt", b"b")
    w.drop("NEW-7/c.txt", b"c")
    w.settle()

    assert attached(w, "NEW-7") == [b"a", b"b", b"c"]
    assert {row.issue for row in w.rows("WHERE path <> 'x'")[1:]} == {"NEW-7"}
    assert sorted(w.files(w.done)) == ["NEW-7/c.txt", "OLD-1/a.txt", "OLD-1/b.txt"]


def test_an_attached_file_that_is_moved_to_another_issue_before_it_was_filed_is_attached_there_too(w: World) -> None:
    """Its first verdict stands; in the other issue it is a new job."""
    path = w.drop("TEST-1/log.txt", b"one")
    w.scan()
    w.step()
    assert w.states() == ["ATTACHED"]
    (w.inbox / "TEST-2").mkdir()
    path.rename(w.inbox / "TEST-2/log.txt")

    w.settle()

    assert (attached(w, "TEST-1"), attached(w, "TEST-2")) == ([b"one"], [b"one"])
    assert w.files(w.done) == {"TEST-2/log.txt": b"one"}
    assert [(row.folder_key, str(row.state)) for row in w.rows()] == [("TEST-1", "DONE"), ("TEST-2", "DONE")]
