"""The administrator's verbs as they are installed: pause, resume, why, history and retry, with the daemon up and down."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from installation import Jira, Place


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.05)


@contextlib.contextmanager
def running(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon on *place* until the end of the context."""
    daemon = place.start(stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: "attachd    running" in place.run("status").stdout)
        yield daemon
    finally:
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(20)
    assert code == 0


def said(place: Place, *words: str, code: int = 0) -> str:
    """What a verb prints; it ends with *code*, and complains only if that is not 0."""
    ended = place.run(*words)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert (ended.stderr == "") == (code == 0), ended.stderr
    return ended.stdout


@pytest.fixture
def tried(place: Place) -> Place:
    """A place with a journal."""
    assert place.run("once").returncode == 0
    return place


# --- pause and resume -------------------------------------------------------------------------------------------


def test_a_running_daemon_heeds_pause_and_resume_within_moments(place: Place, jira: Jira) -> None:
    with running(place):
        told = said(place, "pause")
        assert told.startswith("Nothing is sent to Jira until `attachd resume`.\nattachd is running (process ")
        place.drop("TEST-1/a.txt", b"a")
        wait_until(lambda: "1 waiting" in place.run("status").stdout)
        assert "paused     until `attachd resume`: paused by hand" in said(place, "status")
        assert jira.attachments() == []

        began = time.monotonic()
        assert said(place, "resume").startswith("Ended: the pause by hand (since ")
        wait_until(lambda: place.files(place.done) == {b"TEST-1/a.txt": b"a"}, 10)
        assert time.monotonic() - began < 10, "not only when the workers look by themselves"


def test_an_issue_is_paused_by_the_name_of_its_folder(tried: Place, jira: Jira) -> None:
    said(tried, "pause", "--issue", "test-1 Printer jams", "--for", "2h")
    tried.drop("TEST-1/a.txt", b"a")
    tried.drop("TEST-2/b.txt", b"b")

    ended = tried.run("once")

    assert ended.returncode == 4
    assert "1 attached, 0 failed, 1 waiting" in ended.stdout
    assert "ended early: paused by hand: TEST-1" in ended.stdout
    assert "paused     TEST-1 until " in said(tried, "status")
    assert said(tried, "resume", "--issue", "TEST-2") == (
        "Nothing of TEST-2 was paused.\nattachd is not running: this takes effect when it is started.\n"
    )
    said(tried, "resume", "--issue", "TEST-1")
    assert tried.run("once").returncode == 0
    assert sorted(a["filename"] for a in jira.attachments()) == ["a.txt", "b.txt"]


def test_once_ends_at_a_pause_of_everything(tried: Place, jira: Jira) -> None:
    said(tried, "pause")
    tried.drop("TEST-1/a.txt", b"a")

    ended = tried.run("once")

    assert ended.returncode == 4
    assert "ended early: paused by hand" in ended.stdout
    assert jira.attachments() == []


def test_with_nothing_paused_resume_says_so(tried: Place) -> None:
    assert said(tried, "resume").startswith("Nothing was paused.\n")
