"""A file that is made and removed again, to see what a file system tells: whether its event comes back, whether folders show
in their mtime that something was added, and whether its clock is ours.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from dataclasses import dataclass

from attachd.intake.watching import CANARY, Watch

#: How long an event may take. On a healthy system it is milliseconds; a busy one is not to be called deaf.
ECHO_SECONDS = 5.0

#: How far a file system's clock may be from ours for folder mtimes to be compared with it.
_CLOCK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What one canary showed: ``events`` come back; ``mtimes`` of folders can be relied on; ``error``: none could be made."""

    events: bool = False
    mtimes: bool = False
    error: str = ""


def prove(watch: Watch, folder: int) -> Proof:
    """Make a canary in the folder behind a descriptor, which is watched, and wait for its event, ECHO_SECONDS at most."""
    name = CANARY + secrets.token_hex(4).encode()
    echo = watch.expect(name)
    try:
        mtimes = _make(folder, name)
        return Proof(echo.wait(ECHO_SECONDS), mtimes)
    except OSError as error:
        return Proof(error=error.strerror or str(error))
    finally:
        watch.forget(name)


def _make(folder: int, name: bytes) -> bool:
    """Make and remove it; whether the folder's mtime changed at that, to about the present time."""
    before = os.fstat(folder).st_mtime_ns
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder))
    made = os.fstat(folder).st_mtime_ns
    os.unlink(name, dir_fd=folder)
    return made != before and abs(made / 1e9 - time.time()) < _CLOCK_SECONDS


def sweep(folder: int) -> None:
    """Remove what a process that died left behind: of these names what is empty, as ours are. Raises ``OSError``."""
    for name in os.listdir(folder):
        if os.fsencode(name).startswith(CANARY):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and not status.st_size:
                os.unlink(name, dir_fd=folder)
