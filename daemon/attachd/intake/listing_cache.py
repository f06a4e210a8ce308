"""What the last listing of each folder showed, so that a folder in which nothing was added or taken away is not listed again.

Only where that is certain: where folders show it in their mtime, all files had their rows and had settled, and the folder
had been quiet before it was listed. And never for long: a scan of everything forgets it all.
"""

from __future__ import annotations

import bisect
import os
import zlib
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field

from attachd import heartbeat

#: A folder whose mtime was younger than this when it was listed may have changed again without showing it: file systems
#: keep times of up to 2 s (FAT), and kernels write those of one tick.
YOUNG_SECONDS = 5.0

#: Of more folders than this, a scan looks at about so many and believes the rest, at each scan at others: asking ten thousand
#: for their mtime every half minute, of which events tell anyway, is most of what an idle service costs.
PART = 1000

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
    """A listing of a folder of the inbox and all below. ``reason`` is why it is no issue's; "" if it is one's.

    ``deep`` are folders below it that are not taken because of their depth, with the number of files in them; ``ignored`` is how
    many names a pattern leaves alone.
    """

    began: float
    folders: tuple[Folder, ...]
    files: int
    reason: str = ""
    deep: Mapping[bytes, int] = field(default_factory=dict)
    ignored: int = 0

    @property
    def young(self) -> bool:
        """Whether a folder had just changed when it was listed, so that another change may not show."""
        return any(folder.mtime_ns >= (self.began - YOUNG_SECONDS) * 1e9 for folder in self.folders)


@dataclass(frozen=True, slots=True)
class _Ring:
    """The watched folders in the order of the checksums of their names, so that an idle scan touches only those whose turn it is:
    what was not touched for half a minute is in no cache of the processor, and costs several times as much.
    """

    losses: int
    places: list[int]
    names: list[bytes]
    unwatched: list[bytes]

    @classmethod
    def of(cls, known: Mapping[bytes, Listing], watched: Container[Identity], losses: int) -> _Ring:
        """Arrange the *known* listings."""
        safe = [name for name, listing in known.items() if all(f.identity in watched for f in listing.folders)]
        ring = sorted((zlib.crc32(name), name) for name in safe)
        unwatched = list(known.keys() - set(safe)) if len(safe) < len(known) else []
        return cls(losses, [place for place, _ in ring], [name for _, name in ring], unwatched)

    def part(self, turn: int) -> tuple[Collection[bytes], int]:
        """The next part from the place *turn* on, with what is unwatched, and the place where the one after it begins."""
        begin = bisect.bisect_left(self.places, turn)
        end = begin + PART
        names = self.names[begin:end]
        return frozenset(names).union(self.unwatched), self.places[end] if end < len(self.places) else 0


class Listings:
    """The last listing of each folder of the inbox, by name."""

    def __init__(self) -> None:
        """None is known yet."""
        self._known: dict[bytes, Listing] = {}
        #: None when the known folders have changed.
        self._ring: _Ring | None = None
        #: From where on, on the ring of all checksums of names, the next scan looks at folders.
        self._turn = 0

    @heartbeat.on_share()
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

    def get(self, name: bytes) -> Listing | None:
        """What the last listing of a folder showed."""
        return self._known.get(name)

    def due(self, watched: Container[Identity], losses: int) -> Collection[bytes]:
        """The known folders to which this scan has to look: each has its turn; the others are believed to be unchanged.

        Only where events have proven that they come. A folder that is not *watched* is always due; *losses* is a number that
        grows whenever one ceases to be watched.
        """
        if len(self._known) <= PART:
            return self._known.keys()
        if self._ring is None or self._ring.losses != losses:
            self._ring = _Ring.of(self._known, watched, losses)
        found, self._turn = self._ring.part(self._turn)
        return found

    def known(self, name: bytes) -> bool:
        """Whether it was listed before, so that it is a folder that is looked at."""
        return name in self._known

    def put(self, name: bytes, listing: Listing) -> None:
        """Remember a listing that was complete, and after which nothing in it was left to be found out."""
        if listing.young:
            self.drop(name)
        else:
            self._known[name], self._ring = listing, None

    def drop(self, name: bytes) -> None:
        """Forget it: something is still to be found out there."""
        if self._known.pop(name, None) is not None:
            self._ring = None

    def keep(self, names: set[bytes]) -> None:
        """Forget all folders but these."""
        for name in self._known.keys() - names:
            self.drop(name)

    def clear(self) -> None:
        """Forget all: everything is to be listed, or another file system lies there."""
        self._known, self._ring = {}, None
