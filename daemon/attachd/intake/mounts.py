"""Which file systems lie at the inbox and below it, and of which kind: of some, events tell nothing of what others do.

Read from ``/proc/self/mountinfo`` (proc(5)), where the kernel itself names them; statfs(2) knows only their magic numbers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attachd.fs import filesystems

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
