"""What kind of file system an open file lies on, and what that kind can prove (proc(5): ``fdinfo`` and ``mountinfo``)."""

from __future__ import annotations

import functools
import os
import re
from contextlib import suppress

from attachd import heartbeat

#: Kinds to which other machines may write. A refused lease there says nothing about writers (fcntl(2), F_SETLEASE).
SHARED = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|davfs|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|orangefs|pvfs2|smb[23]|smbfs|vboxsf"
    r"|virtiofs|vmhgfs|fuse(\..*)?"
)

#: Kinds whose ctime is their mtime, or what a program in user space says: any program can set both.
_WITHOUT_CTIME = re.compile(r"vfat|msdos|exfat|hfs|fuse(blk)?(\..*)?")

UNKNOWN = "unknown"


def is_shared(kind: str) -> bool:
    """Return True if other machines may write to files of this kind of file system."""
    return SHARED.fullmatch(kind) is not None


def has_ctime(kind: str) -> bool:
    """Return True if every write to a file of this kind of file system changes a ctime that no program can set back."""
    return _WITHOUT_CTIME.fullmatch(kind) is None


@heartbeat.on_share()
def kind(file: int) -> str:
    """Return what the kernel calls the file system of an open file (``ext4``, ``nfs4``), or ``UNKNOWN``."""
    return _kind(mount_id(file), os.fstat(file).st_dev)


def mount_id(file: int) -> int:
    """Return the id of the mount that an open file lies on, or 0 if /proc does not say."""
    with suppress(OSError, ValueError), open(f"/proc/self/fdinfo/{file}", encoding="ascii") as lines:
        return next((int(line.split()[1]) for line in lines if line.startswith("mnt_id:")), 0)
    return 0


@functools.lru_cache(64)
def _kind(mount: int, device: int) -> str:
    """*device* is part of the key, because the kernel gives the id of an earlier mount to another one."""
    del device
    with suppress(OSError, ValueError), open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            fields, _, rest = line.partition(b" - ")
            if rest and int(fields.split(b" ", 1)[0]) == mount:
                return rest.split(b" ")[0].decode("ascii", "replace")
    return UNKNOWN
