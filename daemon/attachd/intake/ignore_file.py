"""``.attachdignore``: what those who drop files want left alone, in the folder of an issue or below."""

from __future__ import annotations

import errno
import functools
import os
import stat
import unicodedata
from dataclasses import dataclass, field

from attachd import errors, gitignore, heartbeat
from attachd.fs import recognition
from attachd.fs.leases import Writer, writer
from attachd.gitignore import Brackets, NoPattern, Pattern
from attachd.intake import ignore_patterns
from attachd.model import printable

NAME = b".attachdignore"
#: What a file may hold. A larger one was not written by a person, and each name would take longer to compare: with these
#: limits at most a millisecond or so, whatever the patterns are.
MOST_BYTES = 16 * 1024
MOST_PATTERNS = 1000
#: Different sets of characters, as in ``[a-z]``: each is asked about every character that comes up.
MOST_SETS = 100
#: Characters of one line.
LONGEST_LINE = 1024
#: Contents whose patterns are remembered from folder to folder.
_REMEMBERED = 8
#: Characters of a line that a sentence shows.
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Patterns:
    """The patterns of one file, in its order: the last one that fits decides. *size* is that of the file, in bytes."""

    size: int
    patterns: gitignore.Patterns = field(compare=False)

    def verdict(self, below: bytes, folder: bool) -> tuple[bool, str] | None:
        """Judge a path by its name below the file's folder: whether it is hidden, and by which line. None: by no line."""
        match = self.patterns.last(ignore_patterns.text(below), folder=folder)
        return (match.hides, match.line) if match else None


@dataclass(frozen=True, slots=True)
class Broken:
    """It cannot be used; *reason* goes on where its name ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unread:
    """Whether there is one cannot be known now, which is the machine's trouble and not the file's; *reason* is a sentence."""

    reason: str


@heartbeat.on_share()
def read(folder: int, *, network: bool = False) -> Patterns | Broken | Unread | None:
    """Read the one in an open folder; None where there is none. Never raises for what is wrong with it.

    On a *network* file system nothing tells whether it is being written.
    """
    try:
        descriptor = os.open(NAME, recognition.READ, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        return Broken("is a link") if error.errno == errno.ELOOP else _unreadable(error)
    try:
        return _read(descriptor, network=network)
    except OSError as error:
        return _unreadable(error)
    finally:
        os.close(descriptor)


def _unreadable(error: OSError) -> Broken | Unread:
    passing = errors.passing(error)
    return Unread(passing) if passing else Broken(f"cannot be read ({error.strerror})")


@heartbeat.on_share()
def _read(descriptor: int, *, network: bool) -> Patterns | Broken:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return Broken("is no regular file")
    if writer(descriptor, network=network) is Writer.SOMEBODY:
        return Broken("is being written at this moment")
    content = b""
    while (chunk := os.read(descriptor, MOST_BYTES + 1 - len(content))) and len(content) <= MOST_BYTES:
        content += chunk  # A read may be short of what is there, as with FUSE.
    return Broken(f"is larger than {MOST_BYTES} bytes") if len(content) > MOST_BYTES else parse(content)


@functools.lru_cache(_REMEMBERED)
def parse(content: bytes) -> Patterns | Broken:
    """Understand a file in gitignore(5) syntax; names that are no UTF-8 stand in it as they are."""
    whole = unicodedata.normalize("NFC", content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape"))
    found: list[Pattern] = []
    for number, raw in enumerate(whole.split("\n"), 1):
        line = raw.removesuffix("\r")
        if len(line) > LONGEST_LINE:
            return Broken(f"has more than {LONGEST_LINE} characters in line {number}")
        match gitignore.parse(line):
            case NoPattern(reason):
                return Broken(_no_pattern(number, line, reason))
            case Pattern() as pattern:
                found.append(pattern)
            case None:
                pass
    if len(found) > MOST_PATTERNS:
        return Broken(f"has more than {MOST_PATTERNS} patterns")
    if len({token for pattern in found for token in pattern.tokens if isinstance(token, Brackets)}) > MOST_SETS:
        return Broken(f"has more than {MOST_SETS} different sets of characters such as [a-z]")
    return Patterns(len(content), gitignore.Patterns(found))


def _no_pattern(number: int, line: str, reason: str) -> str:
    shown = line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
    # The reason may quote what stands in the line.
    told = printable(reason.encode("utf-8", "surrogateescape"))
    return f"has no pattern in line {number} ({shown!r}{f': {told}' if told else ''})"
