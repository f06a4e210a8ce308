"""Whether the disk of the state folder takes what is written: found out by a real write, of which nothing is left."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attachd import text

#: What is written for a trial: more than a step of the journal takes.
_TRIAL_BYTES = 64 * 1024
_SAID = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "has no room left for attachd (its quota is used up)",
    errno.EROFS: "is mounted read-only",
    errno.EIO: "fails (input/output error)",
}
REMEDY = "make room there, or mend it; attachd then goes on by itself, and nothing is lost meanwhile"


def trouble(folder: Path) -> str:
    """What is wrong with it, as a clause; "" where nothing is, or this user may not try."""
    try:
        _write(folder)
    except OSError as error:
        if error.errno in _SAID:
            return words(folder, _SAID[error.errno or 0])
    return ""


def low(folder: Path) -> str:
    """The same as far as the file system tells it without a write: full, or read-only."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return ""
    if status.f_flag & os.ST_RDONLY:
        return words(folder, _SAID[errno.EROFS])
    return words(folder, _SAID[errno.ENOSPC]) if status.f_bavail * status.f_frsize < _TRIAL_BYTES else ""


def words(folder: Path, what: str) -> str:
    """Name the folder, and how much is free on its disk."""
    try:
        status = os.statvfs(folder)
        free = f"{text.size(status.f_bavail * status.f_frsize)} free"
    except OSError as error:
        free = error.strerror or str(error)
    return f"the disk of the state folder {folder} {what} ({free})"


def _write(folder: Path) -> None:
    with _unnamed(folder) as trial:
        left = _TRIAL_BYTES
        while left > 0:
            left -= os.write(trial, bytes(left))
        os.fsync(trial)


@contextmanager
def _unnamed(folder: Path) -> Iterator[int]:
    """A file without a name, so that a kill leaves none; with one for a moment where a file system has no others."""
    try:
        trial = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        trial, name = tempfile.mkstemp(prefix=".attachd-", dir=folder)
        os.unlink(name)
    try:
        yield trial
    finally:
        os.close(trial)
