"""Which file systems lie at the inbox and below it, and of which kind: of some, events tell nothing of what others do.

Read from ``/proc/self/mountinfo`` (proc(5)), where the kernel itself names them; statfs(2) knows only their magic numbers.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attachd import heartbeat
from attachd.fs import filesystems
from attachd.journal import database
from attachd.journal.database import Journal

#: How often folders are looked through of which events do not tell.
POLL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Mount:
    """One file system: where it is mounted, and what the kernel calls it (``ext4``, ``nfs4``, ``fuse.sshfs``)."""

    point: bytes
    kind: str

    @property
    def shared(self) -> bool:
        """Whether others than this machine may write to it, of which no event tells."""
        # Of these inotify tells only what this machine itself does (inotify(7), "Limitations and caveats"), and their folders
        # may look unchanged for a while (nfs(5), attribute caching).
        return filesystems.is_shared(self.kind)


#: Where nothing can be known, as without /proc.
UNKNOWN = Mount(b"/", "unknown")


def below(inbox: Path) -> list[Mount]:
    """The mount that *inbox* lies on, and those below it. Never empty, never raises."""
    try:
        listed = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return [UNKNOWN]
    return relevant(parse(listed), os.path.realpath(os.fsencode(inbox)))


def parse(listed: bytes) -> list[Mount]:
    """Read mountinfo. The later of two mounts at one point hides the earlier one."""
    found: dict[bytes, Mount] = {}
    for line in listed.splitlines():
        fields, _, rest = line.partition(b" - ")
        columns = fields.split(b" ")
        if len(columns) > 4 and rest:
            point = _unescaped(columns[4])
            found.pop(point, None)
            found[point] = Mount(point, rest.split(b" ")[0].decode("ascii", "replace"))
    return list(found.values())


def _unescaped(path: bytes) -> bytes:
    """Undo the octal escapes of space, tab, newline and backslash."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), path)


def relevant(mounts: Sequence[Mount], inbox: bytes) -> list[Mount]:
    """The mount on which *inbox* (an absolute path without links) lies, then those below it."""
    return [of(mounts, inbox), *(mount for mount in mounts if mount.point.startswith(inbox.rstrip(b"/") + b"/"))]


def of(mounts: Sequence[Mount], path: bytes) -> Mount:
    """The mount on which an absolute path lies: the one with the longest point above it."""
    above = [mount for mount in mounts if mount.point == b"/" or (path + b"/").startswith(mount.point + b"/")]
    return max(above, key=lambda mount: len(mount.point), default=UNKNOWN)


# File systems that are mounted below the inbox: one that has gone leaves an empty folder, and nothing is concluded
# from that.
# The inbox itself has a marker for this; a mount point in it is known from the kernel's list, which also has bind
# mounts of the inbox's own file system, or by its device, which is another one than its parent's. Which folders were
# mount points is remembered in the journal, so that it holds across a restart.

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
        self._mounted = frozenset(mount.point[len(root) :] for mount in below(inbox) if mount.point.startswith(root))

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
                with heartbeat.on_share():
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
