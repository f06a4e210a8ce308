"""Full scans go by folders in which certainly nothing was added or taken away, and only those."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attachd.intake import files, inotify, listing_cache
from attachd.intake.context import Context
from attachd.intake.coverage import Coverage
from attachd.intake.folder_scan import Report
from attachd.intake.inotify import Changes, Watch
from attachd.intake.listing_cache import Folder, Listing, Listings
from attachd.intake.scanner import Scanner
from memory_jira import World, world

HOUR = 3600.0


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    """A world on the real time, whose folders are watched, and whose deliveries wait."""
    with world(tmp_path) as made:
        made.clock.time = time.time()
        watch = Watch(Changes())
        coverage = Coverage(made.inbox, watch)
        made.scanner = Scanner(
            Context(made.runtime.journal, made.runtime.config, made.clock, made.runtime.guard, coverage)
        )
        assert made.scanner.remounted()
        coverage.begin(made.clock.boot())
        yield made
        watch.stop()


def aged(w: World, *folders: str) -> None:
    """Make folders look as if nothing had been added or taken away for an hour."""
    for folder in folders:
        status = (w.inbox / folder).stat()
        os.utime(w.inbox / folder, ns=(status.st_atime_ns, status.st_mtime_ns - int(HOUR * 1e9)))


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are listed, in order."""
    seen: list[str] = []
    entries = files.Walk._entries

    def noting(self: files.Walk, folder: int, path: bytes, depth: int) -> Iterator[files.Entry]:
        seen.append(os.fsdecode(path))
        return entries(self, folder, path, depth)

    monkeypatch.setattr(files.Walk, "_entries", noting)
    return seen


def scan(w: World, listed: list[str]) -> list[str]:
    listed.clear()
    w.scan()
    return list(listed)


def test_a_folder_in_which_nothing_changed_is_not_listed_again(w: World, listed: list[str]) -> None:
    w.drop("TEST-1/a.txt")
    w.drop("OPS-7/nested/deep/b.txt")
    aged(w, "TEST-1", "OPS-7", "OPS-7/nested", "OPS-7/nested/deep")
    assert scan(w, listed) == ["OPS-7", "OPS-7/nested", "OPS-7/nested/deep", "TEST-1"]

    assert scan(w, listed) == []
    assert w.scan().files == 2
    assert w.states() == ["READY", "READY"]


@pytest.mark.parametrize("change", ["add", "remove", "rename", "add below", "remove below", "replace folder"])
def test_any_change_of_what_is_in_it_has_it_listed(w: World, listed: list[str], change: str) -> None:
    w.drop("TEST-1/a.txt")
    w.drop("TEST-1/below/b.txt")
    aged(w, "TEST-1", "TEST-1/below")
    scan(w, listed)
    folder = w.inbox / "TEST-1"
    match change:
        case "add":
            w.drop("TEST-1/new.txt")
        case "remove":
            (folder / "a.txt").unlink()
        case "rename":
            (folder / "a.txt").rename(folder / "c.txt")
        case "add below":
            w.drop("TEST-1/below/new.txt")
        case "remove below":
            (folder / "below/b.txt").unlink()
        case "replace folder":
            (folder / "below").rename(w.home / "away")
            (folder / "below").mkdir()
            aged(w, "TEST-1/below")

    assert scan(w, listed) == ["TEST-1", "TEST-1/below"]


def test_a_file_that_was_taken_away_is_missed_in_the_end(w: World, listed: list[str]) -> None:
    """Two listings have to miss it, and the second one is made although nothing has changed since the first."""
    w.drop("TEST-1/a.txt")
    scan(w, listed)
    (w.inbox / "TEST-1/a.txt").unlink()
    aged(w, "TEST-1")
    for _ in range(3):
        w.clock.advance(31.0)
        scan(w, listed)

    assert w.states() == ["WITHDRAWN"]


def test_a_young_folder_is_listed_again_for_its_mtime_may_not_show_the_next_change(w: World, listed: list[str]) -> None:
    w.drop("TEST-1/a.txt")
    scan(w, listed)
    assert scan(w, listed) == ["TEST-1"]

    w.clock.advance(listing_cache.YOUNG_SECONDS + 1.0)
    assert scan(w, listed) == ["TEST-1"], "when it was listed last, it was young"
    assert scan(w, listed) == []


def test_a_file_that_has_not_settled_or_is_blocked_is_always_looked_at(
    tmp_path: Path, listed: list[str], w: World
) -> None:
    path = w.drop("TEST-1/a.txt", b"half")
    aged(w, "TEST-1")
    with path.open("ab"):
        assert scan(w, listed) == ["TEST-1"]
        assert scan(w, listed) == ["TEST-1"]
        assert w.states() == ["SEEN"]
    scan(w, listed)
    assert w.states() == ["READY"]
    assert scan(w, listed) == []


def test_where_folder_mtimes_are_not_proven_everything_is_listed(
    w: World, listed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Coverage, "mtimes", lambda self, top: False)
    w.drop("TEST-1/a.txt")
    aged(w, "TEST-1")
    scan(w, listed)

    assert scan(w, listed) == ["TEST-1"]


def test_a_folder_that_lost_its_watch_is_listed_and_watched_again(w: World, listed: list[str]) -> None:
    w.drop("TEST-1/a.txt")
    aged(w, "TEST-1")
    scan(w, listed)
    assert w.scanner._coverage is not None
    w.scanner._coverage.begin(w.clock.boot())

    assert scan(w, listed) == ["TEST-1"]
    assert scan(w, listed) == []


def test_a_full_scan_that_is_asked_for_lists_everything(w: World, listed: list[str]) -> None:
    w.drop("TEST-1/a.txt")
    aged(w, "TEST-1")
    scan(w, listed)
    w.scanner.scan(fully=True)

    assert listed == ["TEST-1", "TEST-1"]


def test_a_folder_that_is_no_issue_s_is_counted_without_being_listed_again(w: World, listed: list[str]) -> None:
    w.drop("no key/a.txt")
    aged(w, "no key")
    assert scan(w, listed) == ["no key"]
    assert scan(w, listed) == []
    assert [tuple(row) for row in w.runtime.journal.rows("SELECT folder, files FROM unrouted")] == [(b"no key", 1)]

    (w.inbox / "no key").rename(w.inbox / "TEST-1")
    scan(w, listed)
    assert w.states() == ["READY"]
    assert w.runtime.journal.rows("SELECT folder FROM unrouted") == []


def test_a_folder_that_could_not_be_listed_is_tried_again(
    w: World, listed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "Cannot list" is never "empty"."""
    w.drop("TEST-1/a.txt")
    aged(w, "TEST-1")
    real, broken = os.scandir, True

    def failing(path: object) -> object:
        if broken and isinstance(path, int) and os.readlink(f"/proc/self/fd/{path}").endswith("/TEST-1"):
            raise OSError(5, "Input/output error")
        return real(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", failing)
    report = w.scan()
    assert report.troubles == [(b"TEST-1", "Input/output error")]
    broken = False

    scan(w, listed)
    assert w.states() == ["READY"]


def test_a_file_that_delivery_found_rewritten_is_looked_at_although_its_folder_shows_nothing(
    w: World, listed: list[str]
) -> None:
    path = w.drop("TEST-1/a.txt", b"as it was admitted")
    aged(w, "TEST-1")
    scan(w, listed)
    path.write_bytes(b"written in place, which no folder's mtime shows")
    w.work()
    assert w.states() == ["SEEN"]

    assert scan(w, listed) == ["TEST-1"]
    w.work()
    assert w.states() == ["DONE"]


def settled(w: World, number: int) -> list[str]:
    """Make so many folders with a file in each, which a scan has found quiet; returns their names."""
    names = [f"TEST-{each}" for each in range(1, number + 1)]
    for name in names:
        w.drop(f"{name}/a.txt")
    aged(w, *names, ".")
    w.scan()
    return names


def stats(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of issues whose status is asked for by name, in order."""
    looked_at: list[str] = []
    real = os.stat

    def noting(path: object, **options: object) -> os.stat_result:
        if isinstance(path, bytes) and path.startswith(b"TEST-") and b"/" not in path:
            looked_at.append(os.fsdecode(path))
        return real(path, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "stat", noting)
    return looked_at


def test_of_very_many_folders_each_scan_looks_at_a_part_and_all_have_their_turn(
    w: World, listed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_cache, "PART", 10)
    names = settled(w, 39)
    looked_at = stats(monkeypatch)
    parts = []
    for _ in range(4):
        looked_at.clear()
        assert w.scan().files == 39
        parts.append(list(looked_at))

    assert all(0 < len(part) < 20 for part in parts)
    assert set().union(*parts) == set(names)
    assert sum(map(len, parts)) < 2 * len(names)


def test_what_changed_in_a_believed_folder_without_an_event_is_found_when_its_turn_comes(
    w: World, listed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_cache, "PART", 2)
    names = settled(w, 9)
    for name in names:
        w.drop(f"{name}/b.txt")

    seen = [scan(w, listed) for _ in range(5)]
    assert len(seen[0]) < len(names)
    assert set().union(*seen) == set(names), "young ones are listed more than once"
    assert w.states() == ["READY"] * 18


@pytest.mark.parametrize("why", ["watch lost", "mtimes unproven", "asked for fully"])
def test_no_folder_is_believed_where_events_do_not_tell(
    w: World, listed: list[str], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(listing_cache, "PART", 2)
    names = settled(w, 9)
    listed.clear()
    assert w.scanner._coverage is not None
    match why:
        case "watch lost":
            w.scanner._coverage.begin(w.clock.boot())
        case "mtimes unproven":
            monkeypatch.setattr(Coverage, "mtimes", lambda self, top: False)
            monkeypatch.setattr(Coverage, "proven", False)
    w.scanner.scan(fully=why == "asked for fully")

    assert sorted(listed) == sorted(names)


def test_a_folder_that_is_not_watched_any_more_is_looked_at_by_each_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_cache, "PART", 2)
    names = [b"TEST-%d" % number for number in range(9)]
    known, watched = Listings(), {(1, number) for number in range(9)}
    for number, name in enumerate(names):
        known.put(name, Listing(1000.0, (Folder(name, (1, number), 0, 0),), 0))
    first = known.due(watched, 0)

    watched.discard((1, 4))
    parts = [known.due(watched, 1) for _ in range(5)]

    assert len(first) == 2
    assert all(names[4] in part for part in parts)
    assert set().union(*parts) == set(names)


def test_a_quiet_inbox_is_not_listed_itself_and_a_new_folder_has_it_listed(
    w: World, listed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tops: list[int] = []
    real = Scanner._list_top

    def noting(self: Scanner, inbox: int, report: Report) -> tuple[list[bytes], int]:
        tops.append(inbox)
        return real(self, inbox, report)

    monkeypatch.setattr(Scanner, "_list_top", noting)
    w.drop("TEST-1/a.txt")
    w.drop("loose.txt")
    aged(w, "TEST-1", ".")
    for _ in range(3):
        scan(w, listed)
    assert len(tops) == 1
    assert [tuple(row) for row in w.runtime.journal.rows("SELECT folder, files FROM unrouted")] == [(b"", 1)]

    w.drop("TEST-2/b.txt")
    assert scan(w, listed) == ["TEST-2"]
    assert len(tops) == 2


def test_a_look_at_the_inbox_itself_counts_what_lies_loose_and_leaves_the_folders_alone(
    w: World, listed: list[str]
) -> None:
    w.drop("TEST-1/a.txt")
    w.drop("no key/b.txt")
    scan(w, listed)
    w.drop("loose.txt")
    w.drop("TEST-1/c.txt")
    listed.clear()

    w.scanner.scan({inotify.INBOX})
    found = w.runtime.journal.rows("SELECT folder, files FROM unrouted ORDER BY folder")
    assert [tuple(row) for row in found] == [(b"", 1), (b"no key", 1)]
    assert listed == []

    (w.inbox / "loose.txt").unlink()
    w.scanner.scan({inotify.INBOX, b"TEST-1"})
    assert [tuple(row) for row in w.runtime.journal.rows("SELECT folder FROM unrouted")] == [(b"no key",)]
    assert listed == ["TEST-1"]


def test_an_empty_folder_is_watched_and_gone_by_until_something_is_put_into_it(w: World, listed: list[str]) -> None:
    (w.inbox / "TEST-1").mkdir()
    (w.inbox / "no key").mkdir()
    aged(w, "TEST-1", "no key", ".")
    assert scan(w, listed) == [], "nothing is to be decided about them"
    assert w.scanner._coverage is not None
    watched = w.scanner._coverage.watched()
    for name in ("TEST-1", "no key"):
        status = (w.inbox / name).stat()
        assert (status.st_dev, status.st_ino) in watched

    w.drop("TEST-1/a.txt")
    w.drop("no key/b.txt")
    assert scan(w, listed) == ["TEST-1", "no key"]
    assert w.states() == ["READY"]
    assert [tuple(row) for row in w.runtime.journal.rows("SELECT folder, files FROM unrouted")] == [(b"no key", 1)]


def test_a_folder_that_was_emptied_is_not_taken_for_one_of_which_nothing_is_known(w: World, listed: list[str]) -> None:
    w.drop("TEST-1/a.txt")
    scan(w, listed)
    (w.inbox / "TEST-1/a.txt").unlink()
    aged(w, "TEST-1")

    assert scan(w, listed) == ["TEST-1"]
    for _ in range(2):
        w.clock.advance(31.0)
        w.scan()
    assert w.states() == ["WITHDRAWN"]


def test_an_empty_folder_that_cannot_be_listed_is_named(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (w.inbox / "TEST-1").mkdir()
    real = os.scandir

    def failing(path: object) -> object:
        if isinstance(path, int) and os.readlink(f"/proc/self/fd/{path}").endswith("/TEST-1"):
            raise OSError(5, "Input/output error")
        return real(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", failing)

    assert w.scan().troubles == [(b"TEST-1", "Input/output error")]
