"""403 and 404: who is to blame. Witnesses, held refusals, the fuse, a day for a lost role, an issue that used to accept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from attachd.delivery import probe
from attachd.journal.rows import Proof
from memory_jira import Fault, World, world

DAY = 86_400.0
SCOPE = {"code": 401, "message": "Unauthorized; scope does not match"}


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def accepted(w: World, *issues: str) -> None:
    """These issues have accepted a file: they are witnesses."""
    for issue in issues:
        w.drop(f"{issue}/first.txt", issue.encode())
    w.settle()
    assert w.unfinished() == []


def gets(w: World, issue: str) -> int:
    return sum(method == "GET" and path.endswith(f"/issue/{issue}") for method, path in w.jira.requests)


def wait(w: World, seconds: float, step: float = 600.0) -> None:
    until = w.clock.time + seconds
    while w.clock.time < until:
        w.clock.advance(min(step, until - w.clock.time))
        w.deliver()


class Death(BaseException):
    """The process dies here."""


def test_a_refusal_whose_blame_was_not_settled_when_the_process_died_is_sent_again(w: World) -> None:
    """With which token it was refused is not known any more: the file is not blamed for an answer to another one."""
    accepted(w, "OPS-1", "QA-1")
    w.jira.missing |= {"TEST-9"}
    w.drop("TEST-9/a.txt", b"a")
    w.scan()
    uploads = w.jira.requests.count(("POST", "/rest/api/3/issue/TEST-9/attachments"))

    def dies_before_a_witness_is_asked() -> None:
        if w.jira.requests[-1] in (("GET", "/rest/api/3/issue/OPS-1"), ("GET", "/rest/api/3/issue/QA-1")):
            raise Death

    w.jira.before = dies_before_a_witness_is_asked
    with pytest.raises(Death):
        w.work()
    assert w.row("TEST-9/a.txt").contested == 404

    w.jira.before = lambda: None
    w.jira.missing.clear()  # the new token sees it
    w.restart()
    w.settle()

    assert w.jira.requests.count(("POST", "/rest/api/3/issue/TEST-9/attachments")) == uploads + 2
    assert w.files(w.done)["TEST-9/a.txt"] == b"a"
    assert w.jira.names("TEST-9") == ["a.txt"]


# --- Witnesses --------------------------------------------------------------------------------------------------


def test_witnesses_from_other_projects_are_asked_first() -> None:
    assert probe.chosen(["TEST-1", "TEST-2", "OPS-1", "QA-1"], "TEST-9") == ["OPS-1", "QA-1", "TEST-1"]


def test_with_a_visible_witness_a_404_is_believed_and_invisible_ones_are_struck_off(w: World) -> None:
    accepted(w, "OPS-1")
    w.clock.advance(1.0)
    accepted(w, "QA-1")  # the latest, so it is asked first
    w.jira.missing |= {"QA-1", "TEST-404"}
    w.drop("TEST-404/a.txt", b"a")

    w.settle(hours=0.01)

    assert w.row("TEST-404/a.txt").state == "FAILED"
    assert probe.known(w.runtime) == ["OPS-1"]


def test_a_witness_that_was_struck_off_is_one_again_when_it_accepts_a_file(w: World) -> None:
    accepted(w, "OPS-1")
    w.jira.missing |= {"OPS-1", "TEST-404"}
    w.drop("TEST-404/a.txt", b"a")
    w.deliver()
    assert w.row("TEST-404/a.txt").proof is not Proof.NONE
    assert probe.known(w.runtime) == []
    w.jira.missing.discard("OPS-1")
    w.clock.advance(1.0)

    accepted(w, "OPS-1")

    assert probe.known(w.runtime) == ["OPS-1"]
    assert w.row("TEST-404/a.txt").state == "FAILED"


def test_one_witness_that_cannot_be_seen_is_struck_off_and_the_refusal_is_held(w: World) -> None:
    accepted(w, "OPS-1")
    w.jira.missing |= {"OPS-1", "TEST-404"}
    w.drop("TEST-404/a.txt", b"a")

    w.deliver()

    assert w.pauses() == set()
    assert w.row("TEST-404/a.txt").proof is Proof.ACCOUNT
    w.settle(hours=0.1)
    assert w.row("TEST-404/a.txt").state == "FAILED"


def test_where_no_witness_of_several_can_be_seen_everything_waits_until_one_can(w: World) -> None:
    accepted(w, "OPS-1", "QA-1")
    w.jira.missing |= {"OPS-1", "QA-1", "TEST-1"}
    w.drop("TEST-1/a.txt", b"a")
    w.deliver()
    assert w.pauses() == {"account:no-witness"}
    uploads = len(w.jira.uploads)

    wait(w, 7200)

    assert w.pauses() == {"account:no-witness"}
    assert len(w.jira.uploads) == uploads
    assert w.row("TEST-1/a.txt").state == "READY"
    w.jira.missing.clear()
    w.settle()
    assert w.row("TEST-1/a.txt").state == "DONE"
    assert w.files(w.failed) == {}


def test_a_token_that_may_not_ask_who_it_is_still_attaches_files(w: World) -> None:
    myself = w.jira._answer
    w.jira._answer = lambda request, path: (  # type: ignore[method-assign]
        w.jira._reply(401, SCOPE) if path.endswith("/myself") else myself(request, path)
    )
    accepted(w, "OPS-1")
    assert w.pauses() == set()
    w.jira.missing.add("TEST-404")
    w.drop("TEST-404/a.txt", b"a")

    w.settle(hours=0.01)

    assert w.row("TEST-404/a.txt").state == "FAILED"  # the witness is visible


def test_an_anonymous_account_is_probed_by_what_it_may_see(tmp_path: Path) -> None:
    with world(tmp_path, jira={"url": "https://jira.example.com", "auth": {"kind": "anonymous"}}) as w:
        w.jira.token = None  # type: ignore[assignment]  everybody is known here
        accepted(w, "OPS-1", "QA-1")
        w.jira.missing |= {"OPS-1", "QA-1", "TEST-1"}
        w.drop("TEST-1/a.txt", b"a")
        w.deliver()
        assert w.pauses() == {"account:no-witness"}
        wait(w, 3600)
        assert w.pauses() == {"account:no-witness"}

        w.jira.missing.clear()
        w.settle()

        assert w.row("TEST-1/a.txt").state == "DONE"


# --- Held refusals and the fuse ---------------------------------------------------------------------------------


def mistype(w: World, *issues: str) -> None:
    w.jira.missing |= set(issues)
    for issue in issues:
        w.drop(f"{issue}/a.txt", issue.encode())


def test_three_refusals_that_nothing_confirms_wait_for_a_person(w: World) -> None:
    mistype(w, "NO-1", "NO-2", "NO-3")

    wait(w, 3 * DAY, step=3600)

    assert w.states() == ["READY"] * 3
    assert w.pauses() == set()
    with w.runtime.journal.transaction() as connection:
        connection.execute("UPDATE file SET proof = 'operator'")
    w.deliver()
    assert w.states() == ["FAILED"] * 3
    assert "an administrator confirmed" in (w.row("NO-1/a.txt").reason or "")


def test_a_success_files_what_the_fuse_held(w: World) -> None:
    mistype(w, "NO-1", "NO-2", "NO-3")
    wait(w, 3600)

    accepted(w, "OPS-1")

    assert sorted(w.states()) == ["DONE", "FAILED", "FAILED", "FAILED"]


def test_a_refusal_is_believed_also_where_a_job_sets_the_modes_of_the_inbox_each_minute(w: World) -> None:
    w.jira.missing.add("TEST-1")
    path = w.drop("TEST-1/a.txt", b"a")
    for minute in range(60):
        path.chmod(0o664 if minute % 2 else 0o644)
        wait(w, 60.0, step=30.0)
        if not w.unfinished():
            break

    assert w.states() == ["FAILED"]
    assert len(w.jira.uploads) == 1


def test_other_content_of_a_refused_file_is_sent_for_itself_also_under_the_same_size_and_time(w: World) -> None:
    w.jira.missing.add("TEST-1")
    path = w.drop("TEST-1/a.txt", b"a")
    w.deliver()
    assert w.row("TEST-1/a.txt").contested == 404
    before = path.stat()
    path.write_bytes(b"b")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    w.jira.missing.clear()
    w.clock.advance(5)
    w.deliver()

    assert [stored.content for stored in w.jira.stored] == [b"b"]
    assert w.states() == ["DONE"]


def test_files_of_other_issues_go_on_while_refusals_are_held(w: World) -> None:
    mistype(w, "NO-1", "NO-2", "NO-3")
    w.deliver()
    assert w.states() == ["READY"] * 3

    w.drop("OPS-1/a.txt", b"a")
    w.deliver()

    assert w.row("OPS-1/a.txt").state == "DONE"


# --- A role that was lost ---------------------------------------------------------------------------------------


def forbid(w: World, *issues: str) -> None:
    w.jira.forbidden |= set(issues)


def test_a_role_lost_on_the_only_project_moves_nothing_for_a_day_and_counts_that_day_once(w: World) -> None:
    issues = [f"TEST-{n}" for n in range(1, 6)]
    forbid(w, *issues)
    for issue in issues:
        w.drop(f"{issue}/a.txt", issue.encode())

    wait(w, 0.99 * DAY, step=300)
    assert w.states() == ["READY"] * 5
    uploads = len(w.jira.uploads)
    assert uploads <= 26  # hourly tries, and no more
    wait(w, 2 * 3600, step=300)

    assert w.states() == ["FAILED"] * 5
    assert "for a day" in (w.row("TEST-1/a.txt").reason or "")


def test_the_day_begins_anew_when_the_project_has_accepted_a_file(w: World) -> None:
    forbid(w, "TEST-1")
    w.drop("TEST-1/a.txt", b"a")
    wait(w, 0.5 * DAY, step=600)
    assert w.pauses() == {"project:forbidden"}
    w.jira.forbidden.clear()
    wait(w, 7200)
    assert w.states() == ["DONE"]
    forbid(w, "TEST-1", "TEST-2")
    w.drop("TEST-2/b.txt", b"b")

    wait(w, 0.9 * DAY, step=600)

    assert w.row("TEST-2/b.txt").state == "READY"


def test_a_403_is_believed_once_another_issue_of_the_project_accepts_a_file(w: World) -> None:
    forbid(w, "TEST-1")
    w.drop("TEST-1/a.txt", b"a")
    w.deliver()
    w.drop("TEST-2/b.txt", b"b")

    wait(w, 2 * 3600)

    assert w.row("TEST-2/b.txt").state == "DONE"
    assert w.row("TEST-1/a.txt").state == "FAILED"
    assert "other issues of the project" in (w.row("TEST-1/a.txt").reason or "")


@pytest.mark.parametrize("status", [403, 404])
def test_an_issue_that_used_to_accept_pauses_alone_while_others_of_its_project_accept(w: World, status: int) -> None:
    accepted(w, "TEST-1", "TEST-2")
    (w.jira.forbidden if status == 403 else w.jira.missing).add("TEST-1")
    w.drop("TEST-1/a.txt", b"a")
    w.deliver()
    for hour in range(22):
        w.drop(f"TEST-2/{hour}.txt", b"%d" % hour)
        wait(w, 3600)

    assert w.row("TEST-1/a.txt").state == "READY"
    assert w.pauses() == {"issue:refused"}
    assert w.row("TEST-2/21.txt").state == "DONE"
    wait(w, 4 * 3600, step=300)
    assert w.row("TEST-1/a.txt").state == "FAILED"


def test_a_probe_that_breaks_keeps_a_lost_account_paused(w: World) -> None:
    accepted(w, "OPS-1", "QA-1")
    w.jira.missing |= {"OPS-1", "QA-1", "TEST-1"}
    w.drop("TEST-1/a.txt", b"a")
    w.deliver()
    w.jira.missing.clear()
    w.jira.look_faults += [Fault(breaks=httpx.ConnectError)] * 6

    w.clock.advance(120.0)
    w.step()

    assert w.pauses() == {"account:no-witness"}
