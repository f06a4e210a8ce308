"""Choose free names: ``report.pdf``, ``report (2).pdf``, never longer than a file system takes."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from attachd.fs import folders as fs_folders
from attachd.fs import recognition

#: Bytes of one name on every Linux file system (NAME_MAX, limits.h).
NAME_MAX = 255

#: Names that are tried in their order; if all are taken, a search finds the next free number.
IN_ORDER = 20

#: Bytes of the longest extension; a shortened name keeps it.
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


@dataclass(frozen=True, slots=True)
class Series:
    """The three joined, then with `` (2)``, `` (3)`` and so on before the extension; only the stem is ever cut."""

    stem: bytes
    middle: bytes
    extension: bytes

    @classmethod
    def of(cls, name: bytes) -> Series:
        """Number a file's name before its extension."""
        stem, extension = os.path.splitext(name)
        return cls(name, b"", b"") if len(extension) > _LONGEST_EXTENSION else cls(stem, b"", extension)

    def name(self, number: int) -> bytes:
        """Return the name of this number; 1 has none in it."""
        suffix = b" (%d)" % number if number > 1 else b""
        return shorten(self.stem, self.middle + suffix + self.extension)

    def free(self, taken: Callable[[bytes], bool]) -> bytes:
        """Return a name that is not *taken*: the first of the first ``IN_ORDER``, else one at the end of those that are.

        Otherwise each of many files with one name would look at all before it. Doubling a number and then halving the step
        finds the end with as many looks as the number has bits.
        """
        numbers = range(1, IN_ORDER + 1)
        first = next((number for number in numbers if not taken(self.name(number))), None)
        return self.name(first or self.end(taken))

    def end(self, taken: Callable[[bytes], bool]) -> int:
        """Return a number above ``IN_ORDER`` whose name is not *taken*, while that of the number before it is."""
        low, high = IN_ORDER, 2 * IN_ORDER
        while taken(self.name(high)):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if taken(self.name(middle)) else (low, middle)
        return high


def numbered(name: bytes) -> Iterator[bytes]:
    """Yield the name, then ``NAME (2).EXT``, ``NAME (3).EXT`` and so on without end."""
    return map(Series.of(name).name, itertools.count(1))


#: Characters that FAT, NTFS and Windows servers refuse in a name; they accept "%" itself.
_REFUSED = frozenset(b'"*:<>?|\\') | frozenset(range(32)) | {127}
#: Names of devices, which a Windows server refuses with any extension.
_DEVICE = re.compile(rb"(con|prn|aux|nul|com\d|lpt\d)(\.|\Z)", re.IGNORECASE)
#: Some file systems take fewer bytes than ``NAME_MAX`` (an encrypted one 143).
_SHORT = 100


def fitting(path: bytes, ident: str) -> Iterator[bytes]:
    """Yield other forms of a path for a file system that refuses its names; more file systems accept each next form.

    Refused characters are written as in a URL (``%3A``), then all that are not ASCII, then names are cut. The last form is
    *ident*, with the extension if that is plain.
    """
    parts, seen = fs_folders.split(path), {path}
    key, *below = parts
    plain = [_escaped(part, ascii_only=False) for part in below]
    bare = [_escaped(part, ascii_only=True) for part in below]
    short = [_cut(part, _SHORT) for part in bare]
    ending = os.path.splitext(short[-1])[1]
    last = ident.encode() + (ending if re.fullmatch(rb"\.[A-Za-z0-9]{1,4}", ending) else b"")
    for form in (plain, bare, short, [last]):
        joined = b"/".join([key, *form])
        if joined not in seen:
            seen.add(joined)
            yield joined


def _escaped(name: bytes, *, ascii_only: bool) -> bytes:
    stem, ending = os.path.splitext(name)
    refused = set(_REFUSED) | (set(range(128, 256)) if ascii_only else set())
    pieces = [_escape(part, refused) for part in (stem, ending)]
    whole = b"".join(pieces)
    kept = whole.rstrip(b". ")
    whole = kept + b"".join(b"%%%02X" % byte for byte in whole[len(kept) :])
    return b"%%%02X" % whole[0] + whole[1:] if _DEVICE.match(whole) else _cut(whole, NAME_MAX)


def _escape(text: bytes, refused: set[int]) -> bytes:
    """Escape these bytes, and those that are not UTF-8."""
    found = text.decode("utf-8", "surrogateescape")
    undecodable = {index for index, letter in enumerate(found) if "\udc80" <= letter <= "\udcff"}
    encoded = (letter.encode("utf-8", "surrogateescape") for letter in found)
    return b"".join(
        b"".join(b"%%%02X" % byte if byte in refused or index in undecodable else bytes([byte]) for byte in piece)
        for index, piece in enumerate(encoded)
    )


def _cut(name: bytes, most: int) -> bytes:
    stem, extension = os.path.splitext(name)
    if len(extension) > _LONGEST_EXTENSION:
        stem, extension = name, b""
    return stem[: _boundary(stem, max(most - len(extension), 0))] + extension


def hidden(purpose: bytes, name: bytes) -> bytes:
    """Return the dot-name that stands in for *name* while something is done to it; the same one after a crash."""
    return b".attachd-%s-%s" % (purpose, hashlib.blake2b(name, digest_size=12).hexdigest().encode())


def choose(root: Path, wanted: bytes, promised: Callable[[bytes], bool] = lambda _: False) -> bytes:
    """Return a free path for *wanted* below the root (``Series.free``); folders get numbers too if something bars the way.

    Anything but a real folder bars a folder, and anything bars a file; symlinks are never followed. A path that was *promised*
    to another file counts as taken. A free path may be taken a moment later: only a rename that does not replace decides.
    Raises OSError.
    """
    with fs_folders.Held() as held:
        return Chooser(root, held).choose(wanted, promised)


class Chooser:
    """Chooses paths below one root for a group of files; it looks at each folder once."""

    def __init__(self, root: Path, held: fs_folders.Held) -> None:
        self._root, self._held = root, held
        self._chosen: dict[bytes, list[bytes]] = {}
        self._absent: set[bytes] = set()

    def choose(self, wanted: bytes, promised: Callable[[bytes], bool] = lambda _: False) -> bytes:
        """As ``choose``. *promised* must also know what was promised to other files of the group."""
        above, name = fs_folders.divide(wanted)
        if above not in self._chosen:
            self._chosen[above] = self._folders(above)
        folders = self._chosen[above]
        here = b"/".join([*folders, b""])
        return here + self._free(folders, Series.of(name), lambda n: promised(here + n), _bars_file)

    def _folders(self, above: bytes) -> list[bytes]:
        chosen: list[bytes] = []
        for part in fs_folders.split(above):
            chosen.append(self._free(chosen, Series(part, b"", b""), lambda _: False, _bars_folder))
        return chosen

    def _free(
        self, above: list[bytes], names: Series, promised: Callable[[bytes], bool], bars: Callable[[int, bytes], bool]
    ) -> bytes:
        folder = b"/".join(above)
        if folder in self._absent:
            return names.free(promised)
        try:
            here = self._held.folder(self._root, folder)
        except FileNotFoundError:
            if not above:
                raise
            self._absent.add(folder)
            return names.free(promised)  # A folder that is still to be made holds nothing.
        return names.free(lambda name: bars(here, name) or promised(name))


def _bars_folder(here: int, name: bytes) -> bool:
    status = recognition.status_of(here, name)
    return status is not None and not stat.S_ISDIR(status.st_mode)


def _bars_file(here: int, name: bytes) -> bool:
    return recognition.status_of(here, name) is not None
