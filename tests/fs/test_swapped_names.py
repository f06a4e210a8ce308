"""People who drop files may exchange names while the program looks at them: nothing is sent, moved or touched outside."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, Self

import pytest

from attachd.errors import Mistake
from attachd.filing import note_cleanup
from attachd.fs import rename
from attachd.share import inbox_marker, locks
from memory_jira import World, world

MTIME_NS = 1_700_000_000_000_000_000
FILES = {"TEST-1/a.txt": b"what was dropped", "TEST-1/sub/b.txt": b"dropped below it"}
SECRET = b"never to be seen"


# --- A world outside, and what stands at a name ---------------------------------------------------------------------


class Outside:
    """A folder beside the inbox that holds a secret for each dropped file: same name, same size, same time."""

    def __init__(self, home: Path) -> None:
        self.root = home / "outside"
        for path, content in FILES.items():
            secret = self.root / path
            secret.parent.mkdir(parents=True, exist_ok=True)
            secret.write_bytes(SECRET[: len(content)])
            os.utime(secret, ns=(MTIME_NS, MTIME_NS))
        self.before = self.listing()

    def listing(self) -> list[tuple[str, int, int, int]]:
        found = []
        for path in sorted(self.root.rglob("*")):
            status = path.lstat()
            found.append((str(path.relative_to(self.root)), status.st_ino, status.st_size, status.st_mtime_ns))
        return found


@dataclass
class Swap:
    """Puts a symlink or a FIFO in the place of what lies at *path*, and puts that back again."""

    path: Path
    aside: Path
    link: Path | None

    def forth(self) -> None:
        if self.path.parent.is_dir():
            if os.path.lexists(self.path):
                self.path.rename(self.aside)
            if self.link is None:
                os.mkfifo(self.path)
            else:
                self.path.symlink_to(self.link)

    def back(self) -> None:
        if self._is_ours(self.path):
            self.path.unlink()
        if os.path.lexists(self.aside):
            self.aside.rename(self.path)

    def taken_away(self) -> list[bytes]:
        """What is kept aside until it is put back."""
        if self.aside.is_dir():
            return [path.read_bytes() for path in self.aside.rglob("*") if path.is_file()]
        return [self.aside.read_bytes()] if self.aside.is_file() else []

    def _is_ours(self, path: Path) -> bool:
        try:
            mode = path.lstat().st_mode
        except OSError:
            return False
        return stat.S_ISLNK(mode) or stat.S_ISFIFO(mode)


# --- Every call that touches the inbox ------------------------------------------------------------------------------


@dataclass
class Calls:
    """Counts system calls that name something in a folder of the inbox; before the *at*-th one *act* is called."""

    under: bytes
    at: int
    act: Callable[[], None]
    count: int = 0
    names: list[str] = field(default_factory=list)

    def before(self, call: str, path: Any, dir_fd: int | None) -> None:
        if not self._concerns(path, dir_fd):
            return
        self.count += 1
        self.names.append(call)
        if self.count == self.at:
            self.act()

    def _concerns(self, path: Any, dir_fd: int | None) -> bool:
        if isinstance(path, int):
            return self._is_below(_path_of(path))
        try:
            name = os.fsencode(path)
        except TypeError:
            return False
        return self._is_below(os.path.join(_path_of(dir_fd), name) if dir_fd is not None else name)

    def _is_below(self, path: bytes) -> bool:
        return (path + b"/").startswith(self.under + b"/")


def _path_of(descriptor: int) -> bytes:
    try:
        return REAL["readlink"](b"/proc/self/fd/%d" % descriptor)
    except OSError:
        return b""


REAL = {name: getattr(os, name) for name in ("open", "stat", "scandir", "rename", "unlink", "access", "readlink")}


class Listing:
    """What ``os.scandir`` gives, whose entries are looked at by calls that count too."""

    def __init__(self, calls: Calls, folder: Any) -> None:
        calls.before("scandir", folder, None)
        self._calls, self._folder = calls, folder
        self._listing = REAL["scandir"](folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._listing.close()

    def __iter__(self) -> Iterator[Any]:
        for item in self._listing:
            yield Item(self._calls, self._folder, item)


class Item:
    def __init__(self, calls: Calls, folder: Any, item: Any) -> None:
        self._calls, self._folder, self._item = calls, folder, item
        self.name, self.path = item.name, item.path

    def __getattr__(self, name: str) -> Any:
        dir_fd = self._folder if isinstance(self._folder, int) else None
        self._calls.before(f"entry.{name}", self.name if dir_fd is not None else self.path, dir_fd)
        return getattr(self._item, name)


def watch_calls(patch: pytest.MonkeyPatch, calls: Calls) -> None:
    def counting(name: str) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            dir_fd = options.get("dir_fd", options.get("src_dir_fd"))
            calls.before(name, path, dir_fd)
            return REAL[name](path, *args, **options)

        return call

    for name in ("open", "stat", "rename", "unlink", "access"):
        patch.setattr(os, name, counting(name))
    patch.setattr(os, "scandir", lambda folder: Listing(calls, folder))
    really = rename.rename_noreplace

    def rename_noreplace(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
        calls.before("renameat2", name, from_folder)
        calls.before("renameat2 to", new, to_folder)
        really(from_folder, name, to_folder, new)

    patch.setattr(rename, "rename_noreplace", rename_noreplace)


# --- A swap before any single call ----------------------------------------------------------------------------------

SWAPS = {
    "folder for a link": lambda w, out: Swap(w.inbox / "TEST-1", w.home / "aside", out.root / "TEST-1"),
    "folder for a pipe": lambda w, out: Swap(w.inbox / "TEST-1", w.home / "aside", None),
    "nested folder for a link": lambda w, out: Swap(w.inbox / "TEST-1/sub", w.home / "aside", out.root / "TEST-1/sub"),
    "nested folder for a pipe": lambda w, out: Swap(w.inbox / "TEST-1/sub", w.home / "aside", None),
    "file for a link": lambda w, out: Swap(w.inbox / "TEST-1/a.txt", w.home / "aside", out.root / "TEST-1/a.txt"),
    "file for a pipe": lambda w, out: Swap(w.inbox / "TEST-1/a.txt", w.home / "aside", None),
}


def dropped(w: World) -> None:
    for path, content in FILES.items():
        w.drop(path, content, mtime_ns=MTIME_NS)


def delivered(w: World, outside: Outside, again: list[bytes]) -> None:
    """Each file once, and those that came *again* twice; nothing is left, and nothing was touched outside."""
    assert sorted(s.content for s in w.jira.stored) == sorted([*FILES.values(), *again])
    assert sorted(w.files(w.done).values()) == sorted([*FILES.values(), *again])
    assert w.files(w.inbox) == w.files(w.failed) == {}
    assert outside.listing() == outside.before


class Way(Enum):
    """What else is so while names are swapped."""

    PLAIN = auto()
    RESTARTED = auto()  #: the files are known from an earlier process, so that inodes say nothing
    ACROSS = auto()  #: done is on another device, so that files are copied, compared and removed


def put_across(w: World, patch: pytest.MonkeyPatch) -> None:
    """Renames between the inbox and done answer as they do between two devices."""
    really = rename.rename_noreplace

    def rename_noreplace(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
        done = [(_path_of(folder) + b"/").startswith(bytes(w.done) + b"/") for folder in (from_folder, to_folder)]
        if done[0] != done[1]:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        really(from_folder, name, to_folder, new)

    patch.setattr(rename, "rename_noreplace", rename_noreplace)


def swapped_at(home: Path, make: Callable[[World, Outside], Swap], at: int, way: Way) -> list[str]:
    """One life of two files, with a swap before the *at*-th call. Returns the calls that were made."""
    home.mkdir()
    with world(home) as w, pytest.MonkeyPatch.context() as patch:
        w.runtime.journal.rows("PRAGMA synchronous = OFF")  # No power fails here: that would only cost time.
        patch.setattr(os, "fsync", lambda _descriptor: None)
        outside = Outside(home)
        dropped(w)
        if way is Way.RESTARTED:
            w.scan()
            w.restart()
        if way is Way.ACROSS:
            # Who takes a file away after it was copied, and puts it back when that is filed, has dropped it again.
            put_across(w, patch)
        swap = make(w, outside)
        calls = Calls(bytes(w.inbox / "TEST-1"), at, swap.forth)
        watch_calls(patch, calls)

        w.deliver()

        patch.undo()
        assert not [s for s in w.jira.stored if s.content not in FILES.values()], "only what was dropped is sent"
        assert outside.listing() == outside.before
        again = [content for content in swap.taken_away() if content in w.files(w.done).values()]
        assert not again or way is Way.ACROSS, "one rename takes the file itself, wherever it lies by then"
        swap.back()
        w.settle()
        delivered(w, outside, again)
        return calls.names


CASES = [
    *((kind, Way.PLAIN) for kind in SWAPS),
    *((kind, way) for kind in ("folder for a link", "file for a link") for way in (Way.RESTARTED, Way.ACROSS)),
]


@pytest.mark.parametrize(("kind", "way"), CASES, ids=[f"{kind}-{way.name.lower()}" for kind, way in CASES])
def test_a_swap_before_any_call_gains_nothing(tmp_path: Path, kind: str, way: Way) -> None:
    calls = swapped_at(tmp_path / "0", SWAPS[kind], 0, way)
    assert {"open", "stat", "scandir", "rename" if way is Way.ACROSS else "renameat2"} <= set(calls), "they are seen"

    for at in range(1, len(calls) + 1):
        swapped_at(tmp_path / str(at), SWAPS[kind], at, way)


# --- A swap at any moment -------------------------------------------------------------------------------------------

#: Exchanges pairs of names without a pause, so that each of both is always there, until its input ends.
SWAPPER = """
import ctypes, itertools, os, select, sys
libc = ctypes.CDLL(None, use_errno=True)
pairs = [pair.split("\\t") for pair in sys.argv[1:]]
def exchange(one, other):
    libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2)
print("begun", flush=True)
while not select.select([0], [], [], 0)[0]:
    for one, other in pairs:
        exchange(one, other)
print("ended", flush=True)
"""
_RENAME_EXCHANGE = 2  #: linux/fs.h
SWAPPING_SECONDS = 2.0


def exchangeable(one: Path, other: Path) -> bool:
    """Whether the file system of the tests can exchange two names at once."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = [libc.renameat2(-100, bytes(one), -100, bytes(other), _RENAME_EXCHANGE) for _ in range(2)]
    return done == [0, 0]


def test_a_process_that_swaps_without_end_gains_nothing(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        outside = Outside(tmp_path)
        swapped = {f"TEST-{number}/{name}.txt": b"%d of %a" % (number, name) for number in (2, 3) for name in "abcdef"}
        for path, content in swapped.items():
            w.drop(path, content)
        dropped(w)
        decoy = {name: tmp_path / f"decoy-{name}" for name in ("folder", "file", "pipe")}
        decoy["folder"].symlink_to(outside.root / "TEST-1")
        decoy["file"].symlink_to(outside.root / "TEST-1/a.txt")
        os.mkfifo(decoy["pipe"])
        pairs = [("TEST-1", decoy["folder"]), ("TEST-2/a.txt", decoy["file"]), ("TEST-3/a.txt", decoy["pipe"])]
        if not exchangeable(w.inbox / pairs[0][0], pairs[0][1]):
            pytest.skip("the file system cannot exchange names")

        swapper = subprocess.Popen(
            [sys.executable, "-c", SWAPPER, *(f"{w.inbox / one}\t{other}" for one, other in pairs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert swapper.stdin is not None
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == "begun\n"
        fresh, until = {}, time.monotonic() + SWAPPING_SECONDS
        while time.monotonic() < until:
            path, content = f"TEST-4/{len(fresh)}.txt", b"number %d" % len(fresh)
            fresh[path] = content
            w.drop(path, content)
            w.deliver()
            w.clock.advance(0.1)
        told, _ = swapper.communicate("")
        assert told == "ended\n"

        put_back(w, [(w.inbox / one, other) for one, other in pairs])
        w.settle()

        everything = FILES | swapped | fresh
        assert sorted(s.content for s in w.jira.stored) == sorted(everything.values())
        assert sorted(w.files(w.done).values()) == sorted(everything.values())
        assert w.files(w.inbox) == w.files(w.failed) == {}
        assert outside.listing() == outside.before


def put_back(w: World, pairs: list[tuple[Path, Path]]) -> None:
    """What the swapper left outside goes back into the inbox; what it left inside goes away."""
    for inside, outside in pairs:
        left_inside = os.path.lexists(inside) and not inside.is_dir() and not inside.is_file()
        if inside.is_symlink() or left_inside:
            inside.unlink()
        if not outside.is_symlink() and not outside.is_fifo() and outside.exists():
            outside.rename(inside)


# --- Our own files in folders that others may write -----------------------------------------------------------------


def swapped_marker(w: World, outside: Path) -> Path:
    """``.attachd`` is exchanged for a link to a copy of it; returns the copy."""
    copy = outside / "attachd"
    copy.mkdir(parents=True)
    (copy / inbox_marker.MARKER).write_bytes((w.inbox / inbox_marker.FOLDER / inbox_marker.MARKER).read_bytes())
    (copy / inbox_marker.LOCK).write_text("somebody's own\n")
    (w.inbox / inbox_marker.FOLDER).rename(w.home / "aside")
    (w.inbox / inbox_marker.FOLDER).symlink_to(copy)
    return copy


def test_the_marker_is_not_read_through_a_link(tmp_path: Path) -> None:
    """The link is set aside, and the folder made again; nothing is read or written where it leads."""
    with world(tmp_path) as w:
        w.scan()
        copy = swapped_marker(w, tmp_path / "outside")
        (copy / inbox_marker.MARKER).chmod(0o444)
        before = {path.name: path.read_bytes() for path in copy.iterdir()}
        assert not w.runtime.guard.look().there
        dropped(w)

        w.settle()

        assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
        (aside,) = w.inbox.glob(".attachd-aside-*")
        assert aside.is_symlink()
        assert not (w.inbox / inbox_marker.FOLDER).is_symlink()
        assert len(w.jira.stored) == len(FILES)


def test_a_pipe_in_place_of_the_marker_holds_nobody_up(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        (w.inbox / inbox_marker.FOLDER / inbox_marker.MARKER).unlink()
        os.mkfifo(w.inbox / inbox_marker.FOLDER / inbox_marker.MARKER)

        assert not w.runtime.guard.look().there


@pytest.mark.parametrize("adopt", [False, True])
def test_a_known_inbox_is_put_right_not_written_through_a_link(tmp_path: Path, *, adopt: bool) -> None:
    with world(tmp_path) as w:
        w.end()
        copy = swapped_marker(w, tmp_path / "outside")
        before = {path.name: path.read_bytes() for path in copy.iterdir()}

        w.restart(adopt_inbox=adopt)

        assert w.runtime.guard.look().there
        assert not (w.inbox / inbox_marker.FOLDER).is_symlink()
        assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


@pytest.mark.parametrize("adopt", [False, True])
def test_a_new_journal_takes_no_inbox_through_a_link(tmp_path: Path, *, adopt: bool) -> None:
    with world(tmp_path) as w:
        w.end()
        copy = swapped_marker(w, tmp_path / "outside")
        before = {path.name: path.read_bytes() for path in copy.iterdir()}
        shutil.rmtree(w.home / "state")

        with pytest.raises(Mistake, match="cannot be made, entered or written: Not a directory"):
            w.restart(adopt_inbox=adopt)

        assert (w.inbox / inbox_marker.FOLDER).is_symlink()
        assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_the_lock_of_another_mount_is_not_taken_through_a_link(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        copy = swapped_marker(w, tmp_path / "outside")

        assert not w.runtime.guard.look().there

        assert (copy / inbox_marker.LOCK).read_text() == "somebody's own\n"


def test_a_pipe_in_place_of_a_lock_holds_nobody_up(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    os.mkfifo(lock)

    assert locks.holder(lock) is None
    with pytest.raises(OSError, match="not a regular file"):
        locks.take(lock, tmp_path)


def test_notes_are_looked_for_inside_of_failed_alone(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        outside = Outside(tmp_path)
        w.jira.missing.add("TEST-1")
        w.drop("TEST-1/a.txt")
        w.settle()
        assert set(w.files(w.failed)) == {"TEST-1/a.txt", "TEST-1/a.txt.why.txt"}
        swap = Swap(w.failed / "TEST-1", tmp_path / "aside", outside.root / "TEST-1")
        swap.forth()
        (outside.root / "TEST-1/a.txt").unlink()
        w.runtime.memory(note_cleanup.Looked).folders.clear()
        w.scan()

        assert w.runtime.memory(note_cleanup.Looked).folders == {}, "nothing behind the link was looked at"
        swap.back()
        (w.failed / "TEST-1/a.txt").unlink()
        w.scan()
        assert w.files(w.failed) == {}, "the note was not forgotten"


def test_a_tree_in_failed_may_be_as_deep_as_it_likes(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        deepest = os.open(w.failed, os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("d", dir_fd=deepest)
            above, deepest = deepest, os.open("d", os.O_RDONLY, dir_fd=deepest)
            os.close(above)
        os.close(deepest)
        try:
            w.scan()
        finally:
            subprocess.run(["rm", "-r", w.failed / "d"], check=True)
