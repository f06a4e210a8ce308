"""Test whether a folder takes files: create, write, sync, rename and remove a small one."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from attachd import heartbeat
from attachd.fs import folders, rename
from attachd.share import notes

_FIRST, _SECOND = b".attachd-trial", b".attachd-trial-renamed"
#: One block of most file systems, so that room for a name alone is not enough.
_CONTENT = b"attachd tries whether this folder takes files.\n".ljust(4096)
_lock = threading.Lock()


@heartbeat.on_share()
def fails(folder: Path) -> OSError | None:
    """Try it for real. Return the error, or None if the folder takes a file. Remnants of an earlier trial go."""
    try:
        with _lock, folders.folder(folder, b"") as here:
            with notes.prepared(here, _FIRST, _CONTENT) as first:
                second = notes.free(here, _SECOND, _CONTENT)
                rename.rename(here, first, here, second, rename.Reserving())
                os.unlink(second, dir_fd=here)
            os.fsync(here)
    except OSError as error:
        # EEXIST: another attachd tries the same folder. EINVAL: this file system cannot sync folders (fsync(2)).
        return None if error.errno in (errno.EEXIST, errno.EINVAL) else error
    return None
