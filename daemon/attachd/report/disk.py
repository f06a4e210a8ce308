"""Find out by a real write whether the disk of the state folder takes data."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attachd import text

#: Size of the trial file: more than a step of the journal writes.
_TRIAL_BYTES = 64 * 1024
_SAID = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "has no room left for attachd (the quota is used up)",
    errno.EROFS: "is mounted read-only",
    errno.EIO: "reports an input/output error",
}
REMEDY = "make room there, or repair the disk. attachd then goes on by itself; nothing is lost meanwhile"


def trouble(folder: Path) -> str:
    """Return what is wrong with the disk, as a clause; "" if it is well or this user may not write there."""
    try:
        _write(folder)
    except OSError as error:
        if error.errno in _SAID:
            return words(folder, _SAID[error.errno or 0])
    return ""


def low(folder: Path) -> str:
    """Return the same without a write: only if the disk is full or read-only."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return ""
    if status.f_flag & os.ST_RDONLY:
        return words(folder, _SAID[errno.EROFS])
    return words(folder, _SAID[errno.ENOSPC]) if status.f_bavail * status.f_frsize < _TRIAL_BYTES else ""


def words(folder: Path, what: str) -> str:
    """Return a clause that names the folder and how much is free on its disk."""
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
    """Open a file without a name, so that a kill leaves nothing behind. Some file systems need a name for a moment."""
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
