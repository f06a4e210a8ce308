"""Keep room for the index of the write-ahead log, which processes share as mapped memory (``journal.db-shm``).

SQLite extends the file by writing one byte in each page of 4 KiB. If the blocks are smaller, as on small ext4 disks, and the
disk is full, the rest of the page gets no block when it is first written. Then the kernel ends the process by SIGBUS
(mmap(2)), without an error that could be reported. So attachd makes room before SQLite maps the file, and ahead of its growth.
The first process that opens the file empties it and writes it again, so even reading needs room
(https://sqlite.org/walformat.html, "The WAL-Index File Format").
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
#: The least that is kept ready: the index of 32,768 pages, 128 MiB of log. The log usually has 4 MiB.
_LEAST = 8 * _PIECE
#: What opening needs: one piece of the index, and pages of the log.
_TO_OPEN = 2 * _PIECE
#: Every process that has the index open locks this byte (SQLite's os_unix.c, UNIX_SHM_DMS).
_HELD_BYTE = 128


def index_of(journal: Path) -> Path:
    """Return the path of the index."""
    return journal.with_name(journal.name + "-shm")


def is_safe(journal: Path) -> bool:
    """Return True if the index can be mapped: a process has it mapped already, or there is room for it."""
    return _own(journal) is not None or has_room(journal.parent) or _is_held(index_of(journal))


def reserve(journal: Path) -> None:
    """Allocate blocks for the index that this process has open, and for its growth. Raises ``OSError``.

    It uses SQLite's own descriptor: opening and closing the file once more would drop SQLite's locks on it (fcntl(2)).
    """
    descriptor = _own(journal)
    if descriptor is not None:
        os.posix_fallocate(descriptor, 0, _wanted(journal))


def _wanted(journal: Path) -> int:
    """Return twice what the log needs now: it grows during a long read."""
    try:
        logged = os.stat(journal.with_name(journal.name + "-wal")).st_size
    except OSError:
        logged = 0
    return max(_LEAST, 2 * _PIECE * (1 + logged // (_LOGGED * _PAGES)))


def _own(journal: Path) -> int | None:
    """Return the descriptor with which SQLite has the index open in this process, or None."""
    with suppress(OSError):
        there = os.stat(index_of(journal))
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                found = os.fstat(int(name))
                if (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino):
                    return int(name)
    return None


def has_room(folder: Path) -> bool:
    """Return True if the folder's disk has room to open the journal, or if that cannot be tried."""
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
    """Return True if another process has the index open, so that nothing empties it, and it has its blocks."""
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
