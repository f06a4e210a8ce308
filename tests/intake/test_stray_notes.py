"""Notes in the inbox: what was dragged along with its file goes, what was dropped on purpose is attached, and nothing else is
ever removed because of its name.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from attachd.intake import stray_notes
from attachd.share import notes
from memory_jira import World, world


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.jira.limit = 3
        yield made


def failed_note(w: World, path: str = "TEST-1/report.pdf", content: bytes = b"too large") -> Path:
    """Have a file fail; the path of its note."""
    w.drop(path, content)
    w.deliver()
    assert w.row(path).state == "FAILED"
    w.jira.limit = 10**6
    w.clock.advance(61.0)
    return w.failed / (path + ".why.txt")


def attached(w: World, issue: str) -> list[bytes]:
    w.settle(hours=1)
    return [stored.content for stored in w.jira.on(issue)]


@pytest.mark.parametrize("issue", ["TEST-1", "TEST-2"])
@pytest.mark.parametrize("name", ["report.pdf", "a/b/report.pdf"])
def test_a_note_that_came_back_with_its_file_goes(w: World, name: str, issue: str) -> None:
    note = failed_note(w, f"TEST-1/{name}")
    came = w.go_back(f"TEST-1/{name}", f"{issue}/{name}")
    note.rename(came.with_name(note.name))

    assert attached(w, issue) == [b"too large"]
    assert w.files(w.inbox) == {}
    assert w.files(w.failed) == {}
    assert list(w.files(w.done)) == [f"{issue}/{name}"]


def test_one_that_comes_after_its_file_was_attached_goes_too(w: World) -> None:
    note = failed_note(w)
    text = note.read_bytes()
    w.go_back("TEST-1/report.pdf")
    assert attached(w, "TEST-1") == [b"too large"]
    (w.inbox / "TEST-1/report.pdf.why.txt").write_bytes(text)

    assert attached(w, "TEST-1") == [b"too large"]
    assert w.files(w.inbox) == {}


def test_one_that_comes_before_its_file_waits_for_it(w: World) -> None:
    note = failed_note(w)
    came = w.inbox / "TEST-1/report.pdf.why.txt"
    note.rename(came)
    assert attached(w, "TEST-1") == []
    assert came.exists()
    w.go_back("TEST-1/report.pdf")

    assert attached(w, "TEST-1") == [b"too large"]
    assert w.files(w.inbox) == {}


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("name", ["report.pdf.why.txt", "renamed.why.txt", "deep/er/report.pdf.why.txt"])
def test_a_note_dropped_into_another_issue_is_attached_there(w: World, name: str, copied: bool) -> None:
    note = failed_note(w)
    text = note.read_bytes()
    target = w.inbox / "TEST-2" / name
    target.parent.mkdir(parents=True)
    (shutil.copy2 if copied else os.rename)(note, target)

    assert attached(w, "TEST-2") == [text]
    assert w.files(w.done) == {f"TEST-2/{name}": text}
    assert (w.failed / "TEST-1/report.pdf").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"attachd note F1 - why report.pdf was not attached\r\nwritten by somebody else's attachd\r\n",
        b"attachd note F999 - why report.pdf was not attached\r\n",
        b"attachd note x - where report.pdf is attached\r\n",
        b"my own words",
    ],
)
def test_what_only_looks_like_a_note_is_a_file(w: World, text: bytes) -> None:
    failed_note(w)
    w.drop("TEST-2/report.pdf.why.txt", text)

    assert attached(w, "TEST-2") == [text]


def test_a_note_to_which_a_person_added_something_is_left_where_its_file_came_back(w: World) -> None:
    note = failed_note(w)
    came = w.go_back("TEST-1/report.pdf").with_name(note.name)
    note.rename(came)
    with came.open("ab") as file:
        file.write(b"I have asked Ann.\r\n")

    assert attached(w, "TEST-1") == [b"too large"]
    assert came.read_bytes().endswith(b"I have asked Ann.\r\n")
    assert w.unfinished() == []


def test_and_in_failed_it_stays_when_its_file_is_taken_away(w: World) -> None:
    note = failed_note(w)
    with note.open("ab") as file:
        file.write(b"I have asked Ann.\r\n")
    w.go_back("TEST-1/report.pdf")

    assert attached(w, "TEST-1") == [b"too large"]
    assert note.read_bytes().endswith(b"I have asked Ann.\r\n")


def test_after_a_lost_journal_a_note_that_came_along_is_neither_attached_nor_removed(w: World) -> None:
    note = failed_note(w)
    came = w.go_back("TEST-1/report.pdf").with_name(note.name)
    note.rename(came)
    w.lose_journal()

    assert attached(w, "TEST-1") == [b"too large"]
    assert came.exists()
    assert w.unfinished() == []


def test_a_note_that_is_left_alone_is_told_once_when_it_stays(w: World) -> None:
    note = failed_note(w)
    came = w.go_back("TEST-1/report.pdf").with_name(note.name)
    note.rename(came)
    w.lose_journal()

    with capture_logs() as first:
        w.deliver()
    with capture_logs() as later:
        w.settle(hours=1)
        w.scan()
        w.scan()

    assert told(first) == [], "its file may only just be coming"
    assert told(later) == ["TEST-1/report.pdf.why.txt"]


def test_so_many_notes_are_told_and_no_more(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stray_notes, "MOST_TOLD", 3)
    note = failed_note(w)
    for number in range(5):
        shutil.copy2(note, w.drop(f"TEST-1/{number}.pdf").with_name(f"{number}.pdf.why.txt"))
    w.lose_journal()

    with capture_logs() as lines:
        w.scan()
        w.scan()
        w.scan()

    assert len(told(lines)) == 3


def told(lines: Sequence[MutableMapping[str, Any]]) -> list[str]:
    """The notes of which the log says that they are left alone."""
    return [line["file"] for line in lines if line["event"] == "note.left_alone"]


def test_a_file_and_its_note_that_were_copied_stay_what_they_are(w: World) -> None:
    """The file still lies in failed, so that the copy of its note says something of that one too."""
    note = failed_note(w)
    (w.inbox / "TEST-2").mkdir()
    shutil.copy2(w.failed / "TEST-1/report.pdf", w.inbox / "TEST-2/report.pdf")
    shutil.copy2(note, w.inbox / "TEST-2/report.pdf.why.txt")

    assert attached(w, "TEST-2") == [b"too large"]
    assert (w.inbox / "TEST-2/report.pdf.why.txt").exists()
    assert note.exists()


@pytest.mark.parametrize(("code", "taken"), [(errno.EIO, False), (errno.ESTALE, False), (errno.EACCES, True)])
def test_what_may_be_a_note_is_not_taken_for_a_file_while_it_cannot_be_looked_at(
    w: World, monkeypatch: pytest.MonkeyPatch, code: int, taken: bool
) -> None:
    """Of one that may not be read intake says so; of any other trouble the next scan knows more."""
    w.jira.limit = 100
    w.drop("TEST-1/a.txt.why.txt", b"whatever it says")

    def read(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(notes, "read", read)
        w.scan()

    assert (len(w.rows()) == 1) is taken
    assert attached(w, "TEST-1") == [b"whatever it says"]
