"""What the last listing of each folder showed, so that a folder in which nothing was added or taken away is not listed again.

Only where that is certain: where folders show it in their mtime, all files had their rows and had settled, and the folder
had been quiet before it was listed. And never for long: a scan of everything forgets it all.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Container
from dataclasses import dataclass

#: A folder whose mtime was younger than this when it was listed may have changed again without showing it: file systems
#: keep times of up to 2 s (FAT), and kernels write those of one tick.
YOUNG_SECONDS = 5.0

#: Of more folders than this, a scan looks at about so many and believes the rest, at each scan at others: asking ten thousand
#: for their mtime every half minute, of which events tell anyway, is most of what an idle service costs.
PART = 2000
_RING = 1 << 32

Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder of a tree, as it was just before it was listed; ``identity`` is its device and inode.

    Its mtime tells that something was added or taken away; rsync and tar set it back, but not its ctime.
    """

    path: bytes
    identity: Identity
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: bytes, status: os.stat_result) -> Folder:
        """From what fstat(2) told."""
        return cls(path, (status.st_dev, status.st_ino), status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Listing:
    """A listing of a folder of the inbox and all below. ``reason`` is why it is no issue's; "" if it is one's."""

    began: float
    folders: tuple[Folder, ...]
    files: int
    reason: str = ""

    @property
    def young(self) -> bool:
        """Whether a folder had just changed when it was listed, so that another change may not show."""
        return any(folder.mtime_ns >= (self.began - YOUNG_SECONDS) * 1e9 for folder in self.folders)


class Listings:
    """The last listing of each folder of the inbox, by name."""

    def __init__(self) -> None:
        """None is known yet."""
        self._known: dict[bytes, Listing] = {}
        #: From where on, on the ring of all checksums of names, the next scan looks at folders.
        self._turn = 0

    def unchanged(self, inbox: int, name: bytes, watched: Container[Identity]) -> Listing | None:
        """The listing of a folder, if it would still show the same and all its folders are *watched*; else None."""
        listing = self._known.get(name)
        if listing is None:
            return None
        for folder in listing.folders:
            try:
                status = os.stat(folder.path, dir_fd=inbox, follow_symlinks=False)
            except OSError:
                return None
            identity = (status.st_dev, status.st_ino)
            times = (status.st_mtime_ns, status.st_ctime_ns)
            if times != (folder.mtime_ns, folder.ctime_ns) or identity != folder.identity or identity not in watched:
                return None
        return listing

    def believed(self, watched: Container[Identity]) -> dict[bytes, Listing]:
        """The listings that need no look at this scan, as long as all their folders are *watched*: each has its turn.

        Only where events have proven that they come.
        """
        if len(self._known) <= PART:
            return {}
        turn, span = self._turn, PART * _RING // len(self._known)
        self._turn = (turn + span) % _RING
        believed = {}
        for name, listing in self._known.items():
            if (zlib.crc32(name) - turn) % _RING < span:
                continue
            for folder in listing.folders:
                if folder.identity not in watched:
                    break
            else:
                believed[name] = listing
        return believed

    def known(self, name: bytes) -> bool:
        """Whether it was listed before, so that it is a folder that is looked at."""
        return name in self._known

    def put(self, name: bytes, listing: Listing) -> None:
        """Remember a listing that was complete, and after which nothing in it was left to be found out."""
        if listing.young:
            self.drop(name)
        else:
            self._known[name] = listing

    def drop(self, name: bytes) -> None:
        """Forget it: something is still to be found out there."""
        self._known.pop(name, None)

    def keep(self, names: set[bytes]) -> None:
        """Forget all folders but these."""
        for name in self._known.keys() - names:
            del self._known[name]

    def clear(self) -> None:
        """Forget all: everything is to be listed, or another file system lies there."""
        self._known = {}
