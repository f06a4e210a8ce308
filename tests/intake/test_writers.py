"""Who still writes to a file: what the kernel proves, and how long a file waits where it proves nothing."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from attachd.cli import main
from attachd.config import Settle
from attachd.fs import leases
from attachd.fs.leases import Writer
from attachd.intake import examine, gates
from attachd.intake.context import Context, IssueFolder
from attachd.intake.coverage import Coverage
from attachd.intake.files import Entry, fingerprint
from attachd.intake.gates import Ready, Wait
from attachd.intake.inotify import Changes, Watch
from attachd.intake.matching import Matcher
from attachd.journal.admission import Moment
from attachd.model import State
from memory_jira import World, world
from report.test_why import row

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can play several users")


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    settle = {"quiet_seconds": 2.0, "quiet_seconds_unproven": 30.0, "empty_seconds": 60.0}
    with world(tmp_path, settle=settle) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def asked(path: Path, **options: bool) -> Writer:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return leases.writer(descriptor, **options)
    finally:
        os.close(descriptor)


# --- What the kernel says ---------------------------------------------------------------------------------------


def test_a_file_that_nobody_writes_is_proven_closed(file: Path) -> None:
    with file.open("rb"):
        assert asked(file) is Writer.NOBODY


@pytest.mark.parametrize("mode", ["ab", "r+b"])
def test_an_open_writer_is_seen(file: Path, mode: str) -> None:
    with file.open(mode):
        assert asked(file) is Writer.SOMEBODY
    assert asked(file) is Writer.NOBODY


def test_a_writable_mapping_counts_after_its_file_is_closed(file: Path) -> None:
    with file.open("r+b") as opened:
        mapping = mmap.mmap(opened.fileno(), 0)
    assert asked(file) is Writer.SOMEBODY

    mapping.close()

    assert asked(file) is Writer.NOBODY


def test_a_writer_of_another_hard_link_is_seen(file: Path, tmp_path: Path) -> None:
    os.link(file, tmp_path / "other")
    with (tmp_path / "other").open("ab"):
        assert asked(file) is Writer.SOMEBODY


def test_a_duplicate_of_a_writers_descriptor_is_seen(file: Path) -> None:
    with file.open("ab") as opened:
        duplicate = os.dup(opened.fileno())
    try:
        assert asked(file) is Writer.SOMEBODY
    finally:
        os.close(duplicate)


def test_a_fifo_has_no_answer_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    assert asked(tmp_path / "fifo") is Writer.UNKNOWN


@needs_root
def test_a_file_of_another_user_has_no_answer_whether_somebody_writes_or_not(file: Path) -> None:
    file.chmod(0o644)
    for path in (file.parent, *file.parents):
        if path.stat().st_uid == 0 and path.stat().st_mode & 0o001 == 0:
            path.chmod(path.stat().st_mode | 0o011)
    os.seteuid(NOBODY)
    try:
        assert asked(file) is Writer.UNKNOWN
    finally:
        os.seteuid(0)


def test_on_a_network_file_system_no_answer_is_believed(file: Path) -> None:
    assert asked(file, network=True) is Writer.UNKNOWN
    with file.open("ab"):
        assert asked(file, network=True) is Writer.UNKNOWN


def test_no_verb_is_killed_by_a_writer_that_comes_while_a_lease_is_held() -> None:
    heeded: list[object] = []
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    try:
        main.main(lambda: heeded.append(signal.getsignal(signal.SIGIO)))
    finally:
        signal.signal(signal.SIGIO, signal.SIG_IGN)

    assert heeded == [signal.SIG_IGN]


# --- What follows -----------------------------------------------------------------------------------------------

RULES = Settle(quiet_seconds=2.0, quiet_seconds_unproven=30.0, empty_seconds=60.0)


@pytest.mark.parametrize(
    ("rules", "size", "proven", "unproven"),
    [
        (RULES, 1, 2.0, 30.0),
        (RULES, 10**12, 2.0, 30.0),
        (RULES, 0, 60.0, 60.0),
        (RULES.model_copy(update={"empty_seconds": 1.0}), 0, 2.0, 30.0),
        (RULES.model_copy(update={"quiet_seconds_unproven": 1.0}), 1, 2.0, 2.0),
    ],
)
def test_how_long_a_file_must_be_quiet(rules: Settle, size: int, proven: float, unproven: float) -> None:
    assert gates.quiet_needed(size, rules, Writer.NOBODY) == proven
    assert gates.quiet_needed(size, rules, Writer.UNKNOWN) == unproven


@pytest.mark.parametrize(
    ("writer", "unchanged", "expected"),
    [
        (Writer.NOBODY, 2.0, Ready()),
        (Writer.UNKNOWN, 29.0, Wait(1001.0)),
        (Writer.UNKNOWN, 30.0, Ready()),
        (Writer.SOMEBODY, 1.0, Wait(1001.0, leases.STILL_OPEN)),
        (Writer.SOMEBODY, 20.0, Wait(1010.0, leases.STILL_OPEN)),
        (Writer.SOMEBODY, 900.0, Wait(1030.0, leases.STILL_OPEN)),
    ],
)
def test_what_the_answer_means(writer: Writer, unchanged: float, expected: Ready | Wait) -> None:
    seen = row(State.SEEN, quiet_boot=1000.0 - unchanged)

    assert gates.of_writer(seen, RULES, Moment(0.0, 1000.0, 7), writer) == expected


# --- In the inbox -----------------------------------------------------------------------------------------------


def test_a_closed_file_goes_after_the_short_time(w: World) -> None:
    w.drop("TEST-1/a.txt")
    assert w.scan().settles == {b"TEST-1": w.clock.boot() + 2.0}

    w.clock.advance(2.0)
    w.deliver()

    assert w.states() == ["DONE"]


def test_a_slow_writer_that_keeps_its_file_open_is_never_cut_off(w: World) -> None:
    """It pauses for longer than any quiet time between two lines."""
    path = w.drop("TEST-1/a.log", b"")
    with path.open("ab", buffering=0) as log:
        for line in (b"one\n", b"two\n", b"three\n"):
            log.write(line)
            for _ in range(4):
                w.deliver()
                w.clock.advance(40.0)
    assert w.states() == ["SEEN"]
    w.deliver()

    assert [stored.content for stored in w.jira.stored] == [b"one\ntwo\nthree\n"]


def test_a_preallocated_file_is_not_complete_because_of_its_size(w: World) -> None:
    path = w.drop("TEST-1/a.bin", b"")
    with path.open("r+b", buffering=0) as download:
        os.posix_fallocate(download.fileno(), 0, 4096)
        for _ in range(4):
            w.clock.advance(100.0)
            w.deliver()
        download.write(b"x" * 4096)
    assert w.states() == ["SEEN"]
    w.scan()
    w.clock.advance(2.0)
    w.deliver()

    assert [stored.content for stored in w.jira.stored] == [b"x" * 4096]


def test_a_file_that_is_open_says_so_and_is_looked_at_again_without_an_event(w: World) -> None:
    path = w.drop("TEST-1/a.txt")
    w.scan()
    w.clock.advance(4.0)
    with path.open("ab"):
        assert w.scan().settles == {b"TEST-1": w.clock.boot() + 2.0}
        assert w.row("TEST-1/a.txt").reason == leases.STILL_OPEN
        before = w.runtime.journal.value("SELECT total_changes()")
        w.scan()
        assert w.runtime.journal.value("SELECT total_changes()") == before
    w.clock.advance(2.0)
    w.scan()

    assert w.states() == ["READY"]
    assert w.row("TEST-1/a.txt").reason is None


@pytest.fixture
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "writer", lambda descriptor, network=False: Writer.UNKNOWN)


@pytest.mark.usefixtures("unproven")
def test_where_the_system_does_not_tell_a_file_waits_for_the_long_time(w: World) -> None:
    w.drop("TEST-1/a.txt")
    w.scan()
    seen = w.clock.boot()
    w.clock.advance(2.0)
    assert w.scan().settles == {b"TEST-1": seen + 30.0}
    assert w.states() == ["SEEN"]

    w.clock.advance(28.0)
    w.scan()

    assert w.states() == ["READY"]


# --- Network file systems ---------------------------------------------------------------------------------------


def test_a_look_on_a_network_file_system_opens_what_settles(w: World) -> None:
    """What the listing tells may be a minute old there; what the open file is, is the server's word (nfs(5))."""
    path = w.drop("TEST-1/a.txt", b"old")
    listed = Entry(b"TEST-1/a.txt", fingerprint(path.stat()))
    w.scan()
    path.write_bytes(b"longer by now")
    matcher = _matcher(w, lambda path: True)

    w.clock.advance(60.0)
    matcher.settle(matcher.recognise([listed]))

    assert w.row("TEST-1/a.txt").size == 13
    assert w.row("TEST-1/a.txt").quiet_boot == w.clock.boot()


def test_what_is_mounted_below_a_folder_is_opened_alone(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [Entry(path, fingerprint(w.drop(path).stat())) for path in (b"TEST-1/a.txt", b"TEST-1/share/b.txt")]
    opened: list[bytes] = []
    monkeypatch.setattr(examine, "opened_once", lambda inbox, entry: opened.append(entry.path) or entry)

    for below in (b"nowhere/", b"TEST-1/share/"):
        _matcher(w, partial(_is_below, below)).recognise(listed)

    assert opened == [b"TEST-1/share/b.txt"]


def _matcher(w: World, network: Callable[[bytes], bool]) -> Matcher:
    """Make what looks at TEST-1, where *network* says which paths lie on a network file system."""
    coverage = Coverage(w.inbox, Watch(Changes()))
    coverage.shared = network  # type: ignore[method-assign]
    context = Context(w.runtime.journal, w.runtime.config, w.clock, w.runtime.guard, coverage)
    return Matcher(context, IssueFolder("TEST-1", w.runtime.config.settle))


def _is_below(folder: bytes, path: bytes) -> bool:
    return path.startswith(folder)


def test_a_file_that_cannot_be_opened_anew_stays_as_it_was_listed(tmp_path: Path) -> None:
    (tmp_path / "file").symlink_to("elsewhere")
    listed = Entry(b"file", fingerprint((tmp_path / "file").lstat()))

    assert examine.opened_once(tmp_path, listed) == listed
