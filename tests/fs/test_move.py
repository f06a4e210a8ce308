"""A file moves to done or failed: never over another file, and what is not ours is not touched."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from pyfakefs.fake_filesystem import FakeFilesystem

from attachd.fs import free_names, leases, recognition, sides, tripwire
from attachd.fs import move as fs_move
from attachd.fs import rename as fs_rename
from attachd.fs.move import Group, Outcome, Stuck
from attachd.fs.recognition import Found, Identity
from attachd.fs.sides import Side
from fs.test_rename_fake import fake_file_system

CONTENT = b"content of the file" * 1000
SOURCE = b"TEST-1/report.pdf"
SECOND_DEVICE = "/dev/shm" if os.path.isdir("/dev/shm") else None
Rename = Callable[[int, bytes, int, bytes], None]
real_rename: Rename = fs_rename.rename_noreplace


class Folders:
    """An inbox and a done folder, and the file that is to move from one to the other: alone, or as one of a group."""

    def __init__(self, inbox: Path, done: Path, group: Group | None = None) -> None:
        self.inbox, self.done = inbox, done
        self.fresh, self.group = group is not None, group or Group()
        self.dirty = self.group.dirty
        inbox.mkdir()
        done.mkdir()

    def drop(self, relative: bytes = SOURCE, content: bytes = CONTENT) -> Identity:
        path = os.path.join(os.fsencode(self.inbox), relative)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        return identity_of(path)

    def move(self, identity: Identity, target: bytes | None = None, source: bytes = SOURCE) -> Outcome | Stuck:
        ends = self.inbox, source, self.done, target or source, identity
        return fs_move.move(*ends, self.group, fresh=self.fresh)

    @property
    def waiting(self) -> dict[bytes, bytes]:
        return contents(self.inbox)

    @property
    def filed(self) -> dict[bytes, bytes]:
        return contents(self.done)


def identity_of(path: bytes) -> Identity:
    status = os.stat(path)
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).digest()
    return Identity(status.st_size, status.st_mtime_ns, (status.st_dev, status.st_ino), digest)


def contents(root: Path) -> dict[bytes, bytes]:
    """Return what every regular file below the root holds."""
    found = {}
    base = os.fsencode(root)
    for folder, _, names in os.walk(base):
        for name in names:
            path = os.path.join(folder, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "rb") as file:
                    found[os.fsencode(path)[len(base) + 1 :]] = file.read()
    return found


def unable(*_: object) -> None:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def across(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
    """Rename only within one folder, as between bind mounts of one file system."""
    if not os.path.samestat(os.fstat(from_folder), os.fstat(to_folder)):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    real_rename(from_folder, name, to_folder, new)


@pytest.fixture(params=["alone", "grouped"])
def near(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folders]:
    with Group() as group:
        yield Folders(tmp_path / "inbox", tmp_path / "done", group if request.param == "grouped" else None)


@pytest.fixture(params=["rename", "reserve", "mounts", "devices", "grouped rename", "grouped reserve"])
def folders(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    """Give both folders on one file system, on one without renameat2, on two mounts of one, and on two devices."""
    renames = {"rename": real_rename, "reserve": unable, "mounts": across, "devices": real_rename}
    monkeypatch.setattr(fs_rename, "rename_noreplace", renames[request.param.rpartition(" ")[2]])
    with tempfile.TemporaryDirectory(dir=SECOND_DEVICE) as other, Group() as group:
        if request.param == "devices" and os.stat(other).st_dev == tmp_path.stat().st_dev:
            pytest.skip("needs a second device")
        far = Path(other) if request.param == "devices" else tmp_path
        yield Folders(tmp_path / "inbox", far / "done", group if request.param.startswith("grouped") else None)


# --- Where all goes well ----------------------------------------------------------------------------------------

NAMES = [
    b"report.pdf",
    b"a b  c .pdf",
    "Übersicht März.pdf".encode(),
    "U\u0308bersicht.pdf".encode(),
    "日本語の報告書.pdf".encode(),
    b"quotes \" ' ` $(x).pdf",
    b"new\nline\r\ttab.pdf",
    b"\xff\xfe caf\xe9.pdf",
    b"-rf",
    b"x" * 255,
    "ü".encode() * 127,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_moved(folders: Folders, name: bytes) -> None:
    source = b"TEST-1/a/" + name
    identity = folders.drop(source)

    assert folders.move(identity, source=source) is Outcome.MOVED
    folders.dirty.sync()
    assert folders.filed == {source: CONTENT}
    assert folders.waiting == {}


def test_mode_and_time_survive(folders: Folders) -> None:
    folders.drop()
    os.chmod(folders.inbox / "TEST-1/report.pdf", 0o640)
    os.utime(folders.inbox / "TEST-1/report.pdf", ns=(10**18 + 1, 10**18 + 123456789))
    identity = identity_of(os.fsencode(folders.inbox / "TEST-1/report.pdf"))

    assert folders.move(identity) is Outcome.MOVED
    status = (folders.done / "TEST-1/report.pdf").stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert status.st_mtime_ns == 10**18 + 123456789


def test_an_empty_file_is_moved(folders: Folders) -> None:
    identity = folders.drop(content=b"")

    assert folders.move(identity) is Outcome.MOVED
    assert folders.filed == {SOURCE: b""}
    assert folders.waiting == {}


def test_the_folders_of_the_inbox_stay(folders: Folders) -> None:
    folders.move(folders.drop())

    assert (folders.inbox / "TEST-1").is_dir()


@pytest.mark.parametrize("trust", [True, False])
def test_a_move_that_is_repeated_finds_itself_done(folders: Folders, trust: bool) -> None:
    identity = folders.drop()
    identity = identity if trust else replace(identity, inode=None)

    assert [folders.move(identity) for _ in range(3)] == [Outcome.MOVED] * 3
    assert folders.filed == {SOURCE: CONTENT}


def test_it_is_durable_in_every_folder_it_concerns(near: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = near.drop(b"TEST-1/a/b.log")
    assert near.move(identity, source=b"TEST-1/a/b.log") is Outcome.MOVED

    synchronised: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda folder: synchronised.add(os.fstat(folder).st_ino))
    near.dirty.sync()

    expected = [near.inbox / "TEST-1/a", near.done, near.done / "TEST-1", near.done / "TEST-1/a"]
    assert synchronised == {path.stat().st_ino for path in expected}


# --- Where something else stands in the way ---------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"other", CONTENT[:-1] + b"!", b""])
def test_nothing_is_replaced(folders: Folders, content: bytes) -> None:
    identity = folders.drop()
    (folders.done / "TEST-1").mkdir()
    (folders.done / "TEST-1/report.pdf").write_bytes(content)

    assert folders.move(identity) is Outcome.TAKEN
    target = free_names.choose(folders.done, SOURCE)
    assert folders.move(identity, target) is Outcome.MOVED
    assert folders.filed == {SOURCE: content, b"TEST-1/report (2).pdf": CONTENT}
    assert folders.waiting == {}


@pytest.mark.parametrize("thing", ["folder", "symlink", "dangling", "fifo", "folder is file", "folder is symlink"])
def test_neither_is_what_is_no_file(folders: Folders, thing: str) -> None:
    identity = folders.drop()
    above = folders.done / "TEST-1"
    if thing.startswith("folder is"):
        above.touch() if thing.endswith("file") else above.symlink_to(folders.inbox)
    else:
        above.mkdir()
        target = above / "report.pdf"
        {
            "folder": lambda: target.mkdir(),
            "symlink": lambda: target.symlink_to(folders.inbox / "TEST-1/report.pdf"),
            "dangling": lambda: target.symlink_to("nowhere"),
            "fifo": lambda: os.mkfifo(target),
        }[thing]()

    assert folders.move(identity) is Outcome.TAKEN
    chosen = free_names.choose(folders.done, SOURCE)
    assert folders.move(identity, chosen) is Outcome.MOVED
    assert folders.filed.get(chosen) == CONTENT
    assert folders.waiting == {}


def test_two_files_that_race_for_one_name_both_survive(folders: Folders) -> None:
    for number in range(20):
        target = b"TEST-1/%d.pdf" % number
        sources = [b"TEST-1/a%d" % number, b"TEST-1/b%d" % number]
        identities = [folders.drop(source, source * 1000) for source in sources]
        outcomes: list[Outcome | Stuck] = []

        def carry(identity: Identity, source: bytes, target: bytes, outcomes: list[Outcome | Stuck]) -> None:
            outcomes.append(fs_move.move(folders.inbox, source, folders.done, target, identity, Group()))

        threads = [
            threading.Thread(target=carry, args=(identity, source, target, outcomes))
            for identity, source in zip(identities, sources, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(outcome.name for outcome in outcomes if isinstance(outcome, Outcome)) == ["MOVED", "TAKEN"]
        assert len(folders.filed) == number + 1
        assert len(folders.waiting) == number + 1
    held = [*folders.filed.values(), *folders.waiting.values()]
    assert len(set(held)) == 40


# --- Where the source is not, or no longer, ours ----------------------------------------------------------------


def test_a_file_that_was_taken_away_is_gone(folders: Folders) -> None:
    identity = folders.drop()
    (folders.inbox / "TEST-1/report.pdf").unlink()

    assert folders.move(identity) is Outcome.GONE
    (folders.inbox / "TEST-1").rmdir()
    assert folders.move(identity) is Outcome.GONE
    assert folders.filed == {}


@pytest.mark.parametrize("trust", [True, False])
def test_new_content_under_the_name_is_left_alone(folders: Folders, trust: bool) -> None:
    identity = folders.drop()
    identity = identity if trust else replace(identity, inode=None)
    put(folders.inbox / "TEST-1/report.pdf", CONTENT[::-1])

    assert folders.move(identity) is Outcome.GONE
    assert folders.waiting == {SOURCE: CONTENT[::-1]}
    assert folders.filed == {}


def put(path: Path, content: bytes) -> None:
    """Put new content under a name, as a careful writer does."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.rename(path)


@pytest.mark.parametrize("thing", ["folder", "symlink", "fifo"])
def test_what_is_no_file_is_not_ours(folders: Folders, thing: str) -> None:
    identity = folders.drop()
    source = folders.inbox / "TEST-1/report.pdf"
    source.rename(folders.inbox / "kept")
    if thing == "folder":
        source.mkdir()
    elif thing == "symlink":
        source.symlink_to(folders.inbox / "kept")
    else:
        os.mkfifo(source)

    assert folders.move(identity) is Outcome.GONE
    assert os.path.lexists(source)


def test_a_folder_that_became_a_symlink_is_not_followed(folders: Folders) -> None:
    identity = folders.drop()
    (folders.inbox / "TEST-1").rename(folders.inbox / "kept")
    (folders.inbox / "TEST-1").symlink_to("kept")

    assert folders.move(identity) is Outcome.GONE
    assert folders.waiting == {b"kept/report.pdf": CONTENT}


def test_what_was_swapped_at_the_last_moment_is_put_back(near: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = near.drop()

    def swap(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
        monkeypatch.setattr(fs_rename, "rename_noreplace", real_rename)
        put(near.inbox / "TEST-1/report.pdf", b"new")
        real_rename(from_folder, name, to_folder, new)

    monkeypatch.setattr(fs_rename, "rename_noreplace", swap)

    assert near.move(identity) is Outcome.SWAPPED
    assert near.waiting == {SOURCE: b"new"}
    assert near.filed == {}


def test_what_somebody_takes_from_its_target_at_once_was_moved(near: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = near.drop()

    def take(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
        real_rename(from_folder, name, to_folder, new)
        (near.done / "TEST-1/report.pdf").rename(near.done.parent / "archived.pdf")

    monkeypatch.setattr(fs_rename, "rename_noreplace", take)

    assert near.move(identity) is Outcome.MOVED
    assert near.waiting == {}
    assert (near.done.parent / "archived.pdf").read_bytes() == CONTENT


def test_a_folder_of_the_target_that_is_moved_away_at_once_is_no_error_of_the_disk(
    near: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = near.drop()

    def take(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
        real_rename(from_folder, name, to_folder, new)
        (near.done / "TEST-1").rename(near.done.parent / "archive")

    monkeypatch.setattr(fs_rename, "rename_noreplace", take)

    assert near.move(identity) in (Outcome.MOVED, Outcome.GONE)
    assert (near.done.parent / "archive/report.pdf").read_bytes() == CONTENT


def test_and_numbered_where_yet_another_file_came(near: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = near.drop()

    def swap(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
        monkeypatch.setattr(fs_rename, "rename_noreplace", real_rename)
        put(near.inbox / "TEST-1/report.pdf", b"new")
        real_rename(from_folder, name, to_folder, new)
        put(near.inbox / "TEST-1/report.pdf", b"newer")

    monkeypatch.setattr(fs_rename, "rename_noreplace", swap)

    assert near.move(identity) is Outcome.SWAPPED
    assert near.waiting == {SOURCE: b"newer", b"TEST-1/report (2).pdf": b"new"}
    assert near.filed == {}


def test_a_swap_before_a_crash_is_put_back_afterwards(near: Folders) -> None:
    identity = replace(near.drop(), inode=None)
    put(near.inbox / "TEST-1/report.pdf", b"new")
    (near.done / "TEST-1").mkdir()
    (near.inbox / "TEST-1/report.pdf").rename(near.done / "TEST-1/report.pdf")

    assert near.move(identity) is Outcome.SWAPPED
    assert near.waiting == {SOURCE: b"new"}
    assert near.filed == {}


def test_a_writer_that_swaps_all_the_time_loses_nothing(folders: Folders) -> None:
    for number in range(150):
        source = b"TEST-1/%d.pdf" % number
        identity = folders.drop(source, b"old%d" % number)
        path = folders.inbox / os.fsdecode(source)
        writer = threading.Thread(target=put, args=(path, b"new%d" % number))
        writer.start()
        outcome = folders.move(identity, source=source)
        writer.join()

        held = sorted([*folders.waiting.values(), *folders.filed.values()])
        assert b"new%d" % number in held
        if outcome is Outcome.MOVED:
            assert folders.filed == {source: b"old%d" % number}
        else:
            assert outcome in (Outcome.GONE, Outcome.SWAPPED)
            assert folders.filed == {}
        for root in (folders.inbox, folders.done):
            for name in contents(root):
                (root / os.fsdecode(name)).unlink()


@pytest.fixture
def late(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BinaryIO]]:
    """Give the program that opens the file for writing right after the kernel was asked whether one has."""
    programs: list[BinaryIO] = []
    asked = leases.writer

    def ask(descriptor: int, *, network: bool) -> leases.Writer:
        answer = asked(descriptor, network=network)
        if not programs:
            assert answer is leases.Writer.NOBODY
            programs.append((folders.inbox / "TEST-1/report.pdf").open("ab", buffering=0))
        return answer

    monkeypatch.setattr(leases, "writer", ask)
    yield programs
    for program in programs:
        program.close()


@pytest.mark.parametrize("more", [b"", b"more"])
def test_a_program_that_opens_it_at_the_last_moment_loses_nothing(
    folders: Folders, late: list[BinaryIO], more: bytes
) -> None:
    identity = folders.drop()

    for _ in range(2):
        stuck = folders.move(identity)
        assert isinstance(stuck, Stuck)
        assert stuck.passes
        assert "open for writing" in stuck.reason
        assert folders.waiting == {SOURCE: CONTENT}

    late[0].write(more)
    late[0].close()
    moved = folders.move(identity)

    assert moved in ((Outcome.GONE, Outcome.MOVED) if more else (Outcome.MOVED,))
    assert list(folders.waiting.items()) == ([(SOURCE, CONTENT + more)] if more else [])
    assert list(folders.filed.values()) == ([CONTENT] if moved is Outcome.MOVED else [])


def test_a_file_that_grows_while_it_is_copied_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fs_rename, "rename_noreplace", across)
    folders = Folders(tmp_path / "inbox", tmp_path / "done")
    identity = folders.drop()
    write = os.write

    def growing(file: int, data: memoryview) -> int:
        with open(folders.inbox / "TEST-1/report.pdf", "ab") as source:
            source.write(b"more")
        monkeypatch.setattr(os, "write", write)
        return write(file, data)

    monkeypatch.setattr(os, "write", growing)

    assert folders.move(identity) is Outcome.GONE
    assert folders.waiting == {SOURCE: CONTENT + b"more"}
    assert list(folders.done.rglob("*.pdf")) == []


# --- Copies -----------------------------------------------------------------------------------------------------


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    """Give two folders between which files have to be copied."""
    monkeypatch.setattr(fs_rename, "rename_noreplace", across)
    folders = Folders(tmp_path / "inbox", tmp_path / "done")
    yield folders
    folders.dirty.sync()  # Closes the folders that it holds, before a fake file system gives out their descriptors again.


def copied(folders: Folders, content: bytes = CONTENT) -> None:
    """Put a copy with the file's time where it is to go, as a run does that dies before it removes the source."""
    (folders.done / "TEST-1").mkdir()
    (folders.done / "TEST-1/report.pdf").write_bytes(content)
    shutil.copystat(folders.inbox / "TEST-1/report.pdf", folders.done / "TEST-1/report.pdf")


def test_what_was_copied_before_a_crash_is_removed_afterwards(apart: Folders) -> None:
    identity = apart.drop()
    copied(apart)

    assert apart.move(identity) is Outcome.MOVED
    assert apart.filed == {SOURCE: CONTENT}
    assert apart.waiting == {}


def test_another_file_that_came_after_the_copy_stays(apart: Folders) -> None:
    identity = apart.drop()
    copied(apart)
    put(apart.inbox / "TEST-1/report.pdf", b"new")

    assert apart.move(identity) is Outcome.MOVED
    assert apart.filed == {SOURCE: CONTENT}
    assert apart.waiting == {SOURCE: b"new"}


def test_a_target_that_differs_in_content_alone_is_no_copy(apart: Folders) -> None:
    """What was refused before all of it was sent has no checksum; size and time are all that is known of it."""
    identity = replace(apart.drop(), sha256=None)
    copied(apart, CONTENT[::-1])

    assert apart.move(identity) is Outcome.TAKEN
    assert apart.filed == {SOURCE: CONTENT[::-1]}
    assert apart.waiting == {SOURCE: CONTENT}


def before_it_is_set_aside(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Act directly before the source is taken away under its name."""
    rename = os.rename

    def late(*args: object, **kwargs: object) -> None:
        monkeypatch.setattr(os, "rename", rename)
        act()
        rename(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", late)


def test_new_content_that_comes_while_a_copy_is_finished_is_kept(
    apart: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look at the source and its removal there is always a moment."""
    identity = apart.drop()
    before_it_is_set_aside(monkeypatch, lambda: put(apart.inbox / "TEST-1/report.pdf", b"new"))

    assert apart.move(identity) is Outcome.MOVED
    assert apart.filed == {SOURCE: CONTENT}
    assert apart.waiting == {SOURCE: b"new"}


@pytest.mark.parametrize("finished", [False, True], ids=["copied now", "copied before"])
def test_without_a_checksum_it_is_still_the_copied_content_that_is_removed(
    apart: Folders, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    identity = replace(apart.drop(), sha256=None)
    if finished:
        copied(apart)
    path = apart.inbox / "TEST-1/report.pdf"
    mtime_ns = path.stat().st_mtime_ns

    def swap() -> None:
        put(path, CONTENT[::-1])
        os.utime(path, ns=(mtime_ns, mtime_ns))

    before_it_is_set_aside(monkeypatch, swap)

    assert apart.move(identity) is Outcome.MOVED
    assert apart.filed == {SOURCE: CONTENT}
    assert apart.waiting == {SOURCE: CONTENT[::-1]}


@pytest.mark.parametrize("finished", [False, True], ids=["copied now", "copied before"])
def test_a_copy_and_all_folders_above_it_are_durable_before_the_source_goes(
    apart: Folders, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    identity = apart.drop()
    if finished:
        copied(apart)
    else:
        (apart.done / "TEST-1").mkdir()
    synchronised: set[int] = set()
    at_removal: set[int] = set()
    fsync = os.fsync

    def noting(file: int) -> None:
        synchronised.add(os.fstat(file).st_ino)
        fsync(file)

    monkeypatch.setattr(os, "fsync", noting)
    before_it_is_set_aside(monkeypatch, lambda: at_removal.update(synchronised))

    assert apart.move(identity) is Outcome.MOVED
    made = [apart.done, apart.done / "TEST-1", *([] if finished else [apart.done / "TEST-1/report.pdf"])]
    assert {path.stat().st_ino for path in made} <= at_removal


@pytest.mark.parametrize(("call", "side"), [("fsync", Side.TARGET), ("rename", Side.SOURCE)])
def test_it_is_known_which_disk_failed_when_the_source_was_to_go(
    apart: Folders, monkeypatch: pytest.MonkeyPatch, call: str, side: Side
) -> None:
    identity = apart.drop()
    copied(apart)

    def broken(*_args: object, **_options: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, broken)
        with pytest.raises(OSError, match="Input/output") as caught:
            apart.move(identity)
    assert sides.of(caught.value) is side
    assert apart.waiting == {SOURCE: CONTENT}


def test_a_copy_is_proven_by_its_checksum_where_the_kernel_watches_nothing(
    apart: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tripwire, "stretched", lambda _file: nullcontext())

    assert apart.move(apart.drop()) is Outcome.MOVED
    assert apart.filed == {SOURCE: CONTENT}
    assert apart.waiting == {}


def test_without_a_checksum_a_second_reading_proves_a_copy_where_the_kernel_watches_nothing(
    apart: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tripwire, "stretched", lambda _file: nullcontext())

    assert apart.move(replace(apart.drop(), sha256=None)) is Outcome.MOVED
    assert apart.filed == {SOURCE: CONTENT}
    assert apart.waiting == {}


@pytest.mark.parametrize("touched", [False, True])
def test_what_is_written_there_while_it_is_copied_is_not_left_behind(
    apart: Folders, monkeypatch: pytest.MonkeyPatch, touched: bool
) -> None:
    monkeypatch.setattr(tripwire, "stretched", lambda _file: nullcontext())
    identity = replace(apart.drop(), sha256=None)
    path, write = apart.inbox / "TEST-1/report.pdf", os.write

    def overwritten(file: int, data: memoryview) -> int:
        monkeypatch.setattr(os, "write", write)
        path.write_bytes(CONTENT[::-1])
        os.utime(path, ns=(identity.mtime_ns, identity.mtime_ns + touched))
        return write(file, data)

    monkeypatch.setattr(os, "write", overwritten)

    moved = apart.move(identity)

    assert moved is (Outcome.GONE if touched else Outcome.MOVED)
    assert (apart.waiting or apart.filed) == {SOURCE: CONTENT[::-1]}
    assert not (apart.waiting and apart.filed)


def test_what_somebody_else_put_at_the_target_on_another_device_stays_there(apart: Folders) -> None:
    identity = replace(apart.drop(), inode=None)
    copied(apart, b"other")
    (apart.inbox / "TEST-1/report.pdf").unlink()

    assert apart.move(identity) is Outcome.GONE
    assert apart.filed == {SOURCE: b"other"}
    assert apart.waiting == {}


# --- Reservations -----------------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """Give a file system that cannot rename without replacing."""
    monkeypatch.setattr(fs_rename, "rename_noreplace", unable)
    return Folders(tmp_path / "inbox", tmp_path / "done")


def move_reserving(folders: Folders, identity: Identity, **how: object) -> Outcome | Stuck:
    return fs_move.move(folders.inbox, SOURCE, folders.done, SOURCE, identity, folders.group, **how)  # type: ignore[arg-type]


def test_a_reservation_is_told_before_it_is_renamed_over(old: Folders) -> None:
    identity = old.drop()
    told: list[tuple[int, int]] = []

    def reserved(device: int, inode: int) -> None:
        status = (old.done / "TEST-1/report.pdf").stat()
        assert (status.st_dev, status.st_ino, status.st_size) == (device, inode, 0)
        told.append((device, inode))

    assert move_reserving(old, identity, reserved=reserved) is Outcome.MOVED
    assert len(told) == 1
    assert old.filed == {SOURCE: CONTENT}


def test_a_reservation_is_known_by_a_large_inode_too(old: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """GlusterFS and others number files by 64 bits of a hash; the journal holds 63 and a sign."""

    def large(look: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def looked(*args: Any, **options: Any) -> os.stat_result:
            found = look(*args, **options)
            times = {name: getattr(found, name) for name in ("st_mtime_ns", "st_ctime_ns")}
            return os.stat_result((found[0], found.st_ino + 2**63, *found[2:]), times)

        return looked

    monkeypatch.setattr(os, "stat", large(os.stat))
    monkeypatch.setattr(os, "fstat", large(os.fstat))
    identity = replace(old.drop(), inode=None)
    told: list[tuple[int, int]] = []

    assert move_reserving(old, identity, reserved=lambda *inode: told.append(inode)) is Outcome.MOVED
    assert [inode < 0 for _, inode in told] == [True]
    assert old.filed == {SOURCE: CONTENT}


@pytest.mark.parametrize("content", [CONTENT, b""])
@pytest.mark.parametrize("trust", [True, False])
def test_a_reservation_of_an_earlier_run_is_renamed_over(near: Folders, content: bytes, trust: bool) -> None:
    identity = near.drop(content=content)
    reservation = reserve(near)

    identity = identity if trust else replace(identity, inode=None)
    assert move_reserving(near, identity, reservation=reservation) is Outcome.MOVED
    assert near.filed == {SOURCE: content}
    assert near.waiting == {}


def reserve(folders: Folders) -> tuple[int, int]:
    (folders.done / "TEST-1").mkdir()
    (folders.done / "TEST-1/report.pdf").touch()
    status = (folders.done / "TEST-1/report.pdf").stat()
    return status.st_dev, status.st_ino


def test_an_empty_file_that_nobody_reserved_is_not(old: Folders) -> None:
    identity = old.drop()
    device, inode = reserve(old)

    assert move_reserving(old, identity, reservation=(device, inode + 1)) is Outcome.TAKEN
    assert old.filed == {SOURCE: b""}


def test_a_reservation_into_which_somebody_wrote_is_not_either(old: Folders) -> None:
    identity = old.drop()
    reservation = reserve(old)
    (old.done / "TEST-1/report.pdf").write_bytes(b"mine")

    assert move_reserving(old, identity, reservation=reservation) is Outcome.TAKEN
    assert old.filed == {SOURCE: b"mine"}


def test_who_writes_into_a_fresh_reservation_keeps_it(old: Folders) -> None:
    identity = old.drop()

    def reserved(*_: int) -> None:
        (old.done / "TEST-1/report.pdf").write_bytes(b"mine")

    assert move_reserving(old, identity, reserved=reserved) is Outcome.TAKEN
    assert old.filed == {SOURCE: b"mine"}
    assert old.waiting == {SOURCE: CONTENT}


def test_a_reservation_for_a_file_that_is_gone_is_released(old: Folders) -> None:
    identity = old.drop()
    reservation = reserve(old)
    (old.inbox / "TEST-1/report.pdf").unlink()

    assert move_reserving(old, identity, reservation=reservation) is Outcome.GONE
    assert old.filed == {}


@pytest.mark.parametrize("outcome", [Outcome.CHANGED, Outcome.GONE])
def test_so_is_one_for_a_file_that_is_not_what_was_sent(old: Folders, outcome: Outcome) -> None:
    identity = replace(old.drop(), ctime_ns=0)
    reservation = reserve(old)
    (rewrite if outcome is Outcome.CHANGED else put)(old.inbox / "TEST-1/report.pdf", CONTENT[::-1])

    assert move_reserving(old, identity, reservation=reservation) is outcome
    assert old.filed == {}


def rewrite(path: Path, content: bytes) -> None:
    """Write over a file and set its time back, as programs do that keep times."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_an_earlier_run_renamed_over_its_reservation_was_moved(old: Folders) -> None:
    identity = old.drop()
    reservation = reserve(old)

    assert [move_reserving(old, identity, reservation=reservation) for _ in range(2)] == [Outcome.MOVED] * 2
    assert old.filed == {SOURCE: CONTENT}


def test_a_journal_that_fails_leaves_no_reservation(old: Folders) -> None:
    identity = old.drop()

    def reserved(*_: int) -> None:
        raise OSError(errno.ENOSPC, "journal full")

    with pytest.raises(OSError, match="journal full"):
        move_reserving(old, identity, reserved=reserved)
    assert old.filed == {}
    assert old.waiting == {SOURCE: CONTENT}


def test_an_unrecorded_reservation_is_never_put_into_the_inbox(old: Folders) -> None:
    identity = old.drop()
    reserve(old)
    (old.inbox / "TEST-1/report.pdf").unlink()

    assert old.move(identity) is Outcome.GONE
    assert old.waiting == {}


# --- Disks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_what_is_wrong_with_the_disk_is_raised(near: Folders, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    identity = near.drop()

    def broken(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fs_rename, "rename_noreplace", broken)
    with pytest.raises(OSError, match=os.strerror(code)):
        near.move(identity)
    assert near.waiting == {SOURCE: CONTENT}


def test_a_copy_that_reads_differently_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fs_rename, "rename_noreplace", across)
    folders = Folders(tmp_path / "inbox", tmp_path / "done")
    identity = folders.drop()
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(len(data))))

    with pytest.raises(OSError, match="reads differently") as caught:
        folders.move(identity)
    assert caught.value.errno == errno.EIO
    assert folders.waiting == {SOURCE: CONTENT}
    assert folders.filed == {}


def test_a_missing_root_is_not_taken_for_a_missing_file(near: Folders) -> None:
    identity = near.drop()
    near.inbox.rename(near.inbox.with_name("unmounted"))

    with pytest.raises(FileNotFoundError):
        near.move(identity)


@pytest.fixture
def small(fs: FakeFilesystem, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    """Give a done folder on a small disk of its own."""
    fake_file_system(fs, monkeypatch)
    fs.add_mount_point("/other", total_size=len(CONTENT) + 10_000)
    folders = Folders(Path("/inbox"), Path("/other/done"))
    yield folders
    folders.dirty.sync()  # Closes the folders that it holds, while their descriptors are still fake ones.


def test_another_mount_gets_a_copy(small: Folders) -> None:
    assert small.move(small.drop()) is Outcome.MOVED
    assert small.filed == {SOURCE: CONTENT}
    assert small.waiting == {}


def test_a_full_disk_keeps_the_file_where_it_is(small: Folders) -> None:
    identity = small.drop(content=CONTENT * 2)

    with pytest.raises(OSError, match="No space"):
        small.move(identity)
    assert small.filed == {}
    assert small.waiting == {SOURCE: CONTENT * 2}


# --- Looking ----------------------------------------------------------------------------------------------------


def test_a_file_is_known_by_its_inode_without_being_read(near: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = near.drop()
    monkeypatch.setattr(recognition, "digest_of", None)

    assert recognition.look(near.inbox, SOURCE, identity) is Found.OURS


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, Found.OURS),
        ({"inode": None}, Found.OURS),
        ({"inode": None, "mtime_ns": 1}, Found.OURS),
        ({"inode": None, "sha256": None}, Found.OURS),
        ({"inode": None, "sha256": None, "mtime_ns": 1}, Found.OTHER),
        ({"inode": None, "sha256": b"x" * 32}, Found.OTHER),
        ({"inode": None, "size": 1}, Found.OTHER),
        ({"mtime_ns": 1}, Found.OTHER),
        ({"size": 1}, Found.OTHER),
    ],
)
def test_what_counts_as_the_same_file(near: Folders, change: dict[str, object], found: Found) -> None:
    identity = replace(near.drop(), **change)  # type: ignore[arg-type]

    assert recognition.look(near.inbox, SOURCE, identity) is found


@pytest.mark.parametrize(("content", "found"), [(CONTENT, Found.OURS), (CONTENT[::-1], Found.OTHER)])
def test_the_same_inode_of_another_device_says_nothing(near: Folders, content: bytes, found: Found) -> None:
    """A device has another number after a restart, and then each file is read."""
    identity = near.drop()
    assert identity.inode
    rewrite(near.inbox / "TEST-1/report.pdf", content)
    elsewhere = replace(identity, inode=(identity.inode[0] + 1, identity.inode[1]))

    assert recognition.look(near.inbox, SOURCE, elsewhere) is found
    assert near.move(elsewhere) is (Outcome.MOVED if found is Found.OURS else Outcome.GONE)


@pytest.mark.parametrize("size", [0, len(CONTENT) - 1])
def test_without_a_checksum_another_size_at_the_same_time_is_another_file(near: Folders, size: int) -> None:
    identity = replace(near.drop(), inode=None, sha256=None, size=size)

    assert near.move(identity) is Outcome.GONE
    assert near.waiting == {SOURCE: CONTENT}


def test_another_file_of_the_same_content_is_another_file_but_a_copy(near: Folders) -> None:
    identity = near.drop()
    (near.inbox / "TEST-1/report.pdf").rename(near.inbox / "kept")
    near.drop()

    assert recognition.look(near.inbox, SOURCE, identity) is Found.OTHER
    assert recognition.look(near.inbox, SOURCE, identity, copied=True) is Found.OURS


def test_all_empty_files_have_one_checksum_so_time_decides(near: Folders) -> None:
    identity = replace(near.drop(content=b""), inode=None)
    os.utime(near.inbox / "TEST-1/report.pdf", ns=(1, 1))

    assert recognition.look(near.inbox, SOURCE, identity) is Found.OTHER


@pytest.mark.parametrize("path", [b"TEST-2/report.pdf", b"TEST-1/other", b"TEST-1/report.pdf/a"])
def test_nothing_is_found_where_nothing_is(near: Folders, path: bytes) -> None:
    assert recognition.look(near.inbox, path, near.drop()) is Found.NOTHING


def test_a_fifo_is_not_waited_for(near: Folders) -> None:
    identity = Identity(0, 0, None, hashlib.sha256().digest())
    os.mkfifo(near.inbox / "fifo")

    assert recognition.look(near.inbox, b"fifo", identity) is Found.OTHER
