"""attachd says what lasts once, then again after ``remind_hours``, and when it is over; vain attempts end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from attachd.delivery import pause as delivery_pause
from attachd.journal import pauses, reminders
from attachd.journal.pauses import Pause
from attachd.model import Cure, Scope
from attachd.model import Fault as Trouble
from attachd.service import reminders as service_reminders
from memory_jira import Fault, World, world

HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    structlog.reset_defaults()
    with world(tmp_path) as made:
        yield made


def told(w: World) -> list[dict[str, Any]]:
    """What a look at the reminders tells now."""
    with capture_logs() as lines:
        service_reminders.step(w.runtime)
    return [dict(line) for line in lines]


def events(w: World) -> list[str]:
    return [line["event"] for line in told(w)]


def unreachable(w: World) -> None:
    w.jira.before = _refuse


def _refuse() -> None:
    raise httpx.ConnectError("as told")


def reachable(w: World) -> None:
    w.jira.before = lambda: None


def wait(w: World, seconds: float, step: float = 900.0) -> None:
    until = w.clock.time + seconds
    while w.clock.time < until:
        w.clock.advance(min(step, until - w.clock.time))
        w.deliver()


@pytest.mark.parametrize(
    ("told_at", "now", "expected"),
    [
        (None, 99.0, False),
        (None, 100.0, True),
        (100.0, 150.0, False),
        (100.0, 1100.0, True),
        (100.0, 50.0, True),  # the clock was set back: better twice than never
    ],
)
def test_when_a_lasting_cause_is_told(told_at: float | None, now: float, expected: bool) -> None:
    assert reminders.is_due(told_at, 0.0, now, 100.0, 1000.0) is expected


def test_a_pause_is_told_again_every_remind_hours_while_it_lasts(w: World) -> None:
    delivery_pause.pause(w.runtime, Trouble(Scope.ACCOUNT, "refused", "the token expired", cure=Cure.PROBE))
    assert events(w) == []

    w.clock.advance(24 * HOUR)

    [line] = told(w)
    assert (line["event"], line["reason"], line["seconds"]) == ("delivery.still_paused", "the token expired", 86_400)
    assert events(w) == []
    w.clock.advance(24 * HOUR)
    assert events(w) == ["delivery.still_paused"]


def test_a_restart_does_not_tell_again(w: World) -> None:
    unreachable(w)
    w.drop("TEST-1/a.txt")
    wait(w, 2 * HOUR)
    assert events(w) == ["files.waiting_long"]

    w.restart()

    assert events(w) == []


def test_files_that_wait_for_long_are_told_with_what_holds_them_and_once_when_it_is_over(w: World) -> None:
    w.drop("TEST-1/a.txt")
    w.drop("TEST-1/b.txt", b"b")
    w.jira.forbidden.add("TEST-1")
    w.deliver()
    assert events(w) == []
    wait(w, HOUR)

    [line] = told(w)

    assert line["event"] == "files.waiting_long"
    assert (line["files"], line["issue"], line["log_level"]) == (2, "TEST-1", "warning")
    assert "permission" in line["reason"]
    w.jira.forbidden.clear()
    wait(w, 2 * HOUR)
    assert w.unfinished() == []
    assert events(w) == ["files.waiting_long.over"]
    assert events(w) == []


def test_a_folder_that_is_no_issue_is_told_after_a_while(w: World) -> None:
    w.drop("my folder/a.txt")
    w.scan()
    assert events(w) == []
    w.clock.advance(HOUR)
    w.scan()

    [line] = told(w)

    assert (line["event"], line["folder"], line["files"]) == ("files.without_issue", "my folder", 1)
    (w.inbox / "my folder" / "a.txt").unlink()
    w.scan()
    assert events(w) == ["files.without_issue.over"]


def test_a_blown_fuse_is_told_at_once_again_after_a_day_and_when_it_is_over(w: World) -> None:
    w.jira.missing |= {"NO-1", "NO-2", "NO-3"}
    for issue in sorted(w.jira.missing):
        w.drop(f"{issue}/a.txt", issue.encode())
    with capture_logs() as lines:
        w.deliver()
        wait(w, 2 * HOUR, step=60)

    [blown] = [line for line in lines if line["event"].startswith("fuse")]
    assert (blown["event"], blown["issues"], blown["files"]) == ("fuse.blown", ["NO-1", "NO-2", "NO-3"], 3)
    assert "refusals.contested" not in events(w)
    w.clock.advance(24 * HOUR)
    assert "refusals.contested" in events(w)
    w.drop("OPS-1/a.txt", b"good")
    w.deliver()
    assert "refusals.contested.over" in events(w)


# --- Giving up --------------------------------------------------------------------------------------------------


def test_nothing_is_given_up_where_no_one_asked_for_it(w: World) -> None:
    w.jira.missing |= {"NO-1", "NO-2", "NO-3"}
    for issue in sorted(w.jira.missing):
        w.drop(f"{issue}/a.txt", issue.encode())
    wait(w, 40 * DAY, step=DAY / 4)

    service_reminders.step(w.runtime)

    assert w.states() == ["READY"] * 3


def test_what_is_tried_in_vain_for_so_many_days_is_given_up_and_says_why(tmp_path: Path) -> None:
    with world(tmp_path, limits={"give_up_days": 3}) as w:
        w.jira.missing |= {"NO-1", "NO-2", "NO-3"}
        for issue in sorted(w.jira.missing):
            w.drop(f"{issue}/a.txt", issue.encode())
        wait(w, 2.9 * DAY, step=HOUR)
        service_reminders.step(w.runtime)
        assert w.states() == ["READY"] * 3
        wait(w, 0.2 * DAY, step=HOUR)

        service_reminders.step(w.runtime)
        w.work()

        assert w.states() == ["FAILED"] * 3
        assert (w.row("NO-1/a.txt").reason or "").startswith(
            "attachd gave up after 3 days (limits.give_up_days). The last reason: "
        )
        assert "does not exist" in (w.row("NO-1/a.txt").reason or "")
        assert (w.failed / "NO-1" / "a.txt").exists()


def test_time_in_pauses_does_not_count(tmp_path: Path) -> None:
    with world(tmp_path, limits={"give_up_days": 3}) as w:
        w.drop("TEST-1/a.txt")
        unreachable(w)
        wait(w, 5 * DAY, step=HOUR)
        service_reminders.step(w.runtime)
        assert w.states() == ["READY"]
        reachable(w)
        w.jira.forbidden.add("TEST-1")

        wait(w, 0.9 * DAY, step=HOUR)
        service_reminders.step(w.runtime)

        assert w.states() == ["READY"]
        w.jira.forbidden.clear()
        wait(w, 2 * HOUR)
        assert w.states() == ["DONE"]


def test_after_a_long_downtime_everything_is_tried_before_it_is_given_up(tmp_path: Path) -> None:
    with world(tmp_path, limits={"give_up_days": 3}) as w:
        w.drop("TEST-1/a.txt")
        w.jira.faults.append(Fault(status=400, body=b"", early=True))
        w.deliver()
        w.end()
        w.clock.advance(10 * DAY)
        w.restart()

        service_reminders.step(w.runtime)
        w.deliver()

        assert w.states() == ["DONE"]


def test_what_is_given_up_while_it_may_be_attached_says_so(tmp_path: Path) -> None:
    with world(tmp_path, limits={"give_up_days": 1}) as w:
        w.drop("TEST-1/a.txt")
        w.jira.faults.append(Fault(breaks=httpx.ReadError))
        w.deliver()
        assert w.states() == ["DOUBTFUL"]
        with w.runtime.journal.transaction() as connection:
            connection.execute(
                "UPDATE file SET state = 'READY', due = ?, seen_at = seen_at - ?", (w.clock.time + 60, 2 * DAY)
            )

        service_reminders.step(w.runtime)

        assert w.states() == ["REFUSED"]
        assert w.rows()[0].may_be_attached == 1


def test_the_time_spent_in_pauses_is_counted_once_each_second(w: World) -> None:
    def pause(scope: Scope, subject: str, since: float, until: float) -> Pause:
        return Pause(scope, subject, "k", "r", Cure.TIME, since, until, until - since, 1)

    with w.runtime.journal.transaction() as connection:
        for one in (
            pause(Scope.SITE, "", 1000, 2000),
            pause(Scope.ISSUE, "TEST-1", 1500, 2500),
            pause(Scope.PROJECT, "TEST", 5000, 5100),
            pause(Scope.ISSUE, "OPS-1", 0, 9000),
        ):
            pauses.put(connection, one)
            pauses.drop(connection, one.scope, one.subject, 10_000)

        covered = pauses.seconds_paused(connection, {"TEST-1", "TEST"}, 1200, 10_000)

    assert covered == (2500 - 1200) + 100
