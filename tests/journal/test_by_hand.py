"""Pausing and resuming by hand: what it holds, what it ends, and what it must not."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from attachd.cli import common
from attachd.delivery import pause as delivery_pause
from attachd.errors import Mistake
from attachd.journal import by_hand as journal_by_hand
from attachd.journal import counts, database, lookup, moved_issues, pauses
from attachd.journal.by_hand import Resumed
from attachd.journal.pauses import Pause
from attachd.model import Cure, Fault, Scope, Word
from attachd.report import pauses as words
from attachd.service.engine import Engine
from memory_jira import Fault as Meets
from memory_jira import World, world


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def pause(w: World, issue: str = "", seconds: float | None = None) -> None:
    with w.runtime.journal.transaction() as connection:
        journal_by_hand.pause(connection, moved_issues.issue_of(connection, issue), w.clock.now(), seconds)


def resume(w: World, issue: str = "") -> Resumed:
    with w.runtime.journal.transaction() as connection:
        return journal_by_hand.resume(connection, moved_issues.issue_of(connection, issue), w.clock.now())


def past(w: World) -> list[tuple[str, str, float, float]]:
    return [tuple(record) for record in w.runtime.journal.rows("SELECT * FROM paused")]


# --- Pausing ----------------------------------------------------------------------------------------------------


def test_nothing_is_sent_until_resume(w: World) -> None:
    pause(w)
    w.drop("TEST-1/a.txt")
    w.settle(hours=1)
    assert w.jira.uploads == []

    done = resume(w)
    w.settle()

    assert [(p.scope, p.subject) for p in done.ended] == [(Scope.OPERATOR, "")]
    assert w.jira.uploads == [["a.txt"]]


def test_an_issue_is_paused_alone(w: World) -> None:
    pause(w, "TEST-1")
    w.drop("TEST-1/a.txt")
    w.drop("TEST-2/b.txt")
    w.deliver()

    assert w.jira.uploads == [["b.txt"]], "an accepted file ends no pause by hand"
    assert [p.subject for p in counts.active_pauses(w.runtime.journal, w.clock.now())] == ["TEST-1"]
    resume(w, "TEST-1")
    w.settle()
    assert w.jira.uploads == [["b.txt"], ["a.txt"]]


def test_an_issue_is_known_as_soon_as_a_file_for_it_was_seen(w: World) -> None:
    def known(issue: str) -> bool:
        with w.runtime.journal.transaction_for_reading() as connection:
            return journal_by_hand.knows(connection, issue)

    assert not known("TEST-1")
    w.drop("TEST-1/a.txt")
    w.scanner.scan()
    assert known("TEST-1")
    w.deliver()
    assert known("TEST-1")
    assert not known("TEST-2")


def test_a_pause_with_a_length_ends_by_itself(w: World) -> None:
    pause(w, seconds=7200.0)
    w.drop("TEST-1/a.txt")
    w.deliver()
    w.clock.advance(7199.0)
    w.deliver()
    assert w.jira.uploads == []

    w.clock.advance(2.0)
    w.deliver()

    assert w.jira.uploads == [["a.txt"]]


def test_what_is_in_doubt_is_looked_for_during_a_pause(w: World) -> None:
    w.drop("TEST-1/a.txt")
    w.jira.faults.append(Meets(commit="all", breaks=httpx.ReadTimeout))
    w.deliver()
    pause(w)

    w.settle(hours=1)

    assert w.states() == ["DONE"]
    assert w.jira.uploads == [["a.txt"]]


def test_a_later_pause_replaces_an_earlier_one_by_hand(w: World) -> None:
    pause(w)
    w.clock.advance(60.0)
    pause(w, seconds=10.0)

    (now,) = counts.active_pauses(w.runtime.journal, w.clock.now())
    assert (now.cure, now.since) == (Cure.TIME, w.clock.now() - 60.0)


def test_a_fault_does_not_overwrite_a_pause_by_hand(w: World) -> None:
    pause(w)
    pause(w, "TEST-1")
    for scope, subject in ((Scope.SITE, ""), (Scope.ISSUE, "TEST-1")):
        delivery_pause.pause(w.runtime, Fault(scope, "server-error", "trouble", subject, wait=1.0))
    w.clock.advance(60.0)
    w.drop("TEST-1/a.txt")
    w.deliver()

    assert w.jira.uploads == []
    by_hand = [p for p in counts.active_pauses(w.runtime.journal, w.clock.now()) if p.scope is Scope.OPERATOR]
    assert [(p.subject, p.cure) for p in by_hand] == [("", Cure.HAND), ("TEST-1", Cure.HAND)]


def test_a_pause_by_hand_outlives_a_restart(w: World) -> None:
    pause(w, "TEST-1")
    w.drop("TEST-1/a.txt")

    w.restart()
    w.settle(hours=1)

    assert w.jira.uploads == []


def test_an_issue_that_was_moved_is_paused_under_the_key_that_it_has_now(w: World) -> None:
    with w.runtime.journal.transaction() as connection:
        moved_issues.merge_issue(connection, "TEST-1", "NEW-5")
    w.jira.moved["TEST-1"] = "NEW-5"
    pause(w, "TEST-1")
    w.drop("TEST-1/a.txt")
    w.deliver()
    assert w.jira.uploads == []

    resume(w, "TEST-1")
    w.deliver()

    assert w.jira.uploads == [["a.txt"]]


def test_an_issue_that_turns_out_to_be_moved_stays_paused(w: World) -> None:
    pause(w, "TEST-1")
    with w.runtime.journal.transaction() as connection:
        moved_issues.merge_issue(connection, "TEST-1", "NEW-5")
    w.drop("NEW-5/a.txt")
    w.deliver()

    assert w.jira.uploads == []


# --- Resuming ---------------------------------------------------------------------------------------------------


def test_with_nothing_paused_nothing_is_resumed(w: World) -> None:
    assert resume(w) == Resumed((), (), (), 0, 0)


@pytest.mark.parametrize("kind", ["unreachable", "captcha", "password"])
def test_what_only_a_try_can_end_is_tried_at_once(w: World, kind: str) -> None:
    delivery_pause.pause(w.runtime, Fault(Scope.ACCOUNT, kind, "trouble", cure=Cure.PROBE))
    w.drop("TEST-1/a.txt")
    w.deliver()
    assert w.jira.uploads == []

    done = resume(w)
    w.settle(hours=0.01)

    assert [p.kind for p in done.tried] == [kind]
    assert w.jira.uploads == [["a.txt"]]


@pytest.mark.parametrize(
    ("scope", "subject"), [(Scope.ISSUE, "TEST-1"), (Scope.PROJECT, "TEST"), (Scope.SITE, ""), (Scope.ENDPOINT, "")]
)
def test_a_pause_that_would_end_with_time_ends(w: World, scope: Scope, subject: str) -> None:
    delivery_pause.pause(w.runtime, Fault(scope, "forbidden", "trouble", subject, wait=3600.0))
    w.drop("TEST-1/a.txt")
    w.deliver()
    assert w.jira.uploads == []

    resume(w)
    w.deliver()

    assert w.jira.uploads == [["a.txt"]]


def test_what_jira_asked_for_is_waited(w: World) -> None:
    delivery_pause.pause(w.runtime, Fault(Scope.ENDPOINT, "rate-limit", "Jira's limit", wait=600.0))
    w.drop("TEST-1/a.txt")

    done = resume(w)
    w.deliver()

    assert [p.kind for p in done.kept] == ["rate-limit"]
    assert w.jira.uploads == []


def test_what_is_over_is_not_told_as_resumed(w: World) -> None:
    delivery_pause.pause(w.runtime, Fault(Scope.SITE, "server-error", "trouble", wait=1.0))
    pause(w, seconds=5.0)
    w.clock.advance(60.0)

    assert resume(w) == Resumed((), (), (), 0, 0)


def test_of_one_issue_only_what_concerns_it_is_resumed(w: World) -> None:
    pause(w)
    pause(w, "TEST-1")
    pause(w, "TEST-2")
    delivery_pause.pause(w.runtime, Fault(Scope.ISSUE, "refused", "trouble", "TEST-1", wait=3600.0))

    done = resume(w, "TEST-1")

    assert {(p.scope, p.subject) for p in done.ended} == {(Scope.ISSUE, "TEST-1"), (Scope.OPERATOR, "TEST-1")}
    left = counts.active_pauses(w.runtime.journal, w.clock.now())
    assert {(p.scope, p.subject) for p in left} == {(Scope.OPERATOR, ""), (Scope.OPERATOR, "TEST-2")}


def test_the_time_of_a_pause_is_kept(w: World) -> None:
    began = w.clock.now()
    pause(w)
    w.clock.advance(100.0)
    resume(w)
    pause(w, "TEST-1", seconds=70.0)
    w.clock.advance(100.0)
    pause(w, "TEST-1")

    assert past(w) == [
        ("operator", "", began, began + 100.0),
        ("operator", "TEST-1", began + 100.0, began + 170.0),
    ]


# --- Held refusals ----------------------------------------------------------------------------------------------


def proofs(w: World) -> dict[str, str]:
    return {row.path.decode(): row.proof for row in w.rows("WHERE contested IS NOT NULL")}


def test_held_refusals_of_unknown_issues_are_believed(w: World) -> None:
    w.jira.missing |= {"TEST-1", "TEST-2", "TEST-3"}
    for number in (1, 2, 3):
        w.drop(f"TEST-{number}/a.txt")
    w.deliver()
    assert set(proofs(w).values()) == {"account"}

    one = resume(w, "TEST-1")
    assert (one.believed, one.again) == (1, 0)
    assert proofs(w) == {"TEST-1/a.txt": "operator", "TEST-2/a.txt": "account", "TEST-3/a.txt": "account"}

    assert resume(w).believed == 3


def test_a_403_is_tried_again_because_somebody_may_have_given_the_right_back(w: World) -> None:
    w.jira.forbidden.add("TEST-1")
    w.drop("TEST-1/a.txt")
    w.deliver()
    assert proofs(w) == {"TEST-1/a.txt": "account"}
    w.jira.forbidden.clear()

    done = resume(w)
    w.deliver()

    assert (done.believed, done.again) == (0, 1)
    assert w.states() == ["DONE"]


def test_a_refusal_that_the_account_was_not_asked_about_yet_is_not_believed(w: World) -> None:
    w.jira.missing.add("TEST-1")
    w.drop("TEST-1/a.txt")
    w.deliver()
    with w.runtime.journal.transaction() as connection:
        connection.execute("UPDATE file SET proof = 'none'")

    assert resume(w).believed == 0


def test_the_files_of_an_issue_are_counted_anew(w: World) -> None:
    for number in (1, 2):
        w.drop(f"TEST-{number}/a.txt")
    w.deliver()
    w.clock.advance(10.0)

    resume(w, "TEST-1")

    counted = dict(map(tuple, w.runtime.journal.rows("SELECT issue, counted_from FROM issue_queue")))
    assert counted == {"TEST-1": w.clock.now(), "TEST-2": 0.0}
    resume(w)
    assert set(w.runtime.journal.rows("SELECT DISTINCT counted_from FROM issue_queue")[0]) == {w.clock.now()}


# --- Beside the daemon ------------------------------------------------------------------------------------------


def test_a_write_by_another_process_rings_and_its_own_does_not(w: World) -> None:
    engine = Engine(w.held)
    heard = w.runtime.wakeup.count()
    with w.runtime.journal.transaction() as connection:
        database.put(connection, "x", 1)
    engine.heed_others()
    assert w.runtime.wakeup.count() == heard

    with database.changing(w.home / "state") as connection:
        assert connection is not None
        journal_by_hand.pause(connection, "", w.clock.now(), None)
    engine.heed_others()
    assert w.runtime.wakeup.count() == heard + 1
    engine.heed_others()
    assert w.runtime.wakeup.count() == heard + 1
    assert not delivery_pause.current(w.runtime).uploads


def test_a_change_that_fails_halfway_changes_nothing(w: World) -> None:
    def half() -> None:
        with database.changing(w.home / "state") as connection:
            assert connection is not None
            journal_by_hand.pause(connection, "", w.clock.now(), None)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()

    assert counts.active_pauses(w.runtime.journal, w.clock.now()) == []


def test_a_journal_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with database.changing(tmp_path) as connection:
        assert connection is None
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_cannot_be_written_is_a_mistake_in_words(w: World) -> None:
    def forbidden() -> None:
        with database.changing(w.home / "state") as connection:
            assert connection is not None
            connection.execute("PRAGMA query_only = 1")
            journal_by_hand.pause(connection, "", w.clock.now(), None)

    with pytest.raises(Mistake, match="cannot be used as the journal"):
        forbidden()


# --- In words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("3d", 259200), ("366d", 31622400)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert common.length(text, "--for") == seconds


@pytest.mark.parametrize("text", ["", "abc", "0s", "-5m", "2", "h", "1.5h", "2 h", "367d", "999999999d", "२h", "1h30m"])
def test_what_is_no_length_of_time_is_a_mistake(text: str) -> None:
    with pytest.raises(Mistake) as caught:
        common.length(text, "--for")
    assert caught.value.exit_code == 2


def test_since_when() -> None:
    day = datetime.datetime(2026, 11, 22).astimezone().timestamp()

    assert common.since("2h", "--since", 10_000.0) == 2800.0
    assert common.since("2026-11-22", "--since", 0.0) == day
    assert common.since("2026-11-22T08:30", "--since", 0.0) == day + 30600
    assert common.since("2026-11-22T08:30:00Z", "--since", 0.0) == 1795336200.0


def test_a_pause_is_told_with_what_ends_it() -> None:
    made = Pause(Scope.OPERATOR, "TEST-1", "by-hand", "paused by hand", Cure.HAND, 0.0, 0.0, 0.0, 1)

    assert words.paused_in_words(made, 0.0) == "Paused TEST-1 until `attachd resume --issue TEST-1`."


def test_what_was_resumed_is_told_in_words() -> None:
    def one(scope: Scope, subject: str, reason: str, until: float = 0.0) -> Pause:
        return Pause(scope, subject, "kind", reason, Cure.TIME, 0.0, until, 1.0, 1)

    done = Resumed(
        (one(Scope.OPERATOR, "", "paused by hand"), one(Scope.OPERATOR, "TEST-1", "paused by hand")),
        (one(Scope.ACCOUNT, "", "the token was refused"),),
        (one(Scope.ISSUE, "TEST-9", "Jira's write limit", 60.0),),
        1,
        2,
    )

    told = [line.partition(" (since")[0] for line in words.resumed_in_words(done, "", 0.0)]

    assert told[:3] == [
        "Ended: the pause by hand",
        "Ended: the pause of TEST-1 by hand",
        "Trying now: the pause of the account: the token was refused",
    ]
    assert "refusal of 1 file" in told[3]
    assert told[4] == "Trying now: 2 files that Jira had refused."
    assert told[5].endswith(": the pause of issue TEST-9: Jira's write limit. Jira itself asked for this wait.")
    assert list(words.resumed_in_words(Resumed((), (), (), 0, 0), "", 0.0)) == ["Nothing was paused."]


def test_status_counts_a_pause_by_hand_and_its_files_wait(w: World) -> None:
    pause(w, "TEST-1")
    w.drop("TEST-1/a.txt")
    w.scan()

    assert counts.paused_by_hand(w.runtime.journal, w.clock.now()) == ["TEST-1"]
    assert lookup.waiting_in(w.runtime.journal, ["TEST-1"]) == 1
    assert counts.summary(w.runtime.journal).counts[Word.WAITING] == 1
    with w.runtime.journal.transaction() as connection:
        assert pauses.read(connection)[0].told == w.clock.now()
