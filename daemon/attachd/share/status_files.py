"""The status files that attachd leaves in the inbox for people who drop files: one name in a folder, rewritten as a whole.

A reader sees the old text or the new one, never half of one. A file of that name with another first line belongs to a
person, and stays.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attachd import heartbeat
from attachd.fs import folders, free_names, recognition, rename
from attachd.share import notes

#: Directly in the inbox: an overview. In any folder: why its files wait.
STATUS, WHY = b"_STATUS.txt", b"_WHY.txt"

#: Each begins with these words; some editors put a byte order mark before them.
FIRST_WORDS = "attachd status file - "
_MARKS = (FIRST_WORDS.encode(), b"\xef\xbb\xbf" + FIRST_WORDS.encode())

_PURPOSE = b"status"


class Foreign(Exception):
    """The name is taken by a file that attachd did not write."""


def render(title: str, lines: list[str]) -> bytes:
    """Return a status file: UTF-8, CRLF, with the first line that ``put`` and ``remove`` recognise."""
    text = "\r\n".join([FIRST_WORDS + title, "", *lines, ""])
    return text.encode("utf-8", "backslashreplace")


@heartbeat.on_share()
def put(inbox: Path, mount: tuple[int, int], folder: bytes, name: bytes, content: bytes) -> tuple[int, int]:
    """Write a status file, whole and durable, and return the (device, inode) of its folder.

    *mount* is the (device, inode) of the expected inbox; if another one is mounted there, nothing is written (ESTALE).
    Raises Foreign if the name is taken by a file that is not attachd's, OSError if the file cannot be written.
    """
    with _folder(inbox, mount, folder) as here:
        with notes.prepared(here, free_names.hidden(_PURPOSE, name), content) as temporary:
            _rename(here, temporary, name)
        folders.synchronise(here)
        status = os.fstat(here)
        return status.st_dev, status.st_ino


@heartbeat.on_share()
def remove(inbox: Path, mount: tuple[int, int], folder: bytes, name: bytes) -> None:
    """Remove a status file, and nothing else; it is no error if it or its folder is missing. Raises OSError."""
    with suppress(FileNotFoundError, NotADirectoryError), _folder(inbox, mount, folder) as here:
        if _is_ours(here, name):
            os.unlink(name, dir_fd=here)


@heartbeat.on_share()
def renamed(inbox: Path, mount: tuple[int, int], inode: tuple[int, int]) -> bytes | None:
    """Return the present name of a folder of the inbox, or None. Raises OSError."""
    with _folder(inbox, mount, b"") as here, os.scandir(here) as listing:
        for entry in listing:
            if entry.inode() == inode[1] and entry.is_dir(follow_symlinks=False):
                status = os.stat(entry.name, dir_fd=here, follow_symlinks=False)
                if (status.st_dev, status.st_ino) == inode:
                    return os.fsencode(entry.name)
    return None


@heartbeat.on_share()
def inode(inbox: Path, mount: tuple[int, int], folder: bytes) -> tuple[int, int] | None:
    """Return the (device, inode) of a folder of the inbox, or None if it is missing. Raises OSError."""
    with suppress(FileNotFoundError, NotADirectoryError), _folder(inbox, mount, folder) as here:
        status = os.fstat(here)
        return status.st_dev, status.st_ino
    return None


def digest(content: bytes) -> str:
    """Return a short digest that tells one text from another."""
    return hashlib.blake2b(content, digest_size=12).hexdigest()


@contextmanager
def _folder(inbox: Path, mount: tuple[int, int], folder: bytes) -> Iterator[int]:
    first = True

    @heartbeat.on_share()
    def passing(here: int) -> None:
        nonlocal first
        status = os.fstat(here)
        if first and (status.st_dev, status.st_ino) != mount:
            raise OSError(errno.ESTALE, "another file system is mounted there now", str(inbox))
        first = False

    with folders.folder(inbox, folder, passing=passing) as here:
        yield here


@heartbeat.on_share()
def _rename(folder: int, temporary: bytes, name: bytes) -> None:
    """Replace a status file, or nothing. The check comes directly before, so that a file saved meanwhile is seen."""
    if _is_ours(folder, name):
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        rename.rename(folder, temporary, folder, name, rename.Reserving())
    except FileExistsError:
        raise Foreign(name) from None


@heartbeat.on_share()
def _is_ours(folder: int, name: bytes) -> bool:
    status = recognition.status_of(folder, name)
    if status is None or not stat.S_ISREG(status.st_mode):
        return False
    file = os.open(name, recognition.READ, dir_fd=folder)
    try:
        return os.read(file, notes.FIRST_BYTES).startswith(_MARKS)
    finally:
        os.close(file)
