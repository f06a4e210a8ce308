"""What the last listing of each folder showed, so that a folder in which nothing was added or taken away is not listed again.

Only where that is certain: where folders show it in their mtime, all files had their rows and had settled, and the folder
had been quiet before it was listed. And never for long: everything is listed again every ten minutes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

#: However quiet a folder looks, it is listed again after this time.
RELIST_SECONDS = 600.0

#: A folder whose mtime was younger than this when it was listed may have changed again without showing it: file systems
#: keep times of up to 2 s (FAT), and kernels write those of one tick.
YOUNG_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder of a tree, as it was just before it was listed."""

    path: bytes
    dev: int
    ino: int
    mtime_ns: int

    @classmethod
    def of(cls, path: bytes, status: os.stat_result) -> Folder:
        """From what fstat(2) told."""
        return cls(path, status.st_dev, status.st_ino, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Listing:
    """A complete listing of a folder of the inbox and all below. ``reason`` is why it is no issue's; "" if it is one's."""

    began_boot: float
    began: float
    folders: tuple[Folder, ...]
    files: int
    reason: str = ""

    def fresh(self, boot: float) -> bool:
        """Whether it may still be gone by, if the folders look the same."""
        return boot - self.began_boot < RELIST_SECONDS and all(
            folder.mtime_ns < (self.began - YOUNG_SECONDS) * 1e9 for folder in self.folders
        )


class Listings:
    """The last listing of each folder of the inbox, by name."""

    def __init__(self) -> None:
        """None is known yet."""
        self._known: dict[bytes, Listing] = {}

    def unchanged(
        self, inbox: int, name: bytes, boot: float, watched: Callable[[os.stat_result], bool]
    ) -> Listing | None:
        """The listing of a folder, if it would still show the same and all its folders are *watched*; else None."""
        listing = self._known.get(name)
        if listing is None or not listing.fresh(boot):
            return None
        return listing if all(_same(inbox, folder, watched) for folder in listing.folders) else None

    def known(self, name: bytes) -> bool:
        """Whether it was listed before, so that it is a folder that is looked at."""
        return name in self._known

    def put(self, name: bytes, listing: Listing) -> None:
        """Remember a listing that was complete, and after which nothing in it was left to be found out."""
        self._known[name] = listing

    def drop(self, name: bytes) -> None:
        """Forget it: something is still to be found out there."""
        self._known.pop(name, None)

    def keep(self, names: set[bytes]) -> None:
        """Forget all folders but these."""
        for name in self._known.keys() - names:
            del self._known[name]

    def clear(self) -> None:
        """Forget all: another file system lies there, or events were lost."""
        self._known = {}


def _same(inbox: int, folder: Folder, watched: Callable[[os.stat_result], bool]) -> bool:
    try:
        status = os.stat(folder.path, dir_fd=inbox, follow_symlinks=False)
    except OSError:
        return False
    same = (status.st_dev, status.st_ino, status.st_mtime_ns) == (folder.dev, folder.ino, folder.mtime_ns)
    return same and stat.S_ISDIR(status.st_mode) and watched(status)
