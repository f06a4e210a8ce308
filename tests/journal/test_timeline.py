"""The journal's time: however the wall clock is set, a wait is as long as it is, and people read the time of day."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from attachd.cli import common, history, pause
from attachd.hooks import dispatcher
from attachd.journal import by_hand, counts, lookup, outbox, timeline
from attachd.journal.timeline import LONGEST_OFF_SECONDS, Stretch, Timeline
from attachd.service import reminders
from memory_jira import Fault, World, world

HOUR, DAY, YEAR = 3600.0, 86_400.0, 365 * 86_400.0
#: What a clock is set by, one after the other; they come to nothing together, and no year before 1970 is reached.
SETTINGS = (HOUR, -2 * HOUR, 10 * YEAR, -50 * YEAR, 70 * YEAR, HOUR - 30 * YEAR)


# --- Every kind of wait -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wait:
    """A kind of wait: what begins it, and when it is over."""

    name: str
    begin: Callable[[World], object]
    over: Callable[[World], bool]
    tables: dict[str, Any] = field(default_factory=dict)
    step: float = 30.0


def attached(w: World, files: int = 1) -> bool:
    return len(w.files(w.done)) == files


def failed(w: World) -> bool:
    return bool(w.files(w.failed))


def meets(**fault: Any) -> Callable[[World], object]:
    def begin(w: World) -> None:
        w.jira.faults.append(Fault(**fault))
        w.drop("TEST-1/a.txt")

    return begin


def is_blind(w: World) -> None:
    meets(breaks=httpx.ReadTimeout)(w)
    w.jira.hide_field = True


def is_unreachable(w: World) -> None:
    until = w.clock.now() + 100.0

    def refuse() -> None:
        if w.clock.now() < until:
            raise httpx.ConnectError("as told")

    w.jira.before = refuse
    w.drop("TEST-1/a.txt")


def has_its_hour(w: World) -> None:
    for number in range(4):
        w.drop(f"TEST-1/{number}.txt", b"%d" % number)


def is_unknown(w: World) -> None:
    w.jira.missing.add("TEST-1")
    w.drop("TEST-1/a.txt")


def is_forbidden(w: World) -> None:
    w.jira.forbidden.add("TEST-1")
    w.drop("TEST-1/a.txt")


def is_paused(w: World) -> None:
    with w.runtime.journal.transaction() as connection:
        by_hand.pause(connection, "TEST-1", w.clock.now(), 300.0)
    w.drop("TEST-1/a.txt")


def is_cut_off(w: World) -> None:
    w.drop("TEST-1/a.pdf", b"%PDF-1.7\nno end")


def is_without_an_issue(w: World) -> None:
    w.drop("no issue/a.txt")


def is_told(w: World) -> bool:
    with capture_logs() as lines:
        reminders.step(w.runtime)
    return any(line["event"] == "files.without_issue" for line in lines)


def is_given_up(w: World) -> bool:
    reminders.step(w.runtime)
    return failed(w)


WAITS = (
    Wait("doubt", meets(breaks=httpx.ReadTimeout), attached),
    Wait("one issue, as Jira asks", meets(status=429, body={}, headers={
        "retry-after": "200", "ratelimit-reason": "jira-per-issue-on-write"}), attached),
    Wait("all issues, as Jira asks", meets(status=429, body={}, headers={
        "retry-after": "200", "ratelimit-reason": "jira-burst-based"}), attached),
    Wait("an upload that fails", meets(status=500, body={}), attached),
    Wait("a site that is probed", is_unreachable, attached),
    Wait("listings that cannot be read", is_blind, failed, {"doubt": {"give_up_hours": 1}}, 300.0),
    Wait("the files of an hour", has_its_hour, lambda w: attached(w, 4), {"limits": {"issue_files_per_hour": 3}}, 60.0),
    Wait("a refusal without a witness", is_unknown, failed, {"fuse": {"hold_minutes": 30.0}}, 60.0),
    Wait("a lost role", is_forbidden, failed, {}, HOUR),
    Wait("a pause by hand", is_paused, attached),
    Wait("an end that is missing", is_cut_off, attached, {"settle": {"incomplete_seconds": 300.0}}),
    Wait("a reminder", is_without_an_issue, is_told, {"limits": {"warn_after_minutes": 60}}, 300.0),
    Wait("giving up", is_unknown, is_given_up, {"limits": {"give_up_days": 1}, "fuse": {"hold_minutes": 9999.0}}, HOUR),
)  # fmt: skip


def lasted(
    home: Path, wait: Wait, settings: Sequence[float], between: Callable[[World], object] | None = None
) -> float:
    """For how long it lasts if the wall clock is set by these between its steps; *between*: what happens after the first."""
    home.mkdir()
    random.seed(1)
    with world(home, **wait.tables) as w:
        passed = 0.0
        w.jira.time = lambda: 1_800_000_000.0 + passed
        w.deliver()
        wait.begin(w)
        w.deliver()
        assert not wait.over(w)
        for number in range(2000):
            w.clock.time += settings[number % len(settings)]
            if number == 0 and between:
                between(w)
            w.deliver()
            if wait.over(w):
                return passed
            w.clock.advance(wait.step)
            passed += wait.step
    raise AssertionError(f"{wait.name}: it does not end")


def started_again(w: World) -> None:
    w.restart()


def rebooted(w: World) -> None:
    w.clock.reboot(off=0.0)
    w.restart()


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.name)
def test_a_wait_lasts_as_long_however_the_clock_is_set(tmp_path: Path, wait: Wait) -> None:
    usual = lasted(tmp_path / "usual", wait, [0.0], started_again)

    assert usual > 0.0
    assert lasted(tmp_path / "set", wait, SETTINGS, started_again) == usual
    assert lasted(tmp_path / "reset", wait, [-40 * YEAR, 40 * YEAR, *[0.0] * 3000], rebooted) == usual


# --- The length of what is remembered ---------------------------------------------------------------------------


def test_a_machine_is_believed_to_have_been_off_for_half_a_day_at_most(tmp_path: Path) -> None:
    """A clock that is wrong by years at the start of the machine ends no wait of days, and makes nothing old."""
    with world(tmp_path) as w:
        began = w.clock.now()

        w.clock.reboot(off=600.0)
        w.restart()
        assert w.clock.now() - began == 600.0

        w.clock.reboot(off=10 * YEAR)
        w.restart()
        assert w.clock.now() - began == 600.0 + LONGEST_OFF_SECONDS

        w.clock.reboot(off=-60 * YEAR)
        w.restart()
        assert w.clock.now() - began == 600.0 + LONGEST_OFF_SECONDS


def test_what_passed_before_a_power_cut_is_counted(tmp_path: Path) -> None:
    """It is written down now and then, and at once where the clock was set; the rest the clock on the wall tells."""
    with world(tmp_path) as w:
        began = w.clock.now()
        w.clock.time -= 5 * YEAR
        reminders.step(w.runtime)
        w.clock.advance(3 * HOUR)
        w.clock.reboot(off=60.0)
        w.restart()
        assert w.clock.now() - began == 3 * HOUR + 60.0

        w.clock.advance(30 * DAY)
        reminders.step(w.runtime)
        w.clock.reboot(off=-40 * YEAR)
        w.restart()
        assert w.clock.now() - began == 30 * DAY + 3 * HOUR + 60.0


def test_a_boot_that_cannot_be_told_from_the_last_one_is_another(tmp_path: Path) -> None:
    """As in a time namespace, or where /proc is not mounted: CLOCK_BOOTTIME proves nothing then."""
    with world(tmp_path) as w:
        began = w.clock.now()
        w.clock.advance(2 * HOUR)
        reminders.step(w.runtime)
        w.clock.since_boot = 3.0
        w.restart()

        assert w.clock.now() - began == 2 * HOUR


def test_the_setting_of_a_clock_is_told_once(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.clock.time += HOUR
        with capture_logs() as lines:
            reminders.step(w.runtime)
            reminders.step(w.runtime)

        told = [line for line in lines if line["event"] == "clock.set"]
        assert [line["seconds"] for line in told] == [3600]


def test_a_journal_that_an_earlier_version_made_is_never_ahead(tmp_path: Path) -> None:
    """What it took for the time, by a clock that was wrong, is not in the future."""
    with world(tmp_path) as w:
        w.drop("TEST-1/a.txt")
        w.deliver()
        filed = w.clock.now()
        with w.runtime.journal.transaction() as connection:
            connection.execute("DELETE FROM stretch")
        w.clock.time -= YEAR
        w.restart()

        assert w.clock.now() == filed
        assert w.runtime.journal.timeline().shown(w.clock.now()) == w.clock.time


# --- What people read -------------------------------------------------------------------------------------------


def stretch(began: float, ahead: float) -> Stretch:
    return Stretch(began, "boot", 0.0, ahead, began)


LINE = Timeline(3000.0, 2900.0, [stretch(1000.0, 0.0), stretch(2000.0, 50.0), stretch(2500.0, -100.0)])


@pytest.mark.parametrize(
    ("moment", "shown"),
    [(0.0, 0.0), (500.0, 500.0), (1500.0, 1500.0), (2000.0, 2050.0), (2600.0, 2500.0), (9000.0, 8900.0)],
)
def test_a_moment_is_shown_by_the_clock_as_it_was_then(moment: float, shown: float) -> None:
    assert LINE.shown(moment) == shown
    assert LINE.kept(shown) == moment or LINE.shown(LINE.kept(shown)) == shown


@pytest.mark.parametrize(
    ("shown", "kept"),
    [(2030.0, 2000.0), (2540.0, 2640.0), (2450.0, 2550.0), (2420.0, 2520.0), (2300.0, 2250.0), (5.0, 5.0)],
)
def test_a_time_that_the_clock_passed_over_or_showed_twice_is_found(shown: float, kept: float) -> None:
    assert LINE.kept(shown) == kept


def test_a_journal_without_stretches_is_in_the_time_of_the_wall() -> None:
    assert Timeline(7.0, 7.0).shown(5.0) == Timeline(7.0, 7.0).kept(5.0) == 5.0


@pytest.mark.parametrize("set_by", [0.0, 3 * HOUR, -3 * HOUR])
def test_people_are_told_by_the_clock_on_the_wall(tmp_path: Path, set_by: float) -> None:
    with world(tmp_path) as w:
        with w.runtime.journal.transaction() as connection:
            made = by_hand.pause(connection, "TEST-1", w.clock.now(), 600.0)
        w.drop("no issue/a.txt")
        w.drop("TEST-1/b.txt")
        w.drop("TEST-2/c.txt")
        w.deliver()
        began = w.clock.time
        w.clock.time += set_by
        journal, line = w.runtime.journal, w.runtime.journal.timeline()

        (held,) = counts.active_pauses(journal, w.clock.wall())
        assert (held.since, held.until) == (began + set_by, began + set_by + 600.0)
        assert line.pause(made) == held
        assert lookup.oldest_waiting(journal) == began + set_by
        assert [each.since for each in counts.unrouted(journal)] == [began + set_by]
        assert [queue.oldest for queue in lookup.queues(journal, 5)] == [began + set_by]
        done = lookup.history(journal, "TEST-2", None, 5)[0]
        assert history.described(done)["filed"] == began + set_by
        assert lookup.history(journal, "TEST-2", None, 5, since=began + set_by - 1) == [done]
        assert lookup.history(journal, "TEST-2", None, 5, since=began + set_by + 1) == []
        assert counts.attached_since(journal, line.kept(began + set_by)) == 1
        assert w.clock.now() == began


def test_what_happened_in_an_earlier_boot_is_shown_as_it_was_then(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.clock.time += HOUR
        w.drop("TEST-1/a.txt")
        w.deliver()
        reminders.step(w.runtime)
        shown = w.clock.wall()
        for _ in range(3):
            w.clock.reboot(off=DAY)
            w.restart()

        assert lookup.history(w.runtime.journal, "", None, 5)[0].finished_at == shown
        assert w.row("TEST-1/a.txt").finished_at == shown - HOUR
        assert w.runtime.journal.timeline().shown(w.clock.now()) == w.clock.wall()


def test_events_are_told_by_the_clock_on_the_wall_and_given_up_by_the_journal_s_time(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        outbox.begin(w.runtime.journal, ["url"])
        target = Deaf()
        with w.runtime.journal.transaction() as connection:
            by_hand.pause(connection, "", w.clock.now(), 60.0)
        began, progress = w.clock.now(), dispatcher.Progress()
        for set_by in (2 * DAY, -9 * DAY):
            w.clock.time += set_by
            assert dispatcher.step(w.runtime, target, progress, threading.Event()) == (False, "deaf")
        event = outbox.shown(outbox.after(w.runtime.journal, "url", 1)[0], w.runtime.journal.timeline())
        w.clock.advance(dispatcher.GIVE_UP_SECONDS)

        assert (event.at, event.about["since"]) == (began - 7 * DAY, began - 7 * DAY)
        assert dispatcher.step(w.runtime, target, progress, threading.Event()) == (True, "deaf")


class Deaf:
    """A target that takes nothing."""

    name, at_once = "url", 1

    def send(self, waiting: Sequence[outbox.Event], ended: threading.Event) -> tuple[int, str]:
        return 0, "deaf"


# --- Beside the service -----------------------------------------------------------------------------------------


def test_a_pause_that_another_process_makes_counts_on_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with world(tmp_path) as w:
        file = tmp_path / "config.toml"
        file.write_text(
            f'[folders]\ninbox = "{w.inbox}"\nstate = "{w.home / "state"}"\n'
            f'[jira]\nurl = "https://jira.example.com"\n'
            f'auth = {{ user = "robot@example.com", token = {{ file = "{w.home / "token"}" }} }}\n'
        )
        w.clock.time += 3 * HOUR
        monkeypatch.setattr(common, "Clock", lambda: w.clock)

        pause.pause(issue="TEST-1", length="1h", config=file, instance=None, as_json=True)

        said = capsys.readouterr().out
        (held,) = w.runtime.journal.rows("SELECT until FROM pause")
        assert held["until"] == w.clock.now() + HOUR
        assert f'"until": {w.clock.wall() + HOUR}' in said


def test_who_reads_in_another_boot_writes_nothing_and_shows_the_time_of_day(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.clock.time += HOUR
        reminders.step(w.runtime)
        w.clock.reboot(off=60.0)
        with w.runtime.journal.transaction_for_reading() as connection:
            before = connection.execute("SELECT * FROM stretch").fetchall()
            line = timeline.read(connection, w.clock)
            after = connection.execute("SELECT * FROM stretch").fetchall()

        assert line.shown(line.now) == w.clock.wall()
        assert line.now == line.kept(w.clock.wall()) == before[-1]["marked"] + 60.0
        assert [tuple(row) for row in after] == [tuple(row) for row in before]
