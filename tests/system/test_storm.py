"""A storm: more files than the kernel's queue of events holds, and folders moved in whole. None is lost, none known twice."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from installation import Place
from waiting import wait_until

FOLDERS, FILES_IN_EACH = 400, 50
_MAX_QUEUED_EVENTS = Path("/proc/sys/fs/inotify/max_queued_events")


def watches(process: int) -> int:
    """How many folders a process watches (proc(5), fdinfo)."""
    count = 0
    for path in Path(f"/proc/{process}/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            count += len(re.findall(r"^inotify wd:", path.read_text("ascii"), re.MULTILINE))
    return count


def known(place: Place) -> list[bytes]:
    """The path of every row of the journal."""
    with contextlib.closing(sqlite3.connect(f"file:{place.state}/journal.db?mode=ro", uri=True)) as journal:
        return [path for (path,) in journal.execute("SELECT path FROM file")]


def fill(folder: Path) -> None:
    for number in range(FILES_IN_EACH):
        (folder / f"{number}.txt").write_bytes(b"%d" % number)


@pytest.mark.timeout(180)
def test_a_storm_loses_no_file_and_knows_each_once(place: Place) -> None:
    assert place.run("once").returncode == 0
    assert place.run("pause").returncode == 0
    keys = [f"TEST-{number}" for number in range(1, FOLDERS + 1)]
    watched, moved_in = keys[: FOLDERS // 2], keys[FOLDERS // 2 :]
    for key in watched:
        (place.inbox / key).mkdir()
    for key in moved_in:
        (place.home / "outside" / key).mkdir(parents=True)
        fill(place.home / "outside" / key)
    with open(place.home / "log", "wb") as log, place.start(stderr=log) as daemon:
        try:
            wait_until(lambda: watches(daemon.pid) > len(watched))

            # Stopped it reads no events: a queue of the usual length runs over for certain.
            daemon.send_signal(signal.SIGSTOP)
            for key in watched:
                fill(place.inbox / key)
            daemon.send_signal(signal.SIGCONT)
            for key in moved_in:
                os.rename(place.home / "outside" / key, place.inbox / key)

            wait_until(lambda: len(known(place)) >= FOLDERS * FILES_IN_EACH)
        finally:
            daemon.send_signal(signal.SIGCONT)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)

    assert daemon.returncode == 0
    expected = {f"{key}/{number}.txt".encode() for key in keys for number in range(FILES_IN_EACH)}
    assert set(known(place)) == expected, "0 lost"
    assert len(known(place)) == len(expected), "one row for each"
    # A created file is at least two events: its creation, and the close of its writer.
    if 2 * len(watched) * FILES_IN_EACH > int(_MAX_QUEUED_EVENTS.read_text()):
        assert "watch.overflow" in (place.home / "log").read_text()


@pytest.mark.timeout(180)
def test_after_a_storm_of_folders_moved_in_whole_all_of_them_are_watched(place: Place) -> None:
    """What is dropped into any of them later is found by its event, long before the next scan."""
    place.config.write_text(place.config.read_text().replace("rescan_seconds = 1.0", "rescan_seconds = 3600.0"))
    assert place.run("once").returncode == 0
    assert place.run("pause").returncode == 0
    keys = [f"TEST-{number}" for number in range(1, FOLDERS // 4 + 1)]
    for key in keys:
        (place.home / "outside" / key / "below").mkdir(parents=True)
        (place.home / "outside" / key / "below/first.txt").write_bytes(b"first")
    with place.start(stderr=subprocess.DEVNULL) as daemon:
        try:
            wait_until(lambda: watches(daemon.pid) > 0)
            for key in keys:
                os.rename(place.home / "outside" / key, place.inbox / key)
            wait_until(lambda: len(known(place)) == len(keys))
            wait_until(lambda: watches(daemon.pid) > 2 * len(keys))
            for key in keys:
                (place.inbox / key / "below/second.txt").write_bytes(b"second")

            wait_until(lambda: len(known(place)) == 2 * len(keys))
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)

    assert sorted(known(place)) == sorted(f"{key}/below/{n}.txt".encode() for key in keys for n in ("first", "second"))
