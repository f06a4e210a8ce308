"""Ask the kernel, by a read lease, whether a program has a file open for writing (fcntl(2), F_SETLEASE)."""

from __future__ import annotations

import errno
import fcntl
from enum import Enum, auto

from attachd import heartbeat

#: Why a file waits that a program has open; it waits for the next look even after that.
STILL_OPEN = "a program still has it open for writing"


class Writer(Enum):
    """The answer: whether a program has the file open for writing at this moment."""

    NOBODY = auto()  #: proven, writable mappings included
    SOMEBODY = auto()
    UNKNOWN = auto()  #: the system does not tell


@heartbeat.on_share()
def writer(descriptor: int, *, network: bool = False) -> Writer:
    """Ask whether a program has the file open for writing at this moment.

    The kernel grants a read lease only if no program can write to the file, by another hard link, a duplicate or a writable
    mapping either (fcntl(2), F_SETLEASE). It is returned at once: while it is held, every program that opens the file for
    writing waits, up to /proc/sys/fs/lease-break-time. The kernel refuses it for files of other users without CAP_LEASE, and on
    file systems without leases. SIGIO must be ignored, or a writer that comes in between would end the process.

    On a *network* file system neither answer proves anything. NFS and SMB clients also refuse a lease if the server has
    delegated nothing to them (nfs4_setlease and cifs_setlease in Linux), and others know only this machine's writers.
    """
    if network:
        return Writer.UNKNOWN
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return Writer.SOMEBODY if error.errno == errno.EAGAIN else Writer.UNKNOWN
    return Writer.NOBODY
