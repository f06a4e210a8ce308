"""The body of an upload: multipart/form-data as Jira reads it, with its exact length, from open descriptors.

Written by ourselves for three reasons: Jira wants a Content-Length (chunked bodies draw 411), the file name as raw UTF-8
without ``filename*`` (500 on Data Center), and only who makes the body knows whether its closing boundary was ever
handed over, which alone tells "incomplete on the wire" from "in doubt".
"""

from __future__ import annotations

import functools
import hashlib
import mimetypes
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from attachd import heartbeat

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor


# SHA-256 while sending a large file: both take about as long, and each can use its own processor.


class Beside:
    """Digests one file after the other in a thread that is at most one piece behind. hashlib releases the GIL."""

    def __init__(self) -> None:
        # The thread starts with the first piece.
        self._digest = hashlib.sha256()
        self._pool: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the thread end after the piece that it is at. Nobody waits for that: a body that was left in the middle may
        be cleared away in any thread, also in this one.
        """
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def update(self, piece: bytes) -> None:
        """Digest *piece* too. Returns at once, or when the previous piece is done."""
        if self._pool is None:
            # Only large files need it.
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1, thread_name_prefix="digest")
        self._wait()
        try:
            self._last = self._pool.submit(self._digest.update, piece)
        except RuntimeError:
            # No thread can start (a process limit, or the end of the program), so digest here.
            self._digest.update(piece)

    def conclude(self) -> bytes:
        """Return the SHA-256 of everything since the last call."""
        self._wait()
        digest, self._digest, self._last = self._digest.digest(), hashlib.sha256(), None
        return digest

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()


#: Up to this size, in bytes, a body is one buffer, and its checksums are known first.
BUFFERED_BYTES = 4 * 1024 * 1024
#: The piece of a larger file that is read, digested and sent at once, in bytes; smaller pieces cost more.
READ_BYTES = 512 * 1024

_UNKNOWN = "application/octet-stream"
#: The types of compressed files, which ``mimetypes`` calls encodings.
_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


class Changed(Exception):
    """The file shrank, grew or was written during the upload."""


class Cut(Exception):
    """The upload must stop. It has no closing boundary yet, so Jira stores nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a body: an open descriptor, the stored name, and the status at the claim."""

    descriptor: int
    name: str
    size: int
    mtime_ns: int
    ctime_ns: int


class Body:
    """Parts as a request body; each ``iter`` begins again at byte 0.

    ``length`` is the exact Content-Length. ``begun`` is true once anything of it was asked for, ``exhausted`` once a
    closing boundary may have been handed over (for one buffer: with the first write). ``checksums`` holds the SHA-256 of
    each part as far as they are known.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        before_end: Callable[[Sequence[bytes]], None] | None = None,
        cut: Callable[[], bool] = lambda: False,
        *,
        pay: Callable[[int], None] = lambda _size: None,
        permit: Callable[[], None] = lambda: None,
        read_bytes: int = READ_BYTES,
    ) -> None:
        """Call *before_end* with all checksums before the closing boundary of a streamed body leaves.

        A streamed body calls *pay* before each piece of a file, which has at most *read_bytes*; it may wait. It raises
        ``Cut`` in the middle when *cut* says so. *permit* is called directly before a body of one buffer, each piece and a
        closing boundary, and raises ``Cut`` where they may not leave. The constructor raises ``Changed`` or
        ``OSError`` where a body small enough for one buffer cannot be read.
        """
        self.parts = parts
        self.boundary = secrets.token_hex(16)
        self.checksums: tuple[bytes, ...] = ()
        self.begun = False
        self.exhausted = False
        self.sent = 0
        self._before_end = before_end
        self._cut = cut
        self._pay = pay
        self._permit = permit
        self._read_bytes = read_bytes
        self._heads = [self._head(part, first=number == 0) for number, part in enumerate(parts)]
        self._end = f"\r\n--{self.boundary}--\r\n".encode()
        self.length = sum(map(len, self._heads)) + sum(part.size for part in parts) + len(self._end)
        self._buffer = self._buffered() if self.length <= BUFFERED_BYTES else None

    @property
    def content_type(self) -> str:
        """The value of the Content-Type header."""
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def buffered(self) -> bool:
        """True if the body is one buffer, so that its checksums are known before the upload."""
        return self._buffer is not None

    @property
    def handed_over(self) -> bool:
        """True if the connection took the whole body, and did not stop for an early answer."""
        return self.sent == self.length

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body. Raises ``Changed`` or ``OSError`` before the closing boundary, never after."""
        self.begun = True
        self.exhausted = False
        self.sent = 0
        for chunk in self._whole() if self._buffer is not None else self._streamed():
            yield chunk
            self.sent += len(chunk)

    def _whole(self) -> Iterator[bytes]:
        assert self._buffer is not None
        self._permit()
        self.exhausted = True
        yield self._buffer

    def _streamed(self) -> Iterator[bytes]:
        checksums = []
        with Beside() as digest:
            for head, part in zip(self._heads, self.parts, strict=True):
                yield head
                for chunk in read_claimed(part, self._read_bytes):
                    self._pay(len(chunk))
                    if self._cut():
                        raise Cut("the service stopped during the upload")
                    self._permit()
                    digest.update(chunk)
                    yield chunk
                checksums.append(digest.conclude())
        self._conclude(checksums)
        if self._before_end:
            self._before_end(self.checksums)
        self._permit()
        self.exhausted = True
        yield self._end

    def _buffered(self) -> bytes:
        contents = [b"".join(read_claimed(part)) for part in self.parts]
        self._conclude([hashlib.sha256(content).digest() for content in contents])
        pieces = [piece for pair in zip(self._heads, contents, strict=True) for piece in pair]
        return b"".join([*pieces, self._end])

    def _conclude(self, checksums: Sequence[bytes]) -> None:
        for part, sha256 in zip(self.parts, checksums, strict=True):
            assert_unchanged(part, sha256)
        self.checksums = tuple(checksums)

    def _head(self, part: Part, *, first: bool) -> bytes:
        lead = "" if first else "\r\n"
        disposition = f'Content-Disposition: form-data; name="file"; filename="{part.name}"'
        return f"{lead}--{self.boundary}\r\n{disposition}\r\nContent-Type: {content_type(part.name)}\r\n\r\n".encode()


def content_type(name: str) -> str:
    """Guess the type of a file from its name. A compressed text is not a text."""
    # Two extensions are enough (.tar.gz). ``mimetypes`` would read the whole name as a URL, for example "data:...".
    stem, *endings = name.rsplit(".", 2)
    return _of_endings(".".join(["file" if stem else "", *endings]))


@functools.lru_cache(256)
def _of_endings(name: str) -> str:
    kind, encoding = mimetypes.guess_type(name, strict=False)
    return (_COMPRESSED.get(encoding) if encoding else kind) or _UNKNOWN


def read_claimed(part: Part, read_bytes: int = READ_BYTES) -> Iterator[bytes]:
    """Read exactly the claimed size from byte 0, even if the file has grown. Raises ``Changed`` if it is shorter."""
    position = 0
    while position < part.size:
        with heartbeat.on_share():
            chunk = os.pread(part.descriptor, min(read_bytes, part.size - position), position)
        if not chunk:
            raise Changed(f"it shrank from {part.size} to {position} bytes during the upload")
        position += len(chunk)
        yield chunk


@heartbeat.on_share()
def assert_unchanged(part: Part, sha256: bytes) -> None:
    """Raise ``Changed`` if the open file no longer matches the claim or its checksum (*sha256*).

    Where only ctime changed it is read once more: that is a new mode or name, or a write whose time was put back.
    """
    now = os.fstat(part.descriptor)
    if (now.st_size, now.st_mtime_ns) != (part.size, part.mtime_ns):
        raise Changed("it was changed during the upload")
    if now.st_ctime_ns != part.ctime_ns and _sha256(part) != sha256:
        raise Changed("it was changed during the upload, and its time was set back")


def checksum(part: Part) -> bytes:
    """The SHA-256 of the claimed bytes. Raises ``Changed`` or ``OSError``."""
    sha256 = _sha256(part)
    assert_unchanged(part, sha256)
    return sha256


def _sha256(part: Part) -> bytes:
    digest = hashlib.sha256()
    for chunk in read_claimed(part):
        digest.update(chunk)
    return digest.digest()
