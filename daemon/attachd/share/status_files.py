"""The texts that attachd leaves in the inbox for people who drop files: one name in a folder, rewritten as a whole.

A reader sees the old text or the new one, never half of one. What lies under the name and does not begin as these texts do is
somebody's file, and stays.
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

#: Directly in the inbox: how it stands. In any folder: why its files wait.
STATUS, WHY = b"_STATUS.txt", b"_WHY.txt"

#: With these words each begins; some editors put a byte order mark before them.
FIRST_WORDS = "attachd notice - "
_MARKS = (FIRST_WORDS.encode(), b"\xef\xbb\xbf" + FIRST_WORDS.encode())

_PURPOSE = b"notice"


class Foreign(Exception):
    """Something lies under the name that attachd did not put there."""


def render(title: str, lines: list[str]) -> bytes:
    """Write a notice: UTF-8, CRLF, its first line recognised by ``put`` and ``remove``."""
    text = "\r\n".join([FIRST_WORDS + title, "", *lines, ""])
    return text.encode("utf-8", "backslashreplace")


@heartbeat.on_share()
def put(inbox: Path, mount: tuple[int, int], folder: bytes, name: bytes, content: bytes) -> tuple[int, int]:
    """Have *content* under this name in a folder of the inbox, whole and durable; returns the folder's (device, inode).

    *mount* is the (device, inode) of the inbox that is meant: another one that lies there by now is left alone (ESTALE).
    Raises Foreign where the name is taken by what is no notice, OSError where it cannot be written.
    """
    with _folder(inbox, mount, folder) as here:
        with notes.prepared(here, free_names.hidden(_PURPOSE, name), content) as temporary:
            _rename(here, temporary, name)
        folders.synchronise(here)
        status = os.fstat(here)
        return status.st_dev, status.st_ino


@heartbeat.on_share()
def remove(inbox: Path, mount: tuple[int, int], folder: bytes, name: bytes) -> None:
    """Remove a notice, and nothing else; nothing to do where it or its folder is gone. Raises OSError."""
    with suppress(FileNotFoundError, NotADirectoryError), _folder(inbox, mount, folder) as here:
        if _is_ours(here, name):
            os.unlink(name, dir_fd=here)


@heartbeat.on_share()
def renamed(inbox: Path, mount: tuple[int, int], inode: tuple[int, int]) -> bytes | None:
    """Under which name a folder lies in the inbox now. Raises OSError."""
    with _folder(inbox, mount, b"") as here, os.scandir(here) as listing:
        for entry in listing:
            if entry.inode() == inode[1] and entry.is_dir(follow_symlinks=False):
                status = os.stat(entry.name, dir_fd=here, follow_symlinks=False)
                if (status.st_dev, status.st_ino) == inode:
                    return os.fsencode(entry.name)
    return None


@heartbeat.on_share()
def inode(inbox: Path, mount: tuple[int, int], folder: bytes) -> tuple[int, int] | None:
    """The (device, inode) of a folder of the inbox; None where it is gone. Raises OSError."""
    with suppress(FileNotFoundError, NotADirectoryError), _folder(inbox, mount, folder) as here:
        status = os.fstat(here)
        return status.st_dev, status.st_ino
    return None


def digest(content: bytes) -> str:
    """What tells one text from another."""
    return hashlib.blake2b(content, digest_size=12).hexdigest()


@contextmanager
def _folder(inbox: Path, mount: tuple[int, int], folder: bytes) -> Iterator[int]:
    first = True

    @heartbeat.on_share()
    def passing(here: int) -> None:
        nonlocal first
        status = os.fstat(here)
        if first and (status.st_dev, status.st_ino) != mount:
            raise OSError(errno.ESTALE, "another file system lies there now", str(inbox))
        first = False

    with folders.folder(inbox, folder, passing=passing) as here:
        yield here


@heartbeat.on_share()
def _rename(folder: int, temporary: bytes, name: bytes) -> None:
    """Over a text of ours, or over nothing. Looked at directly before: what somebody saves meanwhile is seen."""
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
