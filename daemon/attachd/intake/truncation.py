"""Whether a file has the end that its format gives it: what a broken transfer leaves is seen before it is attached.

The first bytes name the format, never the file's name; attachd reads only head and tail. A file of an unknown format, or of one
whose end is unknown, lacks nothing. What is found here only delays a file (``gating.of_ending``).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

from attachd import heartbeat
from attachd.model import Fingerprint

#: The end of a ZIP archive lies within that many last bytes: its record of 22 and a comment of at most 65,535 (APPNOTE 4.3.16).
TAIL_BYTES = 65_557
#: Readers look for %%EOF in so many last bytes of a PDF (ISO 32000, implementation note 18 of Adobe's PDF Reference 1.7).
_PDF_TAIL_BYTES = 1024
#: Only decompressing proves that gzip data is whole: larger files are not tried, nor is more than this brought forth.
GZIP_BYTES, GZIP_INFLATED_BYTES = 32 * 1024 * 1024, 256 * 1024 * 1024
_CHUNK = 256 * 1024
#: A JPEG image with more segments before its first scan is none that could be judged.
_MOST_SEGMENTS = 1000
#: Answers that are remembered while files wait.
_REMEMBERED = 4096

Lacks = str | None


class Endings:
    """Answers for files that wait, each found out once: gzip data costs up to a second of decompressing."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._known: dict[tuple[bytes, Fingerprint], str] = {}

    def lacks(self, descriptor: int, path: bytes, print_: Fingerprint) -> Lacks:
        """As ``lacks``, for the file that *print_* describes. What lacks nothing goes at once, and is not remembered."""
        key = path, print_
        found = self._known.get(key) or lacks(descriptor, print_.size)
        if found and key not in self._known:
            while len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = found
        return found


def lacks(descriptor: int, size: int) -> Lacks:
    """Say which end is missing, as a clause for a person; None where none is. Raises OSError where it cannot be read."""
    head = _read(descriptor, 0, 8)
    check = next((check for magic, check in _FORMATS.items() if head.startswith(magic)), None)
    return check(descriptor, size) if check else None


@heartbeat.on_share()
def _read(descriptor: int, offset: int, count: int) -> bytes:
    """Read *count* bytes, or what there is of them."""
    found = b""
    while len(found) < count and (more := os.pread(descriptor, count - len(found), offset + len(found))):
        found += more
    return found


def _tail(descriptor: int, size: int, start: int = 0) -> bytes:
    """The last bytes, none of them before *start*."""
    start = max(start, size - TAIL_BYTES)
    return _read(descriptor, start, size - start)


# --- PDF, PNG ---------------------------------------------------------------------------------------------------


def _pdf(descriptor: int, size: int) -> Lacks:
    tail = _tail(descriptor, size).rstrip(b"\0\t\n\f\r ")
    return None if b"%%EOF" in tail[-_PDF_TAIL_BYTES:] else "a PDF ends with %%EOF"


def _png(descriptor: int, size: int) -> Lacks:
    """The chunk IEND with its checksum (PNG specification, 11.2.5); what some programs append behind it is no matter."""
    end = b"\0\0\0\0IEND\xae\x42\x60\x82"
    return None if end in _tail(descriptor, size) else "a PNG image ends with IEND"


# --- ZIP --------------------------------------------------------------------------------------------------------

_DIRECTORY, _END, _END_64, _LOCATOR_64 = b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ALL_ONES = 0xFFFFFFFF


def _zip(descriptor: int, size: int) -> Lacks:
    """Also documents of office programs, and all else that is an archive inside."""
    tail = _tail(descriptor, size)
    at = tail.rfind(_END)
    while at >= 0:
        if _ends_zip(descriptor, tail, at):
            return None
        at = tail.rfind(_END, 0, at)
    return "a ZIP archive ends with the list of its contents"


def _ends_zip(descriptor: int, tail: bytes, at: int) -> bool:
    """Whether the record there belongs to this archive, and not to one within it that was stored as it is."""
    if len(tail) < at + 22:
        return False
    entries, _, offset, comment = struct.unpack("<HIIH", tail[at + 10 : at + 22])
    if len(tail) < at + 22 + comment:
        return False
    if offset == _ALL_ONES or entries == 0xFFFF:
        # A program may fill all fields with ones, or only those that need it.
        found = _directory_64(descriptor, tail, at)
        offset = offset if found is None else found
    return entries == 0 or _read(descriptor, offset, 4) == _DIRECTORY


def _directory_64(descriptor: int, tail: bytes, at: int) -> int | None:
    """Where the directory of an archive over 4 GiB or 65,534 files begins (APPNOTE 4.3.14 and 4.3.15)."""
    locator = tail[max(0, at - 20) : at]
    if len(locator) < 20 or not locator.startswith(_LOCATOR_64):
        return None
    record = _read(descriptor, min(struct.unpack("<Q", locator[8:16])[0], 2**62), 56)
    if len(record) < 56 or not record.startswith(_END_64):
        return None
    return min(int(struct.unpack("<Q", record[48:56])[0]), 2**62)


# --- JPEG -------------------------------------------------------------------------------------------------------

_SCAN, _EOI = 0xDA, b"\xff\xd9"
#: Words in the head of a photo behind whose image a film lies, and the last bytes of one with a trailer of its maker's.
_FILMS, _TRAILER = (b"MotionPhoto", b"MicroVideo"), b"SEFT"


def _jpeg(descriptor: int, size: int) -> Lacks:
    """EOI lies behind the first scan: a preview in the head has one of its own. What follows an image is no matter."""
    missing = "a JPEG image ends with the marker EOI"
    scan = _first_scan(descriptor, size)
    if scan is None:
        return missing
    tail = _tail(descriptor, size, scan)
    if _EOI in tail or tail.endswith(_TRAILER):
        return None
    head = _read(descriptor, 0, min(scan, 4 * TAIL_BYTES))
    return None if any(word in head for word in _FILMS) else missing


def _first_scan(descriptor: int, size: int) -> int | None:
    """Where the first scan begins; None where the file ends before it (ITU-T T.81, B.1.1.4: markers and their lengths)."""
    at = 2
    for _ in range(_MOST_SEGMENTS):
        segment = _read(descriptor, at, 4)
        if len(segment) < 4 or at >= size or segment[0] != 0xFF:
            return None
        if segment[1] == 0xFF:  # Fill bytes may stand before a marker.
            at += 1
        elif segment[1] == _SCAN:
            return at
        else:
            at += 2 + int.from_bytes(segment[2:4], "big")
    return None


# --- gzip -------------------------------------------------------------------------------------------------------

_GZIP = b"\x1f\x8b\x08"


def _gzip(descriptor: int, size: int) -> Lacks:
    if size > GZIP_BYTES:
        return None
    try:
        whole = _inflates(descriptor)
    except zlib.error:
        whole = False
    return None if whole else "gzip data can be decompressed to its end where it is whole"


def _inflates(descriptor: int) -> bool:
    """Whether every member ends, or more comes out than is looked at. Raises ``zlib.error`` for what is no gzip data.

    What follows a member and begins like none is padding, which gzip ignores too.
    """
    chunks, rest, left = _chunks(descriptor), b"", GZIP_INFLATED_BYTES
    while left > 0:
        member = zlib.decompressobj(wbits=31)
        while not member.eof and left > 0:
            rest = rest or next(chunks, b"")
            inflated = member.decompress(rest, _CHUNK)
            if not rest and not inflated and not member.eof:
                return False
            left -= len(inflated)
            rest = member.unconsumed_tail
        rest = member.unused_data
        rest += next(chunks, b"") if len(rest) < len(_GZIP) else b""
        if not rest or not (rest.startswith(_GZIP) or _GZIP.startswith(rest)):
            break
    return True


def _chunks(descriptor: int) -> Iterator[bytes]:
    """The content from its beginning; the descriptor's own place in the file stays where it is."""
    at = 0
    while chunk := _piece(descriptor, at):
        at += len(chunk)
        yield chunk


@heartbeat.on_share()
def _piece(descriptor: int, at: int) -> bytes:
    return os.pread(descriptor, _CHUNK, at)


#: The first bytes of a format, and what looks for its end.
_FORMATS: Mapping[bytes, Callable[[int, int], Lacks]] = {
    b"%PDF-": _pdf,
    b"\x89PNG\r\n\x1a\n": _png,
    b"PK\x03\x04": _zip,
    b"PK\x05\x06": _zip,
    b"\xff\xd8\xff": _jpeg,
    _GZIP: _gzip,
}
