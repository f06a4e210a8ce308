"""Open folders below a root one component at a time, so that no symlink leads out of it."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from attachd import heartbeat

# A move is reported only after it is durable; many moves share one sync.

#: Folders that are open at once; before one more is opened, all of them are synced.
_MOST = 64


class Dirty:
    """The folders that a group of moves has changed. The moves are durable only after ``sync`` has returned.

    A name is durable after a sync of its folder, not of the file alone (fsync(2)). The folders stay open, so that a renamed or
    unmounted one is still synced, or raises an error.
    """

    def __init__(self) -> None:
        self._folders: dict[tuple[int, int], int] = {}
        self._failed: OSError | None = None

    @heartbeat.on_share()
    def touch(self, folder: int) -> bool:
        """Remember a folder after it was changed. Return True if it was not remembered yet. Raises OSError.

        Not before the change, because the folders may be synced at once. If that fails, only ``sync`` raises.
        """
        status = os.fstat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in self._folders:
            return False
        if len(self._folders) >= _MOST:
            self._sync()
        self._folders[identity] = os.open(b".", FOLDER, dir_fd=folder)
        return True

    def sync(self) -> None:
        """Fsync every changed folder. After one failure every later call raises too, because the group may not be durable."""
        self._sync()
        if self._failed is not None:
            raise self._failed

    def _sync(self) -> None:
        try:
            for folder in self._folders.values():
                synchronise(folder)
        except OSError as error:
            self._failed = error
        finally:
            self._forget()

    def _forget(self) -> None:
        while self._folders:
            close(self._folders.popitem()[1])

    def __del__(self) -> None:
        """Close the folders of a group that was abandoned."""
        self._forget()


@heartbeat.on_share()
def close(folder: int) -> None:
    """Close the descriptor of a folder. An SMB client tells its server, and waits for the answer."""
    os.close(folder)


@heartbeat.on_share()
def synchronise(folder: int) -> None:
    """Make the names in a folder durable, if the file system can (fsync(2): EINVAL). Raises OSError."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


#: To open a folder that the configuration names; its path may lead through symlinks.
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: To open a folder below it, whose name other users choose.
SUBFOLDER = FOLDER | os.O_NOFOLLOW

#: The deepest level that ``mtimes`` reads: each level needs a descriptor.
DEPTH = 64

#: Errors that mean: nothing lies under this path. A symlink in place of a folder gives ENOTDIR or ELOOP.
NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def split(relative: bytes) -> list[bytes]:
    """Split a relative path; empty for the root itself. Raises OSError if it could lead out of its root."""
    parts = [part for part in relative.split(b"/") if part not in (b"", b".")]
    if relative.startswith(b"/") or b".." in parts or b"\0" in relative:
        raise OSError(errno.EINVAL, "not a path below a folder", relative)
    return parts


@functools.lru_cache(256)
def divide(relative: bytes) -> tuple[bytes, bytes]:
    """Return the folder and the last name of a relative path."""
    *parents, name = split(relative) or [b""]
    if not name:
        raise OSError(errno.EINVAL, "no file name", relative)
    return b"/".join(parents), name


@contextmanager
def folder(
    root: Path, relative: bytes, *, create: bool = False, passing: Callable[[int], object] | None = None
) -> Iterator[int]:
    """Open ``root/relative`` as a directory descriptor, never through a symlink below the root. Raises OSError.

    With *create* missing folders are made, their mode from the umask, and the folder above each is synchronised.
    *passing* is called with the descriptor of every folder on the way, the root and the last one included.
    """
    here = opened(root, relative, create=create, passing=passing)
    try:
        yield here
    finally:
        close(here)


@heartbeat.on_share()
def opened(root: Path, relative: bytes, *, create: bool = False, passing: Callable[[int], object] | None = None) -> int:
    """As ``folder``; the descriptor is the caller's to close."""
    here = os.open(root, FOLDER)
    try:
        for part in split(relative):
            if passing:
                passing(here)
            below = _enter(here, part, create=create)
            close(here)
            here = below
        if passing:
            passing(here)
    except BaseException:
        close(here)
        raise
    return here


class Held:
    """Folders that are opened once for many files, and stay open until the context ends, whatever happens to their names."""

    #: How many are open at most; then the least recently used one is closed.
    MOST = 32

    def __init__(self) -> None:
        self._open: dict[tuple[Path, bytes], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            close(self._open.popitem()[1])

    def folder(self, root: Path, relative: bytes, *, create: bool = False) -> int:
        """As ``folder``; the descriptor is valid until ``MOST`` others have been asked for. Raises OSError."""
        found = self._open.pop((root, relative), None)
        if found is None:
            if len(self._open) >= self.MOST:
                close(self._open.pop(next(iter(self._open))))
            found = opened(root, relative, create=create)
        # Last in the order: the number of a descriptor in use must not be given to another folder.
        self._open[root, relative] = found
        return found


@contextmanager
def folder_if_there(root: Path, relative: bytes) -> Iterator[int | None]:
    """As ``folder``, but None if there is no such folder. Raises OSError if the root itself is missing."""
    with ExitStack() as stack:
        try:
            here = stack.enter_context(folder(root, relative))
        except OSError as error:
            if error.errno not in NOWHERE or not is_folder(root):
                raise
            yield None
        else:
            yield here


@contextmanager
def subfolder(above: int, name: bytes) -> Iterator[int]:
    """Give the folder of this name in an open one; never through a link. Raises OSError."""
    with heartbeat.on_share():
        here = os.open(name, SUBFOLDER, dir_fd=above)
    try:
        yield here
    finally:
        close(here)


@heartbeat.on_share()
def is_folder(path: Path) -> bool:
    """Return True if a folder lies at the path, through links too."""
    return path.is_dir()


@heartbeat.on_share()
def _enter(above: int, part: bytes, *, create: bool) -> int:
    try:
        return os.open(part, SUBFOLDER, dir_fd=above)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(part, 0o777, dir_fd=above)
    except FileExistsError:
        pass  # Another process made it in between; opening it shows what it is.
    else:
        synchronise(above)
    return os.open(part, SUBFOLDER, dir_fd=above)


def mtimes(root: Path, relative: bytes) -> Iterator[int]:
    """Yield when each folder of a tree was changed, never through a symlink. Raises OSError."""
    with folder(root, relative) as here:
        yield from _mtimes(here, DEPTH)


def _mtimes(here: int, depth: int) -> Iterator[int]:
    with heartbeat.on_share():
        changed = os.fstat(here).st_mtime_ns
    yield changed
    with heartbeat.on_share(), os.scandir(here) as listing:
        names = [item.name for item in listing if item.is_dir(follow_symlinks=False)]
    for name in names if depth else ():
        with heartbeat.on_share():
            below = os.open(name, SUBFOLDER, dir_fd=here)
        try:
            yield from _mtimes(below, depth - 1)
        finally:
            close(below)
