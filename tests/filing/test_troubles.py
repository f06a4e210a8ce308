"""What one file cannot do is that file's trouble: only a folder that takes no file at all holds everybody up."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from attachd import errors
from attachd.errors import Reach
from attachd.fs import folders, free_names, recognition
from attachd.fs import rename as fs_rename
from attachd.model import State
from fs.test_swapped_names import put_across
from intake.test_gates import told
from intake.test_identity import nothing_is_filed
from memory_jira import World, world

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
#: Says with which error a file system answers to a name, or that it takes it.
Refusal = Callable[[bytes], int | None]


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def refuse(patch: pytest.MonkeyPatch, root: Path, refusal: Refusal, *, looked_for: bool = False) -> None:
    """Let the folders below *root* answer to new names as another file system would, and if *looked_for* to any."""
    real_open, real_rename, real_mkdir, real_noreplace = os.open, os.rename, os.mkdir, fs_rename.rename_noreplace
    real_stat = os.stat

    def ask(folder: int | None, name: object) -> None:
        below = b"" if folder is None else os.readlink(b"/proc/self/fd/%d" % folder)
        name = os.fsencode(name)  # type: ignore[arg-type]
        if (below + b"/").startswith(bytes(root) + b"/") and (code := refusal(name)):
            raise OSError(code, os.strerror(code), name)

    def open_(path: object, flags: int, *more: int, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            ask(dir_fd, path)
        return real_open(path, flags, *more, dir_fd=dir_fd)  # type: ignore[arg-type]

    def mkdir(path: object, *more: int, dir_fd: int | None = None) -> None:
        ask(dir_fd, path)
        real_mkdir(path, *more, dir_fd=dir_fd)  # type: ignore[arg-type]

    def rename(old: object, new: object, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        ask(dst_dir_fd, new)
        real_rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)  # type: ignore[arg-type]

    def rename_noreplace(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
        ask(to_folder, new)
        real_noreplace(from_folder, name, to_folder, new)

    def stat(path: object, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        if dir_fd is not None and looked_for:
            ask(dir_fd, path)
        return real_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)  # type: ignore[arg-type]

    patch.setattr(os, "stat", stat)
    patch.setattr(os, "open", open_)
    patch.setattr(os, "rename", rename)
    patch.setattr(os, "mkdir", mkdir)
    patch.setattr(fs_rename, "rename_noreplace", rename_noreplace)


# --- Names ------------------------------------------------------------------------------------------------------


def windows(code: int) -> Refusal:
    return lambda name: code if re.search(rb'["*:<>?|\\\x00-\x1f]|[. ]\Z|\Aaux\.', name) else None


def latin(name: bytes) -> int | None:
    return None if name.isascii() else errno.EILSEQ


def encrypted(name: bytes) -> int | None:
    return errno.ENAMETOOLONG if len(name) > 143 else None


REFUSED = [
    ("a:b.txt", windows(errno.EINVAL), "a%3Ab.txt"),
    ("what?.pdf", windows(errno.ENOENT), "what%3F.pdf"),
    ("what?.pdf", windows(errno.EILSEQ), "what%3F.pdf"),
    ("new\nline.txt", windows(errno.EINVAL), "new%0Aline.txt"),
    ("a dot.", windows(errno.EINVAL), "a dot%2E"),
    ("a space.txt ", windows(errno.EINVAL), "a space.txt%20"),
    ("aux.txt", windows(errno.EINVAL), "%61ux.txt"),
    ("10:30/b*.txt", windows(errno.EINVAL), "10%3A30/b%2A.txt"),
    ("März.txt", latin, "M%C3%A4rz.txt"),
    (os.fsdecode(b"caf\xe9.txt"), latin, "caf%E9.txt"),
    ("x" * 200 + ".pdf", encrypted, "x" * 96 + ".pdf"),
]


@pytest.mark.parametrize(("name", "refusal", "fitting"), REFUSED, ids=[ascii(fitting) for *_, fitting in REFUSED])
@pytest.mark.parametrize("across", [False, True])
def test_a_file_whose_name_is_refused_is_filed_under_one_that_fits(
    w: World, monkeypatch: pytest.MonkeyPatch, name: str, refusal: Refusal, fitting: str, across: bool
) -> None:
    if across:
        put_across(w, monkeypatch)
    refuse(monkeypatch, w.done, refusal, looked_for=across)
    w.drop(f"TEST-1/{name}", b"refused")
    w.drop("TEST-1/good.txt", b"good")

    w.deliver()

    assert w.files(w.done) == {f"TEST-1/{fitting}": b"refused", "TEST-1/good.txt": b"good"}
    assert w.states() == ["DONE", "DONE"]
    assert w.row(f"TEST-1/{name}").target == os.fsencode(f"TEST-1/{fitting}")
    assert w.pauses() == set()


def test_names_that_become_one_are_numbered(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, w.done, windows(errno.EINVAL))
    w.drop("TEST-1/a:b.txt", b"one")
    w.drop("TEST-1/a%3Ab.txt", b"two")

    w.deliver()

    assert set(w.files(w.done)) == {"TEST-1/a%3Ab.txt", "TEST-1/a%3Ab (2).txt"}
    assert set(w.files(w.done).values()) == {b"one", b"two"}


def test_a_failed_file_whose_name_is_refused_is_filed_with_its_note(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, w.failed, windows(errno.EINVAL))
    w.jira.limit = 3
    w.drop("TEST-1/a:b.txt", b"too large")

    w.deliver()

    assert set(w.files(w.failed)) == {"TEST-1/a%3Ab.txt", "TEST-1/a%3Ab.txt.why.txt"}
    assert b"a:b.txt" in w.files(w.failed)["TEST-1/a%3Ab.txt.why.txt"]


def test_a_crash_before_the_fitting_name_is_used_files_it_once(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(BaseException):
        """The process dies here."""

    def die_later(name: bytes) -> int | None:
        if b"%3A" in name:
            raise Crash
        return errno.EINVAL if b":" in name else None

    w.drop("TEST-1/a:b.txt", b"refused")
    w.scan()
    w.step()
    with monkeypatch.context() as patch:
        refuse(patch, w.done, die_later)
        with pytest.raises(Crash):
            w.work()
    w.restart()

    w.settle()

    assert w.files(w.done) == {"TEST-1/a%3Ab.txt": b"refused"}
    assert len(w.jira.stored) == 1


def test_a_name_of_which_no_form_is_taken_waits_alone_and_less_and_less_often(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(name: bytes) -> int | None:
        return errno.EINVAL if not name.startswith((b"good", b"TEST", b".attachd")) else None

    with monkeypatch.context() as patch:
        refuse(patch, w.done, picky)
        w.drop("TEST-1/bad:name.txt", b"bad")
        waits = []
        for number in range(8):
            w.drop(f"TEST-1/good {number}.txt", b"good")
            w.deliver()
            row = w.row("TEST-1/bad:name.txt")
            assert "rename the file" in (row.blocked or "")
            assert row.blocked in told(w, "TEST-1/bad:name.txt").sentence
            assert w.pauses() == set()
            waits.append(row.wait)
            w.clock.advance(row.wait + 1)
        assert len(w.files(w.done)) == 8
        assert waits == sorted(waits)
        assert 600.0 <= waits[-1] <= 900.0

    w.settle(hours=1)

    assert len(w.files(w.done)) == 9
    assert len(w.jira.stored) == 9


def test_a_file_of_which_each_name_is_taken_says_so(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    w.drop("TEST-1/bad.txt", b"bad")
    with monkeypatch.context() as patch:
        refuse(patch, w.done, lambda name: errno.EEXIST if name.startswith(b"bad") else None)
        w.deliver()

        assert "other programs take each name at its target" in told(w, "TEST-1/bad.txt").sentence
    w.settle(hours=1)

    assert w.states() == ["DONE"]


@pytest.mark.parametrize("name", [b"a.txt", b"x" * 255, b"\xff\xfe:", "ü:".encode() * 80, b"...", b"con", b":" * 255])
def test_every_form_of_a_name_is_one(name: bytes) -> None:
    forms = list(free_names.fitting(b"TEST-1/" + name, "F7"))

    assert all(form.startswith(b"TEST-1/") and 7 < len(form) <= 7 + free_names.NAME_MAX for form in forms)
    assert len(set(forms)) == len(forms)
    assert b"F7" in forms[-1]


# --- Errors of one file -----------------------------------------------------------------------------------------


def test_no_error_of_a_single_file_stops_the_others(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one that the system knows, also those that nobody has thought of."""
    names = {b"%s.txt" % word.encode(): code for code, word in errno.errorcode.items()}
    for name in names:
        w.drop(b"TEST-1/" + name, name)
    w.drop("TEST-2/good.txt", b"good")
    with monkeypatch.context() as patch:
        refuse(patch, w.done, names.get)
        w.deliver()
        w.clock.advance(20)
        w.drop("TEST-2/later.txt", b"later")
        w.deliver()

        assert w.pauses() == set()
        assert {"TEST-2/good.txt", "TEST-2/later.txt"} <= set(w.files(w.done))
        for row in w.unfinished():
            assert row.state is State.ATTACHED
            assert row.blocked, row.path
            assert str(w.done) in row.blocked or len(row.blocked) > 30

    w.settle(hours=2)

    assert sorted(w.files(w.done).values()) == sorted([*names, b"good", b"later"])
    assert len(w.jira.stored) == len(names) + 2


def test_no_error_of_reading_a_single_file_stops_the_others(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}  # As if it were not there: the next scan finds out.
    names = {b"%s.txt" % word.encode(): code for code, word in errno.errorcode.items() if code not in nowhere}
    for name in names:
        w.drop(b"TEST-1/" + name, name)
    w.drop("TEST-2/good.txt", b"good")
    w.scan()
    while w.states().count("ATTACHED") + w.states().count("DONE") <= len(names):
        assert w.step()
    really = os.open

    def open_(path: object, flags: int, *more: int, dir_fd: int | None = None) -> int:
        if dir_fd is not None and (code := names.get(path)):  # type: ignore[call-overload]
            raise OSError(code, os.strerror(code))
        return really(path, flags, *more, dir_fd=dir_fd)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_)
        w.work()

        assert w.pauses() == set()
        assert w.row("TEST-2/good.txt").state is State.DONE
        assert all(row.blocked for row in w.unfinished())
    w.settle(hours=2)

    assert sorted(w.files(w.done).values()) == sorted([*names, b"good"])
    assert len(w.jira.stored) == len(names) + 1


@pytest.fixture
def no_larger_files() -> Iterator[None]:
    """No file of this process may grow beyond 8 MiB, as on a file system that takes no larger ones."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_is_too_large_for_done_waits_alone(
    w: World, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    put_across(w, monkeypatch)
    w.drop("TEST-1/large.bin", bytes(9 << 20))
    w.drop("TEST-1/small.txt", b"small")
    request.getfixturevalue("no_larger_files")

    w.deliver()

    assert w.files(w.done) == {"TEST-1/small.txt": b"small"}
    assert "is larger than a file may be in " in (w.row("TEST-1/large.bin").blocked or "")
    assert w.pauses() == set()


def test_a_folder_that_cannot_be_synchronised_holds_up_only_what_comes_from_it(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, inode = folders.synchronise, os.stat(w.drop("TEST-1/bad.txt", b"bad").parent).st_ino
    w.drop("TEST-2/good.txt", b"good")
    w.scan()
    w.step()
    w.step()

    def failing(folder: int) -> None:
        if os.fstat(folder).st_ino == inode:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        really(folder)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "synchronise", failing)
        w.work()

        assert w.row("TEST-2/good.txt").state is State.DONE
        assert w.row("TEST-1/bad.txt").state is State.ATTACHED
        assert w.pauses() == set()
    w.settle(hours=1)

    assert w.states() == ["DONE", "DONE"]


# --- The disk ---------------------------------------------------------------------------------------------------

BROKEN = {
    errno.ENOSPC: r": its disk is full (\d+ bytes free). Make room there; nothing is lost meanwhile.",
    errno.EDQUOT: r": the quota of \w+ is used up. Raise the quota, or make room there; nothing is lost meanwhile.",
    errno.EROFS: ": it is read-only. Mount it for writing; nothing is lost meanwhile.",
    errno.EIO: ": its disk reports an error (Input/output error). Check the disk and the kernel's log; nothing is lost",
    errno.ENODEV: ": No such device. Check the folder and its disk; nothing is lost meanwhile.",
    errno.ESTALE: ": its file system does not answer (Stale file handle). Check its server and the network; nothing is",
    errno.EHOSTDOWN: ": its file system does not answer (Host is down). Check its server and the network; nothing is lost",
    errno.ENOTCONN: ": its file system does not answer (",
    errno.EUCLEAN: ": Structure needs cleaning. Check the folder and its disk; nothing is lost meanwhile.",
    errno.ELIBBAD: ": ",  # Nobody has thought of it, and still it is everybody's.
}


@pytest.mark.parametrize("code", BROKEN)
@pytest.mark.parametrize("verdict", ["done", "failed"])
def test_a_folder_that_takes_no_file_pauses_everything_and_is_named(
    w: World, monkeypatch: pytest.MonkeyPatch, code: int, verdict: str
) -> None:
    root = w.done if verdict == "done" else w.failed
    if verdict == "failed":
        w.jira.limit = 3
    w.drop("TEST-1/a.txt", b"first")
    with monkeypatch.context() as patch:
        refuse(patch, root, lambda _name: code)
        w.deliver()

        assert w.pauses() == {"site:disk"}
        reason = w.runtime.journal.value("SELECT reason FROM pause WHERE kind = 'disk'")
        what = "Attached files" if verdict == "done" else "Failed files"
        assert re.match(re.escape(f"{what} cannot be moved to {root}") + _pattern(BROKEN[code]), reason), reason
        assert reason.removesuffix(".") in told(w, "TEST-1/a.txt").sentence
        sent = len(w.jira.stored)
        w.drop("TEST-2/b.txt", b"2nd")
        w.clock.advance(3)
        w.deliver()
        assert len(w.jira.stored) == sent
    w.settle(hours=1)

    assert not w.unfinished()
    assert len(w.jira.stored) == (2 if verdict == "done" else 1), "b.txt is small enough"


@pytest.mark.parametrize("verdict", ["done", "failed"])
@pytest.mark.parametrize("synchronised", [False, True])
def test_a_folder_that_takes_no_file_holds_up_no_file_that_goes_to_the_other(
    w: World, monkeypatch: pytest.MonkeyPatch, verdict: str, synchronised: bool
) -> None:
    w.jira.limit = 5
    full, other = (w.done, w.failed) if verdict == "done" else (w.failed, w.done)
    w.drop("TEST-1/a.txt", b"too large", mtime_ns=10**18)
    w.drop("TEST-2/b.txt", b"fine", mtime_ns=10**18 + 1)
    w.drop("TEST-3/c.txt", b"also too large", mtime_ns=10**18 + 2)
    with nothing_is_filed():
        w.deliver()
    really = folders.Dirty.sync

    def failing(dirty: folders.Dirty) -> None:
        really(dirty)
        if not synchronised:
            monkeypatch.setattr(folders.Dirty, "sync", really)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        refuse(patch, full, lambda _name: errno.ENOSPC)
        monkeypatch.setattr(folders.Dirty, "sync", failing)
        w.work()

        held = {"TEST-2/b.txt"} if verdict == "done" else {"TEST-1/a.txt", "TEST-3/c.txt"}
        assert {os.fsdecode(row.path) for row in w.unfinished()} == held
        assert {name for name in w.files(other) if not name.endswith(".why.txt")} == {
            "TEST-1/a.txt",
            "TEST-2/b.txt",
            "TEST-3/c.txt",
        } - held
        assert w.pauses() == {"site:disk"}
        assert all(row.blocked is None and row.due > w.clock.now() for row in w.unfinished())
    w.settle(hours=1)

    assert not w.unfinished()


def test_where_neither_folder_takes_a_file_each_waits_for_its_own(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    w.jira.limit = 5
    w.drop("TEST-1/a.txt", b"too large")
    w.drop("TEST-2/b.txt", b"fine")
    with nothing_is_filed():
        w.deliver()
    with monkeypatch.context() as patch:
        refuse(patch, w.home, lambda _name: errno.ENOSPC)
        w.work()

        for path, root in (("TEST-1/a.txt", w.failed), ("TEST-2/b.txt", w.done)):
            assert f"cannot be moved to {root}: its disk is full" in told(w, path).sentence
    w.settle(hours=1)

    assert not w.unfinished()


def test_a_file_that_waits_for_something_else_is_not_said_to_wait_for_the_other_folders_disk(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    w.jira.limit = 5
    w.drop("TEST-1/a.txt", b"too large")
    w.drop("TEST-2/b.txt", b"fine")
    with nothing_is_filed():
        w.deliver()
    (w.inbox / "TEST-2/b.txt").unlink()
    with monkeypatch.context() as patch:
        refuse(patch, w.failed, lambda _name: errno.ENOSPC)
        w.work()

        assert "disk is full" in told(w, "TEST-1/a.txt").sentence
        assert "disk is full" not in told(w, "TEST-2/b.txt").sentence


def _pattern(text: str) -> str:
    return text.replace("(", r"\(").replace(")", r"\)").replace(". ", r"\. ")


def test_a_file_that_fails_again_never_renews_a_pause_of_all(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full; it has room again, and one file still cannot be moved."""
    w.drop("TEST-1/bad.txt", b"bad")
    with monkeypatch.context() as patch:
        refuse(patch, w.done, lambda _name: errno.ENOSPC)
        w.deliver()
        assert w.pauses() == {"site:disk"}
    with monkeypatch.context() as patch:
        refuse(patch, w.done, lambda name: errno.ENOSPC if name.startswith((b"bad", b"F1")) else None)
        for number in range(6):
            w.clock.advance(60)
            w.drop(f"TEST-2/{number}.txt", b"%d" % number)
            w.deliver()

        assert w.pauses() == set()
        assert set(w.files(w.done)) == {f"TEST-2/{number}.txt" for number in range(6)}
        assert "has room for other files, but not for this one" in (w.row("TEST-1/bad.txt").blocked or "")
    w.settle(hours=1)

    assert len(w.files(w.done)) == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk")
def test_a_real_disk_that_is_full_is_told_from_one_that_is_too_small_for_a_file(w: World) -> None:
    with small_disk(w.done):
        w.drop("TEST-1/large.bin", bytes(3 << 20))
        w.drop("TEST-1/small.txt", b"small")
        w.deliver()

        assert w.files(w.done) == {"TEST-1/small.txt": b"small"}
        assert w.pauses() == set()
        assert "has room for other files" in (w.row("TEST-1/large.bin").blocked or "")

        filling = w.done / ".attachd-filling"
        fill(filling)
        w.drop("TEST-1/more.txt", b"more")
        w.clock.advance(600)
        w.deliver()

        assert w.pauses() == {"site:disk"}
        reason = w.runtime.journal.value("SELECT reason FROM pause WHERE kind = 'disk'")
        assert reason == (
            f"Attached files cannot be moved to {w.done}: its disk is full (0 bytes free). Make room there; nothing is lost "
            "meanwhile."
        )
        filling.unlink()
        w.row("TEST-1/large.bin")
        w.clock.advance(600)
        w.deliver()

        assert set(w.files(w.done)) == {"TEST-1/small.txt", "TEST-1/more.txt"}
        assert not list(w.done.glob(".attachd-trial*"))


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(filling: Path) -> None:
    with filling.open("wb", buffering=0) as file:
        for size in (65536, 512):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


# --- Which side -------------------------------------------------------------------------------------------------


def broken(*_: object) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_file_that_cannot_be_read_is_said_to_be_that(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    w.drop("TEST-1/a.txt", b"first")
    w.scan()
    w.step()
    (w.inbox / "TEST-1/a.txt").chmod(0o600)  # So that it is read again.
    with monkeypatch.context() as patch:
        patch.setattr(recognition, "digest_from", broken)
        w.work()

    assert w.row("TEST-1/a.txt").blocked == (
        f"it cannot be read in {w.inbox}/TEST-1 (Input/output error); check the disk of the inbox, or take the file out of it"
    )


def test_one_that_cannot_be_written_is_said_to_be_that(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put_across(w, monkeypatch)
    w.drop("TEST-1/a.txt", b"first")
    w.scan()
    w.step()
    with monkeypatch.context() as patch:
        refuse(patch, w.done, lambda name: errno.EIO if name.startswith(b".attachd-copy") else None)
        w.work()

    assert w.row("TEST-1/a.txt").blocked == (
        f"it cannot be written to {w.done}/TEST-1 (Input/output error), though {w.done} takes other files; check that disk"
    )
    assert w.pauses() == set()


def test_a_move_that_fails_without_a_side_names_both(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    w.drop("TEST-1/a.txt", b"first")
    with monkeypatch.context() as patch:
        refuse(patch, w.done, lambda name: errno.EIO if name == b"a.txt" else None)
        w.deliver()

    assert (w.row("TEST-1/a.txt").blocked or "").startswith(
        f"moving it from {w.inbox}/TEST-1 to {w.done}/TEST-1 fails (Input/output error)"
    )


# --- The table --------------------------------------------------------------------------------------------------


def test_the_document_has_the_table_that_the_program_goes_by() -> None:
    documented = {
        name: reach
        for reach, names in re.findall(r"^\| (\w+) \| ([A-Z0-9, ]+) \|", DOCUMENT.read_text(), re.MULTILINE)
        for name in names.split(", ")
    }

    assert documented == {errno.errorcode[code]: str(reach) for code, reach in errors.MOVES.items()}
    assert set(documented.values()) == {str(reach) for reach in Reach}
