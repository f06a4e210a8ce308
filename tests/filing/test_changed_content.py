"""Content that changes after it was sent, under the same size and time, is never filed as if it were what was sent."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from attachd.fs import filesystems, recognition, removal, rename, tripwire
from attachd.model import State
from fs.test_swapped_names import put_across
from memory_jira import Fault, World, world

SENT, LATER = b"what was sent", b"written later"
Rewrite = Callable[[Path], None]


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def test_what_a_person_files_by_hand_is_theirs(w: World) -> None:
    """A program has the file open, so it cannot be moved yet. They move it themselves, and write their remarks into it."""
    w.drop("TEST-1/a.txt", SENT)
    w.scan()
    w.step()
    with (w.inbox / "TEST-1/a.txt").open("ab"):
        w.work()
        assert w.row("TEST-1/a.txt").target is not None
    (w.done / "TEST-1").mkdir(exist_ok=True)
    (w.inbox / "TEST-1/a.txt").rename(w.done / "TEST-1/a.txt")
    (w.done / "TEST-1/a.txt").write_bytes(b"with remarks")

    w.settle(hours=1.0)

    assert [stored.content for stored in w.jira.stored] == [SENT]
    assert w.files(w.done) == {"TEST-1/a.txt": b"with remarks"}
    assert w.unfinished() == []


# --- How content changes, and its time does not ------------------------------------------------------------------


def keeping_time(write: Rewrite) -> Rewrite:
    def rewrite(path: Path) -> None:
        before = path.stat()
        write(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return rewrite


def in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(LATER)


def truncated(path: Path) -> None:
    path.write_bytes(LATER)


def mapped(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:] = LATER
        memory.flush()


def read_only(path: Path) -> None:
    in_place(path)
    path.chmod(0o444)


WAYS = {each.__name__: keeping_time(each) for each in (in_place, truncated, mapped, read_only)}
rewrite = WAYS["in_place"]


# --- When it does ------------------------------------------------------------------------------------------------


def sent(w: World, *paths: str) -> None:
    """These files are attached, and still lie in the inbox."""
    for path in paths:
        w.drop(path, SENT)
    w.scan()
    assert w.step()
    assert {row.state for row in w.rows()} <= {State.ATTACHED, State.REFUSED}


def around_rename(patch: pytest.MonkeyPatch, *, before: Rewrite | None = None, after: Rewrite | None = None) -> None:
    """Do something to the file directly before, or after, the next rename that takes it out of the inbox."""
    really = rename.rename_noreplace

    def rename_noreplace(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
        if not new.startswith(b".attachd"):
            patch.setattr(rename, "rename_noreplace", really)
            if before:
                before(Path(f"/proc/self/fd/{from_folder}") / os.fsdecode(name))
        really(from_folder, name, to_folder, new)
        if after and not new.startswith(b".attachd"):
            after(Path(f"/proc/self/fd/{to_folder}") / os.fsdecode(new))

    patch.setattr(rename, "rename_noreplace", rename_noreplace)


def both_arrived(w: World, path: str = "TEST-1/a.txt") -> None:
    """What was sent is in Jira, what was written later too, and only that lies in done; the first row says why."""
    assert [s.content for s in w.jira.stored] == [SENT, LATER]
    assert w.files(w.done) == {path: LATER}
    assert w.files(w.inbox) == {}
    first, second = w.rows()
    assert (first.state, first.target, second.state) == (State.DONE, None, State.DONE)
    assert "attached as it was at " in (first.reason or "")


@pytest.mark.parametrize("way", WAYS)
def test_what_is_written_before_the_move_is_a_new_file(w: World, way: str) -> None:
    sent(w, "TEST-1/a.txt")
    WAYS[way](w.inbox / "TEST-1/a.txt")

    w.settle()

    both_arrived(w)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_written_between_the_look_and_the_rename_is_a_new_file(
    w: World, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    sent(w, "TEST-1/a.txt")
    around_rename(monkeypatch, before=WAYS[way])

    w.settle()

    both_arrived(w)


def test_what_is_written_between_the_rename_and_the_look_is_a_new_file(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(w, "TEST-1/a.txt")
    around_rename(monkeypatch, after=rewrite)

    w.settle()

    both_arrived(w)


def test_what_is_written_in_the_gap_without_a_journalled_ctime_is_a_new_file(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an update from a journal that did not know it, and for files that changed directly before they were sent."""
    sent(w, "TEST-1/a.txt")
    with w.runtime.journal.transaction() as connection:
        connection.execute("UPDATE file SET sent_ctime_ns = NULL")
    around_rename(monkeypatch, before=rewrite)

    w.settle()

    both_arrived(w)


def test_what_is_written_in_the_gap_where_the_kernel_watches_nothing_is_a_new_file(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(w, "TEST-1/a.txt")
    monkeypatch.setattr(tripwire._wires, "add", lambda _file: None)
    around_rename(monkeypatch, before=rewrite)

    w.settle()

    both_arrived(w)


def test_a_ctime_that_anybody_can_set_proves_nothing(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On FAT it is the mtime; here it is as if it had been set back too."""
    monkeypatch.setattr(filesystems, "kind", lambda _file: "vfat")
    sent(w, "TEST-1/a.txt")
    rewrite(w.inbox / "TEST-1/a.txt")
    with w.runtime.journal.transaction() as connection:
        ctime_ns = (w.inbox / "TEST-1/a.txt").stat().st_ctime_ns
        connection.execute("UPDATE file SET ctime_ns = ?, sent_ctime_ns = ?", (ctime_ns, ctime_ns))

    w.settle()

    both_arrived(w)


def test_on_a_share_a_refused_lease_says_nothing(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "kind", lambda _file: "nfs4")
    sent(w, "TEST-1/a.txt")
    with (w.inbox / "TEST-1/a.txt").open("r+b"):
        w.work()

    assert w.states() == ["DONE"]


def test_the_kernel_names_the_file_system_of_an_open_file(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file, Path("/proc/self/stat").open("rb") as other:
        assert filesystems.kind(file.fileno()) != filesystems.kind(other.fileno()) == "proc"


@pytest.mark.parametrize(
    ("kind", "shared", "has_ctime"),
    [
        ("ext4", False, True),
        ("nfs4", True, True),
        ("cifs", True, True),
        ("vfat", False, False),
        ("exfat", False, False),
        ("fuse.sshfs", True, False),
        ("fuseblk", False, False),
        ("unknown", False, True),
    ],
)
def test_what_a_kind_of_file_system_proves(kind: str, shared: bool, has_ctime: bool) -> None:
    assert (filesystems.is_shared(kind), filesystems.has_ctime(kind)) == (shared, has_ctime)


def test_one_of_a_group_that_changed_takes_none_of_the_others_along(w: World) -> None:
    sent(w, *(f"TEST-1/{name}.txt" for name in "abcde"))
    rewrite(w.inbox / "TEST-1/c.txt")

    w.settle()

    assert sorted(s.content for s in w.jira.stored) == sorted([SENT] * 5 + [LATER])
    assert w.files(w.done) == {f"TEST-1/{name}.txt": LATER if name == "c" else SENT for name in "abcde"}
    assert w.files(w.inbox) == {}


@pytest.mark.parametrize("restarted", [False, True])
def test_what_is_written_before_a_copy_to_another_device_is_a_new_file(
    w: World, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    put_across(w, monkeypatch)
    sent(w, "TEST-1/a.txt")
    rewrite(w.inbox / "TEST-1/a.txt")
    if restarted:
        w.restart()

    w.settle()

    both_arrived(w)


def test_what_is_written_while_a_copy_is_made_durable_is_not_removed(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the copy and the removal of what was copied."""
    put_across(w, monkeypatch)
    sent(w, "TEST-1/a.txt")
    really = removal.remove

    def remove(*arguments: object) -> None:
        monkeypatch.setattr(removal, "remove", really)
        rewrite(w.inbox / "TEST-1/a.txt")
        really(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(removal, "remove", remove)

    w.settle()

    assert [s.content for s in w.jira.stored] == [SENT, LATER]
    assert sorted(w.files(w.done).values()) == sorted([SENT, LATER])
    assert w.files(w.inbox) == {}


def test_what_is_written_between_a_crash_and_the_start_is_a_new_file(w: World) -> None:
    sent(w, "TEST-1/a.txt")
    w.end()
    rewrite(w.inbox / "TEST-1/a.txt")
    w.restart()

    w.settle()

    assert [s.content for s in w.jira.stored] == [SENT, LATER]
    assert w.files(w.done) == {"TEST-1/a.txt": LATER}


class Crash(BaseException):
    """The process dies here."""


def test_a_death_between_the_rename_and_the_look_gives_back_what_was_written(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_path: Path) -> None:
        raise Crash

    sent(w, "TEST-1/a.txt")
    around_rename(monkeypatch, before=rewrite, after=die)
    with pytest.raises(Crash):
        w.work()
    assert w.files(w.done) == {"TEST-1/a.txt": LATER}
    w.restart()

    w.settle()

    assert [s.content for s in w.jira.stored] == [SENT, LATER]
    assert w.files(w.done) == {"TEST-1/a.txt": LATER}
    assert w.files(w.inbox) == {}


def test_what_is_written_to_a_refused_file_is_tried_for_itself(w: World) -> None:
    w.jira.faults.append(Fault(status=400, body={"errorMessages": ["a virus"], "errors": {}}))
    sent(w, "TEST-1/a.txt")
    rewrite(w.inbox / "TEST-1/a.txt")

    w.settle()

    assert [s.content for s in w.jira.stored] == [LATER]
    assert w.files(w.done) == {"TEST-1/a.txt": LATER}
    assert w.files(w.failed) == {}
    assert "refused as it was at " in (w.rows()[0].reason or "")


# --- What changes nothing but ctime -------------------------------------------------------------------------------


def another_mode(w: World, path: Path) -> None:
    path.chmod(0o640)


def another_name_too(w: World, path: Path) -> None:
    os.link(path, w.home / "linked")


def another_owner(w: World, path: Path) -> None:
    os.chown(path, -1, os.getegid())


def written_as_it_was(w: World, path: Path) -> None:
    before = path.stat()
    path.write_bytes(SENT)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [another_mode, another_name_too, another_owner, written_as_it_was])
@pytest.mark.parametrize("gap", [False, True])
def test_the_same_content_is_filed_and_not_sent_again(
    w: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[World, Path], None], gap: bool
) -> None:
    sent(w, "TEST-1/a.txt")
    if gap:
        around_rename(monkeypatch, before=lambda path: change(w, path))
    else:
        change(w, w.inbox / "TEST-1/a.txt")

    w.work()

    assert w.states() == ["DONE"]
    assert [s.content for s in w.jira.stored] == [SENT]
    assert w.files(w.done) == {"TEST-1/a.txt": SENT}


def during_each_reading(w: World, patch: pytest.MonkeyPatch, act: Rewrite, times: int = 1000) -> None:
    """Do something to the file in the inbox at the end of each reading of a file, so many *times*."""
    really, left = recognition.digest_from, [times]

    def digest_from(file: int) -> bytes:
        digest = really(file)
        for path in (w.inbox / "TEST-1").iterdir():
            if left[0] > 0:
                left[0] -= 1
                act(path)
        return digest

    patch.setattr(recognition, "digest_from", digest_from)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("watched", [True, False])
def test_a_file_whose_mode_is_set_again_and_again_while_it_is_read_is_filed(
    w: World, monkeypatch: pytest.MonkeyPatch, across: bool, watched: bool
) -> None:
    """A job sets the modes of the inbox each minute, and reading the file takes longer."""
    if across:
        put_across(w, monkeypatch)
    if not watched:
        monkeypatch.setattr(tripwire._wires, "add", lambda _file: None)
    sent(w, "TEST-1/a.txt")
    another_mode(w, w.inbox / "TEST-1/a.txt")
    during_each_reading(w, monkeypatch, lambda path: path.chmod(0o664))

    w.settle(hours=0.5)

    assert w.states() == ["DONE"]
    assert [s.content for s in w.jira.stored] == [SENT]
    assert w.files(w.done) == {"TEST-1/a.txt": SENT}
    assert w.files(w.inbox) == {}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("times", [1, 2])
def test_what_is_written_while_it_is_read_is_a_new_file(
    w: World, monkeypatch: pytest.MonkeyPatch, way: str, watched: bool, times: int
) -> None:
    if not watched:
        monkeypatch.setattr(tripwire._wires, "add", lambda _file: None)
    sent(w, "TEST-1/a.txt")
    another_mode(w, w.inbox / "TEST-1/a.txt")
    acts = iter([lambda path: path.chmod(0o664), WAYS[way]][2 - times :])
    during_each_reading(w, monkeypatch, lambda path: next(acts)(path), times)

    w.settle()

    both_arrived(w)


@pytest.mark.parametrize("files", [1, 3])
def test_an_ordinary_file_is_not_read_to_be_moved(w: World, monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    sent(w, *(f"TEST-1/{number}.txt" for number in range(files)))
    monkeypatch.setattr(recognition, "digest_from", None)

    w.work()

    assert w.states() == ["DONE"] * files


def test_a_ctime_that_may_hide_a_write_of_the_same_tick_proves_nothing(w: World) -> None:
    """It was changed directly before it was sent: the clock of its file system may not have ticked since."""
    w.drop("TEST-1/a.txt", SENT)
    w.clock.time = (w.inbox / "TEST-1/a.txt").stat().st_ctime
    w.scan()
    w.step()

    assert w.row("TEST-1/a.txt").sent_ctime_ns is None


# --- Who still writes ---------------------------------------------------------------------------------------------


def test_a_file_that_somebody_has_open_for_writing_is_not_moved_away_under_their_hands(w: World) -> None:
    sent(w, "TEST-1/a.txt", "TEST-1/b.txt")
    with (w.inbox / "TEST-1/a.txt").open("r+b") as file:
        w.work()
        assert w.files(w.done) == {"TEST-1/b.txt": SENT}
        assert "open for writing" in (w.row("TEST-1/a.txt").blocked or "")
        assert w.pauses() == set()
        for _ in range(5):
            w.clock.advance(31)
            w.work()
        assert w.row("TEST-1/a.txt").wait < 30.0, "it may be closed at any moment"
        file.write(b"more, and later")

    w.settle()

    assert sorted(s.content for s in w.jira.stored) == sorted([SENT, SENT, b"more, and later"])
    assert w.files(w.done) == {"TEST-1/a.txt": b"more, and later", "TEST-1/b.txt": SENT}


@pytest.fixture
def late(w: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BinaryIO]]:
    """Give the program that opens the file for writing once its copy on another device is durable."""
    programs: list[BinaryIO] = []
    really = removal.remove

    def remove(*arguments: object) -> None:
        if not programs:
            programs.append((w.inbox / "TEST-1/a.txt").open("ab"))
        really(*arguments)  # type: ignore[arg-type]

    put_across(w, monkeypatch)
    monkeypatch.setattr(removal, "remove", remove)
    yield programs
    for program in programs:
        program.close()


def is_said_to_be_open(w: World) -> None:
    assert w.files(w.inbox) == {"TEST-1/a.txt": SENT}
    assert "open for writing" in (w.row("TEST-1/a.txt").blocked or "")


def test_what_is_opened_after_it_was_copied_keeps_its_name_and_goes_once_it_is_closed(
    w: World, late: list[BinaryIO]
) -> None:
    sent(w, "TEST-1/a.txt")
    w.work()
    for _ in range(3):
        is_said_to_be_open(w)
        w.clock.advance(31)
        w.scan()
        w.work()
    late[0].close()
    w.settle(hours=1)

    assert w.states() == ["DONE"]
    assert [s.content for s in w.jira.stored] == [SENT]
    assert w.files(w.done) == {"TEST-1/a.txt": SENT}
    assert w.files(w.inbox) == {}


def test_a_file_that_is_saved_in_place_of_one_that_was_opened_after_it_was_copied_is_the_only_new_one(
    w: World, late: list[BinaryIO]
) -> None:
    sent(w, "TEST-1/a.txt")
    w.work()
    is_said_to_be_open(w)
    w.drop("TEST-1/a.txt", LATER + b", elsewhere")
    w.clock.advance(1)
    w.deliver()
    late[0].close()
    w.settle(hours=1)

    assert [s.content for s in w.jira.stored] == [SENT, LATER + b", elsewhere"]
    assert sorted(w.files(w.done).values()) == [SENT, LATER + b", elsewhere"]
    assert w.files(w.inbox) == {}


def test_what_is_saved_to_a_copied_file_in_a_folder_that_was_renamed_meanwhile_is_attached(
    w: World, late: list[BinaryIO]
) -> None:
    sent(w, "TEST-1/a.txt")
    w.work()
    is_said_to_be_open(w)
    (w.inbox / "TEST-1").rename(w.inbox / "TEST-1 Printer")
    for _ in range(3):
        w.scan()
        w.work()
        w.clock.advance(31)
    late[0].write(LATER)
    late[0].close()
    w.settle(hours=1)

    assert [s.content for s in w.jira.stored] == [SENT, SENT + LATER]
    assert sorted(w.files(w.done).values()) == [SENT, SENT + LATER]
    assert w.files(w.inbox) == {}
