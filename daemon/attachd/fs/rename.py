"""Rename without ever replacing a file, even if the file system cannot promise that."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from attachd import errors, heartbeat
from attachd.fs import recognition

_RENAME_NOREPLACE = 1  #: linux/fs.h
_LIBC = ctypes.CDLL(None, use_errno=True)

#: Answers of a file system or kernel without RENAME_NOREPLACE (rename(2); NFS gives EINVAL).
_UNABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


#: Errors that mean: something else has the new name, or that of a folder on the way to it.
IN_THE_WAY = frozenset(code for code, reach in errors.MOVES.items() if reach is errors.Reach.WAY)


@dataclass(frozen=True, slots=True)
class Reserving:
    """How a name is reserved on a file system whose renames always replace.

    *reserved* is called with (device, inode) of an empty file at the target before the rename replaces it. *resumed* is what an
    earlier run was called with, so that its reservation is recognised.
    """

    reserved: Callable[[int, int], None] | None = None
    resumed: tuple[int, int] | None = None


@heartbeat.on_share()
def rename_noreplace(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
    """Rename at once or raise OSError: EEXIST where anything has the new name, EINVAL or ENOSYS where it cannot be.

    It uses ctypes, because Python has no renameat2(2). Tests replace this function, because fakes of os cannot see the call.
    """
    if not hasattr(_LIBC, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    answer = _LIBC.renameat2(
        ctypes.c_int(from_folder),
        ctypes.c_char_p(name),
        ctypes.c_int(to_folder),
        ctypes.c_char_p(new),
        ctypes.c_uint(_RENAME_NOREPLACE),
    )
    if answer:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name, None, new)


def rename(from_folder: int, name: bytes, to_folder: int, new: bytes, reserving: Reserving) -> None:
    """Rename without replacing anything but an empty reservation of ours. Raises OSError: EEXIST, EXDEV and others."""
    if reserving.resumed and is_reservation(to_folder, new, reserving.resumed):
        _replace(from_folder, name, to_folder, new)
        return
    try:
        rename_noreplace(from_folder, name, to_folder, new)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
        _rename_over_reservation(from_folder, name, to_folder, new, reserving)


def _rename_over_reservation(from_folder: int, name: bytes, to_folder: int, new: bytes, reserving: Reserving) -> None:
    reservation = _reserve(to_folder, new)
    try:
        if reserving.reserved:
            reserving.reserved(*reservation)
        # A program that writes into the reservation between this look and the rename loses that; NFS has nothing narrower.
        if not is_reservation(to_folder, new, reservation):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        _replace(from_folder, name, to_folder, new)
    except BaseException:
        release(to_folder, new, reservation)
        raise


@heartbeat.on_share()
def _replace(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
    os.rename(name, new, src_dir_fd=from_folder, dst_dir_fd=to_folder)


@heartbeat.on_share()
def _reserve(folder: int, name: bytes) -> tuple[int, int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        return recognition.Pin.of(os.fstat(file)).inode
    finally:
        os.close(file)


def is_reservation(folder: int, name: bytes, reservation: tuple[int, int]) -> bool:
    """Return True if the name is still the empty file that was reserved."""
    status = recognition.status_of(folder, name)
    if status is None or not stat.S_ISREG(status.st_mode) or status.st_size:
        return False
    return recognition.Pin.of(status).inode == reservation


@heartbeat.on_share()
def release(folder: int, name: bytes, reservation: tuple[int, int]) -> None:
    """Remove a reservation that is no longer wanted, if it is still one."""
    if is_reservation(folder, name, reservation):
        os.unlink(name, dir_fd=folder)
