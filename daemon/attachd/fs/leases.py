"""Whether anybody has a file open for writing, as a read lease tells (fcntl(2), F_SETLEASE)."""

from __future__ import annotations

import errno
import fcntl
from enum import Enum, auto

#: What is said of a file that somebody has open; also after that it waits for the next look.
STILL_OPEN = "a program still has it open for writing"


class Writer(Enum):
    """Whether anybody has a file open for writing at this moment."""

    NOBODY = auto()  #: proven, writable mappings included
    SOMEBODY = auto()
    UNKNOWN = auto()  #: the system does not tell


def writer(descriptor: int, *, network: bool = False) -> Writer:
    """Ask whether anybody has the file open for writing at this moment.

    A read lease is granted only to a file that nobody writes (fcntl(2), F_SETLEASE): not by another hard link, a
    duplicate or a writable mapping either. It is given back at once: held for longer, it would let every program that opens
    the file wait for /proc/sys/fs/lease-break-time. Refused for files of other users without CAP_LEASE, and by file systems
    without leases. SIGIO must be ignored: a writer that comes in between would end the process.

    On a *network* file system neither answer proves anything: NFS and SMB clients also refuse a lease where the server
    has delegated nothing to them (nfs4_setlease and cifs_setlease in Linux), and others know only this machine's writers.
    """
    if network:
        return Writer.UNKNOWN
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return Writer.SOMEBODY if error.errno == errno.EAGAIN else Writer.UNKNOWN
    return Writer.NOBODY
