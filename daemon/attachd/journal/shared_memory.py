"""Room for the index of the write-ahead log, which SQLite shares between processes as mapped memory (``journal.db-shm``).

SQLite makes the file longer by one byte in each page of 4 KiB. Where blocks are smaller than that, as on small ext4 disks,
and the disk is full, the rest of the page gets no block when it is first written, and the kernel ends the process by SIGBUS
(mmap(2)): no error is returned, and nobody can say why. So there is room before it is mapped, and more ahead of its growth.
The first process that opens the file cuts it to nothing and makes it anew, however long it was
(https://sqlite.org/walformat.html, "The WAL-Index File Format"): also to read takes room then.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

from attachd import errors

#: What SQLite maps at once, in bytes: the index of 4,062 pages of the log, 4,096 in each further piece.
_PIECE, _PAGES = 32 * 1024, 4096
#: A page of the log with its header (https://sqlite.org/fileformat2.html, "WAL Header").
_LOGGED = 4096 + 24
#: What is kept ready at the least: the index of 32,768 pages, 128 MiB of log, where 4 MiB are usual.
_LEAST = 8 * _PIECE
#: What opening takes: one piece of the index, and pages of the log.
_TO_OPEN = 2 * _PIECE
#: Held by everybody who has the index open (SQLite's os_unix.c, UNIX_SHM_DMS).
_HELD_BYTE = 128


def index_of(journal: Path) -> Path:
    """The file of the index."""
    return journal.with_name(journal.name + "-shm")


def is_safe(journal: Path) -> bool:
    """Whether the index can be mapped: others have it mapped already, or there is room to make it."""
    return _own(journal) is not None or has_room(journal.parent) or _is_held(index_of(journal))


def reserve(journal: Path) -> None:
    """Have blocks for all of the index that this process has open, and for what it will grow by. Raises ``OSError``.

    By SQLite's own descriptor: to open and close the file once more would take SQLite's locks on it away (fcntl(2)).
    """
    descriptor = _own(journal)
    if descriptor is not None:
        os.posix_fallocate(descriptor, 0, _wanted(journal))


def _wanted(journal: Path) -> int:
    """Twice what the log needs by now: it grows while somebody reads for long."""
    try:
        logged = os.stat(journal.with_name(journal.name + "-wal")).st_size
    except OSError:
        logged = 0
    return max(_LEAST, 2 * _PIECE * (1 + logged // (_LOGGED * _PAGES)))


def _own(journal: Path) -> int | None:
    """The descriptor by which SQLite has the index open in this process."""
    with suppress(OSError):
        there = os.stat(index_of(journal))
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                found = os.fstat(int(name))
                if (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino):
                    return int(name)
    return None


def has_room(folder: Path) -> bool:
    """Whether so much can be had there; where it cannot be tried, there is."""
    try:
        trial = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(trial, 0, _TO_OPEN)
        finally:
            os.close(trial)
    except OSError as error:
        return error.errno not in errors.NO_ROOM
    return True


def _is_held(index: Path) -> bool:
    """Whether another process has it open, so that it is not made anew, and has its blocks."""
    try:
        descriptor = os.open(index, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _HELD_BYTE, 1, 0)
        answer = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
        status = os.fstat(descriptor)
        return answer[0] != fcntl.F_UNLCK and status.st_blocks * 512 >= max(_PIECE, status.st_size)
    except OSError:
        return False
    finally:
        os.close(descriptor)
