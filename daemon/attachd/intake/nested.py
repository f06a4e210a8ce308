"""File systems that are mounted below the inbox: one that has gone leaves an empty folder, and nothing is concluded from that.

The inbox itself has a marker for this; a mount point in it is known from the kernel's list, which also has bind mounts of the
inbox's own file system, or by its device, which is another one than its parent's. Which folders were mount points is
remembered in the journal, so that it holds across a restart.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from attachd.intake import mounts
from attachd.journal import database
from attachd.journal.database import Journal

_KEY = "mounts"


class Nested:
    """The folders below the inbox on which other file systems were seen, as paths relative to it."""

    def __init__(self, journal: Journal) -> None:
        """Read from the *journal* which are known."""
        self._journal = journal
        known = journal.value("SELECT value FROM meta WHERE key = ?", (_KEY,))
        self._points = {os.fsencode(point) for point in json.loads(known or "[]")}
        self._mounted: frozenset[bytes] = frozenset()

    def begin(self, inbox: Path) -> None:
        """A scan begins: ask the kernel what is mounted below *inbox* now."""
        root = os.path.realpath(os.fsencode(inbox)) + b"/"
        self._mounted = frozenset(
            mount.point[len(root) :] for mount in mounts.below(inbox) if mount.point.startswith(root)
        )

    def entered(self, parent: int, path: bytes, device: int) -> None:
        """The folder *path*, on *device*, is about to be listed; *parent* is the device of the folder that it lies in."""
        if (device != parent or path in self._mounted) and path not in self._points:
            self._write(self._points | {path})

    def absent(self, inbox: int, top: bytes) -> bytes | None:
        """The mount point at or below the folder *top* on which nothing is mounted now; None if none is missing.

        One whose folder was removed is forgotten: it is not to come back.
        """
        if not self._points:
            return None
        for point in sorted(point for point in self._points if (point + b"/").startswith(top + b"/")):
            if point in self._mounted:
                continue
            try:
                device = os.stat(point, dir_fd=inbox, follow_symlinks=False).st_dev
                above = os.stat(point.rpartition(b"/")[0] or b".", dir_fd=inbox, follow_symlinks=False).st_dev
            except (FileNotFoundError, NotADirectoryError):
                self._write(self._points - {point})
            except OSError:
                return point
            else:
                if device == above:
                    return point
        return None

    def forget(self, top: bytes) -> None:
        """No file waits below *top*: whatever was mounted there, nothing depends on it."""
        left = {point for point in self._points if not (point + b"/").startswith(top + b"/")}
        if left != self._points:
            self._write(left)

    def _write(self, points: set[bytes]) -> None:
        self._points = points
        with self._journal.transaction(durable=False) as connection:
            database.put(connection, _KEY, json.dumps(sorted(map(os.fsdecode, points))))
