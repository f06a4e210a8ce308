"""``.attachdignore``: what those who drop files want left alone, in the folder of an issue or below."""

from __future__ import annotations

import errno
import functools
import os
import stat
import unicodedata
from dataclasses import dataclass

import pathspec

from attachd.intake import ignoring, reading
from attachd.intake.gating import Writer

NAME = b".attachdignore"
#: A larger one is none that a person wrote.
MOST_BYTES = 64 * 1024
#: Contents whose patterns are remembered.
_REMEMBERED = 256
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Patterns:
    """The patterns of one file, in its order: the last one that fits decides."""

    lines: tuple[str, ...]
    spec: pathspec.GitIgnoreSpec

    def verdict(self, below: bytes, folder: bool) -> tuple[bool, str] | None:
        """Judge a path by its name below the file's folder: whether it is hidden, and by which line. None: by no line."""
        found = self.spec.check_file(ignoring.text(below) + ("/" if folder else ""))
        if found.include is None or found.index is None:
            return None
        return found.include, self.lines[found.index]


@dataclass(frozen=True, slots=True)
class Broken:
    """It cannot be used; *reason* goes on where its name ends."""

    reason: str


def read(folder: int, *, network: bool = False) -> Patterns | Broken | None:
    """Read the one in an open folder; None where there is none. Never raises for what is wrong with it.

    On a *network* file system nothing tells whether it is being written.
    """
    try:
        descriptor = os.open(NAME, _OPEN, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        return Broken("is a link" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror})")
    try:
        return _read(descriptor, network=network)
    except OSError as error:
        return Broken(f"cannot be read ({error.strerror})")
    finally:
        os.close(descriptor)


def _read(descriptor: int, *, network: bool) -> Patterns | Broken:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return Broken("is no regular file")
    if reading.writer(descriptor, network=network) is Writer.SOMEBODY:
        return Broken("is being written at this moment")
    content = os.read(descriptor, MOST_BYTES + 1)
    return Broken(f"is larger than {MOST_BYTES} bytes") if len(content) > MOST_BYTES else parse(content)


@functools.lru_cache(_REMEMBERED)
def parse(content: bytes) -> Patterns | Broken:
    """Understand a file in gitignore(5) syntax; names that are no UTF-8 stand in it as they are."""
    whole = unicodedata.normalize("NFC", content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape"))
    lines = [(number, line.removesuffix("\r")) for number, line in enumerate(whole.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line]
    for number, line in lines:
        try:
            pathspec.GitIgnoreSpec.from_lines([line])
        except ValueError:
            return Broken(f"has no pattern in line {number} ({line!r})")
    texts = tuple(line for _, line in lines)
    return Patterns(texts, pathspec.GitIgnoreSpec.from_lines(texts))
