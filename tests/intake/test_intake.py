"""Intake on real folders: what is taken, what waits, what is never touched, and why."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from attachd.intake import files
from attachd.model import State
from memory_jira import World, world

NOBODY = 65534


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[World]:
    """With the waits that people have."""
    settle = {"quiet_seconds": 30.0, "quiet_seconds_unproven": 30.0, "empty_seconds": 60.0}
    with world(tmp_path, settle=settle) as made:
        yield made


def unrouted(w: World) -> dict[bytes, int]:
    return {record[0]: record[1] for record in w.runtime.journal.rows("SELECT folder, files FROM unrouted")}


# --- Settling ---------------------------------------------------------------------------------------------------


def test_files_are_sent_in_the_order_in_which_they_came(w: World) -> None:
    for number in (3, 1, 2):
        path = w.drop(f"TEST-1/{'cab'[number - 1]}.txt")
        os.utime(path, (number, number))

    w.deliver()

    assert [row.path for row in w.rows()] == [b"TEST-1/c.txt", b"TEST-1/a.txt", b"TEST-1/b.txt"]


def test_a_file_is_taken_when_it_has_been_quiet(slow: World) -> None:
    slow.drop("TEST-1/a.txt", b"a")
    report = slow.scan()
    assert slow.states() == ["SEEN"]
    assert report.settles == {b"TEST-1": slow.clock.boot() + 30.0}

    slow.clock.advance(29.9)
    slow.scan()
    assert slow.states() == ["SEEN"]

    slow.clock.advance(0.2)
    slow.scan()
    assert slow.states() == ["READY"]


@pytest.mark.parametrize("change", ["grow", "touch", "chmod", "replace"])
def test_any_change_makes_it_settle_anew(slow: World, change: str) -> None:
    path = slow.drop("TEST-1/a.txt", b"a")
    slow.scan()
    slow.clock.advance(29.0)
    match change:
        case "grow":
            path.write_bytes(b"ab")
        case "touch":
            os.utime(path, (1, 1))
        case "chmod":
            path.chmod(0o640)
        case "replace":
            status = path.stat()
            slow.drop("TEST-1/a.txt", b"b", status.st_mtime_ns)
    slow.scan()
    slow.clock.advance(29.0)
    slow.scan()
    assert slow.states() == ["SEEN"]

    slow.clock.advance(1.0)
    slow.scan()
    assert slow.states() == ["READY"]


def test_an_empty_file_waits_for_its_content(slow: World) -> None:
    """A scanner makes a placeholder first."""
    path = slow.drop("TEST-1/scan.pdf", b"")
    slow.scan()
    slow.clock.advance(59.0)
    slow.scan()
    assert slow.states() == ["SEEN"]
    path.write_bytes(b"%PDF")
    slow.scan()
    slow.clock.advance(30.0)
    slow.deliver()

    assert [s.content for s in slow.jira.stored] == [b"%PDF"]


def test_an_empty_file_that_stays_empty_is_attached(slow: World) -> None:
    slow.drop("TEST-1/empty.txt", b"")
    slow.scan()
    slow.clock.advance(60.0)
    slow.deliver()

    assert [(s.name, s.content) for s in slow.jira.stored] == [("empty.txt", b"")]


def test_an_empty_file_whose_mode_is_set_again_and_again_is_attached(slow: World) -> None:
    """A job sets the modes of the whole inbox; an empty file is as empty as before."""
    path = slow.drop("TEST-1/empty.txt", b"")
    for number in range(5):
        slow.deliver()
        assert slow.jira.stored == []
        slow.clock.advance(12.0)
        path.chmod(0o664 if number % 2 else 0o644)
    slow.deliver()

    assert slow.states() == ["DONE"]
    assert slow.jira.names("TEST-1") == ["empty.txt"]


def test_settling_is_not_shortened_by_a_clock_that_jumps(slow: World) -> None:
    slow.drop("TEST-1/a.txt", b"a")
    slow.scan()
    slow.clock.time += 86400.0
    slow.scan()

    assert slow.states() == ["SEEN"]


def test_a_restart_makes_unsettled_files_settle_anew(slow: World) -> None:
    slow.drop("TEST-1/a.txt", b"a")
    slow.scan()
    slow.clock.advance(29.0)
    slow.restart()
    slow.scan()
    slow.clock.advance(29.0)
    slow.scan()

    assert slow.states() == ["SEEN"]


@pytest.mark.parametrize("ready", [False, True])
def test_a_file_that_is_written_to_while_its_folder_gets_another_issue_settles_anew(
    slow: World, *, ready: bool
) -> None:
    """A scanner writes it in pieces, and the administrator corrects the alias."""
    aliased(slow, "TEST-1")
    path = slow.drop("Printer/a.txt", b"half")
    slow.scan()
    slow.clock.advance(100.0)
    if ready:
        slow.scan()
    slow.end()
    with path.open("ab") as file:
        file.write(b" and")
    aliased(slow, "OPS-7")
    for _ in range(2):
        slow.deliver()
        slow.clock.advance(1.0)
    with path.open("ab") as file:
        file.write(b" the rest")
    slow.settle(hours=1)

    assert [(s.issue, s.content) for s in slow.jira.stored] == [("OPS-7", b"half and the rest")]


def aliased(w: World, key: str) -> None:
    w.tables = w.tables | {"aliases": {"Printer": key}}
    w.restart()


def test_a_file_that_was_only_seen_leaves_no_trace(slow: World) -> None:
    slow.drop("TEST-1/a.txt", b"a").unlink() if slow.scan().there else None
    slow.drop("TEST-1/b.txt", b"b")
    slow.scan()
    (slow.inbox / "TEST-1/b.txt").unlink()
    slow.scan()

    assert slow.rows() == []


def test_a_file_that_is_still_open_for_writing_is_not_taken(w: World) -> None:
    """Also where nothing has to be quiet: half of it would be attached."""
    path = w.drop("TEST-1/a.txt", b"half")
    with path.open("ab") as writer:
        w.deliver()
        assert w.states() == ["SEEN"]
        writer.write(b" and half")
    w.deliver()

    assert [s.content for s in w.jira.stored] == [b"half and half"]


# --- What is never touched --------------------------------------------------------------------------------------


def test_links_and_what_is_no_file_are_never_opened(w: World) -> None:
    secret = w.home / "secret"
    secret.write_bytes(b"secret")
    folder = w.inbox / "TEST-1"
    folder.mkdir()
    (folder / "link.txt").symlink_to(secret)
    (w.inbox / "TEST-2").symlink_to(w.home)
    os.mkfifo(folder / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    try:
        os.mknod(folder / "device", 0o600 | 0o020000, os.makedev(1, 3))
        w.deliver()
    finally:
        listener.close()

    assert w.rows() == []
    assert w.jira.uploads == []


def test_a_file_exchanged_for_a_link_between_scan_and_upload_is_not_followed(w: World) -> None:
    secret = w.home / "secret"
    secret.write_bytes(b"content")
    path = w.drop("TEST-1/a.txt", b"content")
    w.scan()
    path.unlink()
    path.symlink_to(secret)

    w.work()

    assert w.jira.stored == []


def test_a_folder_exchanged_for_a_link_between_scan_and_upload_is_not_followed(w: World) -> None:
    path = w.drop("TEST-1/a.txt", b"content")
    w.scan()
    elsewhere = w.home / "elsewhere"
    path.parent.rename(elsewhere)
    path.parent.symlink_to(elsewhere)

    w.work()
    w.scan()
    w.work()

    assert w.jira.stored == []


def test_ignored_files_are_left_alone(w: World) -> None:
    for name in ("x.part", ".hidden", "Thumbs.db", "~$doc.docx", "a.crdownload", ".git/config", "@eaDir/y"):
        w.drop(f"TEST-1/{name}", b"x")
    w.drop("_STATUS.txt", b"x")
    w.deliver()

    assert w.rows() == []
    assert unrouted(w) == {}


def test_own_patterns_are_ignored_too(tmp_path: Path) -> None:
    with world(tmp_path, settle={"ignore": ["*.bak", "/TEST-9/"]}) as w:
        for path in ("TEST-1/a.bak", "TEST-9/a.txt", "TEST-1/a.txt"):
            w.drop(path, b"x")
        w.deliver()

        assert [row.path for row in w.rows()] == [b"TEST-1/a.txt"]


def test_nested_files_can_be_left_alone(tmp_path: Path) -> None:
    with world(tmp_path, folders={"nested": "ignore"}) as w:
        w.drop("TEST-1/a/b.txt", b"x")
        w.drop("TEST-1/c.txt", b"x")
        w.deliver()

        assert w.files(w.inbox) == {"TEST-1/a/b.txt": b"x"}


def test_nested_files_are_attached_under_a_flat_name_and_keep_their_tree(w: World) -> None:
    w.drop("test-1 Printer jams/a/b/c.log", b"x")
    w.deliver()

    assert w.jira.names("TEST-1") == ["a-b-c.log"]
    assert w.files(w.done) == {"TEST-1/a/b/c.log": b"x"}


def test_unrouted_files_stay_and_are_known(w: World) -> None:
    w.drop("stray.txt", b"x")
    w.drop("no key/y.txt", b"x")
    w.drop("RUN-2026-11-22/z.txt", b"x")
    w.deliver()

    assert unrouted(w) == {b"": 1, b"no key": 1, b"RUN-2026-11-22": 1}
    assert len(w.files(w.inbox)) == 3
    (w.inbox / "stray.txt").unlink()
    (w.inbox / "no key").rename(w.inbox / "TEST-5")
    w.deliver()
    assert unrouted(w) == {b"RUN-2026-11-22": 1}
    assert w.files(w.done) == {"TEST-5/y.txt": b"x"}


def test_issue_folders_are_never_removed(w: World) -> None:
    w.drop("TEST-1/a/b.txt", b"x")
    w.deliver()

    assert (w.inbox / "TEST-1/a").is_dir()


# --- Blocked ----------------------------------------------------------------------------------------------------


@contextmanager
def as_nobody(w: World) -> Iterator[None]:
    """The program as an ordinary user; the folders are root's."""
    for path in [w.home / "state", *(w.home / "state").iterdir(), w.done, w.failed, w.home / "token"]:
        os.chown(path, NOBODY, NOBODY)
    for path in (w.home, *w.home.parents):
        if path.stat().st_uid == 0 and path.stat().st_mode & 0o001 == 0:
            path.chmod(path.stat().st_mode | 0o011)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can play several users")


def of_root_alone(w: World, content: bytes) -> Path:
    """A file that only root may read, in a folder from which anybody may take it."""
    path = w.drop("TEST-1/a.txt", content)
    path.chmod(0o600)
    path.parent.chmod(0o777)
    return path


@needs_root
def test_a_file_that_cannot_be_read_is_blocked_with_owner_and_mode(w: World) -> None:
    path = of_root_alone(w, b"x")
    with as_nobody(w):
        w.deliver()
        (row,) = w.rows()
        assert row.state is State.SEEN
        assert "cannot be read" in (row.blocked or "")
        assert "owner 0" in (row.blocked or "")
        assert w.jira.requests == []
    path.chmod(0o644)
    with as_nobody(w):
        w.deliver()
    assert w.states() == ["DONE"]


@needs_root
def test_an_empty_file_that_may_be_read_at_last_is_attached(w: World) -> None:
    path = of_root_alone(w, b"")
    with as_nobody(w):
        w.deliver()
        assert "cannot be read" in (w.row("TEST-1/a.txt").blocked or "")
    path.chmod(0o644)
    with as_nobody(w):
        w.deliver()

    assert w.states() == ["DONE"]


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Lets another program hold a file by a lease, as Samba and this machine's NFS server do for their clients."""
    held: list[int] = []

    def hold(path: Path) -> None:
        held.append(os.open(path, os.O_RDWR))
        fcntl.fcntl(held[-1], fcntl.F_SETLEASE, fcntl.F_WRLCK)

    yield hold
    for descriptor in held:
        os.close(descriptor)


@pytest.mark.parametrize("admitted", [False, True])
def test_a_file_that_another_program_holds_is_said_to_be_that(
    w: World, held: Callable[[Path], None], admitted: bool
) -> None:
    path = w.drop("TEST-1/a.txt", b"x")
    if admitted:
        w.scan()
    held(path)

    w.deliver()

    assert (w.row("TEST-1/a.txt").blocked or "") == (
        "another program holds the file (a lease or a Windows client's lock) and does not let it be read; close it in that "
        "program"
    )
    assert w.jira.stored == []


@needs_root
def test_a_file_of_a_folder_that_is_mounted_read_only_is_said_to_be_that(w: World) -> None:
    folder = w.drop("TEST-1/a.txt", b"x").parent
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        w.restart()
        w.deliver()

        assert (w.row("TEST-1/a.txt").blocked or "") == (
            f"the folder {folder} is read-only, so it could not be moved away afterwards; mount it for writing"
        )
        subprocess.run(["mount", "-o", "remount,rw,bind", folder], check=True)
        w.deliver()

        assert w.states() == ["DONE"]
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_an_error_of_reading_that_no_permission_mends_names_none(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    w.drop("TEST-1/a.txt", b"x")
    really = os.open

    def open_(path: object, flags: int, *more: int, dir_fd: int | None = None) -> int:
        if path == b"a.txt":
            raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW))
        return really(path, flags, *more, dir_fd=dir_fd)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_)
        w.deliver()

    assert w.row("TEST-1/a.txt").blocked == "it cannot be read: Value too large for defined data type"


@needs_root
def test_a_file_that_could_not_be_moved_afterwards_is_not_sent(w: World) -> None:
    path = w.drop("TEST-1/a.txt", b"x")
    path.chmod(0o644)
    path.parent.chmod(0o755)
    with as_nobody(w):
        w.deliver()
    assert w.jira.requests == []
    assert "may not be changed" in (w.rows()[0].blocked or "")

    path.parent.chmod(0o777)
    with as_nobody(w):
        w.deliver()
    assert w.states() == ["DONE"]


@needs_root
def test_a_folder_that_cannot_be_listed_is_not_empty(w: World) -> None:
    path = w.drop("TEST-1/a.txt", b"x")
    path.parent.chmod(0o777)
    path.chmod(0o644)
    with as_nobody(w):
        w.scan()
    path.parent.chmod(0o700)
    with as_nobody(w):
        for _ in range(4):
            w.clock.advance(60.0)
            assert [trouble[0] for trouble in w.scan().troubles] == [b"TEST-1"]
    assert w.states() == ["READY"]
    assert w.rows()[0].missing == 0


# --- Volume -----------------------------------------------------------------------------------------------------


def test_10000_new_files_are_admitted_in_a_few_transactions(w: World) -> None:
    folder = w.inbox / "TEST-1"
    folder.mkdir()
    for number in range(10_000):
        (folder / str(number)).touch()
    commits = 0
    real = type(w.runtime.journal).transaction

    def counted(journal, **options):  # type: ignore[no-untyped-def]
        nonlocal commits
        commits += 1
        return real(journal, **options)

    type(w.runtime.journal).transaction = counted  # type: ignore[method-assign]
    try:
        w.scan()
    finally:
        type(w.runtime.journal).transaction = real  # type: ignore[method-assign]

    assert w.runtime.journal.value("SELECT count(*) FROM file WHERE state = 'READY'") == 10_000
    assert commits <= 100


def test_a_scan_that_finds_nothing_new_writes_nothing(w: World) -> None:
    for number in range(50):
        w.drop(f"TEST-{number + 1}/a", b"x")
    w.scan()
    before = w.runtime.journal.value("SELECT total_changes()")

    w.scan()

    assert w.runtime.journal.value("SELECT total_changes()") == before


def test_a_name_that_a_listing_shows_twice_is_one_file(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of a folder that changes meanwhile may meet a name twice."""
    real = files.Walk._entries

    def twice(self: files.Walk, folder: int, path: bytes, depth: int) -> Iterator[files.Entry]:
        for entry in real(self, folder, path, depth):
            yield entry
            yield entry

    monkeypatch.setattr(files.Walk, "_entries", twice)
    w.drop("TEST-1/a.txt", b"content")

    w.settle()

    assert w.states() == ["DONE"]
    assert len(w.jira.on("TEST-1")) == 1
