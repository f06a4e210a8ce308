"""Copy a file to another device: the copy is checked and durable before it gets its name."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attachd import heartbeat
from attachd.fs import free_names, recognition, rename, sides
from attachd.fs.sides import Side
from attachd.fs.sources import Source
from attachd.fs.whole_file import write_all

_PURPOSE = b"copy"

#: Answers of a file system that has no modes or times of its own (FAT, some shares).
_INAPPLICABLE = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

#: Temporary copies that this process is writing (folder's device, inode, name); a crash has left all others.
_writing: set[tuple[int, int, bytes]] = set()
_writing_lock = threading.Lock()


def copy(source: Source, to_folder: int, new: bytes, sha256: bytes | None, reserving: rename.Reserving) -> bytes | None:
    """Copy an open file to a new name, with mode and times; return the SHA-256 of the copy.

    None if that is not *sha256*; without one, if the file was changed meanwhile. Under the new name stands all of it,
    synchronised and read back, or nothing. Raises OSError: EEXIST where the name is taken, EIO where what was written
    reads differently.
    """
    with _temporary(to_folder, new) as (name, written):
        digest = _pour(source.descriptor, written)
        if digest != sha256 if sha256 is not None else not _still_holds(source, digest):
            return None
        _dress(written, source.descriptor)
        _durable(written)
        if _reread(written) != digest:
            raise OSError(errno.EIO, "the copy reads differently from what was written", new)
        rename.rename(to_folder, name, to_folder, new, reserving)
    return digest


@heartbeat.on_share()
def discard(folder: int, new: bytes) -> None:
    """Remove what a crash left of a copy to this name."""
    name = free_names.hidden(_PURPOSE, new)
    if recognition.status_of(folder, name):
        with suppress(FileNotFoundError, FileExistsError), _alone(folder, name):
            os.unlink(name, dir_fd=folder)


@contextmanager
def _temporary(folder: int, new: bytes) -> Iterator[tuple[bytes, int]]:
    """Give an empty file under a name derived from *new*, in place of what a crash left there; gone at the end."""
    name = free_names.hidden(_PURPOSE, new)
    with _alone(folder, name), suppress(FileNotFoundError), heartbeat.on_share():
        os.unlink(name, dir_fd=folder)
    with _alone(folder, name):
        with heartbeat.on_share():
            file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            yield name, file
        finally:
            with heartbeat.on_share():
                os.close(file)
                with suppress(FileNotFoundError):  # Renamed, if all went well.
                    os.unlink(name, dir_fd=folder)


@contextmanager
def _alone(folder: int, name: bytes) -> Iterator[None]:
    """Keep out other threads that copy to the same name. Raises FileExistsError for the second one."""
    with heartbeat.on_share():
        status = os.fstat(folder)
    key = (status.st_dev, status.st_ino, name)
    with _writing_lock:
        if key in _writing:
            raise FileExistsError(errno.EEXIST, "another file is being copied to this name", name)
        _writing.add(key)
    try:
        yield
    finally:
        with _writing_lock:
            _writing.discard(key)


@heartbeat.on_share()
def _pour(source: int, written: int) -> bytes:
    """Write all of the source; return the SHA-256 of what was read."""
    digest = hashlib.sha256()
    os.lseek(source, 0, os.SEEK_SET)
    while chunk := _read(source):
        digest.update(chunk)
        write_all(written, chunk)
    return digest.digest()


@heartbeat.on_share()
def _read(source: int) -> bytes:
    with sides.on(Side.SOURCE):
        return os.read(source, recognition.CHUNK)


def _still_holds(source: Source, digest: bytes) -> bool:
    with sides.on(Side.SOURCE):
        return source.still_holds(digest)


@heartbeat.on_share()
def _dress(written: int, source: int) -> None:
    """Give the copy mode and times of the original, where the file system has them; never set-user-id."""
    status = os.fstat(source)
    with _if_applicable():
        os.fchmod(written, stat.S_IMODE(status.st_mode) & 0o777)
    with _if_applicable():
        os.utime(written, ns=(status.st_atime_ns, status.st_mtime_ns))


@heartbeat.on_share()
def _durable(written: int) -> None:
    os.fsync(written)


@contextmanager
def _if_applicable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _INAPPLICABLE:
            raise


@heartbeat.on_share()
def _reread(written: int) -> bytes:
    """Return the SHA-256 of what the disk holds: synchronised pages are dropped from the cache first."""
    with suppress(OSError):
        os.posix_fadvise(written, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(written, 0, os.SEEK_SET)
    return recognition.digest_from(written)
