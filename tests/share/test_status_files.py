"""What people who drop files read on the share: how it stands, and why what is in no issue's folder is not attached."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from attachd.delivery import pause
from attachd.fs import free_names
from attachd.model import Cure, Scope
from attachd.model import Fault as Trouble
from attachd.report.share_writer import ShareWriter
from attachd.share import status_files
from memory_jira import World, world

HOUR = 3600.0


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    structlog.reset_defaults()
    with world(tmp_path) as made:
        yield made


def text(w: World, name: str = "_STATUS.txt") -> str:
    raw = (w.inbox / name).read_bytes()
    assert raw.endswith(b"\r\n")
    assert raw.count(b"\n") == raw.count(b"\r\n")
    return raw.decode()


def look(w: World) -> None:
    """A scan that finds folders which are no issues', and what is posted then."""
    w.scan()
    ShareWriter(w.runtime).step()


# --- _STATUS.txt ------------------------------------------------------------------------------------------------


def test_it_says_how_many_files_wait_and_since_when(w: World) -> None:
    w.jira.missing.add("TEST-2")
    for number in range(3):
        w.drop(f"TEST-1/{number}.txt")
    w.scan()

    ShareWriter(w.runtime).step()

    assert "attachd is running" in text(w)
    assert "In the inbox: 3 files, the oldest since 2027-01-15" in text(w)
    w.work()
    ShareWriter(w.runtime).step()
    assert "No files are waiting." in text(w)
    assert "3 files attached today" in text(w)
    assert "In the inbox: 3 files" not in text(w)


def test_names_are_told_only_where_that_is_asked_for(w: World, tmp_path: Path) -> None:
    w.drop("TEST-1/secret plan.txt")
    w.jira.forbidden.add("TEST-1")
    w.deliver()
    ShareWriter(w.runtime).step()
    assert "plan" not in text(w)
    w.tables["folders"] = {"share_status": "names"}
    w.restart()
    w.scan()

    ShareWriter(w.runtime).step()

    assert "TEST-1/secret plan.txt: " in text(w)
    assert "permission" in text(w)


def test_off_removes_what_an_earlier_configuration_had_written(w: World) -> None:
    ShareWriter(w.runtime).step()
    assert (w.inbox / "_STATUS.txt").exists()
    w.tables["folders"] = {"share_status": "off"}
    w.restart()

    ShareWriter(w.runtime).step()

    assert not (w.inbox / "_STATUS.txt").exists()


def test_a_pause_is_told_in_words_for_people_who_can_do_nothing_about_it(w: World) -> None:
    pause.pause(w.runtime, Trouble(Scope.ACCOUNT, "refused", "the token expired", cure=Cure.PROBE))

    ShareWriter(w.runtime).step()

    said = text(w)
    assert "Everything has been paused since" in said
    assert "the token expired" in said
    assert "attachd keeps trying. Files wait, and nothing is lost." in said


def test_it_is_written_when_something_changes_and_every_hour_and_at_no_other_time(w: World) -> None:
    posting, status = ShareWriter(w.runtime), w.inbox / "_STATUS.txt"
    posting.step()
    first = status.stat().st_ino, status.stat().st_mtime_ns

    w.clock.advance(600)
    posting.step()

    assert (status.stat().st_ino, status.stat().st_mtime_ns) == first
    w.clock.advance(HOUR)
    posting.step()
    assert (status.stat().st_ino, status.stat().st_mtime_ns) != first


def test_the_end_is_told(w: World) -> None:
    ShareWriter(w.runtime).step(running=False)

    assert "attachd is not running" in text(w)


def test_somebodys_file_of_that_name_stays_and_is_told_once(w: World) -> None:
    (w.inbox / "_STATUS.txt").write_text("mine\n")
    posting = ShareWriter(w.runtime)

    with capture_logs() as lines:
        posting.step()
        posting.step()

    assert (w.inbox / "_STATUS.txt").read_text() == "mine\n"
    assert [line["event"] for line in lines] == ["status_file.not_written"]
    assert "rename" in lines[0]["remedy"]


def test_a_link_of_that_name_is_not_followed(w: World, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("attachd status file - ")
    (w.inbox / "_STATUS.txt").symlink_to(tmp_path / "elsewhere")

    ShareWriter(w.runtime).step()

    assert (w.inbox / "_STATUS.txt").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "attachd status file - "


def test_a_text_is_whole_or_not_there(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    posting = ShareWriter(w.runtime)
    posting.step()
    before = text(w)
    w.drop("TEST-1/a.txt")
    w.scan()

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with capture_logs() as lines:
        posting.step()
    monkeypatch.undo()

    assert text(w) == before
    assert [line["event"] for line in lines] == ["status_file.not_written"]
    assert sorted(os.listdir(w.inbox)) == [".attachd", "TEST-1", "_STATUS.txt"]
    posting.step()
    assert "In the inbox: 1 file" in text(w)


@pytest.mark.parametrize("content", [b"mine", b"", b"attachd status file - of a crash"])
def test_what_lies_under_the_name_of_its_temporary_file_goes_only_if_it_is_its_own(w: World, content: bytes) -> None:
    hidden = w.inbox / os.fsdecode(free_names.hidden(b"status", b"_STATUS.txt"))
    hidden.write_bytes(content)

    ShareWriter(w.runtime).step()

    assert text(w).startswith("attachd status file - ")
    assert sorted(os.listdir(w.inbox)) == sorted(
        [".attachd", "_STATUS.txt", *([hidden.name] if content == b"mine" else [])]
    )
    assert content != b"mine" or hidden.read_bytes() == content


def test_what_somebody_saves_under_the_name_meanwhile_stays(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = status_files.notes.prepared

    @contextmanager
    def slow(*given: Any) -> Iterator[bytes]:
        with prepared(*given) as temporary:
            (w.inbox / "_STATUS.txt").write_text("mine\n")
            yield temporary

    monkeypatch.setattr(status_files.notes, "prepared", slow)

    ShareWriter(w.runtime).step()

    assert (w.inbox / "_STATUS.txt").read_text() == "mine\n"
    assert sorted(os.listdir(w.inbox)) == [".attachd", "_STATUS.txt"]


def test_nothing_is_written_where_the_inbox_is_not_there(w: World) -> None:
    (w.inbox / ".attachd" / "id").unlink()

    ShareWriter(w.runtime).step()

    assert not (w.inbox / "_STATUS.txt").exists()


def test_another_file_system_that_was_mounted_meanwhile_gets_no_text(w: World, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()

    with pytest.raises(OSError, match="another file system"):
        status_files.put(other, w.runtime.guard.look().mount[:2], b"", status_files.STATUS, b"attachd status file - x")

    assert os.listdir(other) == []


# --- _WHY.txt ---------------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_issues_says_why_after_a_while(w: World) -> None:
    w.drop("no key/a.txt")
    w.drop("no key/b.txt")
    look(w)
    assert not (w.inbox / "no key/_WHY.txt").exists()
    w.clock.advance(HOUR)

    look(w)

    said = text(w, "no key/_WHY.txt")
    assert said.startswith("attachd status file - why files here are not attached\r\n")
    assert "2 files in this folder have not been attached since 2027-01-15" in said
    assert "'no key' is not an issue key; rename the folder" in said
    assert "no key: 2 files" in text(w)


def test_a_file_in_no_folder_has_its_text_in_the_inbox_itself(w: World) -> None:
    (w.inbox / "stray.txt").write_text("x")
    look(w)
    w.clock.advance(HOUR)

    look(w)
    look(w)

    assert "1 file directly in the inbox has not been attached" in text(w, "_WHY.txt")


@pytest.mark.parametrize("crash", [False, True])
def test_renaming_the_folder_to_its_issue_is_the_remedy_and_the_text_goes(w: World, crash: bool) -> None:
    w.drop("no key/a.txt")
    look(w)
    w.clock.advance(HOUR)
    look(w)
    (w.inbox / "no key").rename(w.inbox / "TEST-1")
    if crash:
        w.restart()

    w.deliver()
    ShareWriter(w.runtime).step()

    assert w.jira.names("TEST-1") == ["a.txt"]
    assert os.listdir(w.inbox / "TEST-1") == []
    assert w.runtime.journal.value("SELECT value FROM meta WHERE key = 'status_files'") == "{}"


@pytest.mark.parametrize("how", ["moved", "deleted"])
def test_the_text_goes_when_the_files_go(w: World, how: str) -> None:
    stray = w.drop("no key/a.txt")
    look(w)
    w.clock.advance(HOUR)
    look(w)
    if how == "moved":
        (w.inbox / "TEST-1").mkdir()
        stray.rename(w.inbox / "TEST-1/a.txt")
    else:
        stray.unlink()
    w.clock.advance(60)

    look(w)

    assert os.listdir(w.inbox / "no key") == []


def test_a_text_that_somebody_deletes_does_not_come_back_before_it_says_something_else(w: World) -> None:
    w.drop("no key/a.txt")
    look(w)
    w.clock.advance(HOUR)
    look(w)
    (w.inbox / "no key/_WHY.txt").unlink()

    look(w)

    assert not (w.inbox / "no key/_WHY.txt").exists()
    w.drop("no key/b.txt")
    look(w)
    assert "2 files" in text(w, "no key/_WHY.txt")


def test_a_death_between_the_intent_and_the_text_leaves_neither_litter_nor_silence(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    w.drop("no key/a.txt")
    look(w)
    w.clock.advance(HOUR)

    class Death(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr("attachd.share.status_files.put", die)
        with pytest.raises(Death):
            look(w)
    w.restart()

    look(w)

    assert "1 file" in text(w, "no key/_WHY.txt")


def test_a_death_between_the_text_and_its_record_still_removes_it_later(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    w.drop("no key/a.txt")
    look(w)
    w.clock.advance(HOUR)
    put = status_files.put

    class Death(BaseException):
        pass

    def die_after(*given: Any) -> None:
        put(*given)
        if given[3] == status_files.WHY:
            raise Death

    with monkeypatch.context() as patch:
        patch.setattr("attachd.share.status_files.put", die_after)
        with pytest.raises(Death):
            look(w)
    w.restart()
    (w.inbox / "no key/a.txt").unlink()

    look(w)

    assert os.listdir(w.inbox / "no key") == []


def test_files_that_cannot_be_taken_are_explained_in_their_folder(w: World) -> None:
    w.tables["settle"] = {"max_bytes": 3}
    w.restart()
    w.drop("TEST-1/deep/large.bin", b"1234")
    look(w)
    w.clock.advance(HOUR)

    look(w)

    assert "deep/large.bin (since 2027-01-15" in text(w, "TEST-1/_WHY.txt")
    assert "_WHY.txt in the folder says why" in text(w)
    (w.inbox / "TEST-1/deep/large.bin").unlink()
    w.clock.advance(HOUR)
    look(w)
    w.clock.advance(HOUR)
    look(w)
    assert os.listdir(w.inbox / "TEST-1") == ["deep"]


def test_never_more_than_a_hundred_folders_hold_one(w: World) -> None:
    for number in range(130):
        w.drop(f"wrong {number:03}/a.txt")
    look(w)
    w.clock.advance(HOUR)

    look(w)

    assert len(list(w.inbox.glob("*/_WHY.txt"))) == 100
    assert "and 110 more" in text(w)


def test_a_text_that_is_dragged_along_is_never_attached(w: World) -> None:
    w.drop("no key/a.txt")
    look(w)
    w.clock.advance(HOUR)
    look(w)
    (w.inbox / "TEST-1").mkdir()
    (w.inbox / "TEST-1/_why.TXT").write_bytes((w.inbox / "no key/_WHY.txt").read_bytes())

    w.deliver()

    assert w.jira.names("TEST-1") == []


# --- The note with the issue's address --------------------------------------------------------------------------


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[World]:
    structlog.reset_defaults()
    with world(tmp_path, folders={"link_notes": True}) as made:
        yield made


def test_an_attached_file_has_the_issues_address_beside_it(linked: World) -> None:
    linked.drop("TEST-1/a.pdf")

    linked.deliver()

    said = (linked.done / "TEST-1/a.pdf.link.txt").read_bytes().decode()
    assert "\r\nhttps://jira.example.com/browse/TEST-1\r\n" in said
    assert "Attachment: 10001, as a.pdf" in said


def test_it_is_never_attached_when_it_is_dragged_along(linked: World) -> None:
    linked.drop("TEST-1/a.pdf")
    linked.deliver()
    (linked.done / "TEST-1/a.pdf.link.txt").rename(linked.inbox / "TEST-1/a.pdf.link.txt")

    linked.deliver()

    assert linked.jira.names("TEST-1") == ["a.pdf"]
    assert linked.files(linked.inbox).keys() == {
        "TEST-1/a.pdf.link.txt"
    }  # its file did not come along: it is nobody's to delete


def test_it_replaces_no_file(linked: World) -> None:
    (linked.done / "TEST-1").mkdir()
    (linked.done / "TEST-1/a.pdf.link.txt").write_text("mine")
    linked.drop("TEST-1/a.pdf")

    linked.deliver()

    assert (linked.done / "TEST-1/a.pdf.link.txt").read_text() == "mine"
    assert "browse/TEST-1" in (linked.done / "TEST-1/a.pdf.link (2).txt").read_text()


def test_a_file_is_filed_also_where_its_address_cannot_be_written(
    linked: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked.drop("TEST-1/a.pdf")

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.write", full)
    linked.deliver()
    monkeypatch.undo()

    assert sorted(linked.files(linked.done)) == ["TEST-1/a.pdf"]
    assert linked.states() == ["DONE"]


def test_the_address_is_the_sites_own_where_the_api_is_reached_elsewhere(linked: World) -> None:
    linked.drop("TEST-1/a.pdf")
    linked.scan()
    linked.runtime.site.pages = "https://api.example.com/ex/jira/1"

    linked.work()

    assert "https://jira.example.com/browse/TEST-1" in (linked.done / "TEST-1/a.pdf.link.txt").read_text()
    linked.restart()
    assert linked.runtime.site.page("TEST-1") == "https://jira.example.com/browse/TEST-1"
