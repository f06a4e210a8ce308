"""What is moved is not reported before it is durable; many moves share the price of one synchronisation."""

from __future__ import annotations

import errno
import os

#: Folders kept open at once; before one more is, those that have gathered are synchronised.
_MOST = 64


class Dirty:
    """The folders that a group of moves has changed. What was moved is durable only when ``sync`` has returned.

    A name is durable when its folder was synchronised, not the file alone (fsync(2)). Folders are held open: one that
    is renamed or unmounted meanwhile is still synchronised, or says that it cannot be.
    """

    def __init__(self) -> None:
        """Begin a group in which nothing was changed."""
        self._folders: dict[tuple[int, int], int] = {}
        self._failed: OSError | None = None

    def touch(self, folder: int) -> bool:
        """Remember a folder after it was changed (not before: it may be synchronised at once, and should that fail, ``sync``
        says so: it is no matter of this folder). True if it was not remembered yet. Raises OSError.
        """
        status = os.fstat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in self._folders:
            return False
        if len(self._folders) >= _MOST:
            self._sync()
        self._folders[identity] = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        return True

    def sync(self) -> None:
        """Synchronise each folder once and begin anew. Raises OSError, and ever after: nothing of the group counts as durable."""
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
            os.close(self._folders.popitem()[1])

    def __del__(self) -> None:
        """Let go of the folders of a group that was given up."""
        self._forget()


def synchronise(folder: int) -> None:
    """Make the names in a folder durable, where the file system can (fsync(2): EINVAL). Raises OSError."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
