"""A file is its content once it was sent: touched, copied over itself, renamed or carried about, it is not sent again."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from attachd.filing import file_away
from attachd.fs import leases, move
from attachd.intake import evidence, examine, files, gates, identity, matching, missing_files
from attachd.intake.identity import Another, Its, Look, Rival, Unclear, Where
from attachd.journal import rows
from attachd.journal.admission import Moment
from attachd.model import Fingerprint, State
from memory_jira import Fault, World, world
from report.test_why import row

SMALL, LARGE = b"what was sent", b"0123456789abcdef" * (5 * 1024 * 1024 // 16)
PATH = "TEST-1/a.txt"


class Crash(BaseException):
    """The process dies here."""


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@contextmanager
def nothing_is_filed() -> Iterator[None]:
    """No worker comes to moving files: as where ``done`` is on a disk that is full."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_away, "carry", lambda *_a, **_more: 0)
        yield


def once(hook: Callable[[], None]) -> Callable[[], None]:
    calls = iter([hook])
    return lambda: next(calls, lambda: None)()


def while_posting(w: World, act: Callable[[], None]) -> Callable[[], None]:
    """Act when the first upload is under way."""
    acting = once(act)
    return lambda: acting() if w.jira.requests[-1][0] == "POST" else None


# --- What people do to a file that looks the same to them ---------------------------------------------------------------


def touch(w: World, content: bytes) -> None:
    touched(w.inbox / PATH)


def rewrite(w: World, content: bytes) -> None:
    with (w.inbox / PATH).open("r+b") as file:
        file.write(content)
    touch(w, content)


def replace(w: World, content: bytes) -> None:
    w.drop(PATH, content, mtime_ns=w.inbox.joinpath(PATH).stat().st_mtime_ns + 10**9)


def copy_and_delete(w: World, content: bytes) -> None:
    """As a move does that is none: a file manager on a share, another file system."""
    shutil.copyfile(w.inbox / PATH, w.home / "copy")
    (w.inbox / PATH).unlink()
    os.rename(w.home / "copy", w.inbox / "TEST-1/renamed.txt")


def into_subfolder(w: World, content: bytes) -> None:
    (w.inbox / "TEST-1/sub").mkdir()
    os.rename(w.inbox / PATH, w.inbox / "TEST-1/sub/a.txt")


def look(w: World) -> None:
    """A scan, if attachd runs."""
    if w.running:
        w.scan()


def pass_time(w: World) -> None:
    """Five scans, and what a worker does after each, unless it waits for Jira."""
    for _ in range(5):
        look(w)
        if w.running and not w.jira.is_answering:
            w.work()
        w.clock.advance(31.0)


def into_subfolder_and_back(w: World, content: bytes) -> None:
    into_subfolder(w, content)
    look(w)
    os.rename(w.inbox / "TEST-1/sub/a.txt", w.inbox / PATH)


def folder_renamed(
    name: str, *, back: bool = False, long: bool = False, meanwhile: Callable[[Path], None] = lambda _: None
) -> Callable[[World, bytes], None]:
    def act(w: World, content: bytes) -> None:
        os.rename(w.inbox / "TEST-1", w.inbox / name)
        meanwhile(w.inbox / name / "a.txt")
        if back:
            pass_time(w) if long else look(w)
            os.rename(w.inbox / name, w.inbox / "TEST-1")

    return act


def renamed_for_long(meanwhile: Callable[[Path], None] = lambda _: None) -> Callable[[World, bytes], None]:
    """Under a name that is left alone."""

    def act(w: World, content: bytes) -> None:
        os.rename(w.inbox / PATH, w.inbox / f"{PATH}.part")
        meanwhile(w.inbox / f"{PATH}.part")
        pass_time(w)
        os.rename(w.inbox / f"{PATH}.part", w.inbox / PATH)

    return act


def touched(path: Path) -> None:
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))


def copied_over(path: Path) -> None:
    """Replaced by a copy of itself: another inode, another time."""
    shutil.copyfile(path, path.with_name("copy"))
    os.rename(path.with_name("copy"), path)
    touched(path)


CHANGES = {
    "touched": touch,
    "written over with the same bytes": rewrite,
    "replaced by a copy": replace,
    "copied and deleted": copy_and_delete,
    "moved into a subfolder": into_subfolder,
    "moved into a subfolder and back": into_subfolder_and_back,
    "its folder got a text": folder_renamed("TEST-1 Printer"),
    "its folder is an alias now": folder_renamed("Printer"),
    "its folder was another issue's": folder_renamed("OPS-7", back=True),
    "touched in another issue's folder": folder_renamed("OPS-7", back=True, meanwhile=touched),
    "copied over in another issue's folder": folder_renamed("OPS-7", back=True, meanwhile=copied_over),
    "its folder was no issue's": folder_renamed("nobody's", back=True),
    "its folder was no issue's for long": folder_renamed("nobody's", back=True, long=True),
    "its folder was hidden for long": folder_renamed(".hidden", back=True, long=True),
    "it had another name for long": renamed_for_long(),
    "touched in no issue's folder": folder_renamed("nobody's", back=True, long=True, meanwhile=touched),
    "copied over in no issue's folder": folder_renamed("nobody's", back=True, long=True, meanwhile=copied_over),
    "touched in a hidden folder": folder_renamed(".hidden", back=True, long=True, meanwhile=touched),
    "touched under another name": renamed_for_long(touched),
    "copied over under another name": renamed_for_long(copied_over),
}


# --- Where a file may stand when that happens ----------------------------------------------------------------------------

Act = Callable[[], None]


def sending(w: World, act: Act, *, dies: bool) -> None:
    def acting() -> None:
        act()
        w.scan()

    w.drop(PATH, SMALL)
    w.jira.before = while_posting(w, acting)
    deliver(w, dies=dies)


def streaming(w: World, act: Act, *, dies: bool) -> None:
    def acting() -> None:
        act()
        w.scan()

    w.drop(PATH, LARGE)
    w.jira.amid = once(acting)
    deliver(w, dies=dies)


def deliver(w: World, *, dies: bool) -> None:
    if not dies:
        w.deliver()
        return
    w.jira.faults.append(Fault(breaks=Crash, commit="all"))  # type: ignore[arg-type]
    # What is written to while it is streamed does not come so far.
    with suppress(Crash):
        w.deliver()
    w.restart()


def in_doubt(w: World, act: Act, *, dies: bool) -> None:
    w.drop(PATH, SMALL)
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.deliver()
    after(w, State.DOUBTFUL, act, dies=dies)


def again_after_doubt(w: World, act: Act, *, dies: bool) -> None:
    """All its looks were made and showed nothing: it may be sent again. And then Jira stores the first attempt."""
    w.drop(PATH, SMALL)
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit=200.0))
    w.deliver()
    for _ in range(20):
        w.clock.advance(31)
        if w.step() and w.row(PATH).state is State.READY:
            break
    w.clock.advance(200)
    after(w, State.READY, act, dies=dies)


def attached(w: World, act: Act, *, dies: bool) -> None:
    w.drop(PATH, SMALL)
    with nothing_is_filed():
        w.deliver()
        after(w, State.ATTACHED, act, dies=dies)


def to_be_moved(w: World, act: Act, *, dies: bool) -> None:
    w.drop(PATH, SMALL)
    with nothing_is_filed():
        w.deliver()
    after(w, State.ATTACHED, act, dies=dies)


def refused(w: World, act: Act, *, dies: bool) -> None:
    w.drop(PATH, SMALL)
    w.jira.faults.append(Fault(status=413, body={"errorMessages": ["too large"]}))
    with nothing_is_filed():
        w.deliver()
        after(w, State.REFUSED, act, dies=dies)


def after(w: World, state: State, act: Act, *, dies: bool) -> None:
    """Act on a file that stands so, and have it looked at."""
    assert w.row(PATH).state is state
    if dies:
        w.end()
    act()
    if dies:
        w.restart()
    w.scan()
    w.work()


STANDS = {
    "sent": sending,
    "streamed": streaming,
    "in doubt": in_doubt,
    "to be sent again": again_after_doubt,
    "attached": attached,
    "to be moved": to_be_moved,
    "refused": refused,
}

ALIASED = {"aliases": {"Printer": "TEST-1"}}


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stand", STANDS)
def test_the_same_content_is_sent_once(tmp_path: Path, stand: str, change: str, *, dies: bool) -> None:
    content = LARGE if stand == "streamed" else SMALL
    with world(tmp_path, **ALIASED) as w:
        STANDS[stand](w, lambda: CHANGES[change](w, content), dies=dies)
        w.settle(hours=3)

        issue = [s.content for s in w.jira.stored]
        assert issue == ([] if stand == "refused" else [content])
        assert list(w.files(w.failed if stand == "refused" else w.done).values())[:1] == [content]
        assert w.files(w.inbox) == {}
        assert w.unfinished() == []


# --- Two files ----------------------------------------------------------------------------------------------------------


def void(_made: Path) -> None:
    """Nothing is to be said of what was made."""


def held_up(w: World, content: bytes) -> None:
    """A file with a verdict that is not moved yet."""
    w.drop(PATH, content)
    w.deliver()
    assert w.row(PATH).state is State.ATTACHED


@pytest.mark.parametrize("other", ["TEST-1/b.txt", "TEST-1/sub/a.txt", "test-1 again/a.txt"])
@pytest.mark.parametrize("stand", ["sent", "streamed", "in doubt", "to be sent again", "attached"])
def test_two_files_of_equal_content_are_attached_once_each(tmp_path: Path, stand: str, other: str) -> None:
    content = LARGE if stand == "streamed" else SMALL
    with world(tmp_path) as w:
        STANDS[stand](w, lambda: void(w.drop(other, content)), dies=False)
        w.settle(hours=3)

        assert [s.content for s in w.jira.stored] == [content, content]
        assert sorted(w.files(w.done).values()) == [content, content]
        assert w.files(w.inbox) == {}


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
@pytest.mark.parametrize("other", ["TEST-1/b.txt", "TEST-1 Printer/b.txt"])
def test_an_empty_file_is_none_that_was_sent_because_both_hold_nothing(w: World, other: str, *, dies: bool) -> None:
    w.drop(PATH, b"", mtime_ns=10**18)
    with nothing_is_filed():
        w.deliver()
        (w.inbox / PATH).rename(w.home / "taken")
        w.drop(other, b"", mtime_ns=10**18 + dies)
        if dies:
            w.restart()
        w.scan()
    w.settle(hours=1)

    assert sorted(w.jira.names("TEST-1")) == ["a.txt", "b.txt"]
    assert list(w.files(w.done)) == ["TEST-1/b.txt"]
    assert w.unfinished() == []


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_an_empty_file_that_was_sent_and_renamed_is_known_by_its_time(w: World, *, dies: bool) -> None:
    w.drop(PATH, b"")
    with nothing_is_filed():
        w.deliver()
        folder_renamed("TEST-1 Printer")(w, b"")
        if dies:
            w.restart()
        w.scan()
    w.settle(hours=1)

    assert w.jira.names("TEST-1") == ["a.txt"]
    assert w.unfinished() == []


def test_an_empty_file_that_lies_elsewhere_keeps_no_verdict_open(w: World) -> None:
    w.drop("nobody's/.gitkeep", b"", mtime_ns=10**18)
    w.drop(PATH, b"", mtime_ns=10**18)
    with nothing_is_filed():
        w.deliver()
        (w.inbox / PATH).unlink()
        w.scan()
    w.settle(hours=0.5)

    assert w.unfinished() == []


def test_each_hard_link_is_a_file_of_its_own(w: World) -> None:
    def link() -> None:
        os.link(w.inbox / PATH, w.inbox / "TEST-1/b.txt")
        w.scan()

    w.drop(PATH, SMALL)
    w.jira.before = while_posting(w, link)
    w.settle(hours=1)

    assert sorted(w.jira.names("TEST-1")) == ["a.txt", "b.txt"]
    assert w.files(w.done) == {"TEST-1/a.txt": SMALL, "TEST-1/b.txt": SMALL}


def test_other_content_of_the_same_size_that_takes_the_path_of_a_file_under_way_is_attached_too(w: World) -> None:
    def replaced() -> None:
        w.drop(PATH, SMALL[::-1])
        w.scan()

    w.drop(PATH, SMALL)
    w.jira.before = while_posting(w, replaced)
    w.settle(hours=1)

    assert [s.content for s in w.jira.stored] == [SMALL, SMALL[::-1]]
    assert w.files(w.done) == {"TEST-1/a.txt": SMALL[::-1]}
    assert w.unfinished() == []


def test_a_file_that_waits_to_be_compared_says_so(w: World) -> None:
    """While a large file is streamed its content is not known, and its own file has gone from its place."""
    told = []

    def renamed() -> None:
        into_subfolder(w, LARGE)
        w.scan()
        told.extend((row.state, row.reason) for row in w.rows())

    w.drop(PATH, LARGE)
    w.jira.amid = once(renamed)
    w.settle(hours=1)

    assert told == [(State.SENDING, None), (State.SEEN, gates.COMPARED_LATER)]
    assert w.states() == ["DONE"]
    assert w.files(w.done) == {"TEST-1/sub/a.txt": LARGE}


def test_the_two_keys_of_a_moved_issue_are_one(w: World) -> None:
    w.jira.moved["OLD-1"] = "NEW-5"
    w.drop("OLD-1/first.txt", b"makes the move known")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.settle(hours=1)
    w.drop("OLD-1/a.txt", SMALL)
    with nothing_is_filed():
        w.deliver()
        shutil.copyfile(w.inbox / "OLD-1/a.txt", w.home / "copy")
        (w.inbox / "OLD-1/a.txt").unlink()
        (w.inbox / "NEW-5").mkdir()
        os.rename(w.home / "copy", w.inbox / "NEW-5/a.txt")
        w.scan()
        w.work()
    w.settle(hours=1)

    assert [s.content for s in w.jira.on("NEW-5")].count(SMALL) == 1
    assert w.files(w.inbox) == {}


@pytest.mark.parametrize("other", ["TEST-1/b.txt", "TEST-1 Printer/b.txt", "OPS-7/b.txt"])
def test_two_unsent_files_that_swap_their_names_keep_their_rows(w: World, other: str) -> None:
    w.drop("TEST-1/a.txt", b"first")
    w.drop(other, b"the second")
    w.scan()
    before = {row.id: row.size for row in w.rows()}
    (w.inbox / "TEST-1/a.txt").rename(w.home / "aside")
    (w.inbox / other).rename(w.inbox / "TEST-1/a.txt")
    (w.home / "aside").rename(w.inbox / other)

    w.scan()

    assert {row.id: row.size for row in w.rows()} == before
    assert {row.path: row.size for row in w.rows()} == {b"TEST-1/a.txt": 10, os.fsencode(other): 5}


SENT_TO_ANOTHER = {
    "in doubt": (State.DOUBTFUL, {"due": 2e9}, "Jira did not answer."),
    "to be sent again": (State.READY, {"due": 2e9}, "its folder means another issue now"),
}


@pytest.mark.parametrize(("state", "values", "reason"), SENT_TO_ANOTHER.values(), ids=SENT_TO_ANOTHER)
def test_what_was_sent_to_the_issue_of_an_alias_stays_there_when_the_alias_is_corrected(
    tmp_path: Path, state: State, values: dict[str, Any], reason: str
) -> None:
    with world(tmp_path, aliases={"Printer": "TEST-1"}) as w:
        w.drop("Printer/a.txt", SMALL)
        w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
        w.deliver()
        (first,) = w.rows()
        with w.runtime.journal.transaction() as connection:
            rows.change(connection, first.id, {"state": state, "reason": "Jira did not answer."} | values)
        w.tables = {"aliases": {"Printer": "OPS-7"}}
        w.restart()

        w.scan()

        old, new = w.rows()
        assert (old.folder_key, old.state, old.at_path, old.reason) == ("TEST-1", state, False, reason)
        assert (new.folder_key, new.path, new.at_path) == ("OPS-7", b"Printer/a.txt", True)
        w.settle(hours=3)
        assert [(s.issue, s.content) for s in w.jira.stored] == [("TEST-1", SMALL), ("OPS-7", SMALL)]


def test_what_lies_in_the_folder_of_a_corrected_alias_is_known_as_a_file_of_the_issue_that_it_means_now(
    tmp_path: Path,
) -> None:
    with world(tmp_path, aliases={"Printer": "TEST-1"}) as w:
        for path, content in (("Printer/a.txt", b"another"), ("OPS-7/x.txt", SMALL)):
            w.drop(path, content)
            w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
            w.deliver()
        first, second = w.rows()
        (w.inbox / "OPS-7/x.txt").rename(w.inbox / "Printer/a.txt")
        w.tables = {"aliases": {"Printer": "OPS-7"}}
        w.restart()

        w.scan()

        assert [(row.id, row.at_path) for row in w.rows()] == [(first.id, False), (second.id, True)]
        assert w.row("Printer/a.txt").id == second.id


def test_a_row_that_loses_its_path_is_not_thereby_known_to_be_elsewhere(w: World) -> None:
    """It may be on its way to done at this moment, and a file of equal content another one."""
    w.drop(PATH, SMALL)
    with nothing_is_filed():
        w.deliver()
    evidence = identity.Evidence()

    with w.runtime.journal.transaction() as connection:
        matching._detach(connection, w.row(PATH), Moment.of(w.clock, w.runtime.guard.epoch), "Replaced.", evidence)

    assert not w.row(PATH).at_path
    assert evidence.lost == {}


# --- A verdict whose file is not at its path ----------------------------------------------------------------------------


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
@pytest.mark.parametrize("names", [("TEST-3", "TEST-3 Printer"), ("TEST-3 Printer", "TEST-3"), ("TEST-3", "test-3")])
def test_a_file_is_known_again_in_a_folder_that_the_scan_comes_to_later(
    tmp_path: Path, names: tuple[str, str], *, dies: bool
) -> None:
    old, new = names
    with world(tmp_path) as w:
        w.drop(f"{old}/a.txt", b"attached")
        with nothing_is_filed():
            w.deliver()
            (w.inbox / old).rename(w.inbox / new)
            w.drop(f"{old}/a.txt", b"the next")
            w.scanner.scan({os.fsencode(old)})
        w.work()
        if dies:
            w.restart()
        w.settle(hours=1)

        assert [s.content for s in w.jira.stored] == [b"attached", b"the next"]
        assert sorted(w.files(w.done).values()) == [b"attached", b"the next"]


def test_a_file_whose_move_is_refused_is_known_again_when_its_folder_was_renamed(w: World) -> None:
    stuck = move.Stuck("the folder may not be changed")
    w.drop("TEST-3/a.txt", b"attached")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_away, "_move", lambda *_: stuck)
        w.deliver()
        (w.inbox / "TEST-3").rename(w.inbox / "TEST-3 Printer")
        w.drop("TEST-3/a.txt", b"the next")
        for _ in range(4):
            w.deliver()
            w.clock.advance(31.0)
    w.settle(hours=1)

    assert [s.content for s in w.jira.stored] == [b"attached", b"the next"]
    assert sorted(w.files(w.done).values()) == [b"attached", b"the next"]
    assert w.files(w.inbox) == {}


def test_two_folders_that_change_places_attach_nothing_twice(w: World) -> None:
    for name in ("TEST-3", "TEST-3 Printer"):
        w.drop(f"{name}/a.txt", name.encode().ljust(20), mtime_ns=10**18)
    with nothing_is_filed():
        w.deliver()
        (w.inbox / "TEST-3").rename(w.inbox / "aside")
        (w.inbox / "TEST-3 Printer").rename(w.inbox / "TEST-3")
        (w.inbox / "aside").rename(w.inbox / "TEST-3 Printer")
        w.restart()
        w.scan()
        w.work()
    w.settle(hours=1)

    assert len(w.jira.stored) == len(w.files(w.done)) == 2
    assert w.files(w.inbox) == {}


def test_a_verdict_is_not_closed_while_a_folder_of_its_issue_cannot_be_looked_into(w: World) -> None:
    w.drop("TEST-3/a.txt", SMALL)
    with nothing_is_filed():
        w.deliver()
        (w.inbox / "TEST-3").rename(w.inbox / "test-3")
        (w.inbox / "test-3/.attachdignore").write_text("# being written\n")
        with (w.inbox / "test-3/.attachdignore").open("a"):
            for _ in range(4):
                w.scan()
                w.clock.advance(31.0)
            assert w.states() == ["ATTACHED"]
        assert w.row("TEST-3/a.txt").missing < 2
    w.settle(hours=1)

    assert len(w.jira.stored) == 1
    assert "test-3/.attachdignore" in w.files(w.inbox)
    assert w.states() == ["DONE"]


def test_looking_for_a_missing_file_reads_each_file_once_and_few_at_a_time(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instrument writes a thousand files of one size, and somebody deletes one whose row is not closed yet."""
    for number in range(5):
        w.drop(f"not now/{number}.bin", bytes([number]) * len(SMALL))
    w.drop(PATH, SMALL)
    with nothing_is_filed():
        w.deliver()
    (w.inbox / PATH).unlink()
    read: list[bytes] = []
    real = evidence.checksum
    monkeypatch.setattr(missing_files, "_READ_MOST", 2)
    monkeypatch.setattr(evidence, "checksum", lambda context, entry: (read.append(entry.path), real(context, entry))[1])

    counts = []
    while w.unfinished():
        w.scan()
        w.work()
        w.clock.advance(31.0)
        counts.append(len(read))

    assert sorted(read) == [b"not now/%d.bin" % number for number in range(5)]
    assert max(later - earlier for earlier, later in zip([0, *counts], counts, strict=False)) == 2


def test_a_file_with_a_verdict_that_was_deleted_is_closed(w: World) -> None:
    with nothing_is_filed():
        held_up(w, SMALL)
        (w.inbox / PATH).unlink()
        w.scan()
    w.settle(hours=0.1)

    assert w.states() == ["DONE"]
    assert "taken out" in (w.row(PATH).reason or "")


# --- What is no file any more -------------------------------------------------------------------------------------------


def lived(w: World, seconds: int) -> None:
    """So many seconds pass, and a worker looks for work in each."""
    for _ in range(seconds):
        w.clock.advance(1.0)
        w.work()


def scan_until_done(w: World) -> None:
    for _ in range(20):
        w.scan()
        lived(w, 30)
        if not w.unfinished():
            return


@pytest.mark.parametrize("seconds", [0, 20])
@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_verdict_whose_file_is_gone_is_closed_however_long_a_scan_takes(
    w: World, monkeypatch: pytest.MonkeyPatch, seconds: int, *, replaced: bool
) -> None:
    def everything(inbox: Path, checkpoint: Callable[[], None]) -> Iterator[files.Entry]:
        lived(w, seconds)
        return really(inbox, checkpoint)

    really = files.everything
    w.drop(PATH, SMALL)
    with nothing_is_filed():
        w.deliver()
        if replaced:
            w.drop(PATH, b"another content")
        else:
            (w.inbox / PATH).unlink()
    monkeypatch.setattr(files, "everything", everything)
    scan_until_done(w)

    assert w.unfinished() == []
    assert len(w.jira.stored) == 1 + replaced


@pytest.mark.parametrize("seconds", [0, 20])
@pytest.mark.parametrize("change", ["touched", "its folder got a text"])
def test_a_file_that_looks_different_after_its_verdict_is_known_again_however_long_it_is_read(
    w: World, monkeypatch: pytest.MonkeyPatch, change: str, seconds: int
) -> None:
    def sha256(self: examine.OpenFile) -> bytes | None:
        reads.append(w.clock.boot())
        lived(w, seconds)
        return really(self)

    reads, really = list[float](), examine.OpenFile.sha256
    w.drop(PATH, LARGE)
    with nothing_is_filed():
        w.deliver()
        CHANGES[change](w, LARGE)
    monkeypatch.setattr(examine.OpenFile, "sha256", sha256)
    scan_until_done(w)

    assert w.unfinished() == []
    assert [s.content for s in w.jira.stored] == [LARGE]
    assert len(reads) <= 2


def of_kind(kind: str, path: Path) -> None:
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("elsewhere")
        case "pipe":
            os.mkfifo(path)
        case "socket":
            # By way of the folder's descriptor: an address may have no more than 108 bytes (unix(7)).
            folder = os.open(path.parent, os.O_RDONLY)
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(f"/proc/self/fd/{folder}/{path.name}")
            os.close(folder)


REPLACED = [("folder", PATH), ("link", PATH), ("pipe", PATH), ("socket", PATH), ("link", "TEST-1"), ("pipe", "TEST-1")]


@pytest.mark.parametrize(("kind", "at"), REPLACED, ids=[f"{kind}-{at.count('/')}" for kind, at in REPLACED])
@pytest.mark.parametrize("stand", ["waits", *STANDS])
def test_a_file_that_another_kind_of_thing_replaced_is_gone(tmp_path: Path, stand: str, kind: str, at: str) -> None:
    content = LARGE if stand == "streamed" else SMALL
    with world(tmp_path) as w:

        def act() -> None:
            replaced = w.inbox / at
            (w.inbox / PATH).unlink()
            if replaced.is_dir():
                replaced.rmdir()
            of_kind(kind, replaced)

        if stand == "waits":
            w.drop(PATH, SMALL)
            w.scan()
            act()
        else:
            STANDS[stand](w, act, dies=False)
        w.settle(hours=0.5)

        assert w.unfinished() == []
        stored = [*w.jira.stored, *(late for _, late in w.jira.late)]
        assert [s.content for s in stored] == ([] if stand in ("waits", "refused") else [content])


# --- Who still writes ---------------------------------------------------------------------------------------------------


def test_a_file_that_somebody_opened_again_while_it_waited_is_not_sent(w: World) -> None:
    w.drop(PATH, b"one")
    w.scan()
    with (w.inbox / PATH).open("ab") as writer:
        w.work()
        row = w.row(PATH)
        assert (row.state, row.reason, row.tries) == (State.SEEN, leases.STILL_OPEN, 0)
        for _ in range(3):
            w.clock.advance(31.0)
            w.deliver()
        assert w.jira.uploads == []
        writer.write(b" two")
    w.settle(hours=1)

    assert [s.content for s in w.jira.stored] == [b"one two"]
    assert w.files(w.done) == {PATH: b"one two"}


def test_a_file_that_is_opened_while_jira_is_asked_about_its_issue_is_not_sent(w: World) -> None:
    content = b"x" * (9 * 1024 * 1024)
    writers = []

    def opened() -> None:
        if w.jira.requests[-1][1].endswith("/TEST-1"):
            writers.append((w.inbox / PATH).open("ab"))

    w.drop(PATH, content)
    w.jira.before = opened
    w.scan()
    while not writers:
        assert w.step()
    w.jira.before = lambda: None
    w.work()
    assert w.jira.uploads == []
    writers[0].write(b"end")
    writers[0].close()
    w.settle(hours=1)

    assert [len(s.content) for s in w.jira.stored] == [len(content) + 3]


@pytest.mark.parametrize("written", [b"", b"more"], ids=["same", "other"])
@pytest.mark.parametrize("stand", ["sent", "streamed", "attached", "refused"])
def test_a_file_is_not_moved_away_under_a_writers_hands(tmp_path: Path, stand: str, written: bytes) -> None:
    content = LARGE if stand == "streamed" else SMALL
    with world(tmp_path) as w:
        writers = []
        STANDS[stand](w, lambda: writers.append((w.inbox / PATH).open("ab", buffering=0)), dies=False)
        for _ in range(3):
            w.deliver()
            w.clock.advance(31.0)
        assert w.files(w.inbox) == {PATH: content}
        writers[0].write(written)
        w.deliver()
        writers[0].close()
        w.settle(hours=1)

        expected = ([] if stand == "refused" else [content]) + ([content + written] if written else [])
        if stand == "streamed":
            # At its end somebody had it open: nothing of it counts.
            expected = [content + written]
        assert [s.content for s in w.jira.stored] == expected
        assert sorted(
            {**w.files(w.done), **{k: v for k, v in w.files(w.failed).items() if ".why" not in k}}.values()
        ) == [content + written]


# --- The rule, as a table -----------------------------------------------------------------------------------------------

OURS, OTHERS = b"1" * 32, b"2" * 32


@pytest.mark.parametrize(
    ("state", "sha256", "where", "expected"),
    [
        (State.ATTACHED, OURS, Where.HERE, Another),
        (State.ATTACHED, OURS, Where.AWAY, Its),
        (State.ATTACHED, OURS, Where.MOVING, Unclear),
        (State.ATTACHED, OTHERS, Where.AWAY, Another),
        (State.ATTACHED, OTHERS, Where.MOVING, Another),
        (State.SENDING, OURS, Where.AWAY, Its),
        (State.SENDING, None, Where.HERE, Another),
        (State.SENDING, None, Where.AWAY, Unclear),
        (State.REFUSED, None, Where.AWAY, Another),
        (State.DOUBTFUL, OURS, Where.AWAY, Its),
        (State.READY, OURS, Where.AWAY, Its),
    ],
)
def test_whose_a_file_is(state: State, sha256: bytes | None, where: Where, expected: type) -> None:
    assert type(identity.whose(OURS, [Rival(row(state, sha256=sha256), where)])) is expected


HERE = Fingerprint(5, 10, 10, 1, 2)


@pytest.mark.parametrize(
    ("now", "read", "changes", "expected"),
    [
        (HERE, None, {}, Where.HERE),
        (HERE._replace(ctime_ns=99), None, {}, Where.HERE),
        (HERE._replace(mtime_ns=99), OURS, {}, Where.HERE),
        (HERE._replace(ino=99), OURS, {}, Where.HERE),
        (HERE._replace(mtime_ns=99), OTHERS, {}, Where.AWAY),
        (HERE._replace(mtime_ns=99), None, {}, Where.AWAY),
        (HERE._replace(size=6), OURS, {}, Where.AWAY),
        (None, None, {}, Where.AWAY),
        (None, None, {"target": b"TEST-1/a.txt", "root": "done"}, Where.MOVING),
        (HERE, None, {"generation": 1}, Where.AWAY),
        (HERE, OURS, {"epoch": 1}, Where.HERE),
        (HERE, OTHERS, {"epoch": 1}, Where.AWAY),
        (HERE._replace(mtime_ns=99), OURS, {"sha256": None, "state": State.SENDING}, Where.AWAY),
    ],
)
def test_where_the_file_of_a_row_is(
    now: Fingerprint | None, read: bytes | None, changes: dict[str, Any], expected: Where
) -> None:
    columns = {"sha256": OURS, "size": 5, "mtime_ns": 10, "ctime_ns": 10, "dev": 1, "ino": 2, "epoch": 7}
    sent = row(State.ATTACHED, **columns)._replace(**changes)

    assert identity.where(sent, now, 7, lambda: read) is expected


@pytest.mark.parametrize(
    ("state", "missing", "epoch", "now", "expected"),
    [
        (State.READY, 0, 1, HERE, Look.NOTHING),
        (State.READY, 1, 1, HERE, Look.ADOPT),
        # After a restart or a remount devices and inodes may have other numbers.
        (State.READY, 0, 2, HERE._replace(dev=70, ino=80), Look.ADOPT),
        (State.SEEN, 0, 2, HERE._replace(dev=70, ino=80), Look.SETTLE_ANEW),
        (State.READY, 0, 1, HERE._replace(ino=80), Look.SETTLE_ANEW),
        (State.READY, 0, 1, HERE._replace(dev=70), Look.SETTLE_ANEW),
        (State.READY, 0, 2, HERE._replace(size=14), Look.SETTLE_ANEW),
        (State.READY, 0, 2, HERE._replace(mtime_ns=50), Look.SETTLE_ANEW),
        (State.READY, 0, 2, HERE._replace(ctime_ns=60), Look.SETTLE_ANEW),
    ],
)
def test_what_lies_at_the_path_of_an_unsent_row(
    state: State, missing: int, epoch: int, now: Fingerprint, expected: Look
) -> None:
    known = row(state, missing=missing, epoch=1, **HERE._asdict())

    assert identity.judge(known, now, epoch, {}) is expected


@pytest.mark.parametrize(
    ("size", "epoch", "contested", "sha256", "sums", "expected"),
    [
        (0, 1, None, None, {}, Look.ADOPT),
        (0, 2, None, None, {}, Look.SETTLE_ANEW),
        (5, 1, None, OURS, {b"TEST-1/a.txt": OURS}, Look.SETTLE_ANEW),
        (5, 1, 404, OURS, {}, Look.READ),
        (5, 1, 404, OURS, {b"TEST-1/a.txt": OURS}, Look.ADOPT),
        (5, 1, 404, OURS, {b"TEST-1/a.txt": OTHERS}, Look.SETTLE_ANEW),
        (5, 1, 404, OURS, {b"TEST-1/a.txt": None}, Look.SETTLE_ANEW),
        (5, 1, 404, None, {}, Look.SETTLE_ANEW),
        (5, 2, 404, OURS, {b"TEST-1/a.txt": OURS}, Look.SETTLE_ANEW),
    ],
)
def test_what_another_ctime_alone_means_for_an_unsent_row(
    size: int,
    epoch: int,
    contested: int | None,
    sha256: bytes | None,
    sums: dict[bytes, bytes | None],
    expected: Look,
) -> None:
    was = HERE._replace(size=size)
    known = row(State.READY, missing=0, epoch=1, contested=contested, sha256=sha256, **was._asdict())

    assert identity.judge(known, was._replace(ctime_ns=60), epoch, sums) is expected
