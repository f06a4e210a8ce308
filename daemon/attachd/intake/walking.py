"""What lies below a folder of the inbox: by directory descriptors, never through a link, nothing opened but folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from attachd.model import Fingerprint, signed64

#: Deeper trees are not looked into: each level holds a descriptor.
DEPTH = 32
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Hidden = Callable[[bytes, bool], str | None]
#: Is told of each folder that is open and about to be listed; says why nothing of it may be taken, None where it may.
Enter = Callable[[bytes, int, os.stat_result], str | None]


class Entry(NamedTuple):
    """One regular file: its path below the inbox, and what it looks like."""

    path: bytes
    print: Fingerprint


@dataclass(slots=True)
class Walk:
    """A listing in the making. ``troubles`` are folders that could not be listed: what they hold is not known then.

    ``enter`` is called with each folder, its path and its descriptor, before it is listed.
    """

    hidden: Hidden
    nested: bool = True
    enter: Enter = lambda *_: None
    troubles: list[tuple[bytes, str]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything was seen, so that what is missing is really missing. "Cannot list" is never "empty"."""
        return not self.troubles

    def below(self, parent: int, path: bytes, depth: int = 0) -> Iterator[Entry]:
        """Yield the regular files of the folder *path*, whose name is looked up in the descriptor *parent*."""
        try:
            folder = os.open(path.rpartition(b"/")[2], FOLDER, dir_fd=parent)
        except OSError as error:
            self.troubles.append((path, error.strerror or str(error)))
            return
        try:
            if trouble := self._trouble(path, folder):
                self.troubles.append((path, trouble))
            else:
                yield from self._entries(folder, path, depth)
        finally:
            os.close(folder)

    def _trouble(self, path: bytes, folder: int) -> str | None:
        try:
            return self.enter(path, folder, os.fstat(folder))
        except OSError as error:
            return error.strerror or str(error)

    def _entries(self, folder: int, path: bytes, depth: int) -> Iterator[Entry]:
        folders = []
        try:
            with os.scandir(folder) as listing:
                for item in listing:
                    here = path + b"/" + os.fsencode(item.name)
                    if item.is_dir(follow_symlinks=False):
                        folders.append(here)
                    elif item.is_file(follow_symlinks=False) and not self.hidden(here, False):
                        entry = _entry(item, here)
                        if entry:
                            yield entry
        except OSError as error:
            self.troubles.append((path, error.strerror or str(error)))
        if self.nested and depth < DEPTH:
            for below in folders:
                if not self.hidden(below, True):
                    yield from self.below(folder, below, depth + 1)


def _entry(item: os.DirEntry[str], path: bytes) -> Entry | None:
    """Stat one name; None if it is gone or no regular file any more."""
    try:
        status = item.stat(follow_symlinks=False)
    except OSError:
        return None
    return Entry(path, fingerprint(status)) if stat.S_ISREG(status.st_mode) else None


def fingerprint(status: os.stat_result) -> Fingerprint:
    """What stat(2) tells of a content."""
    times = signed64(status.st_mtime_ns), signed64(status.st_ctime_ns)
    return Fingerprint(status.st_size, *times, signed64(status.st_dev), signed64(status.st_ino))
