"""Two services on one inbox: the one that does not know what was sent last believes nothing, and looks first.

A second journal on the same folders stands for a second host that mounts the same share. A freeze is a host that takes no step
while the other works.
"""

from __future__ import annotations

import copy
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from attachd.delivery import upload
from attachd.errors import Mistake
from attachd.jira import multipart
from attachd.journal import backup as journal_backup
from attachd.journal import database, terms
from attachd.journal.terms import Known
from attachd.share import inbox_marker, locks, paths, tenure
from attachd.share.inbox_marker import Marker
from attachd.share.tenure import Standing, judge
from memory_jira import Fault, World, world

ID = "0123456789abcdef"


class Crash(BaseException):
    """The process dies here."""


@pytest.fixture
def a(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def b(a: World) -> Iterator[World]:
    """Another host: it has not been started."""
    made = copy.copy(a)
    made.tables, made.running = {"folders": {"state": str(a.home / "state-b")}}, False
    yield made
    made.end()


def dies_sending(w: World, fault: Fault) -> None:
    """Let it scan and send until it dies as *fault* says."""
    w.jira.faults.append(fault)
    w.scan()
    with pytest.raises(Crash):
        w.work()
    w.end()


def contents(w: World) -> list[bytes]:
    return sorted(stored.content for stored in w.jira.stored)


def lose_lock(w: World) -> None:
    """The file server has dropped it without a word: a file that another can lock lies there."""
    lock = paths.lock_of(w.inbox)
    lock.unlink()


def marker(w: World) -> Marker:
    found = inbox_marker.read_marker(w.inbox)
    assert found is not None
    return found


# --- Which journal worked last ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "found", "noted", "standing"),
    [
        (Known(), None, 0, Standing.NEW),
        (Known(announced="t"), None, 0, Standing.NEW),
        (Known(announced="t"), Marker(ID, "/s", "t"), 0, Standing.NEW),
        (Known(), Marker(ID, "/s", "t"), 0, Standing.LOST),
        (Known(), Marker(ID, "/s"), 0, Standing.LOST),
        (Known(ID, "t"), None, 0, Standing.AWAY),
        (Known(ID, "t"), Marker("other", "/s", "t"), 0, Standing.AWAY),
        (Known(ID, "t", attempt=7), Marker(ID, "/s", "t"), 7, Standing.OURS),
        (Known(ID, "t", attempt=6), Marker(ID, "/s", "t"), 7, Standing.OLD),
        (Known(ID, "s", "t"), Marker(ID, "/s", "t"), 0, Standing.OURS),
        (Known(ID, "s", "t"), Marker(ID, "/s", "s"), 0, Standing.OURS),
        (Known(ID, "s", "t"), Marker(ID, "/s", "u"), 0, Standing.OLD),
        (Known(ID), Marker(ID, "/s", "u"), 0, Standing.OLD),
        (Known(ID, "t"), Marker(ID, "/s"), 0, Standing.OLD),
        (Known(ID), Marker(ID, "/s"), 0, Standing.OURS),
    ],
)
def test_a_journal_is_held_against_the_marker(
    known: Known, found: Marker | None, noted: int, standing: Standing
) -> None:
    assert judge(known, found, noted, "") is standing


@pytest.mark.parametrize(
    ("known", "place", "standing"),
    [
        (Known(ID, "t", place="1:2"), "1:2", Standing.UNMARKED),
        (Known(ID, "t", place="1:2"), "1:3", Standing.AWAY),
        (Known(ID, "t", place=""), "", Standing.AWAY),
        (Known(), "1:2", Standing.NEW),
    ],
)
def test_without_a_marker_the_folder_itself_is_known_again(known: Known, place: str, standing: Standing) -> None:
    assert judge(known, None, 0, place) is standing


@pytest.mark.parametrize("commit", ["all", 3.0], ids=["at once", "late"])
def test_what_another_host_sent_and_never_heard_of_is_not_sent_again(a: World, b: World, commit: str | float) -> None:
    """A stops, B works and dies between Jira's commit and the answer, A starts again."""
    a.drop("TEST-1/first.txt", b"by A")
    a.settle()
    a.end()
    b.restart()
    b.scan()
    b.drop("TEST-1/second.txt", b"by B")
    dies_sending(b, Fault(commit=commit, breaks=Crash))

    a.restart()
    a.settle()

    assert contents(a) == [b"by A", b"by B"]
    assert a.files(a.done) == {"TEST-1/first.txt": b"by A", "TEST-1/second.txt": b"by B"}


def test_a_file_that_waited_in_the_older_journal_may_have_been_sent_since(a: World, b: World) -> None:
    """READY here; settling; and in doubt before, which one look would not find: Jira commits late."""
    a.jira.faults.append(Fault(status=503))
    a.drop("TEST-1/doubted.txt", b"in doubt")
    a.deliver()
    while a.row("TEST-1/doubted.txt").state != "READY":
        a.clock.advance(31.0)
        a.work(1) if not a.step() else None
    a.runtime.stopping.set()
    a.drop("TEST-2/waiting.txt", b"waiting")
    a.scan()
    a.end()
    b.restart()
    b.scan()
    b.jira.faults += [Fault(commit=3.0, breaks=Crash)]
    b.clock.advance(200.0)
    with pytest.raises(Crash):
        b.settle(hours=1)
    b.end()

    a.restart()
    a.settle()

    assert contents(a) == [b"in doubt", b"waiting"]
    assert a.files(a.inbox) == a.files(a.failed) == {}


def test_a_file_that_was_replaced_while_another_worked_may_have_been_sent(a: World, b: World) -> None:
    """The older journal knows the path, and another content of it."""
    a.tables["settle"] = {"quiet_seconds": 3600.0, "quiet_seconds_unproven": 3600.0}
    a.restart()
    a.drop("TEST-1/a.txt", b"old")
    a.scan()
    a.end()
    del a.tables["settle"]
    b.restart()
    b.scan()
    b.drop("TEST-1/a.txt", b"replaced")
    dies_sending(b, Fault(commit="all", breaks=Crash))

    a.restart()
    a.settle()

    assert contents(a) == [b"replaced"]


def copied_state(w: World) -> Path:
    """What a backup of the state folder, or a snapshot of the machine, holds at this moment."""
    folder = w.home / "backup"
    folder.mkdir()
    journal_backup.backup(w.home / "state", folder / database.FILE_NAME)
    return folder


def test_an_older_copy_of_the_state_folder_is_recognised(a: World) -> None:
    """It was made while the service ran, so it knows the term that the marker says."""
    a.drop("TEST-1/first.txt", b"first")
    a.settle()
    backup = copied_state(a)
    a.clock.advance(61.0)
    a.drop("TEST-1/second.txt", b"second")
    a.settle()
    a.clock.advance(61.0)
    a.scan()
    a.drop("TEST-1/third.txt", b"third")
    dies_sending(a, Fault(commit="all", breaks=Crash))
    shutil.rmtree(a.home / "state")
    backup.rename(a.home / "state")

    a.restart()
    a.settle()

    assert contents(a) == [b"first", b"second", b"third"]


def test_a_restart_of_the_only_service_doubts_nothing(a: World) -> None:
    a.drop("TEST-1/first.txt", b"first")
    a.settle()
    before = marker(a)
    a.drop("TEST-1/second.txt", b"second")
    a.scan()
    a.restart()

    a.deliver()

    assert a.files(a.done).keys() == {"TEST-1/first.txt", "TEST-1/second.txt"}, "without a look that takes minutes"
    assert marker(a) == before


def test_an_inbox_of_an_earlier_attachd_is_believed_once(a: World) -> None:
    """Neither its marker nor its journal says a term."""
    a.drop("TEST-1/a.txt", b"a")
    a.scan()
    with a.runtime.journal.transaction() as connection:
        terms.forget(connection)
    (a.inbox / inbox_marker.FOLDER / inbox_marker.MARKER).write_text(
        f'{{"inbox": "{marker(a).inbox}", "state": "/s"}}\n'
    )
    a.restart()

    a.deliver()

    assert a.files(a.done) == {"TEST-1/a.txt": b"a"}
    assert terms.known(a.runtime.journal).begun == marker(a).term != ""


# --- Where a take-over may die ----------------------------------------------------------------------------------------


def at_marker(monkeypatch: pytest.MonkeyPatch, *, written: bool) -> None:
    write = inbox_marker.write_marker

    def die(*words: Any) -> None:
        if written:
            write(*words)
        raise Crash

    monkeypatch.setattr(inbox_marker, "write_marker", die)


def at_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = terms.begin

    def die(connection: sqlite3.Connection, term: str, place: str) -> None:
        begin(connection, term, place)
        raise Crash

    monkeypatch.setattr(terms, "begin", die)


def at_announce(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_connection: sqlite3.Connection, _term: str) -> None:
        raise Crash

    monkeypatch.setattr(terms, "announce", die)


POINTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "before the journal doubts": at_announce,
    "before the marker": lambda patch: at_marker(patch, written=False),
    "after the marker": lambda patch: at_marker(patch, written=True),
    "before the journal says that the term has begun": at_begin,
}


@pytest.mark.parametrize("point", list(POINTS))
def test_a_death_while_an_inbox_is_taken_over_forgets_no_doubt(
    a: World, b: World, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    a.drop("TEST-1/first.txt", b"by A")
    a.settle()
    a.end()
    b.restart()
    b.scan()
    b.drop("TEST-1/second.txt", b"by B")
    dies_sending(b, Fault(commit="all", breaks=Crash))
    with monkeypatch.context() as patch:
        POINTS[point](patch)
        with pytest.raises(Crash):
            a.restart()

    a.restart()
    a.settle()

    assert contents(a) == [b"by A", b"by B"]
    assert marker(a).term == terms.known(a.runtime.journal).begun


@pytest.mark.parametrize("point", [point for point in POINTS if point != "before the journal doubts"])
def test_a_first_start_that_dies_makes_nothing_doubtful(a: World, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Nothing was ever sent, so nothing has to be looked for."""
    a.end()
    shutil.rmtree(a.home / "state")
    deleted(a)
    with monkeypatch.context() as patch:
        POINTS[point](patch)
        with pytest.raises(Crash):
            a.restart()
    a.restart()
    a.drop("TEST-1/a.txt", b"a")

    a.deliver()

    assert a.files(a.done) == {"TEST-1/a.txt": b"a"}


# --- Both at once -----------------------------------------------------------------------------------------------------


def test_a_host_that_was_frozen_sends_and_moves_nothing_until_it_has_looked_at_everything(a: World, b: World) -> None:
    """A's lock was lost meanwhile, and B has worked; then B ends, and A goes on by itself."""
    a.drop("TEST-1/first.txt", b"first")
    a.drop("TEST-2/second.txt", b"second")
    a.scan()
    lose_lock(a)
    b.restart()
    b.scan()
    b.drop("TEST-3/third.txt", b"third")
    b.deliver()
    assert contents(b) == [b"third"]

    a.work()
    a.scan()
    a.work()

    assert contents(a) == [b"third"], "A knew its files as unsent, and has looked before it sent"
    assert "another attachd (process" in a.runtime.guard.sight.reason
    seen_by_verbs = paths.sight(a.configuration(), a.home / "state", terms.known(a.runtime.journal))
    assert not seen_by_verbs.there
    b.jira.faults.append(Fault(commit="all", breaks=Crash))
    with pytest.raises(Crash):
        b.settle()
    b.end()
    a.settle()
    assert contents(a) == [b"first", b"second", b"third"]
    assert a.files(a.inbox) == a.files(a.failed) == {}


def take_over(b: World) -> None:
    b.restart()
    b.scan()


@pytest.mark.parametrize("content", [b"small", b"x" * (multipart.BUFFERED_BYTES + 1)], ids=["one buffer", "streamed"])
def test_an_upload_that_froze_after_its_intent_is_cut(
    a: World, b: World, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    a.drop("TEST-1/a.bin", content)
    a.scan()
    intend = upload._intend

    def freeze(*words: Any) -> bool:
        intended = intend(*words)
        lose_lock(a)
        take_over(b)
        a.clock.advance(31.0)
        return intended

    with monkeypatch.context() as patch:
        patch.setattr(upload, "_intend", freeze)
        a.work()
    assert a.jira.stored == []

    b.settle()
    b.end()
    a.settle()
    assert contents(a) == [content]


@pytest.mark.parametrize("seconds", [0.0, 31.0], ids=["at the boundary", "in the middle"])
def test_an_upload_that_froze_on_its_way_never_gets_its_last_boundary(
    a: World, b: World, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    content = b"x" * (multipart.BUFFERED_BYTES + 1)
    a.drop("TEST-1/a.bin", content)
    a.scan()
    read = multipart.read_claimed
    frozen = False

    def freeze(*words: Any) -> Iterator[bytes]:
        nonlocal frozen
        for chunk in read(*words):
            if not frozen:
                frozen = True
                lose_lock(a)
                take_over(b)
                a.clock.advance(seconds)
            yield chunk

    with monkeypatch.context() as patch:
        patch.setattr(multipart, "read_claimed", freeze)
        a.work()
    assert frozen
    assert a.jira.stored == []
    b.settle()
    assert contents(a) == [content]


def test_a_move_that_froze_is_not_made_on_old_knowledge(a: World, b: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a.drop("TEST-1/a.txt", b"a")
    a.scan()
    while a.states() != ["ATTACHED"]:
        assert a.step()
    lose_lock(a)
    take_over(b)
    a.clock.advance(31.0)

    a.work()

    assert a.files(a.inbox) == {"TEST-1/a.txt": b"a"}
    b.settle()
    b.end()
    a.settle()
    assert contents(a) == [b"a"]
    assert a.files(a.done) == {"TEST-1/a.txt": b"a"}


def test_a_lost_lock_is_taken_again_before_anybody_else_has_it(a: World, b: World) -> None:
    a.scan()
    lose_lock(a)
    a.drop("TEST-1/a.txt", b"a")

    a.deliver()

    assert a.files(a.done) == {"TEST-1/a.txt": b"a"}, "nobody else has worked: nothing is in doubt"
    with pytest.raises(Mistake, match="another attachd \\(process") as caught:
        b.restart()
    assert caught.value.exit_code == 75


def test_an_inbox_is_not_taken_again_while_something_is_being_sent(a: World, b: World) -> None:
    a.scan()
    lose_lock(a)
    take_over(b)
    b.end()
    a.runtime.take("TEST-9")
    a.scan()
    assert "when the present uploads have ended" in a.runtime.guard.sight.reason
    a.runtime.give_back("TEST-9")

    a.scan()

    assert a.runtime.guard.sight.there


def test_locks_that_keep_nobody_out_do_not_have_two_take_the_inbox_from_each_other(
    a: World, b: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an NFS mount with ``nolock``, or SMB with ``nobrl``: each host has the lock."""
    monkeypatch.setattr(locks, "_WRITE_LOCK", locks.struct.pack("hhqqi4x", locks.fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
    monkeypatch.setattr(paths, "other_holder", lambda *_: None)
    a.restart()
    take_over(b)
    mine = marker(b)
    a.scan()
    assert "do not work" in a.runtime.guard.sight.reason
    a.clock.advance(tenure.CONTESTED_SECONDS - 1.0)
    a.scan()
    assert marker(a) == mine
    a.clock.advance(2.0)

    a.scan()

    assert a.runtime.guard.sight.there
    assert not b.runtime.guard.look().there


# --- What others do to our folder in the inbox ------------------------------------------------------------------------


def ours(w: World) -> Path:
    return w.inbox / inbox_marker.FOLDER


def renamed(w: World) -> None:
    ours(w).rename(w.inbox / "attachd-old")


def deleted(w: World) -> None:
    shutil.rmtree(ours(w))


def copied(w: World) -> None:
    renamed(w)
    shutil.copytree(w.inbox / "attachd-old", ours(w))


def copied_long_ago(w: World) -> None:
    copied(w)
    inbox_marker.write_marker(w.inbox, Marker(marker(w).inbox, "/s", "0" * 16))


def linked(w: World) -> None:
    ours(w).rename(w.home / "elsewhere")
    ours(w).symlink_to(w.home / "elsewhere")


def made_a_file(w: World) -> None:
    deleted(w)
    ours(w).write_text("a file")


def closed(w: World) -> None:
    ours(w).chmod(0)


def unmarked(w: World) -> None:
    (ours(w) / inbox_marker.MARKER).unlink()


def emptied(w: World) -> None:
    (ours(w) / inbox_marker.MARKER).write_bytes(b"")


def marker_made_a_folder(w: World) -> None:
    unmarked(w)
    (ours(w) / inbox_marker.MARKER).mkdir()


def lock_made_a_pipe(w: World) -> None:
    (ours(w) / inbox_marker.LOCK).unlink()
    os.mkfifo(ours(w) / inbox_marker.LOCK)


def of_another_inbox(w: World) -> None:
    copied(w)
    inbox_marker.write_marker(w.inbox, Marker(ID, "/s", "0" * 16))


DEEDS = [
    *(renamed, deleted, copied, copied_long_ago, linked, made_a_file, closed, unmarked, emptied),
    *(marker_made_a_folder, lock_made_a_pipe, of_another_inbox),
]


@pytest.mark.parametrize("deed", DEEDS)
def test_what_becomes_of_our_folder_stops_nobody_and_sends_nothing_twice(
    a: World, b: World, deed: Callable[[World], None]
) -> None:
    """While it runs it knows the inbox by the open folder."""
    a.drop("TEST-1/first.txt", b"first")
    a.scan()
    identity = marker(a).inbox
    deed(a)
    a.drop("TEST-1/second.txt", b"second")

    a.settle()

    assert contents(a) == [b"first", b"second"]
    assert a.files(a.done).keys() == {"TEST-1/first.txt", "TEST-1/second.txt"}
    assert marker(a).inbox == identity
    with pytest.raises(Mistake, match="another attachd"):
        b.restart()


@pytest.mark.parametrize("deed", DEEDS)
def test_a_second_service_that_starts_when_our_folder_was_exchanged_makes_nothing_twice(
    a: World, b: World, deed: Callable[[World], None]
) -> None:
    """B has worked here before, so it knows the inbox. What A is sending when it happens has no answer yet."""
    a.scan()
    a.end()
    b.restart()
    b.scan()
    b.end()
    a.restart()
    a.scan()
    a.drop("TEST-1/first.txt", b"first")
    a.scan()
    a.jira.faults.append(Fault(commit="all", breaks=Crash))
    with pytest.raises(Crash):
        a.work()
    deed(a)
    for w in (b, a, b):
        if w is a:
            a.end()
        with suppress(Mistake):  # held by the other
            if not w.running:
                w.restart()
            w.settle(hours=0.2)

    assert contents(a) == [b"first"]


def test_nothing_is_made_in_a_folder_that_only_lies_at_the_inbox_s_path(a: World) -> None:
    """The share was unmounted: what lies there now is the mount point."""
    a.scan()
    a.inbox.rename(a.home / "away")
    a.inbox.mkdir()
    a.scan()

    assert not a.runtime.guard.sight.there
    assert os.listdir(a.inbox) == []


@pytest.mark.parametrize("deed", [deed for deed in DEEDS if deed is not of_another_inbox])
def test_what_became_of_our_folder_before_a_start_stops_nobody(
    a: World, monkeypatch: pytest.MonkeyPatch, deed: Callable[[World], None]
) -> None:
    """The folder itself is known again; another may have worked with it, so that everything is looked up first."""
    monkeypatch.setattr(inbox_marker, "place_of", lambda folder: f"1:{folder.stat().st_ino}")
    a.restart()
    a.scan()
    a.drop("TEST-1/a.txt", b"a")
    dies_sending(a, Fault(commit="all", breaks=Crash))
    a.drop("TEST-1/b.txt", b"b")
    deed(a)

    a.restart()
    a.settle(hours=1)

    assert contents(a) == [b"a", b"b"]
    assert a.files(a.done).keys() == {"TEST-1/a.txt", "TEST-1/b.txt"}


def test_a_folder_without_a_marker_on_a_file_system_without_an_id_waits_for_a_person(
    a: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of NFS: nothing shows whether it is mounted. What a person adopts is looked up first."""
    monkeypatch.setattr(inbox_marker, "place_of", lambda _: "")
    a.scan()
    a.end()
    a.restart()
    a.drop("TEST-1/a.txt", b"a")
    dies_sending(a, Fault(commit="all", breaks=Crash))
    deleted(a)
    a.restart()
    a.settle(hours=0.1)
    assert "--adopt-inbox" in a.runtime.guard.sight.reason
    assert contents(a) == [b"a"]

    a.restart(adopt_inbox=True)
    a.settle()

    assert contents(a) == [b"a"]
    assert a.files(a.done) == {"TEST-1/a.txt": b"a"}


def test_a_copied_inbox_is_another_inbox_for_whoever_worked_with_the_first(a: World, b: World) -> None:
    """``cp -a`` of the whole folder: two inboxes of one id, each with a service of its own."""
    a.drop("TEST-1/a.txt", b"a")
    a.scan()
    shutil.copytree(a.inbox, a.home / "copy", copy_function=shutil.copy2)
    a.settle()
    b.inbox, b.done, b.failed = a.home / "copy", a.home / "copy-done", a.home / "copy-failed"
    for folder in (b.done, b.failed):
        folder.mkdir()
    b.tables["folders"] |= {"inbox": str(b.inbox), "done": str(b.done), "failed": str(b.failed)}

    b.restart()
    b.settle()

    assert contents(a) == [b"a"]
    assert a.runtime.guard.look().there
