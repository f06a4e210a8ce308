"""A file system below the inbox that goes leaves an empty folder; nothing is concluded from what is not seen then."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attachd.filing import file_away
from attachd.intake import files, folder_scan, mounts, scanner
from attachd.journal.rows import Row
from attachd.report import status as report_status
from attachd.report import status_text
from memory_jira import Fault, World, world


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


class Devices:
    """Which folders are on which device; what is not named is on the inbox's own."""

    def __init__(self, w: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inbox = w.inbox
        self.on: dict[str, int] = {}
        self.down: set[str] = set()
        self.real = (os.stat, os.fstat)
        for module in (mounts, scanner, folder_scan, files):
            monkeypatch.setattr(module, "os", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def stat(self, path: Any, **options: Any) -> os.stat_result:
        status = os.stat(path, **options)
        place = os.path.realpath(os.fsdecode(path), strict=False) if "dir_fd" not in options else None
        if place is None:
            place = os.path.join(os.readlink(f"/proc/self/fd/{options['dir_fd']}"), os.fsdecode(path))
        self._answer(place)
        return self._moved(status, place)

    def open(self, path: Any, flags: int, **options: Any) -> int:
        descriptor = os.open(path, flags, **options)
        try:
            self._answer(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _answer(self, place: str) -> None:
        if os.path.relpath(place, self.inbox) in self.down:
            raise OSError(errno.EHOSTDOWN, os.strerror(errno.EHOSTDOWN))

    def fstat(self, descriptor: int) -> os.stat_result:
        return self._moved(os.fstat(descriptor), os.readlink(f"/proc/self/fd/{descriptor}"))

    def _moved(self, status: os.stat_result, place: str) -> os.stat_result:
        relative = os.path.relpath(place, self.inbox)
        device = next((d for point, d in self.on.items() if f"{relative}/".startswith(f"{point}/")), status.st_dev)
        fields = list(status)
        fields[2] = device
        names = {name: getattr(status, name) for name in ("st_mtime_ns", "st_ctime_ns", "st_atime_ns")}
        return os.stat_result(fields, names)


@pytest.fixture
def devices(w: World, monkeypatch: pytest.MonkeyPatch) -> Devices:
    return Devices(w, monkeypatch)


def pass_by(w: World, times: int = 4) -> None:
    for _ in range(times):
        w.clock.advance(31.0)
        w.deliver()


@pytest.mark.parametrize("point", ["TEST-1", "TEST-1/share"])
@pytest.mark.parametrize("again", [False, True])
def test_what_was_attached_on_a_share_that_has_gone_is_not_attached_again_when_it_is_back(
    w: World, devices: Devices, point: str, again: bool
) -> None:
    """It could not be moved before the share went; also across a restart."""
    devices.on[point] = 77
    path = w.drop(f"{point}/a.txt", b"a")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.deliver()
    assert w.states() == ["DOUBTFUL"]
    away = w.home / "away"
    devices.on.clear()
    path.rename(away)
    if again:
        w.restart()
        w.scan()
    pass_by(w)
    assert [(str(row.state), row.finished_at) for row in w.rows()] == [("ATTACHED", None)]

    devices.on[point] = 78
    away.rename(path)
    pass_by(w)

    assert [s.content for s in w.jira.stored] == [b"a"]
    assert w.files(w.done) == {f"{point}/a.txt": b"a"}


def test_while_a_share_is_away_status_says_so_and_its_folder_is_left_alone(w: World, devices: Devices) -> None:
    devices.on["TEST-1"] = 77
    w.drop("TEST-1/a.txt", b"a")
    w.scan()
    devices.on.clear()
    (w.inbox / "TEST-1/a.txt").rename(w.home / "away")
    w.drop("TEST-1/a.txt", b"of somebody who did not notice")
    w.drop("TEST-2/b.txt", b"b")
    pass_by(w)

    assert [s.content for s in w.jira.stored] == [b"b"]
    found = report_status.collect(w.runtime.config, w.home / "state", w.runtime.journal, w.clock.now())
    assert list(found["not_listed"]) == ["TEST-1"]
    assert any(line.startswith("not listed TEST-1: what was mounted there") for line in status_text.lines(found, 0.0))


def test_a_look_at_one_folder_names_a_share_whose_server_is_away(w: World, devices: Devices) -> None:
    """A mounted share of SMB gives no answer even to what its folder is."""
    w.drop("TEST-1/a.txt", b"a")
    w.scan()
    devices.down.add("TEST-1")

    report = w.scanner.scan({b"TEST-1"})

    assert report.troubles == [(b"TEST-1", "Host is down")]


@pytest.mark.parametrize("code", [errno.EHOSTDOWN, errno.ESTALE, errno.ETIMEDOUT])
def test_a_share_that_is_away_holds_up_only_what_lies_on_it(
    w: World, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """And is asked once for all its files: each answer takes a time-out."""
    for name in ("TEST-1/a.txt", "TEST-1/b.txt", "TEST-2/c.txt"):
        w.drop(name)
    move, moved = file_away._move, []

    def away(runtime: Any, row: Row, group: Any) -> Any:
        if not row.path.startswith(b"TEST-1/"):
            return move(runtime, row, group)
        moved.append(row.path)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(file_away, "_move", away)
        w.deliver()
        assert w.pauses() == set()
        assert w.files(w.done) == {"TEST-2/c.txt": b"content"}
        assert {row.blocked for row in w.rows() if row.path.startswith(b"TEST-1/")} == {
            f"the file system of its folder does not answer ({os.strerror(code)})"
        }
        assert len(moved) == 1
    w.settle()

    assert sorted(w.files(w.done)) == ["TEST-1/a.txt", "TEST-1/b.txt", "TEST-2/c.txt"]
    assert len(w.jira.stored) == 3


@pytest.mark.parametrize("code", [errno.EHOSTDOWN, errno.ESTALE])
def test_while_the_share_of_done_is_away_nothing_is_sent(w: World, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def away(*_arguments: Any, **_more: Any) -> Any:
        raise OSError(code, os.strerror(code))

    w.drop("TEST-1/a.txt")
    monkeypatch.setattr(file_away, "_move", away)
    w.done.rename(w.home / "away")
    w.deliver()

    assert w.pauses() == {"site:disk"}


def test_a_share_whose_folder_is_removed_never_comes_back(w: World, devices: Devices) -> None:
    devices.on["TEST-1"] = 77
    w.drop("TEST-1/a.txt", b"a")
    w.scan()
    devices.on.clear()
    (w.inbox / "TEST-1/a.txt").unlink()
    (w.inbox / "TEST-1").rmdir()
    pass_by(w)

    assert w.states() == ["WITHDRAWN"]


def test_a_share_on_which_nothing_waits_may_go_unnoticed(w: World, devices: Devices) -> None:
    devices.on["TEST-1"] = 77
    w.drop("TEST-1/a.txt", b"a")
    w.settle()
    devices.on.clear()
    w.drop("TEST-1/b.txt", b"b")
    w.settle()

    assert sorted(w.files(w.done)) == ["TEST-1/a.txt", "TEST-1/b.txt"]
