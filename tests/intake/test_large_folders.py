"""A folder in which very many files wait: of a new one an event tells, and it alone is looked at."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from attachd.intake import inotify
from attachd.intake.files import Entry, Walk
from attachd.intake.folder_scan import CHUNK
from attachd.intake.inotify import Changes
from attachd.intake.matching import Matcher, Recognised
from attachd.journal import database
from attachd.service.intake_loop import IntakeLoop
from memory_jira import World, world

MANY = CHUNK + 1


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with large(tmp_path) as made:
        yield made


@contextmanager
def large(home: Path, **tables: dict[str, object]) -> Iterator[World]:
    with world(home, **tables) as made:
        made.runtime.stopping = threading.Event()
        for number in range(MANY):
            made.drop(f"TEST-1/{number:04}.txt", b"%d" % number)
        yield made


@pytest.fixture
def intake(w: World) -> Iterator[IntakeLoop]:
    with looped(w) as made:
        yield made


@contextmanager
def looped(w: World) -> Iterator[IntakeLoop]:
    """Its files are ready, and the kernel has told everything about them."""
    made = IntakeLoop(w.runtime)
    try:
        for _ in range(2):
            made._scan_all()
            w.clock.advance(10.0)
        assert len(w.rows()) == MANY
        w.drop("TEST-9/last.txt")
        wait_until(lambda: b"TEST-9" in made.changes.heard())
        made.changes.wait(0.0)
        yield made
    finally:
        made.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.005)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files to which intake looks, one after the other."""
    paths: list[bytes] = []
    recognise = Matcher.recognise

    def noting(self: Matcher, entries: Sequence[Entry]) -> Recognised:
        paths.extend(entry.path for entry in entries)
        return recognise(self, entries)

    monkeypatch.setattr(Matcher, "recognise", noting)
    return paths


def attached(w: World) -> list[bytes]:
    return sorted(each.content for each in w.jira.on("TEST-1"))


def step(w: World, intake: IntakeLoop, seconds: float = 0.0) -> None:
    """One round, of what the kernel has told by now, and of what is due."""
    w.clock.advance(seconds)
    intake.changes.add({b"nothing"})
    intake._step()


def test_one_more_file_is_looked_at_alone_until_it_is_ready(
    w: World, intake: IntakeLoop, looked_at: list[bytes]
) -> None:
    w.drop("TEST-1/new.txt", b"new")
    wait_until(lambda: b"TEST-1" in intake.changes.heard())
    step(w, intake)
    assert w.row("TEST-1/new.txt").state == "READY"

    assert set(looked_at) == {b"TEST-1/new.txt"}


def test_and_again_when_it_will_have_settled(tmp_path: Path, looked_at: list[bytes]) -> None:
    with large(tmp_path, settle={"quiet_seconds": 5.0}) as w, looped(w) as intake:
        looked_at.clear()
        w.drop("TEST-1/new.txt", b"new")
        intake._look_at({b"TEST-1/new.txt"})
        assert w.row("TEST-1/new.txt").state == "SEEN"
        assert intake._settles[b"TEST-1/new.txt"] == w.clock.boot() + 5.0

        step(w, intake, 5.0)

        assert w.row("TEST-1/new.txt").state == "READY"
        assert b"TEST-1/new.txt" not in intake._settles
        assert {path for path in looked_at if path.startswith(b"TEST-1/")} == {b"TEST-1/new.txt"}


def rename(w: World) -> Collection[bytes]:
    (w.inbox / "TEST-1/0007.txt").rename(w.inbox / "TEST-1/seven.txt")
    return {b"TEST-1/seven.txt"}


def replace(w: World) -> Collection[bytes]:
    w.drop("TEST-1/0007.txt", b"another content")
    return {b"TEST-1/0007.txt"}


def exchange(w: World) -> Collection[bytes]:
    (w.inbox / "TEST-1/0007.txt").rename(w.inbox / "TEST-1/x")
    (w.inbox / "TEST-1/0008.txt").rename(w.inbox / "TEST-1/0007.txt")
    (w.inbox / "TEST-1/x").rename(w.inbox / "TEST-1/0008.txt")
    return {b"TEST-1/0007.txt", b"TEST-1/0008.txt", b"TEST-1/x"}


def link(w: World) -> Collection[bytes]:
    (w.inbox / "TEST-1/link.txt").hardlink_to(w.inbox / "TEST-1/0007.txt")
    return {b"TEST-1/link.txt"}


@pytest.mark.parametrize("act", [rename, replace, exchange, link])
def test_what_people_do_there_is_attached_as_often_as_it_lies_there(
    w: World, intake: IntakeLoop, looked_at: list[bytes], act: Callable[[World], Collection[bytes]]
) -> None:
    paths = set(act(w))
    intake._look_at(paths)
    assert set(looked_at) <= paths
    lies = sorted(path.read_bytes() for path in (w.inbox / "TEST-1").iterdir())
    w.settle()

    assert attached(w) == lies


def folder(w: World) -> bytes:
    (w.inbox / "TEST-1/new/below").mkdir(parents=True)
    w.drop("TEST-1/new/below/file.txt", b"new")
    return b"TEST-1/new/below/file.txt"


def another_folder(w: World) -> bytes:
    (w.inbox / "TEST-1").rename(w.home / "away")
    w.drop("TEST-1/new", b"new")
    w.drop("TEST-1/beside.txt", b"beside")
    return b"TEST-1/beside.txt"


@pytest.mark.parametrize("act", [folder, another_folder])
def test_the_folder_is_listed_where_one_file_does_not_tell_all(
    w: World, intake: IntakeLoop, act: Callable[[World], bytes]
) -> None:
    expected = act(w)
    intake._look_at({b"TEST-1/new"})

    assert w.row(expected.decode()).state == "READY"


def test_so_it_is_for_very_many_new_files(w: World, intake: IntakeLoop, looked_at: list[bytes]) -> None:
    for number in range(CHUNK + 1):
        w.drop(f"TEST-1/new-{number}.txt", b"new %d" % number)
    intake._look_at({b"TEST-1/new-%d.txt" % number for number in range(CHUNK + 1)})

    assert len(set(looked_at)) == MANY + CHUNK + 1


def test_and_where_ready_markers_release_files(tmp_path: Path, looked_at: list[bytes]) -> None:
    with large(tmp_path, settle={"ready_suffix": ".ready"}) as w, looped(w) as intake:
        w.drop("TEST-1/0007.txt.ready", b"")
        intake._look_at({b"TEST-1/0007.txt.ready"})

        assert w.row("TEST-1/0007.txt").state == "READY"


def test_what_is_ignored_there_is_not_taken(tmp_path: Path, looked_at: list[bytes]) -> None:
    with large(tmp_path) as w:
        (w.inbox / "TEST-1/.attachdignore").write_text("*.raw\n")
        with looped(w) as intake:
            looked_at.clear()
            for name in ("a.raw", ".hidden", "Thumbs.db", "gone.txt", "good.txt"):
                w.drop(f"TEST-1/{name}", name.encode())
            (w.inbox / "TEST-1/gone.txt").unlink()
            (w.inbox / "TEST-1/pipe").symlink_to("good.txt")
            intake._look_at(
                {b"TEST-1/" + name for name in (b"a.raw", b".hidden", b"Thumbs.db", b"gone.txt", b"good.txt")}
            )

            assert looked_at == [b"TEST-1/good.txt"]


def test_an_ignore_file_that_cannot_be_used_holds_the_new_one_too(w: World, intake: IntakeLoop) -> None:
    (w.inbox / "TEST-1/.attachdignore").write_bytes(b"[z-a]\n")
    w.drop("TEST-1/new.txt", b"new")
    intake._look_at({b"TEST-1/new.txt"})

    assert b"TEST-1/new.txt" not in {row.path for row in w.rows()}
    assert "TEST-1" in database.get(w.runtime.journal._connection, "troubles")


def test_nothing_else_that_is_known_of_the_folder_is_forgotten(w: World, intake: IntakeLoop) -> None:
    """As what lies too deep there: nothing of that was looked at."""
    deep = w.inbox / "TEST-1" / "/".join("d" * (Walk.__dataclass_fields__["most"].default + 2))
    deep.mkdir(parents=True)
    (deep / "file.txt").write_bytes(b"deep")
    (w.inbox / "TEST-1/0007.txt").unlink()
    intake._scan_all()
    unrouted = w.runtime.journal.rows("SELECT * FROM unrouted")
    assert unrouted
    w.drop("TEST-1/new.txt", b"new")

    intake._look_at({b"TEST-1/new.txt"})

    assert w.runtime.journal.rows("SELECT * FROM unrouted") == unrouted
    assert w.row("TEST-1/0007.txt").missing < 2, "one file says nothing of another"


def test_a_folder_that_is_emptied_meanwhile_is_missed_by_the_next_listing(w: World, intake: IntakeLoop) -> None:
    w.drop("TEST-1/new.txt", b"new")
    intake._look_at({b"TEST-1/new.txt"})
    shutil.rmtree(w.inbox / "TEST-1")
    w.settle()

    assert attached(w) == []
    assert w.unfinished() == []


# --- The events ---------------------------------------------------------------------------------------------------


def test_files_of_one_folder_are_told_one_by_one_up_to_a_limit() -> None:
    changes = Changes()
    few = {b"TEST-1/%d" % number for number in range(inotify.MOST_FILES)}
    for path in few:
        changes.add({path})
    assert changes.wait(0.0) == (False, few)

    for path in few | {b"TEST-1/more", b"TEST-2/a"}:
        changes.add({path})
    assert changes.wait(0.0) == (False, {b"TEST-1", b"TEST-2/a"})


def test_a_change_of_the_folder_is_more_than_one_of_its_files() -> None:
    for order in ([b"TEST-1", b"TEST-1/a"], [b"TEST-1/a", b"TEST-1"]):
        changes = Changes()
        for path in order:
            changes.add({path})
        assert changes.wait(0.0) == (False, {b"TEST-1"})


def test_files_that_were_only_made_pile_up_to_the_same_limit() -> None:
    changes = Changes()
    for number in range(10 * inotify.MOST_FILES):
        changes.add_later(b"TEST-1/%d" % number)

    assert len(changes._later) <= inotify.MOST_FILES + 1


@pytest.mark.parametrize(
    ("folder", "name", "expected"),
    [
        (b"TEST-1", b"a.txt", b"TEST-1/a.txt"),
        (b"TEST-1/below", b"a.txt", b"TEST-1"),
        (b"TEST-1", b".attachdignore", b"TEST-1"),
        (b"TEST-1", b"", b"TEST-1"),
        (b"TEST-1", inotify._MANY, b"TEST-1"),
    ],
)
def test_only_what_lies_directly_in_the_folder_is_told_alone(folder: bytes, name: bytes, expected: bytes) -> None:
    assert inotify._place(folder, name) == expected
