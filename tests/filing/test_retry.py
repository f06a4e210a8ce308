"""Failed files go back under their own names, over nothing, durably, and wherever the process dies the next one goes on."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attachd.filing import retry as filing_retry
from attachd.filing.retry import in_words
from attachd.filing.take_back import Left, Returned
from attachd.fs import folders, move, rename
from attachd.journal import counts, retries
from attachd.journal.rows import Row
from attachd.share import notes
from memory_jira import Stored, World, world

SECOND_DEVICE = Path("/dev/shm")


class Crash(BaseException):
    """The process dies here."""


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.jira.limit = 3
        yield made


def fail(w: World, path: str = "TEST-1/report.pdf", content: bytes = b"too large") -> Row:
    w.drop(path, content)
    w.deliver()
    assert w.row(path).state == "FAILED"
    return w.row(path)


def retry(w: World, *paths: str | Path, cwd: Path | None = None) -> list[Returned | Left]:
    found = filing_retry.named(
        w.runtime.config, w.runtime.journal, [os.fsencode(p) for p in paths], bytes(cwd or w.home)
    )
    left = [each for each in found if isinstance(each, Left)]
    return left + again(w, [each for each in found if isinstance(each, Row)])


def again(w: World, rows: list[Row]) -> list[Returned | Left]:
    return list(filing_retry.retry(w.runtime.config, w.home / "state", rows))


def allow(w: World) -> None:
    """The limit is raised, and asked for again."""
    w.jira.limit = 100
    w.clock.advance(61.0)


def everything(w: World, key: str = "") -> list[Row]:
    return filing_retry.of_issue(w.runtime.config, w.runtime.journal, key)


# --- Which files ------------------------------------------------------------------------------------------------


def test_a_file_that_was_refused_in_an_earlier_life_failed_in_the_one_that_moved_it(w: World) -> None:
    """The next `once` after a crash says so too, also by its exit code."""
    began, row = w.clock.now(), fail(w)
    with w.runtime.journal.transaction() as connection:
        connection.execute("UPDATE file SET verdict_at = ?", (began - 60.0,))

    assert counts.failed_since(w.runtime.journal, began) == 1
    assert [each.id for each in counts.failures_since(w.runtime.journal, began)] == [row.id]
    w.clock.advance(1.0)
    assert counts.failed_since(w.runtime.journal, w.clock.now()) == 0
    assert counts.failures_since(w.runtime.journal, w.clock.now()) == []


def test_a_file_goes_back_by_whatever_names_it(w: World) -> None:
    for path, cwd in [
        (w.failed / "TEST-1/report.pdf", Path("/")),
        ("failed/TEST-1/report.pdf", w.home),
        ("TEST-1/report.pdf", Path("/")),
        ("report.pdf", w.failed / "TEST-1"),
        ("failed/TEST-1", w.home),
        ("TEST-1", Path("/")),
        (w.failed, Path("/")),
        ("TEST-1/report.pdf.why.txt", Path("/")),
        ("inbox/TEST-1/report.pdf", w.home),
    ]:
        row = fail(w)
        assert retry(w, path, cwd=cwd) == [Returned(row, b"TEST-1/report.pdf", b"TEST-1/report.pdf")], path
        assert w.files(w.inbox) == {"TEST-1/report.pdf": b"too large"}
        assert w.files(w.failed) == {}


def test_a_file_and_its_note_are_one(w: World) -> None:
    fail(w)

    assert len(retry(w, "TEST-1/report.pdf.why.txt", "TEST-1/report.pdf", "TEST-1")) == 1


@pytest.mark.parametrize(
    "path", ["TEST-1/other.pdf", "/etc/passwd", "..", "", "\n", "\udcff", "inbox/TEST-9/x", "done/x"]
)
def test_what_has_not_failed_is_left(w: World, path: str) -> None:
    fail(w)

    assert retry(w, path) == [Left(os.fsencode(path), "attachd knows no failed file of this name")]


def test_of_a_file_that_a_lost_journal_knew_it_says_what_to_do(w: World) -> None:
    path = w.failed / "TEST-1" / "old.pdf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")

    (left,) = retry(w, str(path))

    assert isinstance(left, Left)
    assert left.reason.endswith("Move it back into its issue folder in the inbox by hand")
    assert path.read_bytes() == b"x"


def test_what_was_attached_is_not_retried(w: World) -> None:
    w.drop("TEST-1/a.txt", b"a")
    w.deliver()

    assert isinstance(retry(w, "done/TEST-1/a.txt", "inbox/TEST-1/a.txt")[0], Left)
    assert everything(w) == []


def test_of_an_issue_or_all(w: World) -> None:
    one, two = fail(w, "test-1/a.txt"), fail(w, "TEST-2/b.txt")

    assert everything(w, "TEST-1") == [one]
    assert everything(w, "TEST-3") == []
    assert everything(w) == [one, two]
    (w.failed / "TEST-1/a.txt").unlink()
    assert everything(w) == [two], "what somebody has taken away is not there to be tried"


def test_a_name_that_failed_twice_is_one_file(w: World) -> None:
    fail(w)
    again(w, everything(w))
    newer = fail(w, content=b"another")

    assert everything(w) == [newer]


# --- Back under their own names ---------------------------------------------------------------------------------


def test_an_id_names_no_other_file_that_failed_under_the_same_name(w: World) -> None:
    first = fail(w)
    w.go_back("TEST-1/report.pdf")
    second = fail(w, content=b"too large, too")

    named = filing_retry.named(w.runtime.config, w.runtime.journal, [first, second], bytes(w.home))

    assert [each.id for each in named if isinstance(each, Row)] == [second.id]
    (left,) = [each for each in named if isinstance(each, Left)]
    assert in_words(left) == ("F1: not moved: it was taken back, and another file has failed under its name since.")


def test_an_id_of_a_file_that_was_attached_is_left(w: World) -> None:
    w.drop("TEST-1/a.txt", b"ok")
    w.deliver()

    (left,) = filing_retry.named(w.runtime.config, w.runtime.journal, w.rows(), bytes(w.home))

    assert isinstance(left, Left)
    assert in_words(left) == "F1: not moved: it is no failed file."


def test_a_file_that_failed_numbered_goes_back_under_its_own_name(w: World) -> None:
    fail(w, content=b"first one")
    (w.failed / "TEST-1/report.pdf").rename(w.home / "kept")
    fail(w)
    fail(w, content=b"second one")
    assert set(w.files(w.failed)) >= {"TEST-1/report.pdf", "TEST-1/report (2).pdf"}

    (result,) = retry(w, "TEST-1/report (2).pdf")

    assert isinstance(result, Returned)
    assert result.path == b"TEST-1/report.pdf"
    assert w.files(w.inbox) == {"TEST-1/report.pdf": b"second one"}


def test_two_of_one_name_both_go_back(w: World) -> None:
    fail(w)
    fail(w, content=b"second one")

    results = again(w, everything(w))

    assert sorted(w.files(w.inbox)) == ["TEST-1/report (2).pdf", "TEST-1/report.pdf"]
    assert w.files(w.failed) == {}
    assert [in_words(result) for result in results][1] == (
        "TEST-1/report.pdf: back in the inbox as TEST-1/report (2).pdf, because something else lies at TEST-1/report.pdf."
    )


def test_nothing_in_the_inbox_is_replaced(w: World) -> None:
    row = fail(w)
    w.drop("TEST-1/report.pdf", b"new")

    assert retry(w, "TEST-1/report.pdf") == [Returned(row, b"TEST-1/report (2).pdf", b"TEST-1/report.pdf")]
    assert w.files(w.inbox) == {"TEST-1/report.pdf": b"new", "TEST-1/report (2).pdf": b"too large"}


def test_folders_are_made_anew(w: World) -> None:
    fail(w, "test-1 Printer/a/b.log")
    for folder in ("test-1 Printer/a", "test-1 Printer"):
        (w.inbox / folder).rmdir()

    again(w, everything(w))

    assert w.files(w.inbox) == {"test-1 Printer/a/b.log": b"too large"}


def test_a_file_in_place_of_its_folder_bars_nothing(w: World) -> None:
    fail(w)
    (w.inbox / "TEST-1").rmdir()
    (w.inbox / "TEST-1").write_bytes(b"in the way")

    again(w, everything(w))

    assert w.files(w.inbox) == {"TEST-1": b"in the way", "TEST-1 (2)/report.pdf": b"too large"}
    allow(w)
    w.settle()
    assert w.jira.names("TEST-1") == ["report.pdf"]


def test_a_folder_that_means_another_issue_by_now_is_not_used(tmp_path: Path) -> None:
    with world(tmp_path, aliases={"Invoices": "TEST-1"}) as w:
        w.jira.limit = 3
        fail(w, "Invoices/a.txt")
        w.tables["aliases"] = {"Invoices": "TEST-2"}
        w.restart()

        again(w, everything(w))

        assert w.files(w.inbox) == {"TEST-1/a.txt": b"too large"}


def test_a_project_that_is_not_served_any_more_is_told(w: World) -> None:
    fail(w)
    w.tables["folders"] = {"projects": ["OTHER"]}
    w.restart()

    (result,) = again(w, everything(w))

    assert isinstance(result, Left)
    assert "only these projects are served here: OTHER" in in_words(result)
    assert "TEST-1/report.pdf" in w.files(w.failed)


def test_what_was_corrected_in_failed_is_what_goes_back(w: World) -> None:
    fail(w)
    (w.failed / "TEST-1/report.pdf").write_bytes(b"ok")

    again(w, everything(w))
    w.settle()

    assert [s.content for s in w.jira.on("TEST-1")] == [b"ok"]


def test_what_is_no_file_any_more_is_left(w: World) -> None:
    fail(w)
    (w.failed / "TEST-1/report.pdf").unlink()
    (w.failed / "TEST-1/report.pdf").symlink_to("/etc/passwd")

    (result,) = again(w, everything(w))

    assert result == Left(b"TEST-1/report.pdf", "it is not a regular file")


def test_what_was_taken_away_meanwhile_is_left(w: World) -> None:
    row = fail(w)
    (w.failed / "TEST-1/report.pdf").unlink()

    assert again(w, [row]) == [Left(b"TEST-1/report.pdf", "it is no longer there")]


def test_one_that_cannot_be_moved_does_not_stop_the_others(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(w, "TEST-1/a.txt")
    fail(w, "TEST-2/b.txt")
    real = move.move

    def full(failed: Path, source: bytes, *rest: object, **more: object) -> object:
        if source == b"TEST-1/a.txt":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(failed, source, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(move, "move", full)

    results = again(w, everything(w))

    assert results[0] == Left(b"TEST-1/a.txt", "it could not be moved (No space left on device)")
    assert isinstance(results[1], Returned)


def test_what_the_disk_does_not_confirm_keeps_its_note(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(w)

    def broken(self: folders.Dirty) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(folders.Dirty, "sync", broken)
        (result,) = again(w, everything(w))

    assert "the disk did not confirm that (Input/output error)" in in_words(result)
    assert list(w.files(w.failed)) == ["TEST-1/report.pdf.why.txt"]


def test_to_another_device(tmp_path: Path) -> None:
    if not SECOND_DEVICE.is_dir() or SECOND_DEVICE.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second device")
    with tempfile.TemporaryDirectory(dir=SECOND_DEVICE) as far:
        failed = Path(far) / "failed"
        failed.mkdir()
        with world(tmp_path, folders={"failed": str(failed)}) as w:
            w.jira.limit = 3
            fail(w)

            (result,) = again(w, everything(w))

            assert isinstance(result, Returned)
            assert w.files(w.inbox) == {"TEST-1/report.pdf": b"too large"}
            assert [path for path in failed.rglob("*") if path.is_file()] == []


def test_a_failed_file_is_found_however_long_its_path_is(w: World) -> None:
    """One call takes paths of at most 4,096 bytes (PATH_MAX), a walk from folder to folder any."""
    parts = ["TEST-1", *["d" * 200] * 21]
    folder = os.open(w.inbox, os.O_RDONLY)
    for part in parts:
        os.mkdir(part, dir_fd=folder)
        above, folder = folder, os.open(part, os.O_RDONLY, dir_fd=folder)
        os.close(above)
    file = os.open("report.pdf", os.O_WRONLY | os.O_CREAT, dir_fd=folder)
    os.write(file, b"too large")
    os.close(file)
    os.close(folder)
    w.deliver()
    assert w.states() == ["FAILED"]

    assert [row.path for row in filing_retry.of_issue(w.runtime.config, w.runtime.journal, "TEST-1")] == [
        w.rows()[0].path
    ]


# --- And then ---------------------------------------------------------------------------------------------------


def test_it_is_then_sent_as_any_other(w: World) -> None:
    fail(w)
    allow(w)
    again(w, everything(w))
    w.deliver()

    assert w.states() == ["FAILED", "DONE"]
    assert w.rows()[0].note is None
    assert w.files(w.done) == {"TEST-1/report.pdf": b"too large"}


def fail_in_doubt(w: World) -> None:
    w.jira.limit = 100
    w.fail_in_doubt("TEST-1/report.pdf", b"once")
    assert w.states() == ["FAILED"]


def test_one_that_may_be_attached_is_looked_for_first(w: World) -> None:
    fail_in_doubt(w)
    w.jira.stored.append(Stored("99999", "TEST-1", "report.pdf", b"once", w.clock.time))
    uploads = len(w.jira.uploads)

    (result,) = again(w, everything(w))
    w.settle(hours=1)

    assert in_words(result).endswith(". It may be attached already, so attachd looks at the issue before it sends it.")
    assert w.states() == ["FAILED", "DONE"]
    assert w.rows()[1].attachment == "99999"
    assert len(w.jira.uploads) == uploads


def test_one_in_doubt_that_did_not_arrive_is_sent_once(w: World) -> None:
    fail_in_doubt(w)

    again(w, everything(w))
    w.settle(hours=1)

    assert [s.content for s in w.jira.on("TEST-1")] == [b"once"]


# --- The process dies -------------------------------------------------------------------------------------------


def dying(place: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the process die directly before, or directly behind, one step."""
    before, target, name = {
        "before the rename": (True, rename, "rename_noreplace"),
        "after the rename": (False, rename, "rename_noreplace"),
        "before the sync": (True, folders.Dirty, "sync"),
        "before the note is removed": (True, notes, "remove"),
        "after the note is removed": (False, notes, "remove"),
        "before the journal knows": (True, retries, "forget_notes"),
    }[place]
    real = getattr(target, name)

    def dies(*words: object, **more: object) -> None:
        if not before:
            real(*words, **more)
        raise Crash

    return lambda: monkeypatch.setattr(target, name, dies)


DEATHS = (
    "before the rename",
    "after the rename",
    "before the sync",
    "before the note is removed",
    "after the note is removed",
    "before the journal knows",
)


@pytest.mark.parametrize("running", [True, False], ids=["beside the daemon", "before the next start"])
@pytest.mark.parametrize("place", DEATHS)
def test_wherever_it_dies_the_file_is_sent_once_and_its_note_goes(
    w: World, monkeypatch: pytest.MonkeyPatch, place: str, running: bool
) -> None:
    fail(w)
    w.scan()
    allow(w)
    with monkeypatch.context() as patch:
        dying(place, patch)()
        with pytest.raises(Crash):
            again(w, everything(w))
    whole = {**w.files(w.failed), **w.files(w.inbox)}
    assert whole["TEST-1/report.pdf"] == b"too large", "in one of the two, whole"

    if not running:
        w.restart()
    again(w, everything(w))
    w.settle(hours=1)
    w.scan()

    assert [s.content for s in w.jira.on("TEST-1")] == [b"too large"]
    assert w.files(w.failed) == {}
    assert w.files(w.inbox) == {}
    assert w.files(w.done) == {"TEST-1/report.pdf": b"too large"}
    assert [row.note for row in w.rows()] == [None, None]


def test_a_note_left_by_a_death_is_removed_by_the_next_scan_alone(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(w)
    with monkeypatch.context() as patch:
        dying("before the note is removed", patch)()
        with pytest.raises(Crash):
            again(w, everything(w))
    assert list(w.files(w.failed)) == ["TEST-1/report.pdf.why.txt"]

    w.scan()

    assert w.files(w.failed) == {}


def test_a_copy_that_a_death_left_on_another_device_is_not_sent_twice(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across devices the copy is there before the original goes: the next try finds it, also under a number."""
    row = fail(w)
    w.drop("TEST-1/report.pdf", b"new")
    source = w.failed / "TEST-1/report.pdf"
    copy = w.inbox / "TEST-1/report (2).pdf"
    copy.write_bytes(source.read_bytes())
    os.utime(copy, ns=(source.stat().st_mtime_ns, source.stat().st_mtime_ns))

    assert again(w, [row]) == [Returned(row, b"TEST-1/report (2).pdf", b"TEST-1/report.pdf")]
    assert w.files(w.inbox) == {"TEST-1/report.pdf": b"new", "TEST-1/report (2).pdf": b"too large"}
