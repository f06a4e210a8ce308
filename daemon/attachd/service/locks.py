"""One process per inbox, and one per journal: locks that the kernel releases when their holder dies.

Open file description locks (fcntl(2)) decide; the text in the file only feeds the message.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

#: struct flock on 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
_WRITE_LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, as far as the file tells."""

    host: str
    pid: int
    state: str

    def __str__(self) -> str:
        """A phrase for a message."""
        return f"process {self.pid} on {self.host}, with the state folder {self.state}"


@dataclass(frozen=True, slots=True)
class NoLocks:
    """The file system has no locks: two daemons could not be kept apart."""

    reason: str


class Lock:
    """A lock that was taken; kept until ``release`` or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        """Wrap the *descriptor* that holds it."""
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give it back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def take(path: Path, state: Path) -> Lock | Holder | NoLocks:
    """Take the lock file at *path*, or say who has it. Raises ``OSError`` where the file cannot be opened."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _WRITE_LOCK)
    except OSError as error:
        holder = read_holder(path)
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return holder or Holder("an unknown host", 0, "unknown")
        return NoLocks(f"the file system of {path.parent} has no locks ({error.strerror})")
    text = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "state": str(state)})
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode() + b"\n", 0)
    return Lock(descriptor)


def holder(path: Path) -> Holder | None:
    """Who holds the lock now; None if nobody does. Asks only: nothing is taken."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        wanted = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        answer = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, wanted))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if answer[0] == fcntl.F_UNLCK:
        return None
    return read_holder(path) or Holder("an unknown host", 0, "unknown")


def read_holder(path: Path) -> Holder | None:
    """Read who wrote the lock file last."""
    try:
        content = json.loads(path.read_text("utf-8"))
        return Holder(str(content["host"]), int(content["pid"]), str(content["state"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
