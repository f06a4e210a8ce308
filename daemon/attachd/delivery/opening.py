"""The file itself: opened once, without following any link, and held until its verdict is known."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attachd.filing import places
from attachd.journal.rows import Row
from attachd.model import signed64


@dataclass(frozen=True, slots=True)
class NotThere:
    """Nothing lies at the path now; intake finds out whether it was moved or taken away."""


@dataclass(frozen=True, slots=True)
class NotTheSame:
    """Something else lies at the path than was admitted: it settles anew."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It cannot be read; *reason* is a sentence for a person."""

    reason: str


Opened = int | NotThere | NotTheSame | Unreadable


@contextlib.contextmanager
def held(inbox: Path, row: Row, epoch: int, folders: places.Held) -> Iterator[Opened]:
    """Open the file of *row* for as long as the context lasts; a descriptor only if it is the very file admitted."""
    found = open_same(inbox, row, epoch, folders)
    try:
        yield found
    finally:
        if isinstance(found, int):
            os.close(found)


def open_same(inbox: Path, row: Row, epoch: int, folders: places.Held) -> Opened:
    """Open by directory descriptors; ``O_NONBLOCK`` so that a FIFO put there meanwhile does not hold us (open(2))."""
    above, name = places.divide(row.path)
    try:
        folder = folders.folder(inbox, above)
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return NotThere()
        if error.errno == errno.ELOOP:
            return NotTheSame()
        return Unreadable(f"it cannot be read: {error.strerror}")
    if _same(os.fstat(descriptor), row, epoch):
        return descriptor
    os.close(descriptor)
    return NotTheSame()


def _same(status: os.stat_result, row: Row, epoch: int) -> bool:
    mtime_ns, ctime_ns = signed64(status.st_mtime_ns), signed64(status.st_ctime_ns)
    if not stat.S_ISREG(status.st_mode) or (status.st_size, mtime_ns) != (row.size, row.mtime_ns):
        return False
    inode = signed64(status.st_dev), signed64(status.st_ino)
    return row.epoch != epoch or (*inode, ctime_ns) == (row.dev, row.ino, row.ctime_ns)
