"""Ready markers: ``NAME.ready`` beside NAME says that NAME is complete. Reached by directory descriptors, never followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from attachd.filing import places, recognising


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
    """Remove the marker of this file, so that it does not release the next one of its name. False if there is none.

    Raises OSError where it cannot be removed. Repeatable: one that is gone is no error.
    """
    above, name = places.divide(path)
    marker = name + os.fsencode(suffix)
    with places.folder_if_there(inbox, above) as folder:
        if folder is None or not _is_there(folder, marker):
            return False
        os.unlink(marker, dir_fd=folder)
    return True


def _is_there(folder: int, marker: bytes) -> bool:
    status = recognising.status_of(folder, marker)
    return status is not None and stat.S_ISREG(status.st_mode)
