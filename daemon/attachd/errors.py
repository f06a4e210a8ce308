"""A user's mistakes, and the errors of a disk, a share or a machine that pass without a change of the configuration."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

# --- A user's mistake -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that the user has to change: *what* is wrong with *where*, in which *file*, and what to do.

    *what* goes on where *where* ends, as in "folders.inbox" and "is missing.". Without *where* it is a whole sentence.
    """

    where: str
    what: str
    remedy: str = ""
    file: str = ""

    def __str__(self) -> str:
        """Return one line for people that begins with the file, as the line of a compiler does."""
        line = ": ".join(filter(None, (self.file, f"{self.where} {self.what}".lstrip())))
        return f"{line} {self.remedy}" if self.remedy else line


class Mistake(Exception):
    """A mistake in what the program was given. Printed once, every problem in a line, without a traceback."""

    def __init__(self, *problems: Problem, exit_code: int = 78) -> None:
        """Take every problem at once; *exit_code* is from the table in the README (78: configuration)."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
        self.exit_code = exit_code


#: Exit code after which the service manager retries later (EX_TEMPFAIL, sysexits.h).
TEMPORARY = 75

#: The kind of the pause while files cannot be moved to done or failed.
DISK = "disk"

#: The errors of NFS, SMB and FUSE clients when the server of a share does not answer.
AWAY = frozenset(
    {
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.ECONNABORTED,
    }
)


class Reach(StrEnum):
    """How many files an error of a move to done or failed concerns (docs/faults.md has the same table)."""

    NAME = "name"  #: the file system may refuse the name: the file is moved under one that fits
    WAY = "way"  #: something else has the name: the file gets a number
    FILE = "file"  #: this file, or its folder: it waits alone, with the reason
    FOLDER = "folder"  #: all files, if a trial in done or failed fails too; else this file, which waits alone


#: Any other error counts as ``Reach.FOLDER``.
MOVES = {
    errno.EINVAL: Reach.NAME,
    errno.EILSEQ: Reach.NAME,
    errno.ENAMETOOLONG: Reach.NAME,
    errno.ENOENT: Reach.NAME,  # What SMB says of a name that a Windows server refuses.
    errno.EEXIST: Reach.WAY,
    errno.ENOTDIR: Reach.WAY,
    errno.ELOOP: Reach.WAY,
    errno.EISDIR: Reach.WAY,
    errno.ENOTEMPTY: Reach.WAY,
    errno.EACCES: Reach.FILE,
    errno.EPERM: Reach.FILE,
    errno.EAGAIN: Reach.FILE,
    errno.EBUSY: Reach.FILE,
    errno.ETXTBSY: Reach.FILE,
    errno.EFBIG: Reach.FILE,
    errno.EOVERFLOW: Reach.FILE,
    errno.EOPNOTSUPP: Reach.FILE,
    errno.EMLINK: Reach.FILE,
    errno.ENOSPC: Reach.FOLDER,
    errno.EDQUOT: Reach.FOLDER,
    errno.EROFS: Reach.FOLDER,
    errno.EIO: Reach.FOLDER,
    errno.ENODEV: Reach.FOLDER,
    errno.ENXIO: Reach.FOLDER,
    errno.EUCLEAN: Reach.FOLDER,
    **dict.fromkeys(AWAY, Reach.FOLDER),
}


def reach(error: OSError) -> Reach:
    """Return how many files an error of a move concerns; for an unknown error a trial in the folder decides."""
    return MOVES.get(error.errno or 0, Reach.FOLDER)


#: Errors that mean: one file, or its folder, cannot be read.
READING = frozenset({errno.EIO, errno.ESTALE, errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
#: The disk is full, or a quota is used up.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_DISK = NO_ROOM | {errno.EIO, errno.EROFS}
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
#: What to do when the disk of the journal takes nothing.
JOURNAL_DISK_REMEDY = "make room on the disk of the state folder, or repair it"
#: What SQLite reports when the disk does not let it write: no room, an error or a quota, a read-only mount.
_SQLITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)


def disk_fails(error: sqlite3.Error) -> bool:
    """Return True if the disk is the reason why SQLite cannot read or write (https://sqlite.org/rescode.html).

    A full disk has its own code. A quota, and a disk that turns out to be full only at the sync, are I/O errors.
    """
    code = getattr(error, "sqlite_errorcode", None)
    return "full" in str(error) if code is None else code & 0xFF in _SQLITE


def is_damage(error: sqlite3.Error) -> bool:
    """Return True if SQLite reports that the file is damaged or is not a database."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def shortage(error: OSError) -> str | None:
    """Return what the process or the machine has run out of, as a sentence without its full stop, or None."""
    match error.errno:
        case errno.EMFILE:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"attachd has run out of file descriptors (its limit is {limit}); raise LimitNOFILE in its unit"
        case errno.ENFILE:
            return "this machine has run out of file descriptors; raise the sysctl fs.file-max"
        case errno.ENOMEM | errno.ENOBUFS:
            return "this machine has run out of memory; end what uses it up"
        case _:
            return None


def passing(error: OSError) -> str | None:
    """Return what is wrong with the process, the machine, a disk or a share, or None if the error is the file's own.

    Such an error shows nothing about a file or a folder; attachd tries again.
    """
    if short := shortage(error):
        return short
    away = error.errno in AWAY or error.errno == errno.EIO
    return f"its disk or share fails ({error.strerror}); look into the machine's log" if away else None


@contextmanager
def left_to_workers() -> Iterator[None]:
    """Ignore that the disk of the journal fails. The workers wait for it and log it; what the context does is done later."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if not disk_fails(error):
            raise


def _is_readonly(folder: Path) -> bool:
    """Return True if the folder is on a read-only mount, so permissions are not the cause."""
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def exit_code(error: Exception, folder: Path) -> int:
    """Return the exit code of a start that failed with *error*: 75 if the next start may succeed, else 78.

    *folder* is where something could not be opened or made. SQLite reports a full disk and a missing permission alike.
    """
    if isinstance(error, OSError):
        return TEMPORARY if error.errno in _DISK | _SCARCE | AWAY else 78
    if not isinstance(error, sqlite3.Error) or (not _is_readonly(folder) and not os.access(folder, os.W_OK | os.X_OK)):
        return 78
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return TEMPORARY if disk_fails(error) or code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM) else 78
