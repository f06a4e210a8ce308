"""Events: every folder that is listed is watched, whatever people do to folders, and what the kernel refuses is said."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent

from attachd.intake import coverage, inotify, mounts
from attachd.intake.coverage import Coverage
from attachd.intake.inotify import Changes, Watch, folder_of
from attachd.intake.mounts import Mount
from attachd.share import status_files


class Watched:
    """A folder as the scanner has it watched: each folder in it is entered before it is listed."""

    def __init__(self, root: Path) -> None:
        (root / ".attachd").mkdir(parents=True)
        self.root = root
        self.changes = Changes()
        self.watch = Watch(self.changes)
        self.coverage = Coverage(root, self.watch)
        self.coverage.begin(0.0)
        self.walk()

    def walk(self) -> None:
        self.coverage.listing()
        for folder, names, _ in os.walk(self.root):
            names[:] = [name for name in names if name != ".attachd"]
            path = os.fsencode(os.path.relpath(folder, self.root)).removeprefix(b".")
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue
            self.coverage.enter(descriptor, os.fstat(descriptor), path)
            os.close(descriptor)
        self.coverage.listed(everything=True)

    def rang(self, folder: bytes, seconds: float = 10.0) -> bool:
        """Whether *folder*, or a file in it, rings; as the scanner does, whatever rings is looked at."""
        return self.until(lambda everything, paths: folder in map(folder_of, paths), seconds)

    def until(self, condition: Callable[[bool, set[bytes]], bool], seconds: float = 10.0) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            everything, paths = self.changes.wait(0.1)
            if everything or paths:
                self.walk()
            if condition(everything, paths):
                return True
        return False

    def quiet(self) -> None:
        """Let everything that is under way ring out."""
        while any(self.changes.wait(0.3)):
            self.walk()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path / "inbox")
    yield made
    made.watch.stop()


def test_a_file_rings_for_its_folder_of_the_inbox(watched: Watched) -> None:
    (watched.root / "TEST-1/a/b").mkdir(parents=True)
    watched.quiet()

    (watched.root / "TEST-1/a/b/file.txt").write_bytes(b"x")

    assert watched.rang(b"TEST-1")


@pytest.mark.parametrize("how", ["write", "link", "rename", "mkdir", "folder moved in", "folder moved within"])
def test_whatever_brings_something_new_rings(watched: Watched, tmp_path: Path, how: str) -> None:
    inbox, outside = watched.root, tmp_path / "outside"
    (outside / "tree/a").mkdir(parents=True)
    (outside / "tree/a/file.txt").write_bytes(b"x")
    (inbox / "TEST-1").mkdir()
    (inbox / "TEST-2").mkdir()
    (inbox / "TEST-2/sub").mkdir()
    watched.quiet()

    match how:
        case "write":
            (inbox / "TEST-1/file.txt").write_bytes(b"x")
        case "link":
            os.link(outside / "tree/a/file.txt", inbox / "TEST-1/file.txt")
        case "rename":
            (outside / "tree/a/file.txt").rename(inbox / "TEST-1/file.txt")
        case "mkdir":
            (inbox / "TEST-1/a").mkdir()
        case "folder moved in":
            (outside / "tree").rename(inbox / "TEST-1/tree")
        case "folder moved within":
            (inbox / "TEST-2/sub").rename(inbox / "TEST-1/sub")

    assert watched.rang(b"TEST-1")


def test_a_file_in_the_inbox_itself_rings_for_it_and_attachd_s_own_notices_do_not(watched: Watched) -> None:
    (watched.root / "TEST-1").mkdir()
    watched.quiet()
    (watched.root / status_files.STATUS.decode()).write_text("ours")
    (watched.root / status_files.WHY.decode()).write_text("ours")
    (watched.root / ".hidden").touch()
    assert watched.changes.wait(0.5) == (False, set())

    (watched.root / "loose.txt").write_bytes(b"x")

    assert watched.rang(inotify.INBOX)


def test_a_loose_file_is_told_of_beside_attachd_s_own_and_not_when_it_is_written_on(watched: Watched) -> None:
    watch = watched.watch.known[inotify.identity(watched.root.stat())]
    events = [InotifyEvent(watch, InotifyConstants.IN_CREATE, 0, name) for name in (b"loose.txt", status_files.STATUS)]
    assert inotify._gathered(events)[1] == events[1]
    assert len(inotify._gathered(events)) == 2

    (watched.root / "loose.txt").write_bytes(b"x")
    assert watched.rang(inotify.INBOX)
    watched.quiet()
    with (watched.root / "loose.txt").open("ab") as writer:
        writer.write(b"more")
    assert watched.changes.wait(0.5) == (False, set())


def test_a_file_that_is_still_being_written_rings_when_it_is_closed(watched: Watched) -> None:
    (watched.root / "TEST-1").mkdir()
    watched.quiet()
    with (watched.root / "TEST-1/a.txt").open("wb") as writer:
        writer.write(b"half")
        watched.quiet()

    assert watched.rang(b"TEST-1")


def test_the_shell_work_that_blinds_watchdog_s_observer_blinds_nothing_here(watched: Watched, tmp_path: Path) -> None:
    """mkdir A; mv A out; mkdir A; rmdir A; rmdir the moved one: its reader thread ends with a KeyError."""
    inbox, outside = watched.root, tmp_path / "outside"
    (inbox / "TEST-1").mkdir()
    watched.quiet()
    (inbox / "TEST-1").rename(outside)
    (inbox / "TEST-1").mkdir()
    watched.quiet()
    (inbox / "TEST-1").rmdir()
    outside.rmdir()
    (inbox / "TEST-2").mkdir()
    watched.quiet()

    (inbox / "TEST-2/a.txt").write_bytes(b"x")

    assert watched.watch.alive
    assert watched.rang(b"TEST-2")


@pytest.mark.parametrize("seed", range(3))
def test_no_folder_goes_blind_whatever_is_made_moved_and_removed(watched: Watched, tmp_path: Path, seed: int) -> None:
    """A thousand random acts on folders, in and out of the inbox; then every folder that is left still rings."""
    inbox, outside = watched.root, tmp_path / "outside"
    outside.mkdir()
    chance = random.Random(seed)
    names = [f"TEST-{number}" for number in range(1, 6)]
    for number in range(1000):
        folder = inbox / chance.choice(names) / chance.choice(["", "a", "a/b"])
        match chance.randrange(5):
            case 0 | 1:
                folder.mkdir(parents=True, exist_ok=True)
            case 2 if folder.is_dir():
                folder.rename(outside / str(number))
            case 3 if folder.is_dir():
                target = inbox / chance.choice(names) / f"moved-{number}"
                if not target.is_relative_to(folder):
                    target.parent.mkdir(exist_ok=True)
                    folder.rename(target)
            case 4 if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    watched.quiet()

    assert watched.watch.alive
    for folder, _, _ in os.walk(inbox):
        if ".attachd" not in folder and Path(folder) != inbox:
            (Path(folder) / "file.txt").write_bytes(b"x")
            assert watched.rang(os.fsencode(os.path.relpath(folder, inbox)).split(b"/")[0]), folder


def test_moves_out_of_the_inbox_hold_nothing_up(watched: Watched, tmp_path: Path) -> None:
    """watchdog's observer holds every event back for half a second then; every filed file is such a move."""
    (watched.root / "TEST-1").mkdir()
    (watched.root / "TEST-2").mkdir()
    watched.quiet()
    for number in range(20):
        (watched.root / f"TEST-1/{number}").write_bytes(b"x")
    watched.quiet()
    over = threading.Event()

    def move() -> None:
        for number in range(20):
            (watched.root / f"TEST-1/{number}").rename(tmp_path / f"{number}")
            over.wait(0.02)

    mover = threading.Thread(target=move)
    mover.start()
    took = []
    for number in range(10):
        began = time.monotonic()
        (watched.root / f"TEST-2/{number}").write_bytes(b"x")
        while b"TEST-2" not in map(folder_of, watched.changes.wait(5.0)[1]):
            pass
        took.append(time.monotonic() - began)
    mover.join()

    assert sorted(took)[5] < 0.25, "half of what watchdog's delay would be"


def test_no_warning_is_written_whatever_happens_to_folders(watched: Watched) -> None:
    """watchdog's observer writes 36 KiB for a folder that it comes upon twice."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for number in range(200):
            (watched.root / f"TEST-{number}/a/b/c").mkdir(parents=True)
            watched.walk()
        watched.quiet()

    assert told == []


def test_an_overflow_of_the_kernel_s_queue_asks_for_a_full_scan(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    (watched.root / "TEST-1").mkdir()
    watched.quiet()
    waiting, hold, reader = threading.Event(), threading.Event(), watched.watch._reader
    assert reader is not None
    parse = reader.read_events
    monkeypatch.setattr(reader, "read_events", lambda **_: (waiting.set(), hold.wait(60), parse())[2])
    (watched.root / "TEST-1/first").write_bytes(b"")
    # Else a read that began before may empty the queue of more than there is to spare.
    assert waiting.wait(60)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with capture_logs() as told:
        for number in range(limit // 2 + 100):
            (watched.root / "TEST-1" / str(number)).touch()
        hold.set()

        assert watched.until(lambda everything, folders: everything, seconds=60)
    assert watched.watch.overflows >= 1
    assert [line["event"] for line in told].count("watch.overflow") == watched.watch.overflows


def test_watchdog_itself_says_nothing_of_an_overflow_that_is_told_already(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed; filesystem events were lost")

    assert caplog.records == []


def refused(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The kernel grants so many watches and no more (inotify_add_watch(2), ENOSPC)."""
    add = inotify.InotifyFD.add_callback
    granted = 0

    def limited(self: inotify.InotifyFD, *arguments: object) -> inotify.WatchDescriptor:
        nonlocal granted
        granted += 1
        if granted > after:
            raise OSError(28, "inotify watch limit reached")
        return add(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(inotify.InotifyFD, "add_callback", limited)


def test_when_watches_run_out_it_is_said_in_words_and_the_rest_is_looked_through_more_often(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(monkeypatch, after=2)
    for number in range(1, 6):
        (watched.root / f"TEST-{number}").mkdir()
    with capture_logs() as told:
        watched.walk()
        watched.walk()

    lines = [line for line in told if line["event"] == "watch.exhausted"]
    assert len(lines) == 1
    assert lines[0]["folders"] == 3
    assert "fs.inotify.max_user_watches=" in lines[0]["remedy"]
    blind = [f"TEST-{number}" for number in range(1, 6) if watched.coverage.blind(b"TEST-%d" % number)]
    assert len(blind) == 3
    monkeypatch.undo()
    watched.walk()
    assert not any(watched.coverage.blind(b"TEST-%d" % number) for number in range(1, 6))


def test_without_an_instance_of_inotify_everything_is_blind_and_the_sysctl_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(self: inotify.InotifyFD) -> None:
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr(inotify.InotifyFD, "__init__", none_left)
    (tmp_path / ".attachd").mkdir()
    found = Coverage(tmp_path, Watch(Changes()))
    found.begin(0.0)

    assert "sysctl fs.inotify.max_user_instances" in found.blind(b"TEST-1")


def test_folders_that_were_moved_away_are_watched_no_longer(watched: Watched, tmp_path: Path) -> None:
    (watched.root / "TEST-1/a").mkdir(parents=True)
    watched.quiet()
    before = watched.watch.count()
    (watched.root / "TEST-1").rename(tmp_path / "away")
    watched.quiet()
    watched.walk()

    assert watched.watch.count() == before - 2
    (tmp_path / "away/a/file.txt").write_bytes(b"x")
    assert not watched.rang(b"TEST-1", 0.5)


# --- What events are worth --------------------------------------------------------------------------------------


def test_a_local_file_system_proves_itself(watched: Watched) -> None:
    assert watched.coverage.blind(b"TEST-1") == ""
    assert watched.coverage.mtimes(b"TEST-1")
    assert watched.coverage.reasons() == {}


def test_a_canary_leaves_nothing_behind_and_rings_nothing(watched: Watched) -> None:
    watched.coverage.check(coverage.PROVE_SECONDS)

    assert watched.changes.wait(0.3) == (False, set())
    assert list((watched.root / ".attachd").iterdir()) == []


def test_a_canary_of_a_process_that_died_is_swept(watched: Watched) -> None:
    (watched.root / ".attachd" / os.fsdecode(inotify.CANARY + b"old")).touch()

    watched.coverage.check(coverage.PROVE_SECONDS)

    assert list((watched.root / ".attachd").iterdir()) == []


def test_a_watch_that_fell_silent_is_begun_anew(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """All threads live, and no event ever comes: the canary shows it."""
    reader = watched.watch._reader
    assert reader is not None
    monkeypatch.setattr(reader, "handle_event", lambda event: None)
    monkeypatch.setattr(coverage, "ECHO_SECONDS", 0.2)
    with capture_logs() as told:
        assert watched.coverage.check(coverage.PROVE_SECONDS)

    assert [line["event"] for line in told] == ["watch.blind"]
    assert watched.coverage.blind(b"TEST-1") == ""
    watched.walk()
    (watched.root / "TEST-1").mkdir()
    assert watched.rang(b"TEST-1")


def test_a_reader_that_died_is_replaced(watched: Watched) -> None:
    reader = watched.watch._reader
    assert reader is not None
    reader.stop()
    reader.join()
    with capture_logs() as told:
        assert watched.coverage.check(1.0)

    assert [line["event"] for line in told] == ["watch.died"]
    watched.walk()
    (watched.root / "TEST-1").mkdir()
    assert watched.rang(b"TEST-1")


def test_on_a_shared_file_system_events_are_not_trusted(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of this machine come, so that a canary would sing; those of others never do."""
    monkeypatch.setattr(mounts, "below", lambda inbox: [Mount(b"/srv", "nfs4")])

    watched.coverage.check(1.0)

    assert "no event tells" in watched.coverage.blind(b"TEST-1")
    assert not watched.coverage.mtimes(b"TEST-1")
    assert list(watched.coverage.reasons().values()) == ["nfs4: of what other machines do there, no event tells"]


def test_a_shared_file_system_below_the_inbox_makes_only_its_folder_blind(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = mounts.below(watched.root)
    share = Mount(bytes(watched.root) + b"/TEST-1/deep", "cifs")
    monkeypatch.setattr(mounts, "below", lambda inbox: [*real, share])

    watched.coverage.check(1.0)

    assert watched.coverage.blind(b"TEST-1")
    assert not watched.coverage.blind(b"TEST-10")
    assert not watched.coverage.blind(b"")


def test_a_mount_on_which_scans_keep_finding_what_no_event_told_of_is_named(watched: Watched) -> None:
    with capture_logs() as told:
        watched.coverage.missed({b"TEST-1": 3})
        assert not watched.coverage.blind(b"TEST-1")
        watched.coverage.missed({b"TEST-1": 1, b"TEST-2": 2})

    assert [line["event"] for line in told] == ["watch.blind"]
    assert told[0]["folder"] == str(watched.root)
    assert watched.coverage.blind(b"TEST-1")
    watched.coverage.check(coverage.PROVE_SECONDS)
    assert watched.coverage.blind(b"TEST-1"), "a canary's event alone does not make it trusted again"
    watched.coverage.check(2 * coverage.PROVE_SECONDS)
    assert not watched.coverage.blind(b"TEST-1"), "ten minutes without such a file do"


def test_where_no_trial_file_can_be_made_it_is_said_and_the_watch_is_not_to_blame(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: int, name: bytes) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(coverage, "_make", full)
    with capture_logs() as told:
        assert not watched.coverage.check(coverage.PROVE_SECONDS)

    assert told == []
    assert watched.coverage.blind(b"TEST-1") == "no trial file could be made there (No space left on device)"


def test_of_files_in_a_folder_one_event_is_enough_and_of_all_else_each_is_told(tmp_path: Path) -> None:
    """Of thousands of files that are made at once each tells the same: that there is something new in this folder."""
    reader = inotify.Reader()
    try:
        for folder in ("TEST-1", "TEST-2"):
            (tmp_path / folder).mkdir()
            reader.add_callback(bytes(tmp_path / folder), inotify._MASK, Watch(Changes()), inotify._OURS)
        for number in range(50):
            (tmp_path / f"TEST-1/{number}").write_bytes(b"x")
            (tmp_path / f"TEST-2/{number}").write_bytes(b"x")
        for name in ("a", "b", ".attachd-canary-1", ".attachd-canary-2"):
            (tmp_path / "TEST-1" / name).mkdir()
        (tmp_path / "TEST-1/.attachd-canary-3").touch()
        (tmp_path / "TEST-1/.attachd-canary-4").touch()

        events = reader.read_events()
    finally:
        reader.close()

    of_folders = [event.name for event in events if event.is_directory]
    of_canaries = {event.name for event in events if event.name.startswith(inotify.CANARY) and not event.is_directory}
    plain = [event for event in events if not event.is_directory and event.name not in of_canaries]
    assert of_folders == [b"a", b"b", b".attachd-canary-1", b".attachd-canary-2"]
    assert of_canaries == {b".attachd-canary-3", b".attachd-canary-4"}
    assert len(plain) == 4, "one that files were made, one that they were closed, in each of two folders"
