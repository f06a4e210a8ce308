"""What intake finds out by touching files: whether one can be taken, whose content it is, what is gone.

A settled file must be readable now and movable afterwards; else it is blocked, and never sent.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from attachd import errors, heartbeat
from attachd.fs import folders, leases, permissions, recognition, relocation
from attachd.intake import gates
from attachd.intake.files import Entry, fingerprint
from attachd.model import Fingerprint

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Free:
    """It can be taken; ``sha256`` only where it was asked for, ``lacks`` the end that it lacks."""

    sha256: bytes | None = None
    lacks: str | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """It cannot be taken; *reason* is a sentence for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class Moving:
    """It changed or vanished while it was looked at: the next scan looks again."""


#: Whether a path below the inbox lies on a network file system.
Network = Callable[[bytes], bool]
#: What judges an open file before it is read as a whole.
Gate = Callable[[int], gates.Go | gates.Wait]


def examine(
    inbox: Path, path: bytes, print_: Fingerprint, held: folders.Held, *, checksum: bool, gate: Gate | None = None
) -> Free | Bar | Moving | gates.Wait:
    """Open the file as it will be opened for sending, and see whether its folder would let it go and *gate* lets it pass.

    Without a gate it is only what somebody writes to that counts as moving. *held* holds the folders of many files.
    """
    above, name = folders.divide(path)
    try:
        folder = held.folder(inbox, above)
        reason = permissions.bar(folder, name, inbox, above)
        if reason:
            return Bar(reason)
        with heartbeat.on_share():
            descriptor = os.open(name, recognition.READ, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return Moving()
        return Bar(_why_unreadable(inbox, path, error))
    try:
        return _examine_open(descriptor, print_, gate or is_closed, checksum=checksum)
    except OSError as error:
        passing = errors.passing(error)
        return Bar(f"it cannot be read now: {passing}" if passing else f"it cannot be read: {error.strerror}")
    finally:
        _close(descriptor)


@heartbeat.on_share()
def _close(descriptor: int) -> None:
    os.close(descriptor)


@heartbeat.on_share()
def status_of(descriptor: int) -> os.stat_result:
    return os.fstat(descriptor)


def _examine_open(descriptor: int, print_: Fingerprint, gate: Gate, *, checksum: bool) -> Free | Moving | gates.Wait:
    passed = gate(descriptor)
    if not _is(status_of(descriptor), print_):
        return Moving()
    if isinstance(passed, gates.Wait):
        return passed
    if not checksum:
        return Free(lacks=passed.lacks)
    digest = recognition.digest_from(descriptor)
    return Free(digest, passed.lacks) if _is(status_of(descriptor), print_) else Moving()


def is_closed(descriptor: int) -> gates.Go | gates.Wait:
    return gates.Wait(0.0, leases.STILL_OPEN) if leases.writer(descriptor) is leases.Writer.SOMEBODY else gates.Go()


def as_it_is(descriptor: int) -> gates.Go | gates.Wait:
    """The gate of network file systems, where nobody can say who writes."""
    del descriptor
    return gates.Go()


@heartbeat.on_share()
def anew(inbox: Path, entry: Entry) -> Entry:
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


def _is(status: os.stat_result, print_: Fingerprint) -> bool:
    return stat.S_ISREG(status.st_mode) and fingerprint(status)._replace(ctime_ns=print_.ctime_ns) == print_


def _why_unreadable(inbox: Path, path: bytes, error: OSError) -> str:
    if passing := errors.passing(error):
        return f"it cannot be read now: {passing}"
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
