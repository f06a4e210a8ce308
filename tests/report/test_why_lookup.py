"""From a path to what there is to say about it, on real folders and a real journal."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from attachd.errors import Mistake
from attachd.journal import by_hand, counts, lookup
from attachd.model import State
from attachd.report import why, why_lookup
from attachd.report.circumstances import Waiting
from attachd.report.why import (
    Dragged,
    Elsewhere,
    Empty,
    Finished,
    Ignored,
    NoIssue,
    Rule,
    Special,
    TooDeep,
    Unknown,
    Unseen,
)
from intake.test_identity import nothing_is_filed
from memory_jira import Fault, World, world


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def about(w: World, path: str | Path | bytes, cwd: Path | None = None) -> list[tuple[bytes, why.Situation]]:
    locator = why_lookup.Locator(w.runtime.config, w.runtime.journal)
    return list(locator.about(os.fsencode(path), bytes(cwd or w.home)))


def one(w: World, path: str | Path | bytes, cwd: Path | None = None) -> why.Situation:
    ((_, found),) = about(w, path, cwd)
    return found


def told(w: World, path: str | Path | bytes) -> str:
    circumstances = why_lookup.circumstances(w.runtime.config, w.home / "state", w.runtime.journal, w.clock)
    return why.explain("it", one(w, path), circumstances).sentence


# --- Which path -------------------------------------------------------------------------------------------------


def test_a_path_counts_from_where_one_stands_or_from_the_folder_or_from_the_root(w: World) -> None:
    w.drop("TEST-1/a.txt")

    for path, cwd in [
        (w.inbox / "TEST-1/a.txt", Path("/")),
        ("inbox/TEST-1/a.txt", w.home),
        ("TEST-1/a.txt", w.inbox),
        ("../TEST-1/./a.txt", w.inbox / "TEST-1"),
        ("TEST-1/a.txt", Path("/")),
    ]:
        assert one(w, path, cwd) == Unseen("TEST-1", 7), path


def test_a_path_through_a_link_to_the_inbox_is_found(w: World) -> None:
    w.drop("TEST-1/a.txt")
    (w.home / "link").symlink_to(w.inbox)

    assert one(w, w.home / "link/TEST-1/a.txt") == Unseen("TEST-1", 7)


@pytest.mark.parametrize("path", ["/etc/passwd", "elsewhere", "..", "../x", "inbox-2/TEST-1/a.txt", "", "\n", b"\xff"])
def test_what_is_in_none_of_the_folders_is_elsewhere(w: World, path: str | bytes) -> None:
    assert one(w, path) == Elsewhere()


def test_a_name_that_nobody_has_heard_of_is_unknown(w: World) -> None:
    for path in ("inbox/TEST-1/a.txt", "done/TEST-1/a.txt", "failed/x", b"inbox/TEST-1/\xff\n"):
        assert one(w, path) == Unknown()


# --- Left alone -------------------------------------------------------------------------------------------------


def test_what_is_no_file_is_told(w: World) -> None:
    w.drop("TEST-1/a.txt")
    os.mkfifo(w.inbox / "TEST-1/fifo")
    (w.inbox / "TEST-1/link").symlink_to("/etc")
    (w.inbox / "TEST-2").symlink_to(w.inbox / "TEST-1")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(w.inbox / "TEST-1/socket"))
    listener.close()

    assert one(w, "inbox/TEST-1/fifo") == Special("a named pipe")
    assert one(w, "inbox/TEST-1/link") == Special("a symbolic link")
    assert one(w, "inbox/TEST-1/link/passwd") == Special("a symbolic link", b"link")
    assert one(w, "inbox/TEST-1/socket") == Special("a socket")
    assert one(w, "inbox/TEST-2/a.txt") == Special("a symbolic link", b"TEST-2")


def test_the_rule_that_leaves_a_name_alone_is_told(tmp_path: Path) -> None:
    with world(tmp_path, settle={"ignore": ["*.bak", "old/", ".cache*", "!*.tmp"]}) as w:
        for name in ("a.part", ".hidden", "c.bak", "old/x.txt", ".git/config", ".cached", "d.tmp"):
            w.drop(f"TEST-1/{name}")

        assert one(w, "inbox/TEST-1/a.part") == Ignored("*.part", Rule.BUILT_IN)
        assert one(w, "inbox/TEST-1/.hidden") == Ignored(".*", Rule.HIDDEN)
        assert one(w, "inbox/TEST-1/c.bak") == Ignored("*.bak", Rule.USERS)
        assert one(w, "inbox/TEST-1/old/x.txt") == Ignored("old/", Rule.USERS, b"old")
        assert one(w, "inbox/TEST-1/old") == Ignored("old/", Rule.USERS)
        assert one(w, "inbox/TEST-1/.git/config") == Ignored(".*", Rule.HIDDEN, b".git")
        assert one(w, "inbox/TEST-1/.cached") == Ignored(".cache*", Rule.USERS)
        assert one(w, "inbox/.attachd/id") == Ignored(".attachd", Rule.OWN, b".attachd")
        assert one(w, "inbox/TEST-1/d.tmp") == Unseen("TEST-1", 7)


def test_a_file_under_a_name_that_attachd_keeps_for_itself_is_counted_and_told(w: World) -> None:
    w.drop("TEST-1/.attachd-note-0f", b"a dropper's")
    w.settle(hours=1)

    assert w.files(w.inbox) == {"TEST-1/.attachd-note-0f": b"a dropper's"}
    assert counts.ignored(w.runtime.journal) == 1
    assert told(w, "inbox/TEST-1").endswith(
        "its name begins with .attachd-, like attachd's own temporary files. Rename it to attach it."
    )


def test_nested_files_that_are_left_alone_are_told(tmp_path: Path) -> None:
    with world(tmp_path, folders={"nested": "ignore"}) as w:
        w.drop("TEST-1/a/b.txt")

        assert one(w, "inbox/TEST-1/a/b.txt") == TooDeep()
        assert one(w, "inbox/TEST-1/a") == TooDeep()


def test_a_folder_that_is_no_issues_is_told_once(tmp_path: Path) -> None:
    with world(tmp_path, folders={"projects": ["TEST"]}) as w:
        for path in ("no key/a.txt", "no key/b.txt", "OTHER-1/c.txt", "loose.txt"):
            w.drop(path)
        w.deliver()

        (folder,) = about(w, "inbox/no key")
        assert folder == (bytes(w.inbox / "no key"), one(w, "inbox/no key"))
        assert isinstance(folder[1], NoIssue)
        assert folder[1].folder
        assert isinstance(one(w, "inbox/no key/a.txt"), NoIssue)
        assert one(w, "inbox/loose.txt") == NoIssue("")
        for path in ("loose.txt", "no key", "no key/a.txt"):
            found = one(w, f"inbox/{path}")
            assert isinstance(found, NoIssue)
            assert found.since == w.clock.now()
        assert "only these projects are served here: TEST" in told(w, "inbox/OTHER-1/c.txt")


def test_a_note_that_was_dragged_along_is_told(w: World) -> None:
    w.drop("TEST-1/a.txt.why.txt", b"attachd note F1 - why a.txt was not attached\r\n")
    w.drop("TEST-1/b.why.txt", b"something else")

    assert one(w, "inbox/TEST-1/a.txt.why.txt") == Dragged()
    assert isinstance(one(w, "inbox/TEST-1/b.why.txt"), Unseen)


# --- What waits -------------------------------------------------------------------------------------------------


def test_the_turn_of_a_file_is_counted_in_its_issue(w: World) -> None:
    for path in ("TEST-1/a.txt", "TEST-2/b.txt", "TEST-1/c.txt"):
        w.drop(path)
        w.scan()

    waits = {path: one(w, f"inbox/{path}") for path in ("TEST-1/a.txt", "TEST-2/b.txt", "TEST-1/c.txt")}

    assert {path: found.ahead for path, found in waits.items() if isinstance(found, Waiting)} == {
        "TEST-1/a.txt": 0,
        "TEST-2/b.txt": 0,
        "TEST-1/c.txt": 1,
    }


def test_a_file_that_was_taken_away_is_told_before_the_scans_find_out(w: World) -> None:
    w.drop("TEST-1/a.txt")
    w.scan()
    (w.inbox / "TEST-1/a.txt").unlink()

    assert "is no longer where it was dropped" in told(w, "inbox/TEST-1/a.txt")


def test_a_refusal_bars_the_others_of_its_issue(w: World) -> None:
    w.jira.missing.add("TEST-1")
    w.drop("TEST-1/a.txt")
    w.deliver()
    w.drop("TEST-1/b.txt")
    w.deliver()

    assert "It fails once Jira accepts another file" in told(w, "inbox/TEST-1/a.txt")
    assert "because Jira refused TEST-1/a.txt" in told(w, "inbox/TEST-1/b.txt")


def test_a_403_is_told_with_its_day(w: World) -> None:
    w.jira.forbidden.add("TEST-1")
    w.drop("TEST-1/a.txt")
    w.deliver()

    assert "may have lost its permission by mistake" in told(w, "inbox/TEST-1/a.txt")


def test_a_twin_in_doubt_bars_its_twin(w: World) -> None:
    w.drop("TEST-1/x/a.txt")
    w.drop("TEST-1/x-a.txt")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout))
    w.deliver()

    assert sorted(w.states()) == ["DOUBTFUL", "READY"]
    doubtful = next(row for row in w.rows() if row.state is State.DOUBTFUL)
    ready = next(row for row in w.rows() if row.state is State.READY)
    assert "may have arrived in TEST-1" in told(w, b"inbox/" + doubtful.path)
    assert f"because {doubtful.path.decode()} has the same name" in told(w, b"inbox/" + ready.path)


def test_a_pause_by_hand_is_told(w: World) -> None:
    with w.runtime.journal.transaction() as connection:
        by_hand.pause(connection, "TEST-1", w.clock.now(), None)
    w.drop("TEST-1/a.txt")
    w.deliver()

    assert "TEST-1 has been paused by hand since" in told(w, "inbox/TEST-1/a.txt")


def test_an_absent_inbox_is_told_for_every_name_in_it(w: World) -> None:
    w.drop("TEST-1/a.txt")
    w.scan()
    w.inbox.rename(w.home / "unmounted")

    assert "cannot be opened (No such file or directory). Check that it is mounted" in told(w, "inbox/TEST-1/a.txt")


# --- What is finished -------------------------------------------------------------------------------------------


def test_an_attached_file_is_found_under_its_old_and_its_new_name(w: World) -> None:
    w.drop("test-1/a.txt")
    w.deliver()

    for path in ("inbox/test-1/a.txt", "done/TEST-1/a.txt"):
        found = one(w, path)
        assert isinstance(found, Finished)
        assert (found.row.state, found.there) == (State.DONE, True)
    (w.done / "TEST-1/a.txt").unlink()
    assert "It is no longer in" in told(w, "done/TEST-1/a.txt")


@pytest.mark.parametrize("to", ["old/a.txt", "TEST-1/a.txt~", "TEST-1/old/a.txt"])
def test_an_attached_file_that_was_carried_away_is_told_under_both_names(tmp_path: Path, to: str) -> None:
    with world(tmp_path, folders={"nested": "ignore"}) as w:
        path = w.drop("TEST-1/a.txt")
        with nothing_is_filed():
            w.deliver()
        (w.inbox / to).parent.mkdir(exist_ok=True)
        path.rename(w.inbox / to)
        w.settle(hours=0.2)

        for name in (path, w.inbox / to):
            assert "it was attached to TEST-1 at" in told(w, name)
            assert f"It is no longer at {path}, so it cannot be moved to {w.done}" in told(w, name)


def test_a_copy_that_keeps_an_attached_file_from_its_end_is_told(w: World) -> None:
    copy, path = w.drop("templates/form.txt"), w.drop("TEST-1/a.txt")
    with nothing_is_filed():
        w.deliver()
    path.unlink()
    w.settle(hours=1)

    assert w.row("TEST-1/a.txt").state is State.ATTACHED
    assert "or a copy of it" in told(w, path)
    assert isinstance(one(w, copy), NoIssue)


def test_a_hard_link_of_an_attached_file_is_no_attached_file(w: World) -> None:
    path, link = w.drop("TEST-1/a.txt"), w.inbox / "old/a.txt"
    link.parent.mkdir()
    link.hardlink_to(path)
    with nothing_is_filed():
        w.deliver()

    assert isinstance(one(w, link), NoIssue)


def test_what_kept_a_file_from_being_moved_is_not_told_when_the_file_is_gone(w: World) -> None:
    path = w.drop("TEST-1/a.txt")
    w.scan()
    w.step()
    with path.open("ab"):
        w.work()
        assert "open for writing" in told(w, path)
    (w.inbox / "old").mkdir()
    path.rename(w.inbox / "old/a.txt")
    w.settle(hours=0.2)

    assert w.row("TEST-1/a.txt").blocked is None
    assert "open for writing" not in told(w, path)


def test_a_failed_file_is_found_by_its_note_too(w: World) -> None:
    w.jira.limit = 3
    w.drop("TEST-1/a.txt")
    w.deliver()

    by_note = one(w, "failed/TEST-1/a.txt.why.txt")
    assert isinstance(by_note, Finished)
    assert by_note.note
    assert one(w, "failed/TEST-1/a.txt") == Finished(by_note.row, True)
    assert [os.path.basename(name) for name, _ in about(w, "failed")] == [b"a.txt"], "a note is no file of its own"


def test_new_content_under_the_name_of_a_finished_file_is_new(w: World) -> None:
    w.drop("TEST-1/a.txt")
    w.deliver()
    w.drop("TEST-1/a.txt", b"new")

    assert one(w, "inbox/TEST-1/a.txt") == Unseen("TEST-1", 3)


def test_a_foreign_file_in_done_is_foreign(w: World) -> None:
    (w.done / "mine.txt").touch()

    assert one(w, "done/mine.txt") == Unknown(there=True)


# --- By its id --------------------------------------------------------------------------------------------------


def of_id(w: World, ident: str) -> str:
    circumstances = why_lookup.circumstances(w.runtime.config, w.home / "state", w.runtime.journal, w.clock)
    locator = why_lookup.Locator(w.runtime.config, w.runtime.journal)
    ((_, found),) = locator.about(why_lookup.meant(w.runtime.journal, ident), bytes(w.home))
    return why.explain("it", found, circumstances).sentence


def test_an_id_names_its_own_file_also_if_its_path_holds_another_one(w: World) -> None:
    path = w.drop("TEST-1/a.txt", b"first")
    with nothing_is_filed():
        w.deliver()
        w.drop("TEST-1/a.txt", b"second one")
        assert "as attachment 10001" in of_id(w, "F1")
        w.scan()
        w.work()
        assert "as attachment 10001" in of_id(w, "F1")
        assert "as attachment 10002" in of_id(w, "f2")
    w.settle()
    w.drop("TEST-1/a.txt", b"the third one")

    assert "as attachment 10001" in of_id(w, "F1")
    assert f"It is now in {w.done}/TEST-1/a.txt" in of_id(w, "F2")
    assert told(w, path).startswith("attachd has not seen it yet")


def test_an_id_names_its_own_file_also_if_another_one_failed_under_its_name(w: World) -> None:
    w.jira.limit = 3
    w.drop("TEST-1/a.txt", b"too large")
    w.settle()
    w.go_back("TEST-1/a.txt")
    w.settle()

    assert "It is no longer in" in of_id(w, "F1")
    assert "To try again" in of_id(w, "f2")


def test_an_id_whose_path_is_a_folder_by_now_names_a_file_that_is_gone(w: World) -> None:
    path = w.drop("TEST-1/a.txt")
    w.scan()
    path.unlink()
    path.mkdir()
    w.drop("TEST-1/a.txt/another.txt")

    assert "it is no longer where it was dropped" in of_id(w, "F1")


def test_an_id_of_which_nothing_is_known_is_a_mistake(w: World) -> None:
    with pytest.raises(Mistake, match="no file has the id F1"):
        why_lookup.meant(w.runtime.journal, "f1")
    assert why_lookup.meant(w.runtime.journal, "TEST-1/F1") == b"TEST-1/F1"


# --- Folders ----------------------------------------------------------------------------------------------------


def test_a_folder_is_told_file_by_file(w: World) -> None:
    for path in ("TEST-1/b.txt", "TEST-1/a/c.txt", "TEST-1/x.part", "no key/d.txt", "e.txt"):
        w.drop(path)
    (w.inbox / "TEST-9").mkdir()

    assert [(os.path.relpath(name, bytes(w.inbox)), type(found)) for name, found in about(w, "inbox")] == [
        (b"TEST-1/a/c.txt", Unseen),
        (b"TEST-1/b.txt", Unseen),
        (b"TEST-1/x.part", Ignored),
        (b"e.txt", NoIssue),
        (b"no key", NoIssue),
    ]
    assert about(w, "inbox/TEST-9") == [(bytes(w.inbox / "TEST-9"), Empty("TEST-9"))]
    assert about(w, "done") == [(bytes(w.done), Empty())]


def test_a_filed_name_is_looked_up_by_indexes(w: World) -> None:
    plan = w.runtime.journal.rows(f"EXPLAIN QUERY PLAN {lookup.FILED}", ("done", b"x", "done", b"x"))

    assert [record["detail"] for record in plan if "SCAN file" in record["detail"]] == []
