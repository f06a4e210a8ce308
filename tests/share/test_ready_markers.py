"""Ready markers: ``NAME.ready`` releases NAME, is never attached, and is gone when NAME has left the inbox."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from attachd.config import Settle
from attachd.fs import leases
from attachd.fs import rename as fs_rename
from attachd.fs.leases import Writer
from attachd.intake import gates
from attachd.intake.gates import Marker, Ready, Wait
from attachd.journal.admission import Moment
from attachd.model import State
from attachd.report.why import Ignored, Rule, Unseen
from attachd.share import ready_markers
from intake.test_gates import told
from memory_jira import Fault, World, world
from promise.test_random_lives import Crash, CrashingJournal, Fuse
from report.test_why import row
from report.test_why_lookup import one

SETTLE = {"ready_suffix": ".ready", "quiet_seconds": 2.0, "quiet_seconds_unproven": 30.0, "empty_seconds": 60.0}


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, settle=SETTLE) as made:
        yield made


# --- What is decided --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        (Marker.MISSING, Wait(None, "it is released by a.txt.ready, which is not there yet")),
        (Marker.THERE, Ready()),
        (Marker.NOT_ASKED, Wait(1002.0)),
    ],
)
def test_a_marker_takes_the_place_of_quiet_time(marker: Marker, expected: Ready | Wait) -> None:
    seen, moment = row(State.SEEN, quiet_boot=1000.0, mtime_ns=0), Moment(0.0, 1000.0, 7)

    assert gates.before_opening(seen, Settle(ready_suffix=".ready"), moment, marker) == expected


def test_where_nobody_can_tell_who_writes_the_marker_is_believed() -> None:
    seen, moment = row(State.SEEN, quiet_boot=1000.0), Moment(0.0, 1000.0, 7)

    assert gates.of_writer(seen, Settle(), moment, Writer.UNKNOWN, Marker.THERE) == Ready()
    assert gates.of_writer(seen, Settle(), moment, Writer.SOMEBODY, Marker.THERE) == Wait(1001.0, leases.STILL_OPEN)


@pytest.mark.parametrize(
    ("name", "is_marker"), [(b"a.txt.ready", True), (b".ready", False), (b"a.txt", False), (b"ready", False)]
)
def test_what_is_a_markers_name(name: bytes, is_marker: bool) -> None:
    assert ready_markers.is_name(name, ".ready") is is_marker
    assert not ready_markers.is_name(name, "")


# --- In the inbox -----------------------------------------------------------------------------------------------


def test_a_file_waits_for_its_marker_and_goes_at_once_then(w: World) -> None:
    w.drop("TEST-1/a/b.txt")
    found = one(w, "inbox/TEST-1/a/b.txt")
    assert isinstance(found, Unseen)
    assert found.rules.ready_suffix == ".ready"
    for _ in range(3):
        w.clock.advance(1000.0)
        w.deliver()
    assert w.states() == ["SEEN"]
    sentence = told(w, "TEST-1/a/b.txt").sentence
    assert (
        ": it is released by b.txt.ready, which is not there yet. It is sent to TEST-1 when that is over." in sentence
    )
    w.drop("TEST-1/a/b.txt.ready", b"")
    w.deliver()

    assert w.jira.names("TEST-1") == ["a-b.txt"]
    assert w.files(w.inbox) == {}
    assert w.files(w.done) == {"TEST-1/a/b.txt": b"content"}


def test_a_new_file_with_its_marker_goes_with_the_first_look(w: World) -> None:
    w.drop("TEST-1/a.txt.ready", b"")
    w.drop("TEST-1/a.txt")
    w.deliver()

    assert w.states() == ["DONE"]


def test_a_file_that_is_open_is_not_released_by_its_marker(w: World) -> None:
    path = w.drop("TEST-1/a.txt", b"half")
    w.drop("TEST-1/a.txt.ready", b"")
    with path.open("ab"):
        w.deliver()
        assert w.states() == ["SEEN"]


def test_a_marker_is_never_attached_even_without_its_file(w: World) -> None:
    w.drop("TEST-1/a.txt.ready", b"content")
    w.clock.advance(1000.0)
    w.deliver()

    assert w.rows() == []
    assert one(w, "inbox/TEST-1/a.txt.ready") == Ignored("*.ready", Rule.MARKER)
    assert w.files(w.inbox) == {"TEST-1/a.txt.ready": b"content"}


def test_a_marker_in_which_somebody_wrote_something_goes_where_its_file_goes(w: World) -> None:
    w.drop("TEST-1/a.txt")
    w.drop("TEST-1/a.txt.ready", b"sha256 of it")
    (w.done / "TEST-1").mkdir()
    (w.done / "TEST-1/a.txt.ready").write_bytes(b"an earlier one")
    w.deliver()

    assert w.jira.names("TEST-1") == ["a.txt"]
    assert w.files(w.inbox) == {}
    assert w.files(w.done) == {
        "TEST-1/a.txt": b"content",
        "TEST-1/a.txt.ready": b"an earlier one",
        "TEST-1/a.txt (2).ready": b"sha256 of it",
    }


def test_a_marker_that_was_a_file_before_is_left_alone(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.drop("TEST-1/a.txt.ready")
        w.scan()
        w.tables = {"settle": SETTLE}
        w.restart()
        w.deliver()

        assert w.states() == ["WITHDRAWN"]


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_is_no_regular_file_is_no_marker(w: World, kind: str) -> None:
    w.drop("TEST-1/a.txt")
    marker = w.inbox / "TEST-1/a.txt.ready"
    marker.symlink_to(w.home / "token") if kind == "link" else marker.mkdir()
    w.clock.advance(1000.0)
    w.deliver()

    assert w.states() == ["SEEN"]
    assert not ready_markers.remove(w.inbox, b"TEST-1/a.txt", ".ready")
    assert (w.home / "token").exists()


def test_the_marker_stays_until_the_verdict_is_known(w: World) -> None:
    w.drop("TEST-1/a.txt")
    marker = w.drop("TEST-1/a.txt.ready", b"")
    w.jira.faults = [Fault(breaks=httpx.ReadTimeout, commit="all")]
    w.scan()
    w.step()
    assert marker.exists()
    w.settle()

    assert not marker.exists()
    assert len(w.jira.stored) == 1


def test_a_file_that_failed_loses_its_marker_and_needs_none_when_it_comes_back(w: World) -> None:
    w.jira.limit = 1
    w.drop("TEST-1/a.txt")
    w.drop("TEST-1/a.txt.ready", b"")
    w.deliver()
    assert w.states() == ["FAILED"]
    assert w.files(w.inbox) == {}
    w.jira.limit = 1000
    (w.failed / "TEST-1/a.txt").rename(w.inbox / "TEST-1/a.txt")
    w.clock.advance(100.0)
    w.scan()
    w.clock.advance(2.0)
    w.deliver()

    assert w.states() == ["FAILED", "DONE"]


def test_another_file_of_the_size_and_time_of_a_failed_one_needs_its_marker(w: World) -> None:
    """Build machines give all files one time."""
    w.jira.limit = 1
    w.drop("TEST-1/a.txt", mtime_ns=1_700_000_000_000_000_000)
    w.drop("TEST-1/a.txt.ready", b"")
    w.deliver()
    w.drop("TEST-1/a.txt", mtime_ns=1_700_000_000_000_000_000)
    w.clock.advance(100.0)
    w.deliver()

    assert w.states() == ["FAILED", "SEEN"]


def test_a_marker_of_content_that_came_later_is_left_to_it(w: World) -> None:
    w.drop("TEST-1/a.txt", b"first")
    marker = w.drop("TEST-1/a.txt.ready", b"")
    w.scan()
    w.jira.before = lambda: w.drop("TEST-1/a.txt", b"the next one") if not w.jira.stored else None
    w.work()
    w.jira.before = lambda: None

    assert marker.exists()
    w.settle()
    assert b"the next one" in [stored.content for stored in w.jira.stored]


def test_a_marker_that_cannot_be_removed_does_not_hold_the_file(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> bool:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(ready_markers, "remove", refused)
    w.drop("TEST-1/a.txt")
    w.drop("TEST-1/a.txt.ready", b"")
    w.deliver()

    assert w.states() == ["DONE"]


def test_it_can_be_asked_for_in_single_folders(tmp_path: Path) -> None:
    with world(tmp_path, folder=[{"match": "LC-*", "ready_suffix": ".ok"}]) as w:
        for name in ("LC-1/a.txt", "LC-1/b.txt", "LC-1/b.txt.ok", "TEST-1/a.txt", "TEST-1/b.txt.ok"):
            w.drop(name)
        w.deliver()

        assert w.files(w.inbox) == {"LC-1/a.txt": b"content"}
        assert sorted(w.jira.names("TEST-1")) == ["a.txt", "b.txt.ok"]


@pytest.mark.parametrize("to", ["OPS-7", "TEST-1 Printer"])
def test_a_file_that_is_moved_into_a_folder_that_asks_for_one_needs_it_there(tmp_path: Path, to: str) -> None:
    with world(tmp_path, folder=[{"match": to, "ready_suffix": ".ok"}]) as w:
        w.drop("TEST-1/a.txt")
        w.scan()
        assert w.states() == ["READY"]
        (w.inbox / to).mkdir()
        (w.inbox / "TEST-1/a.txt").rename(w.inbox / to / "a.txt")
        w.settle(hours=0.1)
        assert w.states() == ["SEEN"]
        w.drop(f"{to}/a.txt.ok", b"")
        w.settle(hours=0.1)

        assert [s.issue for s in w.jira.stored] == [to.partition(" ")[0]]
        assert w.states() == ["DONE"]


def test_where_a_marker_cannot_be_seen_there_is_none(tmp_path: Path) -> None:
    assert not ready_markers.lies_beside(tmp_path, b"nowhere/a.txt", ".ready")
    assert not ready_markers.lies_beside(tmp_path, b"x" * 250, ".ready.ready")
    assert not ready_markers.remove(tmp_path, b"nowhere/a.txt", ".ready")


# --- Dying anywhere ---------------------------------------------------------------------------------------------


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process can die before and after every commit, rename and removal of a marker."""
    remove, rename = ready_markers.remove, fs_rename.rename_noreplace

    def removing(inbox: Path, path: bytes, suffix: str) -> bool:
        Fuse.point()
        removed = remove(inbox, path, suffix)
        Fuse.point()
        return removed

    def moving(*arguments: object) -> None:
        Fuse.point()
        rename(*arguments)  # type: ignore[arg-type]
        Fuse.point()

    monkeypatch.setattr(ready_markers, "remove", removing)
    monkeypatch.setattr(fs_rename, "rename_noreplace", moving)
    yield
    Fuse.left = None


@pytest.mark.usefixtures("crashing")
@pytest.mark.parametrize("limit", [1, 1000])
def test_whenever_the_process_dies_the_file_arrives_once_and_its_marker_goes(tmp_path: Path, limit: int) -> None:
    points = 0
    while True:
        home = tmp_path / str(points)
        home.mkdir()
        with world(home, settle=SETTLE, fuse={"hold_minutes": 0.0}) as w:
            w.jira.limit = limit
            w.drop("TEST-1/a.txt")
            w.drop("TEST-1/a.txt.ready", b"")
            w.runtime.journal.__class__ = CrashingJournal
            Fuse.left = points
            try:
                w.deliver()
            except Crash:
                w.restart()
                Fuse.left = None
                w.settle()
            finished = Fuse.left is not None
            Fuse.left = None
            filed = w.failed if limit == 1 else w.done
            assert w.files(w.inbox) == {}, points
            assert w.files(filed)["TEST-1/a.txt"] == b"content"
            assert len(w.jira.stored) == (limit > 1)
        if finished:
            break
        points += 1
    assert points > 10


def test_the_writer_is_asked_whether_or_not_there_is_a_marker(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "writer", lambda descriptor, network=False: Writer.UNKNOWN)
    w.drop("TEST-1/a.txt")
    w.drop("TEST-1/a.txt.ready", b"")
    w.deliver()

    assert w.states() == ["DONE"]
    assert os.listdir(w.inbox / "TEST-1") == []
