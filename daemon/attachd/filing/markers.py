"""Ready markers: ``NAME.ready`` beside NAME says that NAME is complete. Reached by directory descriptors, never followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from attachd.filing import moving, places, recognising
from attachd.filing.moving import Dirty, Identity, Outcome


def is_name(name: bytes, suffix: str) -> bool:
    """Whether a file of this name would be a marker; the suffix alone is none."""
    return bool(suffix) and name.endswith(os.fsencode(suffix)) and len(name) > len(os.fsencode(suffix))


def lies_beside(inbox: Path, path: bytes, suffix: str) -> bool:
    """Whether the marker of this file is there: a regular file. False where that cannot be known."""
    above, name = places.divide(path)
    try:
        with places.folder(inbox, above) as folder:
            return _is_there(folder, name + os.fsencode(suffix))
    except OSError:
        return False


def remove(inbox: Path, path: bytes, suffix: str) -> bool:
    """Remove the empty marker of this file, so that it does not release the next one of its name. False if there is none.

    Raises OSError where it cannot be removed. Repeatable: one that is gone is no error.
    """
    above, name = places.divide(path)
    marker = name + os.fsencode(suffix)
    with places.folder_if_there(inbox, above) as folder:
        if folder is None or not _is_there(folder, marker) or _size(folder, marker):
            return False
        os.unlink(marker, dir_fd=folder)
    return True


def take_along(inbox: Path, path: bytes, suffix: str, root: Path, target: bytes, dirty: Dirty) -> bool:
    """Move a marker that holds something to where its file goes: what somebody wrote is never deleted. False if there is none.

    Raises OSError. Repeatable.
    """
    above, name = places.divide(path)
    ending = os.fsencode(suffix)
    with places.folder_if_there(inbox, above) as folder:
        status = recognising.status_of(folder, name + ending) if folder is not None else None
    if status is None or not stat.S_ISREG(status.st_mode):
        return False
    pin = recognising.Pin.of(status)
    identity = Identity(pin.size, pin.mtime_ns, pin.inode, None)
    return (
        moving.move(inbox, path + ending, root, moving.choose(root, target + ending), identity, dirty) is Outcome.MOVED
    )


def _size(folder: int, marker: bytes) -> int:
    status = recognising.status_of(folder, marker)
    return status.st_size if status is not None else 0


def _is_there(folder: int, marker: bytes) -> bool:
    status = recognising.status_of(folder, marker)
    return status is not None and stat.S_ISREG(status.st_mode)
