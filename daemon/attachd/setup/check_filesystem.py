"""What ``check`` tests of the inbox's file systems: events, leases, locks, and whether attachd can empty others' folders."""

from __future__ import annotations

import os
import secrets
import stat
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from attachd.fs.leases import Writer, writer
from attachd.intake import mounts
from attachd.intake.coverage import Coverage
from attachd.intake.inotify import Changes, Watch
from attachd.share import locks as locks_

#: CAP_LEASE in the effective set (capabilities(7), linux/capability.h).
_CAP_LEASE = 1 << 28
#: Tags of entries in an ACL (linux/posix_acl.h).
_USER, _GROUP_OBJ, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10


def fresh(folder: Path) -> Path:
    """Return a new path for a test in *folder*, which intake ignores."""
    return folder / f".attachd-{secrets.token_hex(4)}"


def events(inbox: Path) -> Iterator[tuple[str, str]]:
    """Yield each mount under *inbox* whose events are incomplete, with the reason; only *inbox* and "" if none is."""
    watch = Watch(Changes())
    found = Coverage(inbox, watch)
    found.begin(0.0)
    try:
        reasons = found.reasons()
    finally:
        watch.stop()
    if not reasons:
        yield str(inbox), ""
    for mount, reason in reasons.items():
        yield mount, f"{reason}; attachd scans it every {mounts.POLL_SECONDS:g} s"


def leases(inbox: Path) -> str:
    """Return why attachd cannot tell for every file whether a program writes it, or "". Raises ``OSError``."""
    if mounts.below(inbox)[0].shared:
        return "cannot tell on a network file system whether a program is still writing a file"
    trial = fresh(inbox)
    descriptor = os.open(trial, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        answer = writer(descriptor)
    finally:
        os.close(descriptor)
        trial.unlink(missing_ok=True)
    if answer is not Writer.NOBODY:
        return "cannot tell whether a program is still writing a file (the file system has no leases)"
    return (
        "" if _may_lease() else "cannot tell whether other users are still writing their files (CAP_LEASE is missing)"
    )


def locks(folder: Path) -> str:
    """Return why nothing can be locked in *folder*, or "". Raises ``OSError`` if no file can be created there."""
    trial = fresh(folder)
    try:
        taken = locks_.take(trial, folder)
    finally:
        trial.unlink(missing_ok=True)
    if isinstance(taken, locks_.Lock):
        taken.release()
    return taken.reason if isinstance(taken, locks_.NoLocks) else ""


def droppers(inbox: Path) -> str:
    """Return why attachd could not empty a folder that another user makes in the inbox under umask 022.

    "" if it could, if nobody else can make one, or if only the file server knows.
    """
    if os.geteuid() == 0 or not inbox.stat().st_mode & 0o022 or mounts.below(inbox)[0].shared:
        return ""
    trial, before = fresh(inbox), os.umask(0o022)
    try:
        trial.mkdir()
    finally:
        os.umask(before)
    try:
        made, acl = trial.stat(), _acl(trial)
    finally:
        trial.rmdir()
    mine = {os.getegid(), *os.getgroups()}
    # Without setgid the folder would have its maker's own group.
    group = made.st_gid if made.st_mode & stat.S_ISGID else -1
    if rights(made.st_mode, acl, os.geteuid(), mine, group) & 0o7 == 0o7:
        return ""
    return "other users' files may stay in the inbox: attachd may not change folders that they create under umask 022"


def rights(mode: int, acl: bytes, user: int, groups: Collection[int], group: int) -> int:
    """Return what *user* in *groups* may do (rwx as 0 to 7) with a file of another user and of *group*.

    *acl*: the extended attribute ``system.posix_acl_access`` (acl(5); linux/posix_acl_xattr.h), or b"".
    """
    entries = list(struct.iter_unpack("<HHI", acl[4:]))
    if not entries:
        return mode >> 3 & 0o7 if group in groups else mode & 0o7
    mask = next((may for tag, may, _ in entries if tag == _MASK), 0o7)
    named = [may & mask for tag, may, who in entries if tag == _USER and who == user]
    if named:
        return int(named[0])
    through = [
        may & mask
        for tag, may, who in entries
        if (tag == _GROUP and who in groups) or (tag == _GROUP_OBJ and group in groups)
    ]
    return int(max(through)) if through else mode & 0o7


def _acl(folder: Path) -> bytes:
    with suppress(OSError):
        return os.getxattr(folder, "system.posix_acl_access")
    return b""


def _may_lease() -> bool:
    with suppress(OSError, ValueError), open("/proc/self/status", "rb") as lines:
        effective = next((line.split()[1] for line in lines if line.startswith(b"CapEff:")), b"0")
        return bool(int(effective, 16) & _CAP_LEASE)
    return False
