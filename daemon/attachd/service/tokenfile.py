"""The refresh token that the token endpoint gave last, in the state folder: readable by the service alone, never lost by us.

It is no part of the journal, which people copy and send around.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attachd.fs import folders
from attachd.jira.oauth import Kept

FILE_NAME = "oauth.json"
LOCK_NAME = "oauth.lock"
#: Bytes that are reserved before the endpoint is asked; tokens have one or two thousand.
ROOM = 32_768


class TokenFile:
    """Implements ``oauth.Safe`` with a file, a lock beside it, and the next file where ``write`` will put it."""

    def __init__(self, folder: Path) -> None:
        """Keep it in *folder*, the state folder."""
        self.path = folder / FILE_NAME
        self._folder = folder
        self._next = folder / f"{FILE_NAME}.next"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for other processes (``attachd check`` beside the service); the kernel lets go where we die (flock(2))."""
        descriptor = os.open(self._folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> Kept | None:
        """None also for a file that is none of ours: the configured token is tried then."""
        try:
            content = json.loads(self.path.read_text("utf-8"))
            return Kept(str(content["refresh_token"]), str(content["descends_from"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None

    def make_room(self) -> None:
        """Reserve the blocks of the next file: a full disk is noticed while the old token is still good."""
        descriptor = self._open_next()
        try:
            os.posix_fallocate(descriptor, 0, ROOM)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def write(self, kept: Kept) -> None:
        """Fill the next file, synchronise it, rename it into place and synchronise the folder."""
        content = json.dumps({"refresh_token": kept.token, "descends_from": kept.seed}).encode() + b"\n"
        with open(self._open_next(), "wb") as file:
            file.write(content)
            file.flush()
            file.truncate()
            os.fsync(file.fileno())
        os.rename(self._next, self.path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            folders.synchronise(folder)
        finally:
            os.close(folder)

    def _open_next(self) -> int:
        # Not truncated: what was reserved is to be written over.
        descriptor = os.open(self._next, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.fchmod(descriptor, 0o600)
        return descriptor
