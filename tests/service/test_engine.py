"""The service's threads, locks and mounts."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attachd.delivery.runtime import Runtime
from attachd.errors import Mistake
from attachd.service import start, worker
from attachd.service.engine import Engine
from attachd.share import inbox_marker, locks
from memory_jira import World, world
from waiting import wait_until


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def engine(w: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The real threads, on the Jira in memory."""
    monkeypatch.setattr("attachd.jira.connection.make_client", lambda config, credentials, context: w.connect())
    w.runtime.stopping = threading.Event()
    made = Engine(w.held)
    yield made
    made.stop(5.0)


def test_a_wakeup_wakes_one_worker_and_who_takes_work_wakes_the_next(w: World) -> None:
    """Otherwise all would wake up for each file, and all but one for nothing."""
    wakeup, awake = w.runtime.wakeup, list[int]()

    def sleep(number: int) -> None:
        wakeup.wait(wakeup.count(), 60.0)
        awake.append(number)

    threads = [threading.Thread(target=sleep, args=(number,), daemon=True) for number in range(3)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_until(lambda number=number: len(wakeup._condition._waiters) == number + 1)  # type: ignore[attr-defined,misc]
    wakeup.notify()
    wait_until(lambda: awake)
    assert awake == [0]
    assert w.runtime.take("TEST-1")
    wait_until(lambda: len(awake) == 2)
    with w.runtime.filed_by_us([1]):
        wait_until(lambda: len(awake) == 3)


def test_a_file_that_is_dropped_while_it_runs_is_delivered(w: World, engine: Engine) -> None:
    engine.start()
    wait_until(engine.intake.scanned.is_set)
    w.drop("TEST-1/a.txt", b"a")

    wait_until(lambda: w.states() == ["DONE"])


def test_many_files_by_many_workers_are_attached_once(w: World, engine: Engine) -> None:
    for number in range(300):
        w.drop(f"TEST-{number % 30 + 1}/{number}.txt", b"%d" % number)
    engine.start()

    wait_until(lambda: w.states().count("DONE") == 300)

    assert sorted(int(s.content) for s in w.jira.stored) == list(range(300))
    assert [row.path for row in w.rows() if row.target != row.path] == [], (
        "each row was filed by one worker, under its name"
    )


def test_a_thread_that_crashes_ends_the_service(w: World, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not logged and gone on: the service manager starts it again, into the same journal."""
    monkeypatch.setattr(worker, "step", lambda runtime, client: 1 / 0)

    engine.start()

    assert engine.ended.wait(10)
    assert isinstance(engine.crashed, ZeroDivisionError)


def test_a_scanner_that_crashes_ends_the_service(w: World, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attachd.filing.note_cleanup.drop_notes", lambda runtime: 1 / 0)

    engine.start()

    assert engine.ended.wait(10)
    assert isinstance(engine.crashed, ZeroDivisionError)


def test_a_thread_of_a_library_that_crashes_ends_the_service(engine: Engine) -> None:
    """With a status other than 0, so that the service manager starts it again."""
    engine.start()

    engine.thread_crashed()

    assert engine.ended.is_set()
    assert engine.crashed is not None


def test_no_thread_is_left_after_the_stop(w: World, engine: Engine) -> None:
    before = set(threading.enumerate())
    engine.start()
    wait_until(engine.intake.scanned.is_set)

    assert engine.stop(10.0)

    # Not equal: a thread that an earlier test has left to end by itself may have ended meanwhile.
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_a_remount_while_it_runs_is_noticed(w: World, engine: Engine) -> None:
    """The folder goes away and comes back; what is dropped then is found."""
    engine.start()
    wait_until(engine.intake.scanned.is_set)
    away = w.home / "away"
    w.inbox.rename(away)
    w.clock.advance(31.0)
    engine.intake.changes.add(None)
    wait_until(lambda: not w.runtime.guard.sight.there)
    away.rename(w.inbox)
    w.drop("TEST-1/a.txt", b"a")
    engine.intake.changes.add(None)

    wait_until(lambda: w.states() == ["DONE"])


# --- Locks ------------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from attachd.share import locks
lock = locks.take(Path(sys.argv[1]), Path("/state"))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def held_elsewhere(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    yield path, holder
    holder.kill()
    holder.wait()
    holder.stdout.close()


def test_a_lock_says_who_holds_it_and_ends_with_its_holder(held_elsewhere: tuple[Path, subprocess.Popen[str]]) -> None:
    path, process = held_elsewhere

    refused = locks.take(path, Path("/mine"))
    assert isinstance(refused, locks.Holder)
    assert (refused.pid, refused.state) == (process.pid, "/state")
    assert locks.holder(path) == refused

    process.kill()
    process.wait()
    assert locks.holder(path) is None
    taken = locks.take(path, Path("/mine"))
    assert isinstance(taken, locks.Lock)
    taken.release()


def test_a_stale_lock_file_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("nonsense")

    taken = locks.take(tmp_path / "lock", tmp_path)

    assert isinstance(taken, locks.Lock)
    taken.release()


def test_a_second_instance_on_the_same_state_is_refused(w: World) -> None:
    with pytest.raises(Mistake, match="another attachd \\(process") as caught:
        start.start(w.configuration(), clock=w.clock, environ={})
    assert caught.value.exit_code == 75


def test_an_inbox_that_comes_while_the_service_starts_is_claimed_before_it_is_used(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mounted after its lock was looked for, and held by another service: two would attach everything twice."""
    w.scan()
    w.end()
    away = w.inbox.rename(w.home / "away")
    other = locks.take(away / inbox_marker.FOLDER / inbox_marker.LOCK, Path("/elsewhere"))
    assert isinstance(other, locks.Lock)
    make = start._runtime

    def late(*words: Any) -> Runtime:
        away.rename(w.inbox)
        return make(*words)

    monkeypatch.setattr(start, "_runtime", late)
    w.restart()
    w.drop("TEST-1/a.txt", b"a")

    w.deliver()

    assert "another attachd (process" in w.runtime.guard.sight.reason
    assert w.jira.uploads == []
    other.release()
    w.deliver()
    assert w.jira.uploads == [["a.txt"]]


def test_an_inbox_that_comes_back_held_by_another_is_not_ours(w: World, tmp_path: Path) -> None:
    """A pause, not an exit."""
    w.scan()
    away = w.home / "away"
    w.inbox.rename(away)
    w.scan()
    lock = away / inbox_marker.FOLDER / inbox_marker.LOCK
    copy = lock.with_name("copy")
    copy.write_bytes(lock.read_bytes())
    copy.rename(lock)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, lock], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        w.runtime.guard._claimed = (0, 0, 0)
        away.rename(w.inbox)
        w.drop("TEST-1/a.txt", b"a")

        w.deliver()

        assert "another attachd (process" in w.runtime.guard.sight.reason
        assert w.jira.uploads == []
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    w.settle()
    assert len(w.jira.uploads) == 1
