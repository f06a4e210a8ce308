"""Whether a folder takes any file at all: a small one is created, written, synchronised, renamed and removed in it."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from attachd import heartbeat
from attachd.fs import folders, rename
from attachd.share import notes

_FIRST, _SECOND = b".attachd-trial", b".attachd-trial-renamed"
#: As much as one block of most file systems, so that room for a name alone is not enough.
_CONTENT = b"attachd tries whether this folder takes files.\n".ljust(4096)
_lock = threading.Lock()


@heartbeat.on_share()
def fails(folder: Path) -> OSError | None:
    """Try it for real, and return the error; None where the folder takes a file. What a crash left of a trial goes."""
    try:
        with _lock, folders.folder(folder, b"") as here:
            with notes.prepared(here, _FIRST, _CONTENT) as first:
                second = notes.free(here, _SECOND, _CONTENT)
                rename.rename(here, first, here, second, rename.Reserving())
                os.unlink(second, dir_fd=here)
            os.fsync(here)
    except OSError as error:
        # EEXIST: another attachd tries the same folder. EINVAL: no folder can be synchronised there (fsync(2)).
        return None if error.errno in (errno.EEXIST, errno.EINVAL) else error
    return None
