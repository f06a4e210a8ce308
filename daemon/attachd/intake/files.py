"""Files as a scan finds them, and what can be read from one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from attachd import errors, heartbeat
from attachd.fs import folders as fs_folders
from attachd.intake import ignore_patterns
from attachd.intake.context import Checkpoint
from attachd.journal.rows import Row
from attachd.model import Fingerprint, signed64
from attachd.share import inbox_marker

# What lies below a folder of the inbox: by directory descriptors, never through a link, nothing opened but folders.

#: Deeper folders are not taken: each level holds a descriptor. As many more are looked into, to say how many files lie there.
DEPTH = 32
#: So many folders that lie too deep are named; what lies in others is counted with the last of these.
MOST_NAMED = 20
TOO_DEEP = f"it lies deeper than {DEPTH} folders; move what is in it directly into the issue's folder"

Hidden = Callable[[bytes, bool], str | None]
#: Is told of each folder that is open and about to be listed; says why nothing of it may be taken, None where it may.
Enter = Callable[[bytes, int, os.stat_result], str | None]


class Kind(Enum):
    """What a name of a folder is, links not followed."""

    FOLDER = auto()
    FILE = auto()
    OTHER = auto()


def listed(folder: int) -> Iterator[tuple[os.DirEntry[str], Kind]]:
    """Yield the names of an open folder. Raises OSError."""
    with heartbeat.on_share():
        listing = os.scandir(folder)
    with listing:
        yield from heartbeat.on_share().each(map(_with_kind, listing))


def _with_kind(item: os.DirEntry[str]) -> tuple[os.DirEntry[str], Kind]:
    if item.is_dir(follow_symlinks=False):
        return item, Kind.FOLDER
    return item, Kind.FILE if item.is_file(follow_symlinks=False) else Kind.OTHER


class Entry(NamedTuple):
    """One regular file: its path below the inbox, and what it looks like."""

    path: bytes
    print: Fingerprint


@dataclass(slots=True)
class Walk:
    """A listing in the making. ``troubles`` are folders that could not be listed: what they hold is not known then.

    ``enter`` is called with each folder, its path and its descriptor, before it is listed. ``deep`` are the folders that
    are not taken because of their depth, with the least number of files that lie in them. ``ignored`` counts the names, of files
    and of folders, that a pattern leaves alone. ``counting``: of what lies too deep for another walk. ``most``: how
    many folders deep it goes.
    """

    hidden: Hidden
    nested: bool = True
    enter: Enter = lambda *_: None
    counting: bool = False
    most: int = DEPTH
    troubles: list[tuple[bytes, str]] = field(default_factory=list)
    deep: dict[bytes, int] = field(default_factory=dict)
    ignored: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything was seen, so that what is missing is really missing. "Cannot list" is never "empty"."""
        return not self.troubles

    def below(self, parent: int, path: bytes, depth: int = 0) -> Iterator[Entry]:
        """Yield the regular files of the folder *path*, whose name is looked up in the descriptor *parent*."""
        try:
            with heartbeat.on_share():
                folder = os.open(path.rpartition(b"/")[2], fs_folders.SUBFOLDER, dir_fd=parent)
        except OSError as error:
            self.troubles.append((path, why(error)))
            return
        try:
            if trouble := self._trouble(path, folder):
                self.troubles.append((path, trouble))
            else:
                yield from self._entries(folder, path, depth)
        finally:
            fs_folders.close(folder)

    def _trouble(self, path: bytes, folder: int) -> str | None:
        try:
            with heartbeat.on_share():
                status = os.fstat(folder)
            return self.enter(path, folder, status)
        except OSError as error:
            return why(error)

    def _entries(self, folder: int, path: bytes, depth: int) -> Iterator[Entry]:
        folders = []
        try:
            for item, kind in listed(folder):
                here = path + b"/" + os.fsencode(item.name)
                if kind is Kind.FOLDER:
                    folders.append(here)
                elif kind is Kind.FILE and not self._leave(here, False):
                    entry = self.entry(item, here)
                    if entry:
                        yield entry
        except OSError as error:
            self.troubles.append((path, why(error)))
        for below in folders if self.nested else ():
            if self._leave(below, True):
                continue
            if depth < self.most:
                yield from self.below(folder, below, depth + 1)
            elif files := self._count(folder, below):
                self._pass_over(below, files)

    def _leave(self, path: bytes, folder: bool) -> bool:
        pattern = self.hidden(path, folder)
        self.ignored += pattern is not None and pattern not in ignore_patterns.OWN
        return pattern is not None

    def entry(self, item: os.DirEntry[str], path: bytes) -> Entry | None:
        """Stat one name; None if it is gone or no regular file any more, or if that cannot be known: a trouble."""
        try:
            with heartbeat.on_share():
                status = item.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.troubles.append((path, why(error)))
            return None
        return Entry(path, fingerprint(status)) if stat.S_ISREG(status.st_mode) else None

    def _pass_over(self, path: bytes, files: int) -> None:
        named = path if len(self.deep) < MOST_NAMED else next(reversed(self.deep))
        self.deep[named] = self.deep.get(named, 0) + files

    def _count(self, parent: int, path: bytes) -> int:
        """Count the files of a folder and of as many levels below it; what is deeper still, or cannot be listed, as one."""
        if self.counting:
            return 1
        walk = Walk(self.hidden, counting=True)
        return sum(1 for _ in walk.below(parent, path)) + sum(walk.deep.values()) + len(walk.troubles)


def why(error: OSError) -> str:
    """Say why a folder could not be listed; what the machine is short of is said as such."""
    return errors.shortage(error) or error.strerror or str(error)


def everything(inbox: Path, checkpoint: Checkpoint) -> Iterator[Entry]:
    """Yield all regular files of the inbox, whatever their names, also those that lie too deep, but none of attachd's own.

    What cannot be listed is passed over.
    """

    def enter(_path: bytes, _folder: int, _status: os.stat_result) -> None:
        checkpoint()

    with suppress(OSError), fs_folders.folder(inbox, b"") as top:
        walk = Walk(lambda _path, _folder: None, enter=enter, most=2 * DEPTH)
        items = [(item, kind) for item, kind in listed(top) if item.name != inbox_marker.FOLDER]
        for item, kind in items:
            name = os.fsencode(item.name)
            if kind is Kind.FOLDER:
                yield from walk.below(top, name)
            elif entry := walk.entry(item, name):
                yield entry


def fingerprint(status: os.stat_result) -> Fingerprint:
    """What stat(2) tells of a content."""
    times = signed64(status.st_mtime_ns), signed64(status.st_ctime_ns)
    return Fingerprint(status.st_size, *times, signed64(status.st_dev), signed64(status.st_ino))


@dataclass(slots=True)
class Seen:
    """What a chunk of a listing came to: how many files, how many of them have a row, how many are new.

    Those that are *undecided* look otherwise than their row says.
    """

    known: int = 0
    rows: int = 0
    new: int = 0
    undecided: int = 0
    #: When (CLOCK_BOOTTIME) a file is worth another look, by its path.
    settles: dict[bytes, float] = field(default_factory=dict)

    def look_again(self, path: bytes, at: float) -> None:
        """Ask for another look at a file at *at* or before."""
        self.settles[path] = min(at, self.settles.get(path, at))


@dataclass(frozen=True, slots=True)
class Found:
    """One file of a listing, with the row at its path if there is one."""

    entry: Entry
    row: Row | None
