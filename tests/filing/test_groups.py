"""Files of one request are filed as a group: a few durable commits for all, and each file as safe as if it were alone."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attachd.delivery import probe
from attachd.filing import file_away, targets
from attachd.fs import free_names, rename
from attachd.fs import move as fs_move
from attachd.model import Cure, Fault, Scope
from attachd.service import decide, worker
from memory_jira import World, world


class Crash(BaseException):
    """The process dies here."""


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def dropped(w: World, files: int, issue: str = "TEST-1") -> None:
    """So many files are ready, each of them named by the number that it holds."""
    for number in range(files):
        w.drop(f"{issue}/{number}.txt", b"%d" % number)
    w.scan()


def commits(w: World, files: int, issue: str) -> int:
    """How many transactions are committed while so many files of one request go from ready to filed."""
    dropped(w, files, issue)
    said: list[str] = []
    w.runtime.journal._connection.set_trace_callback(said.append)
    w.work()
    w.runtime.journal._connection.set_trace_callback(None)
    assert sum(map(len, w.jira.uploads)) >= files
    return sum(statement.startswith("COMMIT") for statement in said)


def test_forty_files_of_one_request_cost_no_more_commits_than_two(w: World) -> None:
    w.drop("TEST-9/first.txt", b"so that the site is known")
    w.settle()

    assert commits(w, 40, "TEST-1") <= commits(w, 2, "TEST-2")
    assert len(w.files(w.done)) == 43


def test_who_has_sent_sends_again_and_what_has_its_verdict_by_then_is_moved_together(w: World) -> None:
    """So the connection is used again at once, and the files of several requests share their commits."""
    w.drop("TEST-9/first.txt", b"so that the site is known")
    w.settle()
    for issue in ("TEST-1", "TEST-2", "TEST-3"):
        w.drop(f"{issue}/a.txt", b"a")
    w.scan()

    for sent in (1, 2, 3):
        assert w.step()
        assert w.states().count("ATTACHED") == sent
    assert w.step()

    assert w.states() == ["DONE"] * 4


def test_where_many_wait_to_be_moved_they_are_moved_before_more_is_sent(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    w.drop("TEST-9/first.txt", b"so that the site is known")
    w.settle()
    monkeypatch.setattr(decide, "FILED_AT_ONCE", 2)
    for issue in ("TEST-1", "TEST-2", "TEST-3"):
        w.drop(f"{issue}/a.txt", b"a")
    w.scan()

    for expected in (["ATTACHED", "READY", "READY"], ["ATTACHED", "ATTACHED", "READY"], ["DONE", "DONE", "READY"]):
        assert w.step()
        assert w.states()[1:] == expected


def test_before_the_site_is_met_what_has_its_verdict_is_moved_first(w: World) -> None:
    """To meet a site that does not answer takes minutes."""
    w.drop("TEST-1/sent.txt", b"a")
    w.scan()
    assert w.step()
    w.runtime.site.introduced = False
    w.drop("TEST-2/waits.txt", b"b")
    w.scan()

    assert w.step()

    assert w.states() == ["DONE", "READY"]
    assert not w.runtime.site.introduced


def test_a_site_that_cannot_be_met_is_asked_by_one_worker_and_not_by_each_that_waited_for_it(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_key: list[str] = []

    def introduce(*_: object) -> Fault:
        folder_key.append("folder_key")
        return Fault(Scope.SITE, "unreachable", "nobody answers", cure=Cure.PROBE)

    monkeypatch.setattr(probe, "introduce", introduce)

    assert not probe.met(w.runtime, w.client)
    assert not probe.met(w.runtime, w.client)

    assert folder_key == ["folder_key"]


def test_at_the_end_all_that_has_its_verdict_is_moved(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "FILED_AT_ONCE", 2)
    dropped(w, 5)
    assert w.step()
    assert w.states() == ["ATTACHED"] * 5

    worker.conclude(w.runtime)

    assert w.states() == ["DONE"] * 5


def test_while_files_cannot_be_moved_nothing_is_sent_before_a_move_was_tried_again(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    dropped(w, 1)
    with monkeypatch.context() as patched:
        patched.setattr(rename, "rename_noreplace", full)
        w.work()
        assert w.states() == ["ATTACHED"]
        dropped(w, 1, "TEST-2")
        for _ in range(40):
            w.clock.advance(3.0)
            w.work()
        assert w.states() == ["ATTACHED", "READY"]
    w.settle()

    assert w.states() == ["DONE", "DONE"]


def test_each_file_has_its_name_before_the_first_one_moves(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped(w, 5)
    named: list[int] = []
    real = fs_move.move

    def move(*ends: Any, **how: Any) -> object:
        named.append(
            w.runtime.journal.value("SELECT count(*) FROM file WHERE target IS NOT NULL AND finished_at IS NULL")
        )
        return real(*ends, **how)

    monkeypatch.setattr(fs_move, "move", move)
    w.work()

    assert named == [5] * 5
    assert len(w.files(w.done)) == 5


def test_a_death_in_the_middle_of_a_group_moves_the_rest_to_the_names_they_had(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped(w, 5)
    moved: list[bytes] = []
    real = rename.rename_noreplace

    def die_at_the_third(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
        if len(moved) == 2:
            raise Crash
        real(from_folder, name, to_folder, new)
        moved.append(new)

    with monkeypatch.context() as patched:
        patched.setattr(rename, "rename_noreplace", die_at_the_third)
        with pytest.raises(Crash):
            w.work()
    assert len(w.files(w.done)) == 2
    w.end()
    w.restart()
    w.settle()

    assert w.files(w.done) == {f"TEST-1/{number}.txt": b"%d" % number for number in range(5)}
    assert w.states() == ["DONE"] * 5
    assert len(w.jira.on("TEST-1")) == 5


def test_two_of_a_group_that_want_one_name_get_two(w: World) -> None:
    """A folder and an issue's alias may have files of one name, and both go to the same folder of done."""
    w.drop("TEST-1/a.txt", b"one")
    w.drop("TEST-1 Printer jams/a.txt", b"other")

    w.settle()

    assert w.files(w.done) == {"TEST-1/a.txt": b"one", "TEST-1/a (2).txt": b"other"} or w.files(w.done) == {
        "TEST-1/a.txt": b"other",
        "TEST-1/a (2).txt": b"one",
    }


def test_a_name_that_somebody_takes_after_it_was_chosen_is_left_to_them(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped(w, 3)
    real = fs_move.move

    def move(*ends: Any, **how: Any) -> object:
        (w.done / "TEST-1").mkdir(exist_ok=True)
        (w.done / "TEST-1/1.txt").write_bytes(b"somebody's")
        monkeypatch.setattr(fs_move, "move", real)
        return real(*ends, **how)

    monkeypatch.setattr(fs_move, "move", move)
    w.work()

    assert w.files(w.done) == {
        "TEST-1/0.txt": b"0",
        "TEST-1/1.txt": b"somebody's",
        "TEST-1/1 (2).txt": b"1",
        "TEST-1/2.txt": b"2",
    }


def test_a_folder_of_done_that_is_removed_in_the_middle_of_a_group_is_made_again(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped(w, 3)
    real = file_away._carry_or_explain
    seen: list[str] = []

    def carry(*arguments: object) -> object:
        carried = real(*arguments)  # type: ignore[arg-type]
        if not seen:
            seen.extend(w.files(w.done))
            os.rename(w.done / seen[0], w.home / "taken.txt")
            os.rmdir(w.done / "TEST-1")
        return carried

    monkeypatch.setattr(file_away, "_carry_or_explain", carry)
    w.settle()

    expected = {f"TEST-1/{number}.txt": b"%d" % number for number in range(3)}
    del expected[seen[0]]
    assert w.files(w.done) == expected
    assert w.states() == ["DONE"] * 3


def test_a_name_that_is_promised_to_another_by_now_is_left_to_it(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may have promised it between the choice and the transaction: the others of the group keep theirs."""
    dropped(w, 4)
    real = free_names.Chooser.choose

    def choose(self: free_names.Chooser, wanted: bytes, *more: object) -> bytes:
        return b"TEST-1/one.txt" if wanted in (b"TEST-1/1.txt", b"TEST-1/2.txt") else real(self, wanted, *more)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(free_names.Chooser, "choose", choose)
        patched.setattr(
            targets,
            "retarget",
            lambda runtime, row: targets.change(runtime, row, {"root": "done", "target": b"TEST-1/other.txt"}),
        )
        w.work()

    assert set(w.files(w.done)) == {"TEST-1/0.txt", "TEST-1/one.txt", "TEST-1/other.txt", "TEST-1/3.txt"}
    assert sorted(w.files(w.done).values()) == [b"0", b"1", b"2", b"3"]
    assert w.states() == ["DONE"] * 4


def test_no_folder_is_held_any_more_when_files_are_written_down_as_filed(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person who unmounts what is filed by then must not find it busy, except by what is held as long as the service runs: the
    inbox itself, and its lock.
    """
    dropped(w, 3)
    held: list[list[str]] = []
    real = file_away._write

    def write(*arguments: object) -> int:
        open_now = [
            os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if _is_open(number)
        ]
        held.append(
            [path for path in open_now if path.startswith((f"{w.inbox}/", str(w.done))) and ".attachd" not in path]
        )
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(file_away, "_write", write)
    w.work()

    assert held == [[]]
    assert w.states() == ["DONE"] * 3


def _is_open(number: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")
