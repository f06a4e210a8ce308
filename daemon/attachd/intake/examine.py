"""What intake finds out by touching files: whether one can be taken, whose content it is, what is gone.

A settled file must be readable now and movable afterwards; else it is blocked, and never sent.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Self

from attachd import errors, heartbeat
from attachd.fs import folders, leases, permissions, recognition, relocation
from attachd.intake.files import Entry, fingerprint
from attachd.intake.gates import Blocked, Changed, Ready, Verdict
from attachd.logger import get_logger
from attachd.model import Fingerprint

log = get_logger()


class OpenFile:
    """A file, open as it will be for sending. It answers questions about itself and knows no rule.

    Every answer may raise OSError.
    """

    def __init__(self, descriptor: int, print_: Fingerprint) -> None:
        self.descriptor, self._print = descriptor, print_

    def __enter__(self) -> Self:
        return self

    @heartbeat.on_share()
    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def is_as_listed(self) -> bool:
        """Return True if it still is what the listing showed, but for its ctime."""
        status = status_of(self.descriptor)
        now = fingerprint(status)._replace(ctime_ns=self._print.ctime_ns)
        return stat.S_ISREG(status.st_mode) and now == self._print

    def writer(self, *, network: bool) -> leases.Writer:
        """Ask the kernel whether a program has it open for writing; nobody can say on a *network* file system."""
        return leases.writer(self.descriptor, network=network)

    def sha256(self) -> bytes | None:
        """Read all of it; None if it changed meanwhile."""
        digest = recognition.digest_from(self.descriptor)
        return digest if self.is_as_listed() else None


def opened(inbox: Path, entry: Entry, held: folders.Held) -> OpenFile | Blocked | Changed:
    """Open a file if its folder would let it go. *held* holds the folders of many files."""
    above, name = folders.divide(entry.path)
    try:
        folder = held.folder(inbox, above)
        reason = permissions.bar(folder, name, inbox, above)
        if reason:
            return Blocked(reason)
        with heartbeat.on_share():
            descriptor = os.open(name, recognition.READ, dir_fd=folder)
    except OSError as error:
        if error.errno in folders.NOWHERE:
            return Changed()
        return Blocked(_why_unreadable(inbox, entry.path, error))
    return OpenFile(descriptor, entry.print)


def conclude(file: OpenFile, verdict: Verdict, *, checksum: bool) -> Verdict:
    """Return the *verdict* on a file that is still as it was listed, with its checksum if that is asked for."""
    if not file.is_as_listed():
        return Changed()
    if not checksum or not isinstance(verdict, Ready):
        return verdict
    sha256 = file.sha256()
    return Changed() if sha256 is None else replace(verdict, sha256=sha256)


def unreadable(error: OSError) -> Blocked:
    """Say why an open file cannot be read."""
    passing = errors.passing(error)
    return Blocked(f"it cannot be read now: {passing}" if passing else f"it cannot be read: {error.strerror}")


def checksum(inbox: Path, entry: Entry, *, network: bool) -> bytes | None:
    """Read a file that no program has open for writing; None if it cannot be read, or changed."""
    with folders.Held() as held:
        file = opened(inbox, entry, held)
    if not isinstance(file, OpenFile):
        return None
    try:
        with file:
            if file.writer(network=network) is leases.Writer.SOMEBODY or not file.is_as_listed():
                return None
            return file.sha256()
    except OSError:
        return None


@heartbeat.on_share()
def status_of(descriptor: int) -> os.stat_result:
    """Return what an open file or folder is now. Raises OSError."""
    return os.fstat(descriptor)


@heartbeat.on_share()
def opened_once(inbox: Path, entry: Entry) -> Entry:
    """What a file is after it was opened; as it was listed where it cannot be opened.

    An NFS client asks the server for the current size and times when a file is opened, and else may show what it
    remembers for a minute (close-to-open consistency, nfs(5)).
    """
    above, name = folders.divide(entry.path)
    try:
        with folders.folder(inbox, above) as folder:
            descriptor = os.open(name, recognition.READ, dir_fd=folder)
    except OSError:
        return entry
    try:
        status = os.fstat(descriptor)
        return Entry(entry.path, fingerprint(status)) if stat.S_ISREG(status.st_mode) else entry
    finally:
        os.close(descriptor)


def _why_unreadable(inbox: Path, path: bytes, error: OSError) -> str:
    if passing := errors.passing(error):
        return f"it cannot be read now: {passing}"
    match error.errno:
        case errno.EROFS:
            folder = permissions.shown(inbox, folders.divide(path)[0])
            return f"the folder {folder} is read-only, so it could not be moved away afterwards; mount it for writing"
        case errno.EAGAIN:
            return permissions.HELD
        case errno.EACCES | errno.EPERM:
            return _for_want_of_permission(inbox, path, error)
        case _:
            return f"it cannot be read: {error.strerror}"


def _for_want_of_permission(inbox: Path, path: bytes, error: OSError) -> str:
    try:
        status = status_at(inbox, path)
    except OSError:
        return f"it cannot be read: {error.strerror}"
    owner = f"owner {status.st_uid}, group {status.st_gid}, mode {stat.filemode(status.st_mode)}"
    return f"it cannot be read ({error.strerror}; {owner}); let attachd's group read it (chmod g+r)"


def still_in_failed(failed: Path, source: bytes) -> bool:
    """Whether the original of what is being taken back is there, under its name or set aside; also where that is unknown."""
    try:
        return lies_there(failed, source) is not False or relocation.begun(failed, source)
    except OSError:
        return True


def lies_there(inbox: Path, path: bytes) -> bool | None:
    """Whether a regular file lies at a path; None where that cannot be known (a folder that may not be opened).

    Where a folder, a link, a pipe, a socket or a device has taken its name, the file is gone.
    """
    try:
        return stat.S_ISREG(status_at(inbox, path).st_mode)
    except OSError as error:
        return False if error.errno in folders.NOWHERE else None


@heartbeat.on_share()
def status_at(inbox: Path, path: bytes) -> os.stat_result:
    """What the name itself is, reached without following a link. Raises OSError."""
    above, name = folders.divide(path)
    with folders.folder(inbox, above) as folder:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
