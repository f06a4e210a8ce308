"""The file itself: opened once, without following any link, and held until its verdict is known."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from attachd.fs import folders as fs_folders
from attachd.fs import leases
from attachd.fs.leases import Writer
from attachd.journal.rows import Row
from attachd.model import signed64


@dataclass(frozen=True, slots=True)
class NotThere:
    """Nothing lies at the path now; intake finds out whether it was moved or taken away."""


@dataclass(frozen=True, slots=True)
class NotTheSame:
    """Something else lies at the path than was admitted: it settles anew."""


@dataclass(frozen=True, slots=True)
class Written:
    """Somebody has it open for writing: it settles anew, and nobody is to blame."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It cannot be read; *reason* is a sentence for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The very file that was admitted; the descriptor is whoever's to close who opened it. As it was at that moment."""

    descriptor: int
    mtime_ns: int
    ctime_ns: int


def open_same(
    inbox: Path, row: Row, epoch: int, folders: fs_folders.Held, *, network: bool = False
) -> Opened | NotThere | NotTheSame | Written | Unreadable:
    """Open the file of *row* if it is still the one admitted, and closed; ``O_NONBLOCK`` so that a FIFO put there meanwhile
    does not hold us (open(2)).

    It may have been opened for writing again since it was admitted: it waits for its turn, for a pause or an outage.
    """
    above, name = fs_folders.divide(row.path)
    try:
        folder = folders.folder(inbox, above)
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return NotThere()
        if error.errno == errno.ELOOP:
            return NotTheSame()
        return Unreadable(f"it cannot be read: {error.strerror}")
    status = os.fstat(descriptor)
    if not _same(status, row, epoch):
        os.close(descriptor)
        return NotTheSame()
    if leases.writer(descriptor, network=network) is Writer.SOMEBODY:
        os.close(descriptor)
        return Written()
    return Opened(descriptor, status.st_mtime_ns, status.st_ctime_ns)


def close(opened: Opened) -> None:
    """Let go of it. Of a share that may be a request to its server, and hang (``beating`` goes by the module)."""
    os.close(opened.descriptor)


def _same(status: os.stat_result, row: Row, epoch: int) -> bool:
    mtime_ns, ctime_ns = signed64(status.st_mtime_ns), signed64(status.st_ctime_ns)
    if not stat.S_ISREG(status.st_mode) or (status.st_size, mtime_ns) != (row.size, row.mtime_ns):
        return False
    inode = signed64(status.st_dev), signed64(status.st_ino)
    return row.epoch != epoch or (*inode, ctime_ns) == (row.dev, row.ino, row.ctime_ns)
