"""Disks that fill up, fail or go away under the installed service: it waits, says so, and goes on by itself.

Each line of the table in docs/faults.md has its test here or where that table says.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from installation import Jira, Place
from waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk")
TEMPORARY = 75


@contextmanager
def disk(folder: Path, size: str = "2m") -> Iterator[None]:
    """A disk of its own at *folder*."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Take the last byte of a disk."""
    filling = folder / ".attachd-filling"
    with filling.open("wb", buffering=0) as file:
        for size in (65536, 512):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    return filling


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def break_full(folder: Path) -> Callable[[], None]:
    return fill(folder).unlink


def break_read_only(folder: Path) -> Callable[[], None]:
    remount(folder, "ro")
    return lambda: remount(folder, "rw")


BREAKS = {"full": break_full, "read-only": break_read_only}


@contextmanager
def running(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    with (place.home / "log").open("wb") as log:
        daemon = place.start(stdout=log, stderr=log)
        try:
            yield daemon
            assert daemon.poll() is None, log_of(place)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)


def drop(place: Place, path: str, content: bytes) -> None:
    """Written within the inbox, which may be a disk of its own, and renamed."""
    target = place.inbox / path
    target.parent.mkdir(exist_ok=True)
    fresh = target.with_name(f".{target.name}")
    fresh.write_bytes(content)
    fresh.rename(target)


def log_of(place: Place) -> str:
    return (place.home / "log").read_text()


def delivered(place: Place, jira: Jira, *names: str) -> bool:
    return {each["filename"] for each in jira.attachments()} >= set(names) and place.is_emptied()


def exactly_once(jira: Jira, *names: str) -> None:
    assert sorted(each["filename"] for each in jira.attachments()) == sorted(names)


@pytest.mark.parametrize("how", BREAKS)
def test_a_start_without_room_for_the_journal_is_one_to_be_tried_again(place: Place, how: str) -> None:
    """systemd does not start a service again that ended with 78."""
    place.state.mkdir()
    with disk(place.state):
        mend = BREAKS[how](place.state)
        ended = place.run("run")
        mend()

    assert ended.returncode == TEMPORARY, ended.stderr
    assert str(place.state) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("how", BREAKS)
def test_so_is_one_with_a_journal_that_is_there(place: Place, jira: Jira, how: str) -> None:
    place.state.mkdir()
    with disk(place.state):
        assert place.run("once").returncode == 0
        mend = BREAKS[how](place.state)
        ended = place.run("run") if how == "read-only" else None
        mend()
        place.drop("TEST-1/a.txt", b"a")
        assert place.run("once").returncode == 0

    assert ended is None or (ended.returncode == TEMPORARY and "Traceback" not in ended.stderr), ended.stderr
    exactly_once(jira, "a.txt")


@pytest.mark.parametrize(
    ("how", "which"),
    # Where it has files open for writing (journal, lock) a disk cannot be made read-only from outside.
    [("full", "state"), ("full", "done"), ("full", "inbox"), ("read-only", "done")],
)
def test_a_disk_that_fails_under_the_running_service_is_waited_for(
    place: Place, jira: Jira, how: str, which: str
) -> None:
    folder: Path = getattr(place, which)
    folder.mkdir(exist_ok=True)
    with disk(folder), running(place):
        drop(place, "TEST-1/before.txt", b"before")
        wait_until(lambda: delivered(place, jira, "before.txt"), 30)
        if which == "inbox":
            drop(place, "TEST-1/during.txt", b"during")
        mend = BREAKS[how](folder)
        if which != "inbox":
            drop(place, "TEST-1/during.txt", b"during")
        time.sleep(2.0)  # long enough for it to run into the fault, or to be done with the file before
        lies = place.files(place.inbox) | place.files(place.done)
        mend()
        wait_until(lambda: delivered(place, jira, "before.txt", "during.txt"), 60)

    assert b"during" in lies.values()
    exactly_once(jira, "before.txt", "during.txt")
    assert "Traceback" not in log_of(place)


def test_an_inbox_that_is_unmounted_and_mounted_again_is_waited_for(place: Place, jira: Jira) -> None:
    image = place.home / "image"
    with image.open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    mount = ["mount", "-o", "loop", image, place.inbox]
    subprocess.run(mount, check=True)
    try:
        with running(place):
            drop(place, "TEST-1/a.txt", b"a")
            wait_until(lambda: delivered(place, jira, "a.txt"), 30)
            (place.inbox / "TEST-1" / ".b.txt").write_bytes(b"b")
            subprocess.run(["umount", "-l", place.inbox], check=True)
            wait_until(lambda: "(not there)" in place.run("status").stdout, 30)
            # What is dropped now lies below the mount point, and is nobody's.
            (place.inbox / "TEST-2").mkdir()
            (place.inbox / "TEST-2" / "lost.txt").write_bytes(b"beside")
            subprocess.run(mount, check=True)
            (place.inbox / "TEST-1" / ".b.txt").rename(place.inbox / "TEST-1" / "b.txt")
            wait_until(lambda: {each["filename"] for each in jira.attachments()} == {"a.txt", "b.txt"}, 60)
    finally:
        subprocess.run(["umount", "-l", place.inbox], check=True)

    assert (place.inbox / "TEST-2" / "lost.txt").read_bytes() == b"beside"
    exactly_once(jira, "a.txt", "b.txt")


# --- The journal ------------------------------------------------------------------------------------------------------


def damage_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"no database at all, " * 5)


def damage_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [damage_header, damage_middle, cut_off], ids=lambda how: how.__name__)
def test_a_damaged_journal_is_told_and_moved_aside_nothing_is_attached_twice(
    place: Place, jira: Jira, damage: Callable[[Path], None]
) -> None:
    place.configure(jira.url, "[doubt]\nlooks_seconds = [0.1, 0.2]\n[upload]\nreply_seconds = 1.0\n")
    place.drop("TEST-1/a.txt", b"a")
    assert place.run("once").returncode == 0
    journal = place.state / "journal.db"
    damage(journal)

    refused = place.run("run")
    # As if it had died between the upload and the move; then an administrator does what the message says.
    os.rename(place.done / "TEST-1" / "a.txt", place.inbox / "TEST-1" / "a.txt")
    for file in place.state.glob("journal.db*"):
        file.rename(file.with_name("damaged-" + file.name))
    place.drop("TEST-1/b.txt", b"b")
    ended = place.run("once")

    assert refused.returncode == 78, refused.stderr
    assert str(journal) in refused.stderr
    assert "move it aside" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert ended.returncode == 0, ended.stdout + ended.stderr
    exactly_once(jira, "a.txt", "b.txt")


def test_a_journal_deleted_under_the_running_service_is_missed_at_the_next_start(place: Place, jira: Jira) -> None:
    place.configure(jira.url, "[doubt]\nlooks_seconds = [0.1, 0.2]\n[upload]\nreply_seconds = 1.0\n")
    with running(place):
        place.drop("TEST-1/a.txt", b"a")
        wait_until(lambda: delivered(place, jira, "a.txt"), 30)
        for file in place.state.glob("journal.db*"):
            file.unlink()
        place.drop("TEST-1/b.txt", b"b")
        wait_until(lambda: delivered(place, jira, "a.txt", "b.txt"), 30)
    os.rename(place.done / "TEST-1" / "b.txt", place.inbox / "TEST-1" / "b.txt")

    ended = place.run("once")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "journal.lost" in ended.stderr
    exactly_once(jira, "a.txt", "b.txt")


def test_a_page_that_is_damaged_while_the_service_works_ends_it_in_words(place: Place, jira: Jira) -> None:
    for number in range(40):
        place.drop(f"TEST-1/{number}.txt", b"%d" % number)
    assert place.run("once").returncode == 0
    with (place.home / "log").open("wb") as log:
        daemon = place.start(stdout=log, stderr=log)
        try:
            wait_until(lambda: "service.started" in log_of(place), 30)
            damage_middle(place.state / "journal.db")
            place.drop("TEST-2/a.txt", b"a")

            assert daemon.wait(60) == 78
        finally:
            daemon.kill()
            daemon.wait()

    assert "journal.unusable" in log_of(place)
    assert "Traceback" not in log_of(place)
    checked = place.run("check", "--offline")
    assert checked.returncode in (1, 78)
    assert "Traceback" not in checked.stderr
