"""Rules that are easy to get wrong; each test names the part of docs/design that it comes from."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from attachd.delivery import batch, blame, pause, preflight, upload
from attachd.filing import file_away
from attachd.fs import recognition
from attachd.intake import files as intake_files
from attachd.intake import note_claims
from attachd.journal import counts
from attachd.model import Fault as WorldFault
from attachd.model import Scope, State
from attachd.service.intake_loop import IntakeLoop
from attachd.share import inbox_marker, locks
from memory_jira import Fault, Stored, World, world


def next_tick(w: World) -> None:
    """Wait until the clock of the file system has moved on: a change from now on gives another ctime."""
    probe = w.home / "probe"
    probe.touch()
    before = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == before:
        probe.chmod(0o600)


class Crash(BaseException):
    """The process dies here."""


@pytest.fixture
def w(tmp_path):
    with world(tmp_path) as made:
        yield made


def doubted_and_ready_again(w: World, path: str = "TEST-1/a.txt", content: bytes = b"aaaaa") -> None:
    """One doubtful attempt that stored nothing, all its looks made: READY, and due a second later."""
    w.drop(path, content)
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout))
    w.deliver()
    assert w.row(path).state is State.DOUBTFUL
    for _ in range(20):
        w.clock.advance(31)
        if w.step() and w.row(path).state is State.READY:
            break
    assert w.row(path).state is State.READY
    assert w.row(path).ever_doubtful


# --- The row of a file that was in doubt and changes ------------------------------------------------------------


def test_a_file_that_was_in_doubt_and_is_then_rewritten_does_not_end_the_program(w):
    # docs/design/delivery.md, "Which row is which file": a sent row keeps its verdict and loses the path.
    doubted_and_ready_again(w)
    w.drop("TEST-1/a.txt", b"other content")
    w.clock.advance(2)
    w.step()  # the worker is first to see that it changed
    w.settle(hours=2)
    assert [s.content for s in w.jira.on("TEST-1")] == [b"other content"]


def test_a_file_that_was_in_doubt_and_got_another_mode_is_still_sent(w):
    # docs/design/delivery.md, "Which row is which file": where anything else differs, content decides.
    doubted_and_ready_again(w)
    next_tick(w)
    (w.inbox / "TEST-1/a.txt").chmod(0o640)
    w.clock.advance(2)
    w.step()  # the worker is first to see that it changed
    w.settle(hours=2)
    assert w.states() == ["DONE"], w.unfinished()


# --- Renames ----------------------------------------------------------------------------------------------------


def test_a_file_in_doubt_that_is_renamed_over_a_waiting_one_is_attached_once(w):
    # docs/design/delivery.md, "Which row is which file": renamed within its issue, the row follows.
    w.drop("TEST-1/a.txt", b"in doubt")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.deliver()
    w.drop("TEST-1/b.txt", b"waits")
    w.scan()
    os.rename(w.inbox / "TEST-1/a.txt", w.inbox / "TEST-1/b.txt")
    w.settle(hours=2)
    assert [s.content for s in w.jira.on("TEST-1")] == [b"in doubt"]


def test_rotated_logs_in_doubt_are_attached_once_each(w):
    # docs/design/delivery.md, "Which row is which file": a row follows its inode within one epoch.
    w.drop("TEST-1/log", b"young.", mtime_ns=2 * 10**18)
    w.drop("TEST-1/log.1", b"old...", mtime_ns=10**18)
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.deliver()
    os.rename(w.inbox / "TEST-1/log.1", w.inbox / "TEST-1/log.2")
    os.rename(w.inbox / "TEST-1/log", w.inbox / "TEST-1/log.1")
    w.settle(hours=2)
    assert sorted(s.content for s in w.jira.on("TEST-1")) == [b"old...", b"young."]


def test_a_file_renamed_after_a_crash_between_target_and_move_is_attached_once(w, monkeypatch):
    # docs/design/delivery.md, "Which row is which file": a sent file is known by its SHA-256.
    def die(*_args, **_more):
        raise Crash

    w.drop("TEST-1/a.txt", b"content")
    w.scan()
    with monkeypatch.context() as patched:
        patched.setattr("attachd.fs.move.move", die)
        with pytest.raises(Crash):
            w.work()
    assert w.row("TEST-1/a.txt").target is not None
    w.end()
    os.rename(w.inbox / "TEST-1/a.txt", w.inbox / "TEST-1/b.txt")
    w.restart()
    w.settle(hours=2)
    assert [s.content for s in w.jira.on("TEST-1")] == [b"content"]


# --- Blame ------------------------------------------------------------------------------------------------------


def test_a_404_is_not_believed_before_the_account_was_asked(w):
    # docs/design/delivery.md, "Whose fault is a 403 or 404", 1. A crash (or another worker) in between.
    w.drop("TEST-1/first.txt")
    w.deliver()
    w.jira.token = "expired meanwhile"
    w.drop("TEST-2/a.txt")
    w.scan()

    def die_at_myself() -> None:
        if w.jira.requests[-1][1].endswith("/myself"):
            raise Crash

    w.jira.before = die_at_myself
    with pytest.raises(Crash):
        w.work()
    w.jira.before = lambda: None
    w.restart()
    w.clock.advance(2)
    w.deliver()
    assert w.files(w.failed) == {}


def test_another_worker_does_not_believe_a_404_while_the_account_is_being_asked(w):
    # docs/design/delivery.md, "Whose fault is a 403 or 404", 1: a dead account is at fault.
    w.drop("TEST-1/first.txt")
    w.deliver()
    w.jira.token = "expired meanwhile"
    w.drop("TEST-2/a.txt")
    w.scan()

    def slow_answer() -> None:
        if w.jira.requests[-1][1].endswith("/myself"):
            w.clock.advance(3)
            blame.review(w.runtime, w.rows("WHERE contested IS NOT NULL AND proof <> 'none'"))

    w.jira.before = slow_answer
    w.work()
    assert w.files(w.failed) == {}


def test_a_held_file_that_is_moved_to_the_right_issue_is_attached_there(w):
    # docs/design/delivery.md, "Which row is which file": to another issue an unsent row follows.
    # docs/design/contract.md, promise 5: only a verdict about this issue counts.
    w.jira.missing.add("TEST-99")
    w.drop("TEST-99/a.txt")
    w.deliver()
    assert w.row("TEST-99/a.txt").contested == 404
    (w.inbox / "TEST-1").mkdir()
    os.rename(w.inbox / "TEST-99/a.txt", w.inbox / "TEST-1/a.txt")
    w.settle(hours=1)
    assert w.jira.names("TEST-1") == ["a.txt"]
    assert w.files(w.failed) == {}


def test_a_403_is_believed_once_another_issue_of_the_project_accepts_a_file(w):
    # docs/design/delivery.md, "Whose fault is a 403 or 404", 2: believed once another issue accepts a file.
    w.jira.forbidden.add("TEST-1")
    w.drop("TEST-1/a.txt")
    w.deliver()
    w.drop("TEST-2/b.txt")
    w.settle(hours=4)
    assert w.jira.names("TEST-2") == ["b.txt"]
    assert "TEST-1/a.txt" in w.files(w.failed)


def test_one_forbidden_issue_does_not_hold_up_its_project_again_and_again(w):
    # docs/design/delivery.md, "Whose fault is a 403 or 404", 2: the project pauses only until another of its
    # issues accepts a file.
    w.jira.forbidden.add("TEST-1")
    w.drop("TEST-1/a.txt")
    w.deliver()
    w.drop("TEST-2/b.txt")
    w.settle(hours=2.1)
    assert w.jira.names("TEST-2") == ["b.txt"]
    w.drop("TEST-2/c.txt")
    w.settle(hours=0.2)
    assert w.jira.names("TEST-2") == ["b.txt", "c.txt"]


def test_an_issue_that_accepted_files_and_now_answers_404_is_paused_alone(w):
    # docs/design/delivery.md, "Whose fault is a 403 or 404", 3: an issue that accepted files pauses alone.
    for issue in ("TEST-1", "TEST-2", "OPS-1"):
        w.drop(f"{issue}/first.txt")
    w.deliver()
    w.jira.missing.add("TEST-1")
    w.drop("TEST-1/second.txt")
    w.deliver()
    w.clock.advance(60)
    w.deliver()
    assert w.files(w.failed) == {}


# --- One file must not stop all ---------------------------------------------------------------------------------


def test_a_file_that_a_proxy_declines_for_ever_is_refused_in_the_end(w):
    # docs/design/delivery.md, "What an answer means": after three faults refused, naming the proxy.
    usual = w.jira._refusal

    def proxy(issue, known, files):
        return w.jira._reply(403, b"<html>blocked</html>") if issue == "TEST-1" else usual(issue, known, files)

    w.jira._refusal = proxy
    w.drop("TEST-1/a.txt")
    for number in range(24):
        w.drop(f"TEST-2/{number}.txt")
        w.settle(hours=0.5)
    assert len(w.jira.names("TEST-2")) == 24
    assert "TEST-1/a.txt" in w.files(w.failed)


def test_a_file_that_cannot_be_read_back_does_not_keep_the_others_from_being_filed(w, monkeypatch):
    # docs/design/delivery.md, "Filing": what fails for one file alone makes that file wait alone.
    def not_movable(*_args, **_more):
        raise Crash

    bad = w.drop("TEST-1/a.txt", b"on a bad sector")
    w.drop("TEST-1/b.txt", b"good")
    w.scan()
    with monkeypatch.context() as patched:
        patched.setattr(file_away, "carry", not_movable)
        with pytest.raises(Crash):
            w.work()
    w.restart()  # inodes count no more: both are read to be known again
    inode = bad.stat().st_ino
    usual = recognition.digest_from

    def failing(file: int) -> bytes:
        if os.fstat(file).st_ino == inode:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return usual(file)

    monkeypatch.setattr(recognition, "digest_from", failing)
    w.work()
    for _ in range(10):
        w.clock.advance(31)
        w.work()
    assert w.row("TEST-1/b.txt").state is State.DONE


def test_words_of_jira_that_are_no_unicode_do_not_end_the_program(w):
    # docs/design/delivery.md, "What an answer means": one file must not stop all. Jira cuts texts in the
    # middle of an emoji's two halves.
    w.jira.faults.append(Fault(status=400, body={"errorMessages": ["bad name: party\ud83d"], "errors": {}}))
    w.drop("TEST-1/a.txt")
    w.deliver()
    assert w.states() == ["FAILED"]


# --- Pauses -----------------------------------------------------------------------------------------------------


def test_an_upload_that_was_under_way_does_not_end_a_pause_that_jira_asked_for(w):
    # docs/design/delivery.md, "Pauses and waits": Retry-After is a minimum.
    def throttled_meanwhile() -> None:
        if w.jira.requests[-1][0] == "POST":
            pause.pause(w.runtime, WorldFault(Scope.SITE, "rate-limit", "Jira's rate limit", wait=3600.0))

    w.drop("TEST-1/a.txt")
    w.scan()
    w.jira.before = throttled_meanwhile
    w.work()
    w.jira.before = lambda: None
    assert "site:rate-limit" in w.pauses()


def test_a_password_that_is_refused_is_not_tried_every_few_seconds(tmp_path):
    # docs/design/delivery.md, "Pauses and waits": a refused password is tried after ten minutes, then
    # hourly, or when the secret changes.
    with world(tmp_path, deployment="Server") as w:
        w.drop("TEST-1/first.txt")
        w.deliver()
        w.jira.token = "changed meanwhile"
        w.jira._refusal = lambda *_: w.jira._reply(401, {"message": "no"})
        w.drop("TEST-1/a.txt")
        w.deliver()
        w.jira.requests.clear()
        w.settle(hours=1)
        assert len([path for _, path in w.jira.requests if path.endswith("/myself")]) <= 2


def test_a_captcha_is_probed_hourly_after_the_first_ten_minutes(tmp_path):
    # docs/design/delivery.md, "Pauses and waits": a CAPTCHA is tried after ten minutes, then hourly, or
    # on `attachd resume`.
    with world(tmp_path, deployment="Server") as w:
        w.drop("TEST-1/first.txt")
        w.deliver()
        usual, denied = w.jira._answer, {"x-authentication-denied-reason": "CAPTCHA_CHALLENGE; login-url=x"}

        def answer(request, path):
            if path.endswith("/serverInfo"):
                return usual(request, path)
            return w.jira._reply(403, {"message": "no"}, denied)

        w.jira._answer = answer
        w.drop("TEST-1/a.txt")
        w.deliver()
        w.jira.requests.clear()
        w.settle(hours=4)
        assert len([path for _, path in w.jira.requests if path.endswith("/myself")]) <= 5


def test_a_site_that_is_throttled_at_the_start_is_not_asked_again_at_once(w):
    # docs/design/delivery.md, "Pauses and waits": Retry-After is a minimum; a step that changes nothing
    # must not be taken for progress.
    w.drop("TEST-1/a.txt")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.deliver()
    w.restart()
    w.clock.advance(10)
    usual = w.jira._answer

    def answer(request, path):
        if path.endswith("/serverInfo"):
            return w.jira._reply(429, {}, {"retry-after": "60", "ratelimit-reason": "jira-burst-based"})
        return usual(request, path)

    w.jira._answer = answer
    w.jira.requests.clear()
    for _ in range(10):
        w.step()
    assert len(w.jira.requests) <= 2


def test_hours_in_a_pause_do_not_count_towards_giving_up_a_file_in_doubt(w):
    # docs/design/delivery.md, "In doubt": gives up after doubt.give_up_hours with a working account.
    w.drop("TEST-1/a.txt")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout))
    w.deliver()
    good, w.jira.token = w.jira.token, "expired over the weekend"
    w.settle(hours=50)
    assert w.states() == ["DOUBTFUL"]
    w.jira.token = good
    w.jira.look_faults.append(Fault(status=500, body=b""))
    w.settle(hours=2)
    assert w.states() == ["DONE"]


# --- In doubt ---------------------------------------------------------------------------------------------------


def test_rounds_in_a_shared_request_do_not_count_as_rounds_alone(w):
    # docs/design/delivery.md, "In doubt": three rounds of one file alone end in REFUSED.
    w.drop("TEST-1/a.txt", b"one")
    w.drop("TEST-1/b.txt", b"other")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout))
    w.deliver()
    assert [row.rounds for row in w.rows()] == [0, 0]


# --- Another site, another inbox, a lost journal ----------------------------------------------------------------


def test_another_site_may_count_its_attachments_from_the_start_again(w):
    # README, "A changed `jira.url`"; docs/design/contract.md, promise 2: nothing twice.
    w.drop("TEST-1/a.txt", b"at the old site")
    w.deliver()
    assert w.states() == ["DONE"]
    w.tables = {"jira": {"url": "https://new.example.com"}}
    w.jira._ids = iter(range(10_001, 20_000))
    w.jira.stored.clear()
    w.restart()
    w.drop("TEST-1/b.txt", b"at the new site")
    w.settle(hours=3)
    assert [s.content for s in w.jira.on("TEST-1")] == [b"at the new site"]
    assert w.files(w.failed) == {}


def test_an_adopted_inbox_is_locked(w):
    # docs/design/decisions/terms.md: the lock decides which service works, and is taken when the inbox is there.
    w.end()
    shutil.rmtree(w.inbox / inbox_marker.FOLDER)
    w.restart(adopt_inbox=True)
    w.scan()
    assert w.runtime.guard.sight.there
    assert w.held.tenure.held
    assert locks.holder(w.inbox / inbox_marker.FOLDER / inbox_marker.LOCK) is not None


def lose_the_journal_of_what_was_sent(w, monkeypatch):
    """Attach TEST-1/a.txt, die before it is moved, and lose the journal. Returns its path."""

    def die(*_args, **_more):
        raise Crash

    w.clock.time = time.time()
    path = w.drop("TEST-1/a.txt", b"attached before")
    w.scan()
    with monkeypatch.context() as patched:
        patched.setattr(file_away, "carry", die)
        with pytest.raises(Crash):
            w.work()
    assert len(w.jira.stored) == 1
    w.end()
    shutil.rmtree(w.home / "state")
    w.clock.time = time.time()
    return path


def test_after_a_lost_journal_a_changed_mode_does_not_make_a_file_new(w, monkeypatch):
    # docs/design/delivery.md, "Lost journals and takeovers": every file is looked for before it is sent.
    lose_the_journal_of_what_was_sent(w, monkeypatch)
    w.restart()
    next_tick(w)
    (w.inbox / "TEST-1/a.txt").chmod(0o664)  # somebody puts the rights right again
    w.settle(hours=2)
    assert len(w.jira.on("TEST-1")) == 1


def _touched(path: Path) -> None:
    os.utime(path, (1.0, 1.0))


def _copied_over(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("deed", [_touched, _copied_over, Path.unlink])
def test_after_a_lost_journal_what_people_do_meanwhile_makes_no_file_new(w, monkeypatch, deed):
    """The scan that met it after the loss is over before the file has settled: what comes of it is as doubtful."""

    path = lose_the_journal_of_what_was_sent(w, monkeypatch)
    w.restart()
    with path.open("r+b"):  # it has not settled
        w.scan()
    assert w.states() == ["SEEN"]
    deed(path)
    w.scan()
    if not path.exists():
        path.write_bytes(b"attached before")
    w.settle(hours=2)

    assert len(w.jira.on("TEST-1")) == 1
    assert w.states() == ["DONE"]


def _ignored(inbox: Path) -> Callable[[], None]:
    (inbox / "TEST-1/.attachdignore").write_bytes(b"*.txt")
    return (inbox / "TEST-1/.attachdignore").unlink


def _broken_rules(inbox: Path) -> Callable[[], None]:
    (inbox / "TEST-1/.attachdignore").write_bytes(b"a[")
    return (inbox / "TEST-1/.attachdignore").unlink


def _no_key(inbox: Path) -> Callable[[], None]:
    (inbox / "TEST-1").rename(inbox / "no key")
    return lambda: (inbox / "no key").rename(inbox / "TEST-1")


def _loose(inbox: Path) -> Callable[[], None]:
    (inbox / "TEST-1/a.txt").rename(inbox / "a.txt")
    return lambda: (inbox / "a.txt").rename(inbox / "TEST-1/a.txt")


def _too_deep(inbox: Path) -> Callable[[], None]:
    deep = inbox.joinpath("TEST-1", *"abcdefghijklmnopqrstuvwxyzabcdefghijk")
    deep.mkdir(parents=True)
    (inbox / "TEST-1/a.txt").rename(deep / "a.txt")
    return lambda: (deep / "a.txt").rename(inbox / "TEST-1/a.txt")


@pytest.mark.parametrize("passed_over", [_ignored, _broken_rules, _no_key, _loose, _too_deep])
def test_what_the_scan_after_a_lost_journal_passes_over_is_looked_for_when_it_is_back(w, monkeypatch, passed_over):
    lose_the_journal_of_what_was_sent(w, monkeypatch)
    bring_back = passed_over(w.inbox)
    w.restart()
    w.deliver()
    bring_back()
    w.settle(hours=2)

    assert len(w.jira.on("TEST-1")) == 1
    assert w.states() == ["DONE"]


def test_a_death_before_the_loss_is_over_forgets_nothing_that_was_passed_over(w, monkeypatch):
    def die(*args):
        remember(*args)
        raise Crash

    remember = note_claims.remember_passed_over
    lose_the_journal_of_what_was_sent(w, monkeypatch)
    bring_back = _no_key(w.inbox)
    w.restart()
    with monkeypatch.context() as patched:
        patched.setattr(note_claims, "remember_passed_over", die)
        with pytest.raises(Crash):
            w.scan()
    w.restart()
    bring_back()
    w.settle(hours=2)

    assert len(w.jira.on("TEST-1")) == 1
    assert w.states() == ["DONE"]


def test_done_that_is_not_mounted_is_waited_for(w, monkeypatch):
    # docs/design/contract.md, "On disk": an inbox that is not there is waited for, also at the start.
    def die(*_args, **_more):
        raise Crash

    w.drop("TEST-1/a.txt")
    w.scan()
    with monkeypatch.context() as patched:
        patched.setattr("attachd.fs.move.move", die)
        with pytest.raises(Crash):
            w.work()
    w.end()
    os.rename(w.done, w.home / "away")
    w.restart()
    w.scan()
    w.work()
    os.rename(w.home / "away", w.done)
    w.settle(hours=1)
    assert w.states() == ["DONE"]


def test_failed_that_became_read_only_does_not_end_the_program(w, monkeypatch):
    # docs/design/delivery.md, "Pauses and waits": a full disk of done or failed pauses the site, and
    # there is no crash.
    w.jira.faults.append(Fault(status=400, body={"errorMessages": ["no"], "errors": {}}))
    w.drop("TEST-1/a.txt")
    w.deliver()
    os.rename(w.failed / "TEST-1/a.txt", w.home / "taken away")

    def read_only(*_args):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(file_away.notes, "remove", read_only)
    w.scan()


def test_a_remount_seen_by_an_event_closes_moved_rows_and_watches_anew(w, monkeypatch):
    # docs/design/delivery.md, "Which row is which file": after a restart rows at their target are closed first.
    intake = IntakeLoop(w.runtime)
    closed, watched = [], []
    monkeypatch.setattr(file_away, "close_moved", lambda _runtime: closed.append(1))
    monkeypatch.setattr(intake.watch, "start", lambda: watched.append(1))
    w.drop("TEST-1/a.txt")
    intake._scan_all()
    assert (len(closed), len(watched)) == (1, 1)
    intake._scanner._mount = (1, 2, 3)  # another mount lies there now
    intake.changes.add({b"TEST-1"})
    intake.step()
    assert (len(closed), len(watched)) == (1, 1), "nothing is looked at before it is prepared for"
    intake._scan_all()
    assert (len(closed), len(watched)) == (2, 2)


# --- Configuration that changes, folders that go ----------------------------------------------------------------


def test_a_folder_without_issue_that_is_gone_after_a_restart_is_forgotten(w):
    # docs/design/contract.md, promise 6: for every file that waits one sentence; none for what is not there.
    w.drop("no key/a.txt")
    w.scan()
    assert [each.folder for each in counts.unrouted(w.runtime.journal)] == [b"no key"]
    w.end()
    shutil.rmtree(w.inbox / "no key")
    w.restart()
    w.scan()
    assert counts.unrouted(w.runtime.journal) == []


def test_a_waiting_file_that_is_now_to_be_ignored_is_waited_for_no_longer(w):
    # docs/design/contract.md, promise 6: also of a file that is ignored by now a sentence says why.
    w.jira.faults.append(Fault(breaks=httpx.ConnectError, early=True))
    w.jira.faults.append(Fault(breaks=httpx.ConnectError, early=True))
    w.drop("TEST-1/a.bak")
    w.deliver()
    w.tables = {"settle": {"ignore": ["*.bak"]}}
    w.restart()
    w.jira.faults.clear()
    w.settle(hours=2)
    assert w.unfinished() == []


def test_a_corrected_alias_holds_for_files_that_wait(tmp_path):
    # docs/design/delivery.md, "Which row is which file": to another issue an unsent row follows.
    with world(tmp_path, aliases={"Invoices": "TEST-99"}) as w:
        w.jira.faults += [Fault(breaks=httpx.ConnectError, early=True)] * 2
        w.drop("Invoices/a.txt")
        w.deliver()
        assert w.states() == ["READY"]
        w.tables = {"aliases": {"Invoices": "TEST-1"}}
        w.restart()
        w.settle(hours=1)
        assert {stored.issue for stored in w.jira.stored} == {"TEST-1"}


def test_a_row_that_intake_forgot_while_a_worker_held_it_does_not_end_the_program(tmp_path):
    # docs/design/delivery.md, "Which row is which file": an unsent row changes or is withdrawn at any time, also
    # between the claim and the intent.
    with world(tmp_path, settle={"quiet_seconds": 5.0}) as w:
        w.drop("TEST-1/a.txt")
        w.scan()
        w.clock.advance(6)
        w.scan()
        claimed = batch.claim(w.runtime, pause.current(w.runtime))
        assert claimed
        w.drop("TEST-1/a.txt", b"rewritten")
        w.scan()
        (w.inbox / "TEST-1/a.txt").unlink()
        w.scan()
        assert w.rows() == []
        assert upload.send(w.runtime, w.client, claimed[1]) == []


def test_files_in_a_folder_that_is_no_longer_served_are_withdrawn_when_they_are_gone(w):
    # docs/design/delivery.md, "Which row is which file": two complete listings miss it, so it is WITHDRAWN.
    w.jira.faults += [Fault(breaks=httpx.ConnectError, early=True)] * 2
    w.drop("TEST-1/a.txt")
    w.deliver()
    w.tables = {"folders": {"projects": ["OPS"]}}
    w.restart()
    w.scan()
    (w.inbox / "TEST-1/a.txt").unlink()
    w.settle(hours=1)
    assert w.unfinished() == []


def test_what_cannot_be_compared_is_not_taken_for_the_same(w, monkeypatch):
    # docs/design/delivery.md, "Whose attachment is it": under another name it is a candidate, settled by SHA-256;
    # what is in done was attached.
    doubted_and_ready_again(w)
    with monkeypatch.context() as patched:
        patched.setattr(
            preflight, "open_same", lambda *_a, **_more: preflight.Unreadable("held by another program for a moment")
        )
        w.clock.advance(2)
        w.step()
    usual = w.jira._answer

    def answer(request, path):
        return w.jira._reply(500, b"") if "/attachment/content/" in path else usual(request, path)

    w.jira._answer = answer
    w.jira.stored.append(Stored("99999", "TEST-1", "of somebody else.bin", b"zzzzz", w.clock.time))
    w.settle(hours=1)
    assert w.files(w.done) == {}


def test_a_refused_file_whose_path_was_rewritten_across_a_restart_does_not_wait_for_ever(w, monkeypatch):
    # docs/design/delivery.md, "Which row is which file": a sent row keeps its verdict and loses the path.
    def die(*_args, **_more):
        raise Crash

    w.jira.limit = 4
    w.drop("TEST-1/a.txt", b"large")
    w.scan()
    with monkeypatch.context() as patched:
        patched.setattr(file_away, "carry", die)
        with pytest.raises(Crash):
            w.work()
    assert w.states() == ["REFUSED"]
    w.end()
    w.drop("TEST-1/a.txt", b"other")
    w.restart()
    w.settle(hours=1)
    assert w.unfinished() == []


def test_on_data_center_the_attachment_of_another_file_in_doubt_fails_nothing(tmp_path):
    # docs/design/contract.md, promise 5: blame is placed right; docs/design/delivery.md, "Whose
    # attachment is it": name, size, account and time have to fit.
    with world(tmp_path, deployment="Server") as w:
        doubted_and_ready_again(w, "TEST-1/a.txt", b"aaaaa")
        w.drop("TEST-1/b.txt", b"bbbbb")
        w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
        w.scan()
        w.work()
        w.clock.advance(2)
        w.settle(hours=1)
        assert w.files(w.failed) == {}


def test_a_full_state_folder_is_waited_for(w):
    # docs/design/delivery.md, "Pauses and waits"; docs/design/contract.md, promise 5: for full disks everything waits.
    w.drop("TEST-1/a.txt")
    w.scan()

    def full(*_args, **_more):
        raise sqlite3.OperationalError("database or disk is full")

    w.runtime.journal.transaction, usual = full, w.runtime.journal.transaction
    w.step()
    w.runtime.journal.transaction = usual
    w.settle(hours=1)
    assert w.states() == ["DONE"]


# --- Numbers that are larger than the journal's -----------------------------------------------------------------


def test_a_file_from_the_far_future_does_not_end_the_program(w):
    # docs/design/delivery.md, "What an answer means": one file must not stop all. From 2262 on a time in
    # nanoseconds takes more than 63 bits.
    w.drop("TEST-1/a.txt", mtime_ns=10_413_792_000 * 10**9)  # touch -d 2300-01-01
    w.deliver()
    assert w.jira.names("TEST-1") == ["a.txt"]


def test_an_inode_number_of_64_bits_does_not_end_the_program(w, monkeypatch):
    # docs/design/delivery.md, "Which row is which file": device and inode count only within one epoch;
    # mergerfs, CIFS and others number with all 64 bits.
    usual = intake_files.fingerprint

    def numbered(status):
        times = {"st_mtime_ns": status.st_mtime_ns, "st_ctime_ns": status.st_ctime_ns}
        return usual(SimpleNamespace(st_size=status.st_size, st_dev=status.st_dev, st_ino=2**64 - 7, **times))

    monkeypatch.setattr(intake_files, "fingerprint", numbered)
    w.drop("TEST-1/a.txt")
    w.scan()
    assert w.states() == ["SEEN"]


# --- What a row is known by -------------------------------------------------------------------------------------


def test_new_content_under_a_reused_inode_is_not_taken_for_a_renamed_file(w):
    # docs/design/delivery.md, "Which row is which file": size and time alone never suffice for a sent row (CI
    # files carry fixed times), and inodes are reused at once: to stat(2) a new file on a freed one looks like this.
    fixed = 1_700_000_000_000_000_000
    path = w.drop("TEST-1/a.txt", b"first", mtime_ns=fixed)
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.deliver()
    path.write_bytes(b"other")
    os.utime(path, ns=(fixed, fixed))
    os.rename(path, w.inbox / "TEST-1/b.txt")
    w.settle(hours=2)
    held = {stored.content for stored in w.jira.on("TEST-1")}
    assert set(w.files(w.done).values()) <= held


def test_what_a_listing_had_shown_under_the_new_key_of_a_moved_issue_is_not_credited(w):
    # docs/design/delivery.md, "Whose attachment is it": no listing had shown it before the first doubtful attempt.
    w.jira.moved["OLD-1"] = "NEW-1"
    w.drop("NEW-1/first.txt", b"first one")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.deliver()
    w.jira.stored.append(Stored("99999", "NEW-1", "log.txt", b"by hand", w.clock.time))
    w.clock.advance(6)
    w.work()  # this look shows the attachment that somebody made by hand
    assert w.row("NEW-1/first.txt").state is State.DONE
    w.drop("OLD-1/log.txt", b"dropped")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout))
    w.settle(hours=1)
    assert b"dropped" in [stored.content for stored in w.jira.on("NEW-1")]


# --- What is asked often ----------------------------------------------------------------------------------------


def test_noticing_new_files_never_reads_the_whole_journal(w):
    # architecture.md: "a million waiting files cost disk, not RAM"; and not a full scan of the table for each new size.
    folder_key: list[str] = []
    w.runtime.journal._connection.set_trace_callback(folder_key.append)
    w.drop("TEST-1/a.txt")
    w.deliver()
    w.runtime.journal._connection.set_trace_callback(None)
    plans = {
        record["detail"]: sql
        for sql in folder_key
        if sql.startswith("SELECT")
        for record in w.runtime.journal.rows("EXPLAIN QUERY PLAN " + sql)
    }
    assert "SCAN file" not in plans


def test_a_file_in_doubt_that_is_renamed_while_somebody_has_it_open_is_attached_once(w):
    # docs/design/delivery.md, "Which row is which file": within the issue the row follows; what cannot be
    # compared yet is not a new file.
    path = w.drop("TEST-1/a.txt", b"in doubt")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.deliver()
    with path.open("ab"):
        path.rename(w.inbox / "TEST-1/b.txt")
        w.scan()
        assert [row.state for row in w.rows()] == [State.DOUBTFUL, State.SEEN]
    w.settle(hours=2)
    assert [s.content for s in w.jira.on("TEST-1")] == [b"in doubt"]
    assert w.files(w.done) == {"TEST-1/b.txt": b"in doubt"}


def test_what_arrives_late_of_a_file_that_may_be_attached_is_not_taken_for_another_of_its_name(tmp_path: Path) -> None:
    """Data Center hands no contents out: only a person can tell the two."""
    with world(tmp_path, deployment="Server") as w:
        w.drop("TEST-1/log.txt", b"first")
        w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit=40.0))
        w.deliver()
        w.jira.stored.append(Stored("9", "TEST-1", "renamed by Jira.bin", b"other", w.clock.time))
        w.clock.advance(6.0)
        w.deliver()
        assert (w.states(), w.rows()[0].may_be_attached) == (["FAILED"], 1)
        w.clock.advance(60.0)
        w.drop("TEST-1/log.txt", b"again")
        w.jira.faults.append(Fault(breaks=httpx.ReadTimeout))

        w.settle()

        assert sorted(s.content for s in w.jira.on("TEST-1")) == [b"first", b"other"]
        assert w.files(w.done) == {}
        assert w.rows()[1].may_be_attached == 1


def test_a_file_in_doubt_that_is_renamed_into_a_folder_while_its_name_is_given_to_another_is_not_sent_again(
    w: World,
) -> None:
    """Its old name is come to first in the listing: the row has lost its path when the file is found under the new one."""
    path = w.drop("TEST-1/log.txt", b"old..", 1_700_000_000_000_000_000)
    w.jira.faults.append(Fault(commit="all", breaks=httpx.ReadError))
    w.deliver()
    assert w.states() == ["DOUBTFUL"]
    (w.inbox / "TEST-1" / "a").mkdir()
    path.rename(w.inbox / "TEST-1" / "a" / "log.txt")
    w.drop("TEST-1/log.txt", b"new..", 1_700_000_001_000_000_000)

    w.settle()

    assert sorted(s.content for s in w.jira.on("TEST-1")) == [b"new..", b"old.."]
    assert w.files(w.done) == {"TEST-1/a/log.txt": b"old..", "TEST-1/log.txt": b"new.."}


def test_a_file_in_doubt_that_is_renamed_keeps_its_row_when_its_old_name_is_listed_after_the_new_one(w: World) -> None:
    """As a log is rotated: the row has gone with its file already when its old name is come to, and is not lost by it."""
    path = w.drop("TEST-1/a/log.txt", b"old..", 1_700_000_000_000_000_000)
    w.jira.faults.append(Fault(commit="all", breaks=httpx.ReadError))
    w.deliver()
    assert w.states() == ["DOUBTFUL"]
    path.rename(w.inbox / "TEST-1" / "log.txt")
    w.drop("TEST-1/a/log.txt", b"new..", 1_700_000_001_000_000_000)

    w.scan()

    assert [(row.path, row.at_path) for row in w.rows()] == [(b"TEST-1/log.txt", True), (b"TEST-1/a/log.txt", True)]
    w.settle()
    assert sorted(s.content for s in w.jira.on("TEST-1")) == [b"new..", b"old.."]
    assert w.files(w.done) == {"TEST-1/log.txt": b"old..", "TEST-1/a/log.txt": b"new.."}


def test_a_waiting_file_that_is_renamed_keeps_its_row_when_its_old_name_is_listed_after_the_new_one(w: World) -> None:
    path = w.drop("TEST-1/a/log.txt", b"old..", 1_700_000_000_000_000_000)
    w.scan()
    path.rename(w.inbox / "TEST-1" / "log.txt")
    w.drop("TEST-1/a/log.txt", b"newer", 1_700_000_001_000_000_000)

    w.scan()

    assert [(row.path, row.state) for row in w.rows()] == [(b"TEST-1/log.txt", "READY"), (b"TEST-1/a/log.txt", "READY")]
    assert w.rows()[0].ino == (w.inbox / "TEST-1" / "log.txt").stat().st_ino


@pytest.mark.parametrize("deployment", ["Cloud", "Server"])
def test_a_file_in_doubt_at_two_issues_is_still_the_second_one_s_when_it_is_renamed_there(tmp_path, deployment):
    """Two rows had this inode and this content: the one of the issue whose folder it lies in goes with it."""
    lost = {"commit": "all", "breaks": httpx.ReadTimeout, "rename": "another name.bin"}
    with world(tmp_path, deployment=deployment) as w:
        w.jira.faults.append(Fault(**lost))
        w.drop("OPS-7/b.txt", b"content")
        w.scan()
        w.step()
        (w.inbox / "TEST-1").mkdir()
        os.rename(w.inbox / "OPS-7/b.txt", w.inbox / "TEST-1/a.txt")
        w.jira.faults.append(Fault(**lost))
        w.scan()
        w.step()
        assert w.states() == ["DOUBTFUL", "DOUBTFUL"]
        os.rename(w.inbox / "TEST-1/a.txt", w.inbox / "TEST-1/c.txt")
        w.settle(hours=3)

        assert len(w.jira.on("TEST-1")) == 1
        assert len(w.jira.on("OPS-7")) == 1
