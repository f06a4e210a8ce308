"""Random lives of files: people drop, rename, replace, move and take back; Jira fails in every way; the process dies anywhere.

Whatever happens: nothing lost, nothing attached twice, nothing overwritten. And when all is quiet again, everything
that people left in the inbox has its verdict.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from attachd.fs import rename as fs_rename
from attachd.journal import counts
from attachd.journal.database import Journal
from attachd.model import State
from memory_jira import Fault, World

ISSUES = ("TEST-1", "OPS-7")
NAMES = ("log.txt", "a/log.txt", "b.txt")
#: Names of files that come together, and so share requests.
SHARING = tuple(f"part-{number}.txt" for number in range(7))
SIZES = (5, 6)
FIXED_MTIME = 1_700_000_000_000_000_000


#: How a file of the same content may be made again.
HOW = ("touched", "written over", "replaced", "copied")


def issue_of(folder: str) -> str:
    """The issue that a folder of the inbox means."""
    return folder.partition(" ")[0]


class Crash(BaseException):
    """The process dies here."""


pytestmark = pytest.mark.slow


class Fuse:
    """Counts the points at which the process can die, and dies at the one that is set."""

    left: int | None = None

    @classmethod
    def point(cls) -> None:
        if cls.left is not None:
            cls.left -= 1
            if cls.left < 0:
                cls.left = None
                raise Crash


class CrashingJournal(Journal):
    """Dies before a transaction is durable, or just after."""

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator:
        with super().transaction(durable=durable) as connection:
            yield connection
            Fuse.point()
        Fuse.point()


_real_rename = fs_rename.rename_noreplace


def crashing_rename(*arguments) -> None:
    Fuse.point()
    _real_rename(*arguments)
    Fuse.point()


FAULTS = st.sampled_from([
    Fault(breaks=httpx.ConnectError, early=True),
    Fault(breaks=httpx.ReadError),
    Fault(breaks=httpx.ReadError, commit="all"),
    Fault(breaks=httpx.ReadTimeout, commit="all"),
    Fault(breaks=httpx.ReadTimeout, commit=40.0),
    Fault(breaks=httpx.RemoteProtocolError, commit="half"),
    Fault(breaks=httpx.ReadTimeout, commit="all", rename="other name.bin"),
    Fault(status=500, body={"errorMessages": []}, commit="all"),
    Fault(status=500, body=b""),
    Fault(status=502, body=b"<html>", commit=60.0),
    Fault(status=503, body=b"", headers={"retry-after": "7"}),
    Fault(status=200, body=b"<html>login", commit=None),
    Fault(status=200, body=[], commit="all"),
    Fault(status=400, body={"errorMessages": ["one of them is bad"]}, commit="half"),
    Fault(status=413, body={"errorMessages": ["too large"]}),
    Fault(status=413, body=b"<html>nginx"),
    Fault(status=429, body={}, headers={"retry-after": "3", "ratelimit-reason": "jira-per-issue-on-write"}),
    Fault(status=401, body={"message": "expired"}),
    Fault(status=404, body={"errorMessages": ["no such issue"], "errors": {}}),
    Fault(status=302, body=b"", headers={"location": "https://login.example.com/"}),
    Fault(rename="renamed by Jira.bin"),
])  # fmt: skip

LOOK_FAULTS = st.sampled_from([
    Fault(status=500, body=b""),
    Fault(status=200, body={"key": "TEST-1", "fields": {}}),
    Fault(status=200, body=b"<html>"),
])  # fmt: skip


class Lives(RuleBasedStateMachine):
    """Each content is unique, so that the oracle can follow it wherever it goes.

    No rule has a precondition: which files there are depends on the real file system (inodes are reused), and Hypothesis
    wants to draw the same again.
    """

    deployment = "Cloud"

    @initialize()
    def begin(self) -> None:
        structlog.configure(processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])
        Fuse.left = None
        fs_rename.rename_noreplace = crashing_rename
        self.home = Path(tempfile.mkdtemp(prefix="lives-"))
        self.world = World(self.home, deployment=self.deployment)
        self.crashing()
        clock = self.world.clock
        booted = clock.time - clock.since_boot
        self.world.jira.time = lambda: booted + clock.since_boot  # nobody sets the server's clock
        self.world.jira.before = self.asked
        self.meddling: list[Callable[[], None]] = []  # what people do while the next upload is under way
        self.number = 0
        self.allowed: Counter[tuple[str, bytes]] = Counter()  # how often an issue may hold a content
        self.alive: set[bytes] = set()  # contents that nobody destroyed

    def asked(self) -> None:
        Fuse.point()
        if self.meddling and self.world.jira.requests[-1][0] == "POST":
            meddle = self.meddling.pop()
            meddle()
            if self.world.runtime.guard.sight.there:
                self.world.scanner.scan()
        Fuse.point()

    def crashing(self) -> None:
        self.world.runtime.journal.__class__ = CrashingJournal

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.quiet()
        finally:
            fs_rename.rename_noreplace = _real_rename
            structlog.reset_defaults()
            if hasattr(self, "world"):
                self.world.end()
                shutil.rmtree(self.home)

    # --- what people do -----------------------------------------------------------------------------------------

    def content_at(self, path: Path) -> bytes | None:
        return path.read_bytes() if path.is_file() else None

    def inbox_files(self) -> list[Path]:
        """What people may move about; a note that came along is not renamed into something else."""
        found = sorted(path for path in self.world.inbox.rglob("*") if path.is_file())
        return [path for path in found if ".attachd" not in path.parts and ".why" not in path.name]

    def destroy(self, path: Path) -> None:
        """Somebody puts another file onto this path, or deletes it."""
        content = self.content_at(path)
        if content is not None:
            self.alive.discard(content)

    @rule(issue=st.sampled_from(ISSUES), name=st.sampled_from(NAMES), size=st.sampled_from(SIZES), fixed=st.booleans())
    def drop(self, issue: str, name: str, size: int, fixed: bool) -> None:
        self.clear(self.world.inbox / issue / name)
        self.number += 1
        content = f"{self.number:04d}".encode().ljust(size, b".")
        self.destroy(self.world.inbox / issue / name)
        self.world.drop(f"{issue}/{name}", content, FIXED_MTIME if fixed else int(self.world.clock.time * 1e9))
        self.alive.add(content)
        self.allowed[issue, content] += 1

    @rule(
        issue=st.sampled_from(ISSUES),
        count=st.integers(2, 7),
        size=st.sampled_from(SIZES),
        then=st.integers(0, 3),
        fault=st.none() | FAULTS,
    )
    def drop_several(self, issue: str, count: int, size: int, then: int, fault: Fault | None) -> None:
        """Small files that share a request: it may be declined as a whole, stored by half, or stored late."""
        for name in SHARING[:count]:
            self.drop(issue, name, size, False)
        if fault is not None:
            self.world.jira.faults.append(fault)
        self.go_on(then)

    def pick(self, files: list[Path], index: int) -> Path:
        return files[index % len(files)]

    @rule(index=st.integers(0, 9), name=st.sampled_from(NAMES), issue=st.sampled_from(ISSUES), stay=st.booleans())
    def rename(self, index: int, name: str, issue: str, stay: bool) -> None:
        if not (files := self.inbox_files()):
            return
        source = self.pick(files, index)
        old = source.relative_to(self.world.inbox).parts[0]
        target = self.world.inbox / (old if stay else issue) / name
        if source == target:
            return
        content = source.read_bytes()
        self.destroy(target)
        self.clear(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        self.alive.add(content)
        new = target.relative_to(self.world.inbox).parts[0]
        if issue_of(new) != issue_of(old):
            self.allowed[issue_of(new), content] += 1

    @rule(index=st.integers(0, 9))
    def delete(self, index: int) -> None:
        if not (files := self.inbox_files()):
            return
        path = self.pick(files, index)
        self.destroy(path)
        path.unlink()

    def clear(self, path: Path) -> None:
        """What is no file gives way."""
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        elif os.path.lexists(path) and not path.is_file():
            path.unlink()

    def now_or_amid(self, act: Callable[[], None], amid: bool, then: int) -> None:
        """Do it now, or while the next upload is under way, which may be the one that comes of the files that wait."""
        if amid:
            self.meddling.append(act)
        else:
            act()
        self.go_on(then)

    @rule(index=st.integers(0, 9), how=st.sampled_from(HOW), amid=st.booleans(), then=st.integers(0, 4))
    def same_content_again(self, index: int, how: str, amid: bool, then: int) -> None:
        """A file is touched, written over with its own bytes, or replaced by a copy of itself, under its name or another."""

        def act() -> None:
            if not (files := self.inbox_files()):
                return
            path, now = self.pick(files, index), int(self.world.clock.time * 1e9) + self.number
            content, fresh = path.read_bytes(), self.home / "copy"
            match how:
                case "touched":
                    pass
                case "written over":
                    path.write_bytes(content)
                case "replaced":
                    fresh.write_bytes(content)
                    fresh.rename(path)
                case "copied":
                    fresh.write_bytes(content)
                    path.unlink()
                    path = path.with_name("copy-of-" + path.name.removeprefix("copy-of-"))
                    self.destroy(path)
                    self.clear(path)
                    fresh.rename(path)
                    self.alive.add(content)
            os.utime(path, ns=(now, now))

        self.now_or_amid(act, amid, then)

    @rule(
        issue=st.sampled_from(ISSUES),
        name=st.sampled_from(["nobody's", "FAR-1", "{} text", "away"]),
        amid=st.booleans(),
        scans=st.integers(0, 3),
        back=st.booleans(),
        then=st.integers(0, 4),
    )
    def rename_folder(self, issue: str, name: str, amid: bool, scans: int, back: bool, then: int) -> None:
        """A folder is renamed, within its issue, to another's or to no issue's name, and often back."""
        name = name.format(issue)

        def act() -> None:
            here, there = self.world.inbox / issue, self.world.inbox / name
            if not here.is_dir() or there.exists():
                return
            here.rename(there)
            if name == "FAR-1":
                self.allowed.update(
                    ("FAR-1", path.read_bytes()) for path in self.inbox_files() if there in path.parents
                )
            if name.startswith(issue) and not back:
                return
            try:
                for _ in range(scans):
                    if self.world.runtime.guard.sight.there:
                        self.world.scanner.scan()
                    self.world.clock.advance(40.0)
            finally:
                there.rename(here)  # People do so also where the program has died meanwhile.

        self.now_or_amid(act, amid, then)

    @rule(
        index=st.integers(0, 9),
        kind=st.sampled_from(["folder", "link", "pipe"]),
        amid=st.booleans(),
        then=st.integers(0, 4),
    )
    def replace_by_another_kind(self, index: int, kind: str, amid: bool, then: int) -> None:
        def act() -> None:
            if not (files := self.inbox_files()):
                return
            path = self.pick(files, index)
            self.destroy(path)
            path.unlink()
            match kind:
                case "folder":
                    path.mkdir()
                case "link":
                    path.symlink_to("nowhere")
                case "pipe":
                    os.mkfifo(path)

        self.now_or_amid(act, amid, then)

    def failed_files(self) -> list[Path]:
        return [p for p in sorted(self.world.failed.rglob("*")) if p.is_file() and ".why" not in p.name]

    @rule(index=st.integers(0, 9), with_note=st.booleans())
    def take_back(self, index: int, with_note: bool) -> None:
        """The retry of people who have no shell. It never makes a second copy."""
        if not (files := self.failed_files()):
            return
        source = self.pick(files, index)
        below = source.relative_to(self.world.failed)
        target, content = self.world.inbox / below, source.read_bytes()
        if self.deployment == "Server" and any(s.content == content for s in self.world.jira.on(below.parts[0])):
            return  # Where contents are closed it is a person who looks, as the note asks: it is there, and stays where it is.
        self.destroy(target)
        self.clear(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        self.alive.add(content)
        note = source.with_name(source.name + ".why.txt")
        if with_note and note.exists():
            note.rename(target.with_name(note.name))

    # --- what the world does ------------------------------------------------------------------------------------

    @rule(fault=FAULTS)
    def jira_fails(self, fault: Fault) -> None:
        self.world.jira.faults.append(fault)

    @rule(
        count=st.integers(1, 3),
        status=st.sampled_from([400, 413, 429]),
        commit=st.sampled_from([None, "half", "all"]),
    )
    def jira_declines_what_is_shared(self, count: int, status: int, commit: str | None) -> None:
        """Several times in a row, so that requests are halved and halved again."""
        words = {"errorMessages": ["not together"]}
        self.world.jira.faults += [Fault(status=status, body=words, commit=commit, shared=True)] * count

    @rule(issue=st.sampled_from(["", *ISSUES]))
    def resumed(self, issue: str) -> None:
        """A person lets go on what is paused, and believes what is held."""
        with self.world.runtime.journal.transaction() as connection:
            connection.execute("DELETE FROM pause WHERE subject = ? OR ? = ''", (issue, issue))
            connection.execute(
                "UPDATE file SET proof = 'operator' WHERE proof = 'account' AND state = 'READY' AND issue = ?", (issue,)
            )

    @rule(fault=LOOK_FAULTS)
    def listing_fails(self, fault: Fault) -> None:
        self.world.jira.look_faults.append(fault)

    @rule(seconds=st.sampled_from([0.5, 6.0, 31.0, 95.0, 400.0]), meanwhile=st.integers(0, 8))
    def time_passes(self, seconds: float, meanwhile: int) -> None:
        """And the program works, or not. (Hypothesis leaves whole rules out of a life: what matters stands in several.)"""
        self.world.clock.advance(seconds)
        if meanwhile:
            self.go_on(meanwhile)

    @rule(ahead=st.sampled_from([0.0, 3600.0, -3600.0, 4e8, -1e9]), meanwhile=st.integers(0, 8))
    def the_clock_is_set(self, ahead: float, meanwhile: int) -> None:
        self.world.clock.time = self.world.jira.time() + ahead
        if meanwhile:
            self.go_on(meanwhile)

    def go_on(self, steps: int) -> None:
        self.world.scan()
        for _ in range(steps):
            self.world.step()

    @rule()
    def remount(self) -> None:
        """The same folder on another mount: all device and inode numbers that the journal knows are wrong."""
        self.world.scanner._mount = (1, 2, 3)
        with self.world.runtime.journal.transaction() as connection:
            connection.execute("UPDATE file SET dev = dev + 1000, ino = ino + 1 WHERE finished_at IS NULL")
        self.world.scan()

    @rule()
    def unmounted_for_a_while(self) -> None:
        away = self.home / "away"
        self.world.inbox.rename(away)
        self.world.inbox.mkdir()
        self.world.scan()
        self.world.clock.advance(65.0)
        self.world.scan()
        self.world.work()
        assert list(self.world.inbox.iterdir()) == []
        self.world.inbox.rmdir()
        away.rename(self.world.inbox)

    # --- what the program does ----------------------------------------------------------------------------------

    @rule()
    def scan(self) -> None:
        self.world.scan()

    @rule(
        issue=st.sampled_from(ISSUES),
        count=st.integers(1, 7),
        faults=st.lists(FAULTS, max_size=2),
        rounds=st.integers(1, 4),
    )
    def deliver(self, issue: str, count: int, faults: list[Fault], rounds: int) -> None:
        """Files come, are taken, and meet what Jira does; then it goes on for a while."""
        self.world.jira.faults[:0] = faults
        self.drop_several(issue, count, 5, 0, None)
        for _ in range(rounds):
            self.world.scan()
            self.world.work()
            self.world.clock.advance(6.0)

    @rule(steps=st.integers(1, 4))
    def work(self, steps: int) -> None:
        for _ in range(steps):
            self.world.step()

    @rule(point=st.integers(0, 60), during_start=st.booleans())
    def die(self, point: int, during_start: bool) -> None:
        """Die at some point of a scan and of what follows, or (once more) of the start after that."""
        Fuse.left = point
        try:
            self.world.scan()
            self.world.work()
        except Crash:
            pass
        Fuse.left = point // 4 if during_start else None
        try:
            self.world.restart()
            self.crashing()
            self.world.scan()
        except Crash:
            Fuse.left = None
            self.world.restart()
        Fuse.left = None
        self.crashing()

    # --- what must hold -----------------------------------------------------------------------------------------

    def places(self) -> Counter[bytes]:
        world = self.world
        return Counter(
            content
            for folder in (world.inbox, world.done, world.failed)
            for name, content in world.files(folder).items()
            if ".why" not in name
        )

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "world"):
            places = self.places()
            assert {content: places[content] for content in self.alive} == dict.fromkeys(self.alive, 1)

    @invariant()
    def nothing_is_attached_twice(self) -> None:
        if hasattr(self, "world"):
            held = Counter((s.issue, s.content) for s in self.world.jira.stored)
            assert {key: n for key, n in held.items() if n > self.allowed[key]} == {}

    @invariant()
    def what_is_done_is_attached(self) -> None:
        if hasattr(self, "world"):
            held = {(s.issue, s.content) for s in self.world.jira.stored}
            done = {(name.partition("/")[0], content) for name, content in self.world.files(self.world.done).items()}
            assert done <= held

    @invariant()
    def what_is_counted_is_what_is_there(self) -> None:
        if hasattr(self, "world"):
            journal = self.world.runtime.journal
            rows = journal.rows("SELECT state, blocked FROM file WHERE finished_at IS NULL")
            standing = counts.standing(journal)
            assert +Counter(standing.states) == Counter(State(row[0]) for row in rows)
            assert +Counter(standing.blocked) == Counter(State(row[0]) for row in rows if row[1] is not None)

    def quiet(self) -> None:
        """No more faults: everything that is left gets its verdict."""
        event(f"uploads before the end: {min(len(self.world.jira.uploads), 10)}")
        event(f"shared before the end: {min(sum(len(names) > 1 for names in self.world.jira.uploads), 5)}")
        Fuse.left = None
        self.meddling.clear()
        self.world.jira.faults.clear()
        self.world.jira.look_faults.clear()
        self.world.settle(hours=60)
        self.nothing_is_lost()
        self.nothing_is_attached_twice()
        self.what_is_done_is_attached()
        left = {name: content for name, content in self.world.files(self.world.inbox).items() if content in self.alive}
        assert left == {}, [(r.path, r.state, r.reason, r.due - self.world.clock.time) for r in self.world.unfinished()]
        assert self.world.unfinished() == [], "a row never ends"
        for path in self.failed_files():
            notes = list(path.parent.glob("*.why*"))
            assert notes, f"{path} failed and nothing says why"


class LivesOnDataCenter(Lives):
    """The same where Jira does not hand contents out, so that only a person can settle a tie."""

    deployment = "Server"


LENGTH = int(os.environ.get("ATTACHD_LIVES", "60"))
_settings = settings(
    max_examples=LENGTH,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestLives = pytest.mark.timeout(max(900, 5 * LENGTH))(Lives.TestCase)
TestLives.settings = _settings
TestLivesOnDataCenter = pytest.mark.timeout(max(900, 5 * LENGTH))(LivesOnDataCenter.TestCase)
TestLivesOnDataCenter.settings = _settings
