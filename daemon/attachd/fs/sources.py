"""The file that is about to leave its folder: held open from the first look until it lies at its target.

What was sent is known by its SHA-256, and by the ctime under which it was read. An equal ctime proves equal content
without reading, where the file system keeps one: every write changes it, and no program can set it back. The rename
itself changes ctime too. From the first look to the last one a tripwire tells whether anything but the rename was done.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from attachd import heartbeat
from attachd.fs import filesystems, folders, leases, recognition, tripwire
from attachd.fs.leases import Writer
from attachd.fs.recognition import Found, Identity, Pin


class Disturbed(Exception):
    """The file was changed while it was looked at: look again."""


@dataclass(frozen=True, slots=True)
class Source:
    """An open file, as it was at the first look. Without the permission to read it, the descriptor only names it."""

    descriptor: int
    pin: Pin
    readable: bool
    kind: str
    wire: tripwire.Wire | None

    def is_proven(self, identity: Identity) -> bool:
        """Return True if this is the file of that identity, with the same content, without reading it."""
        if not self._is_same_file(identity):
            return False
        if identity.sha256 is None or not identity.size or identity.ctime_ns is None:
            return True
        return identity.ctime_ns == self.pin.ctime_ns and filesystems.has_ctime(self.kind)

    def judge(self, identity: Identity) -> Found:
        """Say what this is, by reading it where nothing else proves it. Raises OSError, and ``Disturbed``."""
        if self.is_proven(identity):
            return Found.OURS
        if self.pin.size != identity.size:
            return Found.OTHER
        here = identity.inode is not None and identity.inode[0] == self.pin.inode[0]
        if here and not self._is_same_file(identity):
            return Found.OTHER
        if identity.sha256 is None or not identity.size:  # Every empty file has the same checksum: it says nothing.
            return Found.OURS if self.pin.mtime_ns == identity.mtime_ns else Found.OTHER
        if self.digest() == identity.sha256:
            return Found.OURS
        return Found.CHANGED if here else Found.OTHER

    def _is_same_file(self, identity: Identity) -> bool:
        known = identity.inode, identity.size, identity.mtime_ns
        return known == (self.pin.inode, self.pin.size, self.pin.mtime_ns)

    @heartbeat.on_share()
    def digest(self) -> bytes:
        """Return the SHA-256 of its content now. Raises OSError, and ``Disturbed`` if it changes meanwhile."""
        if not self.readable:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if self.wire:
            self.wire.rearm()
        digest = recognition.steady_digest(self.descriptor, self._is_touched)
        if digest is None:
            raise Disturbed
        self._is_touched()
        return digest

    def _is_touched(self) -> bool:
        """Return True if something was done to it since it was last read. Raises ``Disturbed`` if that was a write."""
        if self.wire is None:
            return False
        if self.wire.written:
            raise Disturbed
        return self.wire.tripped

    def is_undisturbed(self) -> bool:
        """Return True if nobody has changed its content or its times since the first look, or since it was read."""
        if not self._looks_the_same():
            return False
        return not self.readable or (self.wire is not None and not self.wire.tripped)

    def still_holds(self, digest: bytes) -> bool:
        """Return True if it holds what was read of it since the first look. Raises OSError.

        Where the kernel grants no watch, nothing tells of writes; and a new mode may be all that was noticed. Then size and time,
        and a second reading, have to agree.
        """
        if self.is_undisturbed():
            return True
        try:
            self._is_touched()
            return self.digest() == digest and self._looks_the_same()
        except Disturbed:
            return False

    @heartbeat.on_share()
    def _looks_the_same(self) -> bool:
        return Pin.of(os.fstat(self.descriptor)).has_content_of(self.pin)

    def is_open_for_writing(self) -> bool:
        """Return True if the kernel says that a program has it open for writing, or mapped so; False where that is not known."""
        network = filesystems.is_shared(self.kind)
        return self.readable and leases.writer(self.descriptor, network=network) is Writer.SOMEBODY


@contextmanager
def opened(folder: int, name: bytes, kinds: dict[int, str] | None = None) -> Iterator[Source | None]:
    """Hold what lies under a name; None where that is no regular file, or nothing. Raises OSError.

    *kinds* remembers for a group of files what kind of file system each device is.
    """
    found = _open(folder, name)
    if found is None:
        yield None
        return
    descriptor, readable = found
    try:
        with tripwire.stretched(descriptor) as wire:
            # The wire first: what happens between it and this look changes what the look shows, or trips it.
            with heartbeat.on_share():
                status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                yield None
                return
            kind = kinds.get(status.st_dev) if kinds is not None else None
            if kind is None:
                kind = filesystems.kind(descriptor)
            if kinds is not None:
                kinds[status.st_dev] = kind
            yield Source(descriptor, Pin.of(status), readable, kind, wire)
    finally:
        with heartbeat.on_share():
            os.close(descriptor)


@heartbeat.on_share()
def _open(folder: int, name: bytes) -> tuple[int, bool] | None:
    """Open it for reading, or (no permission) only to name it: that is enough to move it within folders that we may change."""
    status = recognition.status_of(folder, name)
    if status is None or not stat.S_ISREG(status.st_mode):
        return None
    try:
        return os.open(name, recognition.READ, dir_fd=folder), True
    except PermissionError:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), False
    except OSError as error:
        if error.errno in folders.NOWHERE:
            return None
        raise
