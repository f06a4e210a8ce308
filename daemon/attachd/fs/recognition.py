"""Recognise a file before and after it was moved."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from attachd import heartbeat
from attachd.fs import folders
from attachd.model import signed64

#: For names that other users choose. O_NOFOLLOW: they may be symlinks. O_NONBLOCK: opening a FIFO would wait for its other
#: end (open(2)).
UNTRUSTED = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
READ = os.O_RDONLY | UNTRUSTED

#: Bytes read at once.
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """What identifies a file. *inode* is (device, inode) while that can be trusted: in the same boot, on the same mount.

    If that says nothing (after a restart, on another device), size and *sha256* decide; without a checksum, size and time.
    Under *ctime_ns* its content was last known to be *sha256*: under another ctime the file is read. ``UNREAD`` never proves
    anything. None asks for no proof: any file with this inode, size and time is meant.
    """

    size: int
    mtime_ns: int
    inode: tuple[int, int] | None
    sha256: bytes | None
    ctime_ns: int | None = None


#: A ctime for a file that must be read before it counts as the same.
UNREAD = -1


class Found(Enum):
    """What lies at a path."""

    OURS = auto()  #: the very file
    CHANGED = auto()  #: the very file, and its content was exchanged under the same size and time
    OTHER = auto()  #: something else, of any type
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Pin:
    """One file at one moment: enough to decide right afterwards, without reading, whether it is still the same."""

    inode: tuple[int, int]
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Pin:
        """Make a pin of a stat's result."""
        inode = signed64(status.st_dev), signed64(status.st_ino)
        return cls(inode, status.st_size, signed64(status.st_mtime_ns), signed64(status.st_ctime_ns))

    def has_content_of(self, other: Pin) -> bool:
        """Return True if only ctime may differ, which a rename or a new mode changes too."""
        return (self.inode, self.size, self.mtime_ns) == (other.inode, other.size, other.mtime_ns)


def look(root: Path, relative: bytes, identity: Identity, *, copied: bool = False) -> Found:
    """Say whether the file under this path is the one that *identity* describes; *copied*: or reads the same.

    Follows no symlink and waits for no FIFO. Raises OSError, also where the root itself is missing.
    """
    above, name = folders.divide(relative)
    with folders.folder_if_there(root, above) as folder:
        return Found.NOTHING if folder is None else examine(folder, name, identity, copied=copied)[0]


def examine(folder: int, name: bytes, identity: Identity, *, copied: bool = False) -> tuple[Found, Pin | None]:
    """As ``look``, in an open folder; with what pins the thing that was found."""
    status = status_of(folder, name)
    if status is None:
        return Found.NOTHING, None
    pin = Pin.of(status)
    if not stat.S_ISREG(status.st_mode) or pin.size != identity.size:
        return Found.OTHER, pin
    known = (pin.inode, pin.mtime_ns) == (identity.inode, identity.mtime_ns)
    if known and identity.ctime_ns in (None, pin.ctime_ns):
        return Found.OURS, pin
    if known or copied or identity.inode is None or identity.inode[0] != pin.inode[0]:
        return Found.OURS if _reads_the_same(folder, name, identity, pin) else Found.OTHER, pin
    return Found.OTHER, pin


def _reads_the_same(folder: int, name: bytes, identity: Identity, pin: Pin) -> bool:
    if identity.sha256 is None or not identity.size:  # Every empty file has the same checksum: it says nothing.
        return pin.mtime_ns == identity.mtime_ns
    return digest_of(folder, name, pin) == identity.sha256


def lies(root: Path, path: bytes) -> bool | None:
    """Whether anything lies at a path below the root, even a link, however long the path is; None where nobody can know."""
    above, name = folders.divide(path)
    try:
        with folders.folder_if_there(root, above) as folder:
            return folder is not None and status_of(folder, name) is not None
    except OSError:
        return None


@heartbeat.on_share()
def status_of(folder: int, name: bytes) -> os.stat_result | None:
    """Return what the name itself is (a symlink is not followed), or None where there is nothing."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


@heartbeat.on_share()
def digest_of(folder: int, name: bytes, pin: Pin) -> bytes | None:
    """Return the SHA-256 of the pinned file, or None if it is no longer this file or changes while it is read."""
    try:
        file = os.open(name, READ, dir_fd=folder)
    except OSError as error:
        if error.errno in folders.NOWHERE:
            return None
        raise
    try:
        return steady_digest(file) if Pin.of(os.fstat(file)).has_content_of(pin) else None
    finally:
        os.close(file)


@heartbeat.on_share()
def steady_digest(file: int, touched: Callable[[], bool] = lambda: False) -> bytes | None:
    """Return the SHA-256 of all of an open file, or None if it changes while it is read.

    A new mode or owner sets ctime, too, and a job may set those of a whole inbox more often than a large file is read. So if
    nothing but ctime changed, or *touched* says that something was done to the file, a second reading has to agree.
    """
    before = Pin.of(os.fstat(file))
    os.lseek(file, 0, os.SEEK_SET)
    digest = digest_from(file)
    now = Pin.of(os.fstat(file))
    if now == before and not touched():
        return digest
    if not now.has_content_of(before):
        return None
    os.lseek(file, 0, os.SEEK_SET)
    same = digest_from(file) == digest
    return digest if same and Pin.of(os.fstat(file)).has_content_of(before) else None


@heartbeat.on_share()
def digest_from(file: int) -> bytes:
    """Return the SHA-256 of what is left to read from this descriptor."""
    digest = hashlib.sha256()
    while chunk := os.read(file, CHUNK):
        digest.update(chunk)
    return digest.digest()
