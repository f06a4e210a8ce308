"""Wherever `retry` is killed, its file is in one place, and the next process ends what it began: attached once."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attachd.filing import retry
from attachd.filing import take_back as filing_take_back
from attachd.fs import free_names, rename
from attachd.journal import database, retries
from attachd.report import why_lookup
from attachd.report.why import ComingBack
from fs.test_move import unable
from memory_jira import World, world

SECOND_DEVICE = Path("/dev/shm")
KILLED = 9
STEPS = ("rename", "link", "unlink", "mkdir", "fsync", "fchmod")


@contextmanager
def far(home: Path) -> Iterator[World]:
    """A world whose failed lies on another device."""
    if SECOND_DEVICE.stat().st_dev == home.stat().st_dev:
        pytest.skip("needs a second device")
    with tempfile.TemporaryDirectory(dir=SECOND_DEVICE) as other:
        failed = Path(other) / "failed"
        failed.mkdir()
        with world(home, folders={"failed": str(failed)}) as made:
            made.failed = failed
            yield made


@pytest.fixture(params=["same device", "other device"])
def w(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) if request.param == "same device" else far(tmp_path) as made:
        made.jira.limit = 3
        yield made


def killed(step: int, act: Callable[[], object]) -> bool:
    """Act in a process that is killed directly before its *step*-th change of the disk; False if it has none so late."""
    child = os.fork()
    if child == 0:
        _mortal(step)
        try:
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


def _mortal(step: int) -> None:
    left = step

    def mortal(real: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*words: object, **more: object) -> object:
            nonlocal left
            if left == 0:
                os._exit(KILLED)
            left -= 1
            return real(*words, **more)

        return wrapped

    for name in STEPS:
        setattr(os, name, mortal(getattr(os, name)))
    rename.rename_noreplace = mortal(rename.rename_noreplace)
    retries.begin = mortal(retries.begin)
    retries.change = mortal(retries.change)
    retries.end = mortal(retries.end)
    database.sync = mortal(database.sync)


def take_back(w: World, path: str) -> list[filing_take_back.Returned | filing_take_back.Left]:
    return list(retry.retry(w.runtime.config, w.home / "state", [w.row(path)]))


def killed_at(step: int, w: World) -> tuple[str, bytes, bool]:
    """A file fails, and the verb that takes it back dies at this step. Its path, its content, and whether there was one."""
    path, whole = f"TEST-1/{step}-report.pdf", b"too large: %d" % step
    w.jira.limit = 3
    w.clock.advance(61.0)
    w.drop(path, whole)
    w.deliver()
    assert w.row(path).state == "FAILED"
    return path, whole, killed(step, lambda: take_back(w, path))


def content(w: World, root: Path, path: str) -> list[bytes]:
    """What lies at a path and under the names that would be chosen beside it."""
    stem = Path(path).stem
    return [found for name, found in w.files(root).items() if Path(name).name.startswith(stem) and ".why" not in name]


def test_what_a_program_has_open_for_writing_stays(w: World) -> None:
    """What it writes after the move would be nowhere, or in the inbox where nobody looks for it."""
    w.drop("TEST-1/report.odt", b"too large")
    w.deliver()
    with (w.failed / "TEST-1/report.odt").open("ab", buffering=0) as program:
        for _ in range(2):
            (left,) = take_back(w, "TEST-1/report.odt")
            assert isinstance(left, filing_take_back.Left)
            assert left.reason == "a program has it open for writing; close it there, and try again"
        program.write(b", and longer by now")

    assert content(w, w.failed, "TEST-1/report.odt") == [b"too large, and longer by now"]
    assert content(w, w.inbox, "TEST-1/report.odt") == []


NEXT = ("the same verb", "the service", "the next service", "a verb for another file")


def test_whenever_it_is_killed_the_next_ends_what_it_began(w: World) -> None:
    """Another process comes next at each step."""
    step, dies = 0, True
    while dies:
        path, whole, dies = killed_at(step, w)
        seen = content(w, w.inbox, path) + content(w, w.failed, path)
        assert len(seen) <= 1, f"step {step}: people see it at both ends"
        w.jira.limit = 100
        w.clock.advance(61.0)

        match NEXT[step % len(NEXT)]:
            case "the same verb":
                take_back(w, path)
            case "the next service":
                w.restart()
            case "a verb for another file":
                list(retry.retry(w.runtime.config, w.home / "state", []))
        w.settle(hours=1)
        lies = content(w, w.failed, path)
        assert len(lies) + len(content(w, w.done, path)) == 1, f"step {step}: exactly one"
        assert content(w, w.inbox, path) == []
        take_back(w, path) if lies else None
        w.settle(hours=1)

        assert [s.content for s in w.jira.on("TEST-1") if s.content == whole] == [whole], f"step {step}"
        assert content(w, w.done, path) == [whole]
        assert content(w, w.failed, path) == []
        assert w.runtime.journal.value("SELECT count(*) FROM retry") == 0
        step += 1
    assert step > 3
    assert [p for root in (w.inbox, w.failed) for p in root.rglob(".attachd-*")] == []


def test_where_renames_always_replace_no_reservation_is_attached_whenever_it_is_killed(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The empty file that holds the name in the inbox is known before the journal knows it."""
    monkeypatch.setattr(rename, "rename_noreplace", unable)
    step, dies = 0, True
    while dies:
        path, whole, dies = killed_at(step, w)
        w.jira.limit = 100
        w.clock.advance(61.0)
        w.settle(hours=1)
        take_back(w, path) if content(w, w.failed, path) else None
        w.settle(hours=1)

        assert [s.content for s in w.jira.on("TEST-1")[step:]] == [whole], f"step {step}"
        assert content(w, w.done, path) == [whole]
        step += 1
    assert step > 3
    assert list(w.inbox.rglob(".attachd-name-*")) == []


@pytest.mark.parametrize("first", ["the verb", "the service"])
def test_a_copy_that_is_moved_on_meanwhile_is_still_the_file(w: World, first: str) -> None:
    """The verb dies, and a person finds the file in the inbox and moves it: the next process attaches it once."""
    step, dies = 0, True
    while dies:
        path, whole, dies = killed_at(step, w)
        w.jira.limit = 100
        w.clock.advance(61.0)
        if (w.inbox / path).exists():
            (w.inbox / path).rename(w.inbox / f"TEST-1/{step}-report-moved.pdf")
        take_back(w, path) if first == "the verb" else w.settle(hours=1)
        w.settle(hours=1)
        take_back(w, path) if content(w, w.failed, path) else None
        w.settle(hours=1)

        assert [s.content for s in w.jira.on("TEST-1") if s.content == whole] == [whole], f"step {step}"
        assert content(w, w.done, path) == [whole]
        assert content(w, w.failed, path) == []
        step += 1
    assert [p for root in (w.inbox, w.failed) for p in root.rglob(".attachd-*")] == []


def fail(w: World, path: str, whole: bytes = b"too large") -> None:
    w.drop(path, whole)
    w.deliver()
    assert w.row(path).state == "FAILED"
    w.jira.limit = 100
    w.clock.advance(61.0)


def begin(w: World, path: str) -> retries.Intent:
    """Write the intent of taking a file back to where it lay, as ``retry`` does before it moves anything."""
    row, status = w.row(path), (w.failed / path).stat()
    target = os.fsencode(path)
    intent = retries.Intent(
        row.id, target, target, target, status.st_size, status.st_mtime_ns, None, None, None, 0.0, 0
    )
    with w.runtime.journal.transaction() as connection:
        return retries.begin(connection, [intent])[0]


def test_intake_leaves_alone_what_stands_at_both_ends(w: World) -> None:
    """A copy that was cut off before the original went, as where two mounts of one device are not told apart."""
    fail(w, "TEST-1/a.txt")
    begin(w, "TEST-1/a.txt")
    (w.inbox / "TEST-1").mkdir(exist_ok=True)
    shutil.copy2(w.failed / "TEST-1/a.txt", w.inbox / "TEST-1/a.txt")
    w.drop("TEST-1/another.txt", b"new")

    w.scanner.scan()
    assert [row.path for row in w.unfinished()] == [b"TEST-1/another.txt"]
    w.settle(hours=1)

    assert sorted(s.content for s in w.jira.on("TEST-1")) == [b"new", b"too large"]
    assert w.files(w.failed) == {}


def test_why_tells_of_what_is_on_its_way_back_at_both_ends(w: World) -> None:
    fail(w, "TEST-1/a.txt")
    begin(w, "TEST-1/a.txt")
    (w.inbox / "TEST-1").mkdir(exist_ok=True)
    shutil.copy2(w.failed / "TEST-1/a.txt", w.inbox / "TEST-1/a.txt")
    w.scanner.scan()
    locator = why_lookup.Locator(w.runtime.config, w.runtime.journal)

    told = [next(iter(locator.about(bytes(root / "TEST-1/a.txt"), bytes(w.home))))[1] for root in (w.inbox, w.failed)]

    assert told == [ComingBack(b"TEST-1/a.txt", b"TEST-1/a.txt", 0.0)] * 2


def test_what_is_in_the_way_is_told_to_whoever_tries_again(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system of failed has become read-only, so the original cannot go."""
    fail(w, "TEST-1/a.txt")
    begin(w, "TEST-1/a.txt")
    (w.inbox / "TEST-1").mkdir(exist_ok=True)
    shutil.copy2(w.failed / "TEST-1/a.txt", w.inbox / "TEST-1/a.txt")
    with monkeypatch.context() as patch:
        read_only(patch, w.failed)

        results = take_back(w, "TEST-1/a.txt")

    assert results == [filing_take_back.Left(b"TEST-1/a.txt", "it could not be moved (Read-only file system)")]
    w.settle(hours=1)
    assert [s.content for s in w.jira.on("TEST-1")] == [b"too large"]


def read_only(patch: pytest.MonkeyPatch, root: Path) -> None:
    """Nothing is renamed or removed below *root*."""

    def refusing(real: Callable[..., None]) -> Callable[..., None]:
        def change(path: bytes, *rest: Any, **options: Any) -> None:
            folder = options.get("dir_fd", options.get("src_dir_fd"))
            if os.readlink(f"/proc/self/fd/{folder}").startswith(str(root)):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            real(path, *rest, **options)

        return change

    patch.setattr(os, "rename", refusing(os.rename))
    patch.setattr(os, "unlink", refusing(os.unlink))


def test_a_person_who_was_faster_has_the_file(w: World) -> None:
    fail(w, "TEST-1/a.txt")
    begin(w, "TEST-1/a.txt")
    (w.inbox / "TEST-2").mkdir()
    shutil.move(w.failed / "TEST-1/a.txt", w.inbox / "TEST-2/b.txt")
    w.drop("TEST-1/a.txt", b"a new one")

    w.settle(hours=1)

    assert [s.content for s in w.jira.stored] == [b"a new one", b"too large"]
    assert w.runtime.journal.value("SELECT count(*) FROM retry") == 0
    assert w.files(w.failed) == {}


def test_what_was_written_to_it_meanwhile_goes_back_or_stays(w: World) -> None:
    fail(w, "TEST-1/a.txt")
    begin(w, "TEST-1/a.txt")
    (w.failed / "TEST-1/a.txt").write_bytes(b"corrected in failed")

    w.settle(hours=1)
    assert w.files(w.failed)["TEST-1/a.txt"] == b"corrected in failed"
    take_back(w, "TEST-1/a.txt")
    w.settle(hours=1)

    assert [s.content for s in w.jira.stored] == [b"corrected in failed"]


def test_an_original_whose_copy_is_nowhere_gets_its_name_again(w: World) -> None:
    """Somebody may have moved the copy on: the issue is looked at before the original is sent."""
    fail(w, "TEST-1/a.txt")
    intent = begin(w, "TEST-1/a.txt")
    with w.runtime.journal.transaction() as connection:
        retries.change(connection, intent._replace(sha256=hashlib.sha256(b"too large").digest()))
    original = w.failed / "TEST-1/a.txt"
    original.rename(original.with_name(os.fsdecode(free_names.hidden(b"aside", b"a.txt"))))

    w.scan()

    assert original.read_bytes() == b"too large"
    assert w.runtime.journal.value("SELECT count(*) FROM retry") == 0


def test_where_all_hidden_names_are_taken_another_name_is_chosen(tmp_path: Path) -> None:
    with far(tmp_path) as w:
        w.jira.limit = 3
        fail(w, "TEST-1/a.txt")
        hidden = free_names.hidden(b"back", b"a.txt")
        taken = [w.inbox / "TEST-1" / os.fsdecode(name) for name in itertools.islice(free_names.numbered(hidden), 20)]
        for path in taken:
            path.write_bytes(b"a dropper's")

        (result,) = take_back(w, "TEST-1/a.txt")

        assert isinstance(result, filing_take_back.Returned)
        assert w.files(w.inbox)["TEST-1/a (2).txt"] == b"too large"
        assert [path.read_bytes() for path in taken] == [b"a dropper's"] * 20
        assert w.files(w.failed) == {}


def test_two_at_once_take_it_back_once(w: World) -> None:
    for number in range(5):
        fail(w, f"TEST-1/{number}.txt", b"too large %d" % number)
        w.jira.limit = 3
    chosen = retry.of_issue(w.runtime.config, w.runtime.journal, "")
    results: list[filing_take_back.Returned | filing_take_back.Left] = []

    def take() -> None:
        results.extend(retry.retry(w.runtime.config, w.home / "state", chosen))

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)

    assert sum(isinstance(result, filing_take_back.Returned) for result in results) == 5
    assert {r.reason for r in results if isinstance(r, filing_take_back.Left)} == {"it is no longer there"}
    assert len(w.files(w.inbox)) == 5
