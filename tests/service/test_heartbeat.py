"""Liveness that cannot lie: a loop that hangs is found, and where it hangs decides what follows."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from attachd import heartbeat
from attachd.delivery import upload
from attachd.delivery.runtime import Runtime
from attachd.fs import folders
from attachd.heartbeat import PATIENCE_SECONDS, Awaited, Beats
from attachd.service import watchdog as service_watchdog
from attachd.service.watchdog import Liveness
from memory_jira import world


class Time:
    def __init__(self) -> None:
        self.awake = 1000.0

    def __call__(self) -> float:
        return self.awake


@contextmanager
def a_loop(beats: Beats, work: Callable[[], object]) -> Iterator[None]:
    """A thread that beats once, and then is inside *work* until that returns."""
    began = threading.Event()

    def loop() -> None:
        beats.beat()
        began.set()
        work()
        beats.leave()

    thread = threading.Thread(target=loop, name="intake")
    thread.start()
    assert began.wait(10)
    yield
    thread.join(10)
    assert not thread.is_alive()


def test_a_loop_that_beats_does_not_hang_and_one_that_left_is_not_missed() -> None:
    time = Time()
    beats = Beats(time)
    beats.beat()
    time.awake += PATIENCE_SECONDS
    assert beats.hangs() == []

    time.awake += 1
    assert [hang.loop for hang in beats.hangs()] == [threading.current_thread().name]
    beats.beat()
    assert beats.hangs() == []
    beats.leave()
    time.awake += 10 * PATIENCE_SECONDS
    assert beats.hangs() == []


def test_a_loop_that_waits_for_a_lock_is_stuck() -> None:
    time = Time()
    beats, lock = Beats(time), threading.Lock()
    with lock, a_loop(beats, lambda: lock.acquire(timeout=1.0)):
        time.awake += PATIENCE_SECONDS + 1
        (hang,) = beats.hangs()

    assert not hang.degraded
    assert str(hang).startswith("intake has been stuck for 121 s")


def test_a_loop_inside_a_call_to_the_inbox_s_file_system_is_degraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe stands for a share that does not answer: the thread is inside open(2) until somebody writes."""
    time = Time()
    beats, pipe = Beats(time), tmp_path / "folder"
    os.mkfifo(pipe)

    monkeypatch.setattr(folders, "FOLDER", os.O_RDONLY)  # Without O_DIRECTORY, the pipe is opened.

    def work() -> None:
        with pytest.raises(NotADirectoryError), folders.folder(pipe, b"a"):
            pass

    with a_loop(beats, work):
        try:
            time.awake += PATIENCE_SECONDS + 1
            found = beats.hangs()
            while not found or "folders" not in found[0].where:
                found = beats.hangs()
        finally:
            os.close(os.open(pipe, os.O_WRONLY))

    assert found[0].degraded
    assert "intake has been waiting for the file system for 121 s (attachd.fs.folders, line " in str(found[0])


@pytest.mark.parametrize(
    ("awaited", "seconds", "hangs", "degraded"),
    [
        (Awaited.SHARE, 121, True, True),
        (Awaited.SHARE, 10_000, True, True),
        (Awaited.JIRA, 121, False, False),
        (Awaited.JIRA, 901, True, False),
        (None, 121, True, False),
    ],
)
def test_what_it_waits_for_decides(awaited: Awaited | None, seconds: float, hangs: bool, degraded: bool) -> None:
    found = heartbeat.judge("worker-1", seconds, awaited, "attachd.fs.move, line 7")

    assert (found is not None) == hangs
    assert (found is not None and found.degraded) == degraded


def _degraded(regions: Callable[[], AbstractContextManager[object]]) -> bool | None:
    """Whether the calling thread is degraded after a long silence inside *regions*; None if it does not hang."""
    time = Time()
    beats = Beats(time)
    beats.beat()
    time.awake += PATIENCE_SECONDS + 1
    with regions():
        hangs = beats.hangs()
    return hangs[0].degraded if hangs else None


def test_the_innermost_mark_counts_and_it_ends_with_its_region() -> None:
    @contextmanager
    def reads_a_body() -> Iterator[None]:
        with heartbeat.on_jira(), heartbeat.on_share():
            yield

    @contextmanager
    def has_read_a_body() -> Iterator[None]:
        with heartbeat.on_jira():
            with heartbeat.on_share():
                pass
            yield

    @contextmanager
    def failed_on_the_share() -> Iterator[None]:
        with suppress(OSError), heartbeat.on_share():
            raise OSError
        yield

    assert _degraded(heartbeat.on_share) is True
    assert _degraded(heartbeat.on_jira) is None
    assert _degraded(reads_a_body) is True
    assert _degraded(has_read_a_body) is None
    assert _degraded(failed_on_the_share) is False


def test_what_a_consumer_does_between_two_steps_is_not_marked() -> None:
    @contextmanager
    def between_two_steps() -> Iterator[None]:
        for _ in heartbeat.on_share().each([1]):
            yield

    @heartbeat.on_share()
    def marked() -> bool | None:
        return _degraded(nullcontext)

    assert _degraded(between_two_steps) is False
    assert marked() is True
    assert next(heartbeat.on_share().each(marked() for _ in range(1))) is True


def test_an_upload_may_be_as_slow_as_it_likes_while_bytes_go_and_then_as_its_answer_is_allowed_to() -> None:
    time = Time()
    beats, sent = Beats(time), 0
    with beats.busy(600.0, lambda: sent):
        for _ in range(10):
            sent += 1
            time.awake += PATIENCE_SECONDS + 600.0
            assert beats.hangs() == []
        time.awake += PATIENCE_SECONDS + 600.0
        assert beats.hangs() == []
        time.awake += 1
        assert len(beats.hangs()) == 1
    time.awake += PATIENCE_SECONDS + 1
    assert len(beats.hangs()) == 1, "afterwards it is an ordinary loop again"


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A service manager that waits for pings."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5.0)
        monkeypatch.setitem(
            service_watchdog.send.__kwdefaults__, "environ", {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        )
        monkeypatch.setattr(service_watchdog, "watchdog_seconds", lambda: 60.0)
        yield listening


def test_the_service_manager_is_pinged_unless_a_loop_is_stuck(manager: socket.socket, tmp_path: Path) -> None:
    time = Time()
    beats = Beats(time)
    liveness = Liveness(beats)
    beats.beat()
    assert liveness.step() == []
    assert manager.recv(100) == b"WATCHDOG=1"

    time.awake += PATIENCE_SECONDS + 1
    with capture_logs() as told:
        liveness.step()
        liveness.step()
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)
    assert [line["event"] for line in told] == ["service.stuck"]

    beats.beat()
    liveness.step()
    assert manager.recv(100) == b"WATCHDOG=1"


def test_a_share_that_does_not_answer_is_told_and_is_no_reason_to_restart(manager: socket.socket) -> None:
    time = Time()
    beats = Beats(time)
    liveness = Liveness(beats)
    beats.beat()
    time.awake += 3600.0
    with capture_logs() as told, heartbeat.on_share():
        (hang,) = liveness.step()

    assert hang.degraded
    assert manager.recv(100) == b"WATCHDOG=1"
    assert [line["event"] for line in told] == ["service.degraded"]


def test_a_wait_for_the_bandwidth_limit_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a body of one buffer has to wait for its turn at a small limit."""
    with world(tmp_path, upload={"max_bytes_per_second": 65_536}) as w:
        w.drop("TEST-1/a.bin", b"x" * 3_000_000)
        w.scan()
        seen: list[list[heartbeat.Hang]] = []

        def waiting(runtime: Runtime, size: int, ended: threading.Event) -> None:
            w.clock.advance(PATIENCE_SECONDS - 1.0)
            seen.append(runtime.beats.hangs())

        monkeypatch.setattr(upload, "_pay", waiting)
        w.runtime.beats.beat()
        assert upload._paid(w.runtime, w.rows())

    assert len(seen) > 2
    assert not any(seen)


@pytest.mark.parametrize(("watchdog", "seconds"), [(None, 5.0), ("60000000", 5.0), ("6000000", 2.0)])
def test_a_short_watchdog_is_fed_three_times_while_it_waits(
    monkeypatch: pytest.MonkeyPatch, watchdog: str | None, seconds: float
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    if watchdog is not None:
        monkeypatch.setenv("WATCHDOG_USEC", watchdog)

    assert Liveness(Beats(Time())).seconds(5.0) == seconds
