"""The note beside a failed file that says why, and beside an attached one that says where, for people without a shell.

People may move a note with its file, so attachd recognises a note by its name and first line, wherever it is.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from attachd import heartbeat
from attachd.fs import folders, free_names, recognition, rename, whole_file
from attachd.text import sentence

WHY, LINK, _EXTENSION = b".why", b".link", b".txt"

#: The ends of a note's name; the number is that of ``free_names``. Some shares change the case.
_NAME = re.compile(rb"\.(?:why|link)(?: \(\d+\))?\.txt\Z", re.IGNORECASE)

#: The first line up to the name of the file, which may be cut off. An editor may have added a byte order mark.
_FIRST_LINE = re.compile(rb"(?:\xef\xbb\xbf)?attachd note (\S+) - (?:why|where) ")

#: The line for an attachd that has lost its journal.
_REMEMBERED = re.compile(
    rb"^For attachd: it may be attached to [^\r\n]*; (\d{1,18}) bytes, SHA-256 ([0-9a-f]{64}), ", re.MULTILINE
)

#: Bytes that hold the first line up to the row's ident.
FIRST_BYTES = 256

#: No note is as long as this.
MOST_BYTES = 64 * 1024

_PURPOSE = b"note"

#: So many bytes tell the kinds of texts that attachd writes apart; so many dot-names are tried.
_KIND_BYTES, _HIDDEN = 13, 20

#: So many names are tried to find the note of an attached file that is deleted.
_LINKS = 5

#: Errors of a folder that takes no note: it is missing, not writable, or refuses the name.
_UNWELCOME = folders.NOWHERE | {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}


def note_name(file_name: bytes) -> bytes:
    """Return ``NAME.why.txt``; a name too long for that is cut on a character boundary."""
    return _series(file_name, WHY).name(1)


def _series(file_name: bytes, kind: bytes) -> free_names.Series:
    return free_names.Series(file_name, kind, _EXTENSION)


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What a note keeps of a file that may be attached, in case the journal is lost; *stored_as* is the name that was sent."""

    size: int
    sha256: bytes
    stored_as: str


def render(
    *,
    ident: str,
    file: str,
    issue: str,
    when: str,
    reason: str,
    words: str,
    remedy: str,
    unsettled: Unsettled | None = None,
) -> bytes:
    """Return the note: UTF-8, CRLF. *ident* (no white space) names the row; *words* are Jira's own, and may be empty."""
    lines = [
        f"attachd note {ident} - why {_line(file)} was not attached",
        "",
        f"File:   {_line(file)}",
        f"Issue:  {_line(issue)}",
        f"When:   {_line(when)}",
        f"Reason: {sentence(_line(reason))}",
        *_quoted(words),
        "",
        f"What to do: {_line(remedy)}",
        "",
        f"To try again, move the file back into the folder {_line(issue)} in the inbox, or into the folder of another issue.",
        "This note then disappears.",
        "",
        *([_remembered(unsettled, issue), ""] if unsettled else []),
    ]
    return "\r\n".join(lines).encode("utf-8", "backslashreplace")


def render_link(
    *, ident: str, file: str, issue: str, when: str, attachment: str, stored_as: str, address: str
) -> bytes:
    """Return the note beside an attached file; *address* is the URL of the issue."""
    lines = [
        f"attachd note {ident} - where {_line(file)} is attached",
        "",
        _line(address),
        "",
        f"File:       {_line(file)}",
        f"Issue:      {_line(issue)}",
        f"When:       {_line(when)}",
        f"Attachment: {_line(attachment)}, as {_line(stored_as)}",
        "",
    ]
    return "\r\n".join(lines).encode("utf-8", "backslashreplace")


def _remembered(unsettled: Unsettled, issue: str) -> str:
    return (
        f"For attachd: it may be attached to {_line(issue)}; {unsettled.size} bytes, SHA-256 {unsettled.sha256.hex()}, "
        f"sent as {_line(unsettled.stored_as)}"
    )


def remembered(root: Path, relative: bytes) -> tuple[int, bytes] | None:
    """Return size and SHA-256 of a file that may be attached according to its note, or None. Raises OSError.

    Any user who may write to failed can write such a line: it is a reason to look at the issue, and no proof.
    """
    above, name = folders.divide(relative)
    with folders.folder(root, above) as folder:
        content = _content(folder, name)
    found = _REMEMBERED.search(content or b"")
    return (int(found[1]), bytes.fromhex(found[2].decode())) if found else None


def _quoted(words: str) -> list[str]:
    lines = [_line(line) for line in words.splitlines()]
    return ["", "Jira says:", *(f"  {line}" for line in lines if line)] if any(lines) else []


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()


def may_be_named(name: bytes) -> bool:
    """Return True if a note can have this name; only its first line proves it."""
    return _NAME.search(name) is not None


def is_note(name: bytes, first_bytes: bytes) -> str | None:
    """Return the ident of a note's row, judged by name and first line, or None if it is not a note."""
    line = _FIRST_LINE.match(first_bytes)
    return line[1].decode("utf-8", "replace") if line and _NAME.search(name) else None


def write(root: Path, beside: bytes, content: bytes, ident: str, kind: bytes = WHY) -> bytes | None:
    """Put a note beside a file of this relative path, and return the note's own; durable, and whole or not there.

    It never replaces a file, and is not written twice for one *ident*. Returns None if the folder is missing or not
    writable. Raises OSError for other errors.
    """
    above, file_name = folders.divide(beside)
    try:
        with folders.folder(root, above) as folder:
            name = _write_once(folder, _series(file_name, kind), content, ident)
            folders.synchronise(folder)
    except OSError as error:
        if error.errno not in _UNWELCOME or not folders.is_folder(root):
            raise
        return None
    return b"/".join([above, name]) if above else name


def _write_once(folder: int, names: free_names.Series, content: bytes, ident: str) -> bytes:
    with prepared(folder, free_names.hidden(_PURPOSE, ident.encode()), content) as temporary:
        while True:
            for name in _candidates(folder, names):
                if _ident_of(folder, name) == ident:
                    return name
                with suppress(FileExistsError):  # Taken: the next number.
                    rename.rename(folder, temporary, folder, name, rename.Reserving())
                    return name


def _candidates(folder: int, names: free_names.Series) -> Iterator[bytes]:
    """Yield the first names, then the last taken ones and the free one behind them.

    A note that was written just before a crash is among them. Long file names are cut, so many notes may share one name.
    """
    yield from map(names.name, range(1, free_names.IN_ORDER + 1))
    end = names.end(lambda name: recognition.status_of(folder, name) is not None)
    yield from map(names.name, range(max(free_names.IN_ORDER + 1, end - free_names.IN_ORDER), end + 1))


@contextmanager
def prepared(folder: int, hidden: bytes, content: bytes) -> Iterator[bytes]:
    """Write a text under a dot-name, durably, while the context lasts, and yield that name. Raises OSError."""
    temporary = free(folder, hidden, content)
    with whole_file.prepared(folder, temporary, content, mode=0o666):
        yield temporary


@heartbeat.on_share()
def free(folder: int, hidden: bytes, content: bytes) -> bytes:
    """Choose a dot-name for a text, and remove what a crash left of such a text. Raises OSError.

    A file that begins otherwise belongs to a person, and stays.
    """
    for name in itertools.islice(free_names.numbered(hidden), _HIDDEN):
        status = recognition.status_of(folder, name)
        if status is None:
            return name
        if stat.S_ISREG(status.st_mode) and content.startswith(_begins(folder, name)):
            os.unlink(name, dir_fd=folder)
            return name
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), hidden)


@heartbeat.on_share()
def _begins(folder: int, name: bytes) -> bytes:
    file = os.open(name, recognition.READ, dir_fd=folder)
    try:
        return os.read(file, _KIND_BYTES)
    finally:
        os.close(file)


@heartbeat.on_share()
def _ident_of(folder: int, name: bytes) -> str | None:
    """Return the ident in the first line of a file, or None if it is not a note or cannot be read."""
    status = recognition.status_of(folder, name)
    if status is None or not stat.S_ISREG(status.st_mode):
        return None
    try:
        file = os.open(name, recognition.READ, dir_fd=folder)
    except OSError:
        return None
    try:
        return is_note(name, os.read(file, FIRST_BYTES))
    finally:
        os.close(file)


def remove_link(root: Path, beside: bytes, ident: str, sha256: bytes | None = None) -> None:
    """Remove the note that says where a file is attached, under any of its names. Raises OSError."""
    above, file_name = folders.divide(beside)
    for name in map(_series(file_name, LINK).name, range(1, _LINKS + 1)):
        if remove(root, b"/".join([above, name]) if above else name, ident, sha256):
            return


@heartbeat.on_share()
def remove(root: Path, relative: bytes, ident: str, sha256: bytes | None = None) -> bool:
    """Remove a note whose first line still says *ident*, and nothing else; False if it does not. Raises OSError.

    With *sha256* the whole note must be unchanged too, because a person's additions are never deleted. Only rows of an early
    version have none.
    """
    above, name = folders.divide(relative)
    with folders.folder_if_there(root, above) as folder:
        read = _read(folder, name) if folder is not None else None
        if read is None or read.ident != ident or sha256 not in (None, read.sha256):
            return False
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        return True


@dataclass(frozen=True, slots=True)
class Note:
    """A file that reads as a note of attachd's: the *ident* of the row that it names, and what it says byte for byte."""

    ident: str
    sha256: bytes


def read(root: Path, relative: bytes) -> Note | None:
    """Read a note, or return None if it is not a note. Raises OSError if it cannot be read."""
    above, name = folders.divide(relative)
    with folders.folder(root, above) as folder:
        return _read(folder, name)


def _read(folder: int, name: bytes) -> Note | None:
    content = _content(folder, name)
    ident = is_note(name, content[:FIRST_BYTES]) if content is not None else None
    return Note(ident, hashlib.sha256(content).digest()) if content is not None and ident else None


@heartbeat.on_share()
def _content(folder: int, name: bytes) -> bytes | None:
    """Return the contents of a note, or None. A file that is larger than any note is not read."""
    if not may_be_named(name):
        return None
    status = recognition.status_of(folder, name)
    if status is None or not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
        return None
    file = os.open(name, recognition.READ, dir_fd=folder)
    try:
        content = os.read(file, MOST_BYTES)
    finally:
        os.close(file)
    return content if is_note(name, content[:FIRST_BYTES]) else None
