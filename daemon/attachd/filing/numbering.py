"""Names that are free: ``report.pdf``, ``report (2).pdf``, and never longer than a file system takes."""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from attachd.filing import places, recognising

#: Bytes of one name on every Linux file system (NAME_MAX, limits.h).
NAME_MAX = 255

#: Bytes of the longest ending that is kept when a name is shortened; what is longer is no extension.
_LONGEST_EXTENSION = 32


def shorten(stem: bytes, tail: bytes) -> bytes:
    """Join both, cutting *stem* before a UTF-8 character so that 255 bytes suffice (anywhere if it is not UTF-8)."""
    room = max(NAME_MAX - len(tail), 0)
    return stem[: _boundary(stem, room)] + tail


def _boundary(text: bytes, end: int) -> int:
    """Return the last position up to *end* that is not inside a UTF-8 character (at most four bytes, RFC 3629)."""
    if end >= len(text):
        return len(text)
    for start in range(end, max(end - 4, -1), -1):
        if text[start] & 0xC0 != 0x80:
            return start
    return end


def numbered(name: bytes) -> Iterator[bytes]:
    """Yield the name, then ``NAME (2).EXT``, ``NAME (3).EXT`` and so on without end."""
    stem, extension = os.path.splitext(name)
    if len(extension) > _LONGEST_EXTENSION:
        stem, extension = name, b""
    return series(stem, b"", extension)


def series(stem: bytes, middle: bytes, extension: bytes) -> Iterator[bytes]:
    """Yield the three joined, then with `` (2)`` and so on before the extension; only the stem is ever cut."""
    yield shorten(stem, middle + extension)
    for number in itertools.count(2):
        yield shorten(stem, middle + b" (%d)" % number + extension)


def hidden(purpose: bytes, name: bytes) -> bytes:
    """Return the dot-name that stands in for *name* while something is done to it; the same one after a crash."""
    return b".attachd-%s-%s" % (purpose, hashlib.blake2b(name, digest_size=12).hexdigest().encode())


def choose(root: Path, wanted: bytes, promised: Callable[[bytes], bool] = lambda _: False) -> bytes:
    """Return the first free path for *wanted* below the root, its folders numbered too where something bars the way.

    Everything that is not a real folder bars a folder, and everything bars a file; symlinks are never followed. A path
    that was *promised* to another file counts as taken. What is free now may be taken a moment later: only a rename that
    does not replace decides. Raises OSError.
    """
    with places.Held() as held:
        return Chooser(root, held).choose(wanted, promised)


class Chooser:
    """Chooses paths below one root for a group of files: into which folders they go is looked at once."""

    def __init__(self, root: Path, held: places.Held) -> None:
        """Make one for a group, whose folders are *held*."""
        self._root, self._held = root, held
        self._chosen: dict[bytes, list[bytes]] = {}
        self._absent: set[bytes] = set()

    def choose(self, wanted: bytes, promised: Callable[[bytes], bool] = lambda _: False) -> bytes:
        """As ``choose``, of what was promised to nobody else of the group either, if *promised* knows that."""
        above, name = places.divide(wanted)
        if above not in self._chosen:
            self._chosen[above] = self._folders(above)
        folders = self._chosen[above]
        here = b"/".join([*folders, b""])
        return here + self._free(folders, (n for n in numbered(name) if not promised(here + n)), _bars_file)

    def _folders(self, above: bytes) -> list[bytes]:
        chosen: list[bytes] = []
        for part in places.split(above):
            chosen.append(self._free(chosen, series(part, b"", b""), _bars_folder))
        return chosen

    def _free(self, above: list[bytes], candidates: Iterator[bytes], bars: Callable[[int, bytes], bool]) -> bytes:
        folder = b"/".join(above)
        if folder in self._absent:
            return next(candidates)
        try:
            here = self._held.folder(self._root, folder)
        except FileNotFoundError:
            if not above:
                raise
            self._absent.add(folder)
            return next(candidates)  # A folder that is still to be made holds nothing.
        return next(name for name in candidates if not bars(here, name))


def _bars_folder(here: int, name: bytes) -> bool:
    status = recognising.status_of(here, name)
    return status is not None and not stat.S_ISDIR(status.st_mode)


def _bars_file(here: int, name: bytes) -> bool:
    return recognising.status_of(here, name) is not None
