"""Ready markers: ``NAME.ready`` beside NAME says that NAME is complete. Reached by directory descriptors, never followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from attachd import heartbeat
from attachd.fs import folders, free_names, move, recognition
from attachd.fs.move import Outcome
from attachd.fs.recognition import Identity


def is_name(name: bytes, suffix: str) -> bool:
    """Return True if a file of this name is a marker; the suffix alone is not a name."""
    return bool(suffix) and name.endswith(os.fsencode(suffix)) and len(name) > len(os.fsencode(suffix))


def lies_beside(inbox: Path, path: bytes, suffix: str) -> bool:
    """Return True if the marker of this file is there, as a regular file. False if that is unknown."""
    above, name = folders.divide(path)
    try:
        with folders.folder(inbox, above) as folder:
            return _is_there(folder, name + os.fsencode(suffix))
    except OSError:
        return False


@heartbeat.on_share()
def remove(inbox: Path, path: bytes, suffix: str) -> bool:
    """Remove the empty marker of this file, so that it does not release the next file of that name. False if there is none.

    Raises OSError if it cannot be removed. Repeatable: a missing marker is no error.
    """
    above, name = folders.divide(path)
    marker = name + os.fsencode(suffix)
    with folders.folder_if_there(inbox, above) as folder:
        if folder is None or not _is_there(folder, marker) or _size(folder, marker):
            return False
        os.unlink(marker, dir_fd=folder)
    return True


def take_along(inbox: Path, path: bytes, suffix: str, root: Path, target: bytes, group: move.Group) -> bool:
    """Move a marker with content along with its file, because a person's text is never deleted. False if there is none.

    Raises OSError. Repeatable.
    """
    above, name = folders.divide(path)
    ending = os.fsencode(suffix)
    with folders.folder_if_there(inbox, above) as folder:
        status = recognition.status_of(folder, name + ending) if folder is not None else None
    if status is None or not stat.S_ISREG(status.st_mode):
        return False
    pin = recognition.Pin.of(status)
    identity = Identity(pin.size, pin.mtime_ns, pin.inode, None)
    return (
        move.move(inbox, path + ending, root, free_names.choose(root, target + ending), identity, group)
        is Outcome.MOVED
    )


def _size(folder: int, marker: bytes) -> int:
    status = recognition.status_of(folder, marker)
    return status.st_size if status is not None else 0


def _is_there(folder: int, marker: bytes) -> bool:
    status = recognition.status_of(folder, marker)
    return status is not None and stat.S_ISREG(status.st_mode)
