"""What people dropped, and what may have become of it: bytes counted on disk and in Jira, whatever the program says of itself."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lives.fake_jira import FakeJira, Issue
from lives.house import House


@dataclass
class Item:
    """One file that a person made. ``path`` is where it lay last, as far as people know, below the inbox."""

    number: int
    path: str
    sha256: str
    size: int
    removed: bool = False
    #: It may stay in the inbox, if the program says that something waits.
    may_stay: bool = False


@dataclass(frozen=True)
class Violation:
    """A promise that was broken, in one word, and by what."""

    kind: str
    said: str


@dataclass
class Ledger:
    """A new one for each life."""

    items: list[Item] = field(default_factory=list)
    #: (content, folder's key): the items with this content that ever lay in this issue's folder.
    lay: defaultdict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))

    def add(self, path: str, content: bytes) -> Item:
        """A person drops a file."""
        item = Item(len(self.items), path, digest(content), len(content))
        self.items.append(item)
        self.lies(item)
        return item

    def lies(self, item: Item) -> None:
        """Note that it lies where it lies."""
        if key := key_of(item.path):
            self.lay[item.sha256, key].add(item.number)

    def changes(self, item: Item, content: bytes) -> None:
        """A person gives it another content."""
        item.sha256, item.size = digest(content), len(content)
        self.lies(item)

    def last_at(self, path: str) -> Item:
        """The item that was put there last. Nobody drops over a file, so an earlier one had left by then."""
        return next(item for item in reversed(self.items) if item.path == path)

    def at(self, path: str, content: bytes) -> Item | None:
        """The item that is this file."""
        wanted = digest(content)
        return next((i for i in reversed(self.items) if not i.removed and (i.path, i.sha256) == (path, wanted)), None)

    # --- At the end ----------------------------------------------------------------------------------------------

    def violations(self, house: House, jira: FakeJira, *, told_that_some_wait: bool) -> Iterator[Violation]:
        """Compare everything on disk and in Jira with what people did."""
        on_disk = [(root, path, digest(path.read_bytes())) for root in _roots(house) for path in house.files(root)]
        there = Counter(sha for _, _, sha in on_disk)
        in_done = [(path.relative_to(house.done), sha) for root, path, sha in on_disk if root == house.done]
        if house.retention:
            there += self._deleted(in_done, jira)
        yield from self._lost(there)
        yield from self._untrue(in_done, jira)
        yield from self._twice(jira)
        inbox = [(path.relative_to(house.inbox), sha) for root, path, sha in on_disk if root == house.inbox]
        yield from self._stuck(inbox, told=told_that_some_wait)
        yield from self._blamed(
            [(path.relative_to(house.failed), s) for root, path, s in on_disk if root == house.failed], jira
        )

    def _deleted(self, done: Iterable[tuple[Path, str]], jira: FakeJira) -> Counter[str]:
        """What may have been deleted from done by its age: what its issue holds, and done no longer has."""
        kept = Counter((jira.issue(path.parts[0]).id, sha256) for path, sha256 in done)
        deleted: Counter[str] = Counter()
        with jira.lock:
            issues = list(jira.issues)
        for issue in issues:
            for sha256 in {each.sha256 for each in self.items}:
                deleted[sha256] += max(0, jira.holds(issue, sha256) - kept[issue.id, sha256])
        return deleted

    def _lost(self, there: Counter[str]) -> Iterator[Violation]:
        wanted = Counter(item.sha256 for item in self.items if not item.removed)
        for sha256, copies in wanted.items():
            if there[sha256] < copies:
                yield Violation("lost", f"{self.named(sha256)}: {there[sha256]} of {copies} are on disk")

    def _untrue(self, done: Iterable[tuple[Path, str]], jira: FakeJira) -> Iterator[Violation]:
        """What lies in done is in Jira, byte for byte, and as often."""
        filed = Counter((path.parts[0], sha256) for path, sha256 in done if not path.name.endswith(".link.txt"))
        for (folder, sha256), copies in filed.items():
            if (held := jira.count(jira.issue(folder), sha256)) < copies:
                yield Violation("untrue", f"{self.named(sha256)}: {copies} in done/{folder}, and {held} in Jira")

    def _twice(self, jira: FakeJira) -> Iterator[Violation]:
        with jira.lock:
            issues = list(jira.issues)
        for issue in issues:
            held = Counter(a.sha256 for a in issue.attachments if not a.by_hand)
            unknowable = Counter(a.sha256 for a in issue.attachments if a.unknowable)
            for sha256, copies in held.items():
                dropped = len(set().union(*(self.lay[sha256, key] for key in issue.keys)))
                if not dropped:
                    yield Violation("half", f"{self.named(sha256)} is in {issue.keys[0]}, and was never dropped there")
                elif copies > dropped + unknowable[sha256]:
                    yield Violation(
                        "twice", f"{self.named(sha256)}: {copies} times in {issue.keys[0]}, dropped {dropped} times"
                    )

    def _stuck(self, inbox: Sequence[tuple[Path, str]], *, told: bool) -> Iterator[Violation]:
        if told and not inbox:
            yield Violation("stuck", "`attachd once` says that some wait, and no file is there")
        for path, sha256 in inbox:
            key = key_of(str(path))
            lay = self.lay[sha256, key] if key else ()
            item = next((i for i in self.items if i.number in lay and i.sha256 == sha256 and not i.removed), None)
            if path.name == ".attachdignore" or item is None:
                continue
            if not item.may_stay:
                yield Violation("stuck", f"{path} still waits")
            elif not told:
                yield Violation("silent", f"{path} still lies in the inbox, and nothing says so")

    def _blamed(self, failed: Iterable[tuple[Path, str]], jira: FakeJira) -> Iterator[Violation]:
        known = {item.sha256 for item in self.items}
        for path, sha256 in failed:
            if sha256 in known and not jira.count(jira.issue(path.parts[0]), sha256):
                yield Violation("blamed", f"{path} is in failed, and Jira has refused nothing")

    def named(self, sha256: str) -> str:
        """The paths that a content had, for people."""
        return " or ".join({item.path for item in self.items if item.sha256 == sha256}) or f"content {sha256[:8]}"


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def key_of(path: str) -> str | None:
    """The issue that a path below the inbox means (README, "Folders")."""
    folder, slash, _ = path.partition("/")
    found = re.match(r"([A-Za-z][A-Za-z0-9_]*-[1-9][0-9]*)(?: .*|[-_][A-Za-z].*)?$", folder)
    return found[1].upper() if found and slash else None


def issue_of(jira: FakeJira, path: str) -> Issue | None:
    """The issue where it lies."""
    key = key_of(path)
    return jira.issue(key) if key else None


def _roots(house: House) -> tuple[Path, ...]:
    return house.inbox, house.done, house.failed
