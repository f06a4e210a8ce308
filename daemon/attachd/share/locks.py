"""One process per inbox, and one per journal: locks that the kernel releases when their holder dies.

Open file description locks (fcntl(2)) decide. The text in the file is only for messages.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from attachd import heartbeat
from attachd.fs import recognition

#: struct flock on 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
_WRITE_LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
#: No text in a lock file is as long as this.
_MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock, according to the lock file."""

    host: str
    pid: int
    state: str

    def __str__(self) -> str:
        """Return the process and its state folder."""
        return f"{self.process}, with the state folder {self.state}"

    @property
    def process(self) -> str:
        """Return the process alone."""
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True, slots=True)
class NoLocks:
    """The file system has no locks, so it cannot keep two daemons apart."""

    reason: str


class Lock:
    """A lock that this process holds until ``release`` or its end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @heartbeat.on_share()
    def stands(self, name: str, folder: int) -> bool:
        """Return True if *name* in the open *folder* is still the file of this lock, and the lock is still ours.

        If another process replaces the file, it locks another one. A file server may also drop the lock silently: the kernel does
        not retake NFSv4 locks after their lease ran out. To lock once more asks the server, and changes nothing if it holds.
        """
        if self._descriptor is None:
            return False
        try:
            ours, there = os.fstat(self._descriptor), os.stat(name, dir_fd=folder, follow_symlinks=False)
            if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
                return False
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _WRITE_LOCK)
        except OSError:
            return False
        return True

    @heartbeat.on_share()
    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@heartbeat.on_share()
def take(path: Path, state: Path, *, folder: int | None = None) -> Lock | Holder | NoLocks:
    """Take the lock file at *path*, or return its holder. Raises ``OSError`` if the file cannot be made.

    *folder* is the open folder of the file, if the path to it cannot be trusted.
    """
    descriptor = _open(path, os.O_RDWR | os.O_CREAT, folder)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _WRITE_LOCK)
    except OSError as error:
        holder = _read_holder(descriptor)
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return holder or Holder("an unknown host", 0, "unknown")
        return NoLocks(f"the file system of {path.parent} has no locks ({error.strerror})")
    text = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "state": str(state)})
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode() + b"\n", 0)
    except OSError:
        os.close(descriptor)
        raise
    return Lock(descriptor)


@heartbeat.on_share()
def holder(path: Path, *, folder: int | None = None) -> Holder | None:
    """Return the holder of the lock, or None. Takes nothing."""
    try:
        descriptor = _open(path, os.O_RDONLY, folder)
    except OSError:
        return None
    try:
        wanted = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        answer = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, wanted))
        if answer[0] == fcntl.F_UNLCK:
            return None
        return _read_holder(descriptor) or Holder("an unknown host", 0, "unknown")
    except OSError:
        return None
    finally:
        os.close(descriptor)


@heartbeat.on_share()
def _open(path: Path, flags: int, folder: int | None) -> int:
    """Open the lock file, which must be a regular file: other users may have put anything there. Raises OSError."""
    name = path if folder is None else path.name
    descriptor = os.open(name, flags | recognition.UNTRUSTED, 0o644, dir_fd=folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


@heartbeat.on_share()
def _read_holder(descriptor: int) -> Holder | None:
    """Return the process that wrote the lock file last."""
    try:
        content = json.loads(os.pread(descriptor, _MOST_BYTES, 0))
        return Holder(str(content["host"]), int(content["pid"]), str(content["state"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
