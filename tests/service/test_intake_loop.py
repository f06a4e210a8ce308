"""The loop of intake: what makes it scan, how often, and what it writes down about events."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from structlog.testing import capture_logs

from attachd.delivery import batch, pause
from attachd.intake import examine, mounts
from attachd.intake.coverage import MissedEvents
from attachd.intake.files import Entry, Walk
from attachd.intake.folder_scan import Report
from attachd.intake.matching import Matcher, Recognised
from attachd.intake.mounts import Mount
from attachd.intake.scanner import Scanner
from attachd.journal import admission, counts
from attachd.report import status, status_text
from attachd.service import worker
from attachd.service.intake_loop import IntakeLoop
from attachd.share import inbox_marker
from memory_jira import World, world


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.runtime.stopping = threading.Event()
        yield made


@pytest.fixture
def intake(w: World) -> Iterator[IntakeLoop]:
    made = IntakeLoop(w.runtime)
    yield made
    made.stop()


@pytest.fixture
def running(w: World, intake: IntakeLoop) -> Iterator[IntakeLoop]:
    """Its thread runs; the clock stands, so that no full scan comes of itself."""

    def loop() -> None:
        while not w.runtime.stopping.is_set():
            intake.step()

    thread = threading.Thread(target=loop)
    thread.start()
    yield intake
    w.runtime.stopping.set()
    intake.changes.add(None)
    thread.join()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.005)


def step(w: World, intake: IntakeLoop, seconds: float = 0.0) -> None:
    """One round that waits for nothing."""
    w.clock.advance(seconds)
    intake.changes.add({b"nothing"})
    intake.step()


# --- What makes it scan -----------------------------------------------------------------------------------------


def test_a_file_is_found_by_its_event_long_before_the_next_scan(w: World, running: IntakeLoop) -> None:
    wait_until(running.scanned.is_set)
    w.drop("TEST-1/a/b/file.txt")

    wait_until(lambda: w.states() == ["READY"])


def test_after_an_overflow_everything_is_scanned_within_a_second(w: World, running: IntakeLoop) -> None:
    """What was lost is found although no event tells of it."""
    wait_until(running.scanned.is_set)
    reader = running.watch._reader
    assert reader is not None
    reader.handle_event = lambda event: None  # type: ignore[method-assign]
    w.drop("TEST-1/a.txt")
    began = time.monotonic()
    running.watch.on_queue_overflow()

    wait_until(lambda: w.states() == ["READY"], 1.0)
    assert time.monotonic() - began < 1.0
    wait_until(lambda: counts.events(w.runtime.journal).overflows == 1)


def test_an_inbox_that_is_gone_is_looked_for_every_few_seconds(w: World, intake: IntakeLoop) -> None:
    step(w, intake)
    assert intake._interval(0.0) == 30.0
    w.inbox.rename(w.home / "away")
    step(w, intake, 30.0)

    assert intake._interval(0.0) == mounts.POLL_SECONDS


@pytest.mark.parametrize("going", [True, False])
def test_an_inbox_that_comes_or_goes_without_an_event_is_noticed_by_the_next_round(
    w: World, intake: IntakeLoop, going: bool
) -> None:
    """As a lazily unmounted share."""
    away = w.home / "away"
    if not going:
        w.inbox.rename(away)
    step(w, intake)
    assert w.runtime.guard.sight.there is going
    if reader := intake.watch._reader:
        reader.handle_event = lambda event: None  # type: ignore[method-assign]
    w.inbox.rename(away) if going else away.rename(w.inbox)

    with capture_logs() as told:
        step(w, intake, 1.0)

    assert intake._next_full == 0.0
    # Another look, of the scan that follows, may wait as long again for a server that is away.
    assert [line["event"] for line in told] == (["inbox.absent"] if going else [])


@pytest.mark.parametrize("going", [True, False])
def test_a_share_in_an_issue_s_folder_that_comes_or_goes_is_noticed_by_the_next_round(
    w: World, intake: IntakeLoop, monkeypatch: pytest.MonkeyPatch, going: bool
) -> None:
    """Until it is, files there would be judged as if nobody but this machine wrote them, or not be looked at for long."""
    real = mounts.below(w.inbox)
    (w.inbox / "TEST-1").mkdir()
    listed = [*real, Mount(bytes(w.inbox) + b"/TEST-1", "cifs")] if going else real
    monkeypatch.setattr(mounts, "below", lambda inbox: listed)
    step(w, intake)
    step(w, intake, 1.0)
    assert intake._next_full > 0.0
    listed = real if going else [*real, Mount(bytes(w.inbox) + b"/TEST-1", "cifs")]

    step(w, intake, 1.0)

    assert intake._next_full == 0.0
    step(w, intake)
    assert intake.coverage.shared(b"TEST-1/a.txt") is not going


def test_another_folder_in_the_inbox_s_place_is_noticed_by_an_event(w: World, running: IntakeLoop) -> None:
    wait_until(running.scanned.is_set)
    away = w.home / "away"
    w.inbox.rename(away)
    wait_until(lambda: not w.runtime.guard.sight.there)

    away.rename(w.inbox)
    w.drop("TEST-1/a.txt")
    w.clock.advance(6.0)
    running.changes.add(set())

    wait_until(lambda: w.states() == ["READY"])


@pytest.mark.parametrize(
    ("took", "blind", "interval"),
    [(0.1, False, 30.0), (3.0, False, 57.0), (0.1, True, 5.0), (3.0, True, 57.0)],
)
def test_scans_take_one_twentieth_of_the_time_at_the_most(
    w: World, intake: IntakeLoop, monkeypatch: pytest.MonkeyPatch, took: float, blind: bool, interval: float
) -> None:
    if blind:
        monkeypatch.setattr(mounts, "below", lambda inbox: [Mount(b"/srv", "nfs4")])
    step(w, intake)

    assert intake._interval(took) == interval


@pytest.mark.parametrize(("hangs", "files", "most"), [(600.0, 1, 20.0), (0.5, 40, 400.0)])
def test_that_a_share_did_not_answer_for_long_does_not_put_off_the_next_look(
    w: World, intake: IntakeLoop, monkeypatch: pytest.MonkeyPatch, hangs: float, files: int, most: float
) -> None:
    """Only scanning itself does: a hard-mounted share hangs until its server is back, and then the look goes on."""
    real = mounts.below(w.inbox)
    monkeypatch.setattr(mounts, "below", lambda inbox: [*real, Mount(bytes(w.inbox) + b"/TEST-1", "nfs4")])
    for number in range(files):
        w.drop(f"TEST-1/{number}.txt")
    open_once = examine.opened_once

    def hanging(inbox: Path, entry: Entry) -> Entry:
        w.clock.advance(hangs)
        return open_once(inbox, entry)

    monkeypatch.setattr(examine, "opened_once", hanging)
    step(w, intake)

    now = w.clock.boot()
    assert 0.9 * most <= intake._settles[b"TEST-1"] - now <= most
    assert 0.9 * most <= intake._next_full - now <= max(30.0, most)


def test_a_folder_on_a_share_is_looked_at_every_few_seconds(
    w: World, intake: IntakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No event tells of what others put there; the rest of the inbox is left alone meanwhile."""
    real = mounts.below(w.inbox)
    share = Mount(bytes(w.inbox) + b"/TEST-1", "cifs")
    monkeypatch.setattr(mounts, "below", lambda inbox: [*real, share])
    (w.inbox / "TEST-1").mkdir()
    step(w, intake)
    reader = intake.watch._reader
    assert reader is not None
    reader.handle_event = lambda event: None  # type: ignore[method-assign]
    w.drop("TEST-1/a.txt")
    w.drop("TEST-2/b.txt")

    step(w, intake, mounts.POLL_SECONDS)

    assert [row.path for row in w.rows()] == [b"TEST-1/a.txt"]


def test_every_hour_everything_is_listed_however_quiet_it_looks(
    w: World, intake: IntakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[bool] = []
    scan = Scanner.scan

    def noting(self: Scanner, only: Collection[bytes] | None = None, *, fully: bool = False) -> Report:
        if only is None:
            scans.append(fully)
        return scan(self, only, fully=fully)

    monkeypatch.setattr(Scanner, "scan", noting)
    for _ in range(242):
        step(w, intake, 30.0)

    assert [number for number, fully in enumerate(scans) if fully] == [0, 120, 240]


def test_a_file_waits_under_a_new_configuration_until_it_is_found_again(w: World, intake: IntakeLoop) -> None:
    """It is READY for the issue that its folder meant; the corrected alias means another."""
    w.runtime.config = w.runtime.config.model_copy(update={"aliases": {"Invoices": "FIN-1"}})
    intake.reconfigure()
    w.drop("Invoices/a.txt")
    step(w, intake)
    assert [(row.state, row.folder_key) for row in w.rows()] == [("READY", "FIN-1")]

    w.runtime.reconfigure(w.runtime.config.model_copy(update={"aliases": {"Invoices": "FIN-2"}}))
    intake.reconfigure()
    intake._take_up()
    claimed = batch.claim(w.runtime, pause.current(w.runtime))
    step(w, intake)

    assert intake.taken_up.is_set()
    assert claimed is None
    assert [(row.state, row.folder_key) for row in w.rows()] == [("READY", "FIN-2")]


def test_a_configuration_that_a_full_disk_held_up_is_taken_up_later(w: World, intake: IntakeLoop) -> None:
    step(w, intake)
    w.runtime.reconfigure(w.runtime.config.model_copy(update={"aliases": {"Invoices": "FIN-2"}}))
    intake.reconfigure()

    def full(self: Scanner) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    w.runtime.stopping = SimpleNamespace(is_set=lambda: False, wait=lambda seconds: None)  # type: ignore[assignment]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Scanner, "begin_epoch", full)
        step(w, intake)
    held_up = intake.taken_up.is_set()
    w.drop("Invoices/a.txt")
    step(w, intake)

    assert not held_up
    assert intake.taken_up.is_set()
    assert [row.folder_key for row in w.rows()] == ["FIN-2"]


def test_a_scan_is_left_where_the_configuration_changes(w: World, intake: IntakeLoop) -> None:
    for number in range(1, 4):
        w.drop(f"TEST-{number}/a.txt")
    recognise = Matcher.recognise

    def changed_meanwhile(self: Matcher, entries: Sequence[Entry]) -> Recognised:
        intake.reconfigure()
        return recognise(self, entries)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Matcher, "recognise", changed_meanwhile)
        intake.step()
    assert [row.path for row in w.rows()] == [b"TEST-1/a.txt"]

    intake.step()
    assert len(w.rows()) == 3


def test_a_folder_that_can_be_listed_again_is_told_of_by_the_look_that_finds_it(
    w: World, intake: IntakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only by the next full scan: until then status would go on to name it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    for number in (1, 2):
        w.drop(f"TEST-{number}/a.txt")
    step(w, intake)

    with capture_logs() as told:
        with monkeypatch.context() as patched:
            patched.setattr(Walk, "_trouble", lambda *_: "Stale file handle")
            intake._look_at({b"TEST-1", b"TEST-2"})
        intake._look_at({b"TEST-1"})

    assert sorted((line["event"], line["folder"]) for line in told) == [
        ("folder.listed_again", "TEST-1"),
        ("folder.not_listed", "TEST-1"),
        ("folder.not_listed", "TEST-2"),
    ]
    assert counts.troubles(w.runtime.journal) == {"TEST-2": "Stale file handle"}


def test_a_folder_that_can_be_listed_again_after_a_restart_is_not_named_for_ever(
    w: World, intake: IntakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal outlives the process that wrote down the trouble."""
    w.drop("TEST-1/a.txt")
    with monkeypatch.context() as patched:
        patched.setattr(Walk, "_trouble", lambda *_: "Input/output error")
        step(w, intake)
    assert counts.troubles(w.runtime.journal) == {"TEST-1": "Input/output error"}

    intake.stop()
    after = IntakeLoop(w.runtime)
    try:
        step(w, after)
    finally:
        after.stop()

    assert counts.troubles(w.runtime.journal) == {}


def test_a_scan_does_not_hold_up_the_end_of_the_service(w: World, intake: IntakeLoop) -> None:
    for number in range(1, 4):
        w.drop(f"TEST-{number}/a.txt")
    recognise = Matcher.recognise

    def stopped_meanwhile(self: Matcher, entries: Sequence[Entry]) -> Recognised:
        w.runtime.stopping.set()
        return recognise(self, entries)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Matcher, "recognise", stopped_meanwhile)
        intake.step()
    assert [row.path for row in w.rows()] == [b"TEST-1/a.txt"]

    w.runtime.stopping.clear()
    step(w, intake)
    assert len(w.rows()) == 3


def test_a_full_disk_of_the_journal_is_waited_for(
    w: World, intake: IntakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    step(w, intake)
    w.drop("TEST-1/a.txt")
    monkeypatch.setattr(worker, "FULL_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(admission, "add", full)
        step(w, intake, 31.0)
        step(w, intake, 31.0)
        assert w.rows() == []
    step(w, intake, 31.0)

    assert w.states() == ["READY"]


def test_after_an_overflow_everything_is_watched_anew_and_nothing_counts_as_missed_by_events(
    w: World, intake: IntakeLoop
) -> None:
    """Among what was lost may be that a folder went: another one with its inode would not be watched."""
    (w.inbox / "TEST-1").mkdir()
    step(w, intake)
    before = intake.watch._reader
    intake.watch.on_queue_overflow()
    w.drop("TEST-1/a.txt")
    step(w, intake)
    step(w, intake, 2.0)

    assert intake.watch._reader is not before
    assert counts.events(w.runtime.journal) == counts.Events({}, 1, 0)


def test_an_overflow_during_a_scan_excuses_the_scan_that_follows(
    w: World, intake: IntakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = Scanner.scan

    def overflowing(self: Scanner, only: Collection[bytes] | None = None, *, fully: bool = False) -> Report:
        found = scan(self, only, fully=fully)
        intake.watch.on_queue_overflow()
        return found

    step(w, intake)
    with monkeypatch.context() as patched:
        patched.setattr(Scanner, "scan", overflowing)
        step(w, intake, 31.0)
    reader = intake.watch._reader
    assert reader is not None
    reader.handle_event = lambda event: None  # type: ignore[method-assign]
    w.drop("TEST-1/a.txt")
    intake.changes.wait(0)
    step(w, intake, 31.0)
    step(w, intake, 2.0)

    assert counts.events(w.runtime.journal).found == 0


def test_status_does_not_wait_for_an_inbox_that_does_not_answer(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(inbox_marker, "read_marker", lambda inbox: answer.wait(60) and None)
    monkeypatch.setattr(status, "ANSWER_SECONDS", 0.05)
    try:
        found = status.collect(w.runtime.config, w.home / "state", w.runtime.journal, w.clock.now())
    finally:
        answer.set()

    assert found["inbox_there"] is None
    assert f"inbox      {w.inbox}  (its file system does not answer)" in status_text.lines(found, w.clock.now())


def test_status_names_a_share_in_an_issue_s_folder_that_does_not_answer(
    w: World, intake: IntakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a hard mount the service itself cannot: its look waits until the server is back."""
    (w.inbox / "TEST-1").mkdir()
    real = mounts.below(w.inbox)
    monkeypatch.setattr(mounts, "below", lambda inbox: [*real, Mount(bytes(w.inbox) + b"/TEST-1", "nfs4")])
    step(w, intake)
    found = status.collect(w.runtime.config, w.home / "state", w.runtime.journal, w.clock.now())
    assert found["not_listed"] == {}
    answer = threading.Event()
    monkeypatch.setattr(status, "_opens", lambda mount: answer.wait(60))
    monkeypatch.setattr(status, "ANSWER_SECONDS", 0.05)
    try:
        found = status.collect(w.runtime.config, w.home / "state", w.runtime.journal, w.clock.now())
    finally:
        answer.set()

    assert found["inbox_there"]
    assert found["not_listed"] == {"TEST-1": "its file system does not answer"}


# --- Files of which no event told -------------------------------------------------------------------------------


def test_what_a_scan_finds_in_a_folder_that_never_rang_is_missed_by_events() -> None:
    missed = MissedEvents()
    missed.compare({b"A": 9}, set(), 0.0)
    assert missed.confirm(set(), 10.0) == {}, "the first scan finds what was there before"

    missed.compare({b"A": 1, b"B": 2, b"C": 3}, {b"B"}, 30.0)

    assert missed.confirm({b"C"}, 30.5) == {}, "an event may be under way"
    assert missed.confirm({b"C"}, 31.0) == {b"A": 1}
    assert missed.confirm(set(), 32.0) == {}


def test_what_an_overflow_has_cost_is_not_counted_against_the_mount() -> None:
    missed = MissedEvents()
    missed.compare({}, set(), 0.0)
    missed.excuse()
    missed.compare({b"A": 9}, set(), 30.0)

    assert missed.confirm(set(), 60.0) == {}


def test_a_mount_whose_events_do_not_come_is_found_out_counted_and_told_of(w: World, intake: IntakeLoop) -> None:
    (w.inbox / "TEST-1").mkdir()
    step(w, intake)
    reader = intake.watch._reader
    assert reader is not None
    reader.handle_event = lambda event: None  # type: ignore[method-assign]
    for name in ("a", "b", "c"):
        w.drop(f"TEST-1/{name}")
        step(w, intake, 31.0)
        step(w, intake, 2.0)

    events = counts.events(w.runtime.journal)
    assert events.found == 3
    assert list(events.blind) == [str(w.inbox)]
    assert "of which no event told" in events.blind[str(w.inbox)]
    assert intake._interval(0.0) == mounts.POLL_SECONDS
    found = status.collect(w.runtime.config, w.home / "state", w.runtime.journal, w.clock.now())
    assert found["events"] == {"blind": events.blind, "overflows": 0, "found_by_scan": 3}
    assert found["oldest_waiting_seconds"] == pytest.approx(68.0)
    assert any(line.startswith(f"events     {w.inbox}") for line in status_text.lines(found, w.clock.now()))


def test_what_events_tell_of_is_never_counted_as_missed_by_events(w: World, intake: IntakeLoop) -> None:
    (w.inbox / "TEST-1").mkdir()
    step(w, intake)
    for name in ("a", "b", "c"):
        w.drop(f"TEST-1/{name}")
        assert intake.changes.wait(10.0) != (False, set())
        step(w, intake, 31.0)
        step(w, intake, 2.0)

    assert counts.events(w.runtime.journal) == counts.Events({}, 0, 0)


def test_who_sends_is_told_during_a_long_scan(w: World, intake: IntakeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a start with very many waiting files sends the first ones at once."""
    for number in range(1, 6):
        w.drop(f"TEST-{number}/a.txt")
    wakeups: list[int] = []
    recognise = Matcher.recognise

    def slowly(self: Matcher, entries: Sequence[Entry]) -> Recognised:
        wakeups.append(w.runtime.wakeup.count())
        found = recognise(self, entries)
        w.clock.advance(0.2)
        return found

    monkeypatch.setattr(Matcher, "recognise", slowly)
    intake._scan_all()

    assert len(wakeups) == 5
    assert wakeups[4] > wakeups[1] > wakeups[0]


def test_what_rang_while_the_inbox_came_or_went_is_made_up_for_by_listing_everything(
    w: World, intake: IntakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake._scan_all()
    intake._next_full = intake._next_fully = w.clock.boot() + 1000.0
    w.drop("TEST-1/a.txt")
    intake.changes.add({b"TEST-1"})
    with monkeypatch.context() as patched:
        patched.setattr(Scanner, "came_or_went", lambda self: True)
        intake._step()
    scans: list[bool] = []
    real = Scanner.scan

    def scan(self: Scanner, *only: Collection[bytes], fully: bool = False) -> Report:
        scans.append(fully)
        return real(self, *only, fully=fully)

    monkeypatch.setattr(Scanner, "scan", scan)
    intake._scan_all()

    assert scans == [True]
