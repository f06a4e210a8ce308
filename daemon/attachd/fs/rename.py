"""Rename without ever replacing a file, even if the file system cannot promise that."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from attachd import errors, heartbeat
from attachd.fs import free_names, recognition

_RENAME_NOREPLACE = 1  #: linux/fs.h
_LIBC = ctypes.CDLL(None, use_errno=True)

#: Answers of a file system or kernel without RENAME_NOREPLACE (rename(2); NFS gives EINVAL).
_UNABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
#: Answers of a file system without hard links (link(2)).
_WITHOUT_LINKS = _UNABLE | {errno.EPERM, errno.EMLINK}

_PURPOSE = b"name"

#: Errors that mean: something else has the new name, or that of a folder on the way to it.
IN_THE_WAY = frozenset(code for code, reach in errors.MOVES.items() if reach is errors.Reach.WAY)


@dataclass(frozen=True, slots=True)
class Reserving:
    """How a name is reserved on a file system whose renames always replace.

    *reserved* is called with (device, inode) of an empty file at the target before the rename replaces it. *resumed* is what an
    earlier run was called with, so that its reservation is recognised.

    *provable*: until *reserved* has returned the empty file has a hidden name too, by which ``discard`` recognises what a death
    left. Only where no two ever reserve in one folder at the same time: the second would discard what the first one holds.
    """

    reserved: Callable[[int, int], None] | None = None
    resumed: tuple[int, int] | None = None
    provable: bool = False


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
    reservation = _reserve_provably(to_folder, new) if reserving.provable else _reserve(to_folder, new)
    try:
        if reserving.reserved:
            reserving.reserved(*reservation)
        if reserving.provable:
            _forget(to_folder, new)
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
def _reserve_provably(folder: int, name: bytes) -> tuple[int, int]:
    hidden = free_names.hidden(_PURPOSE, name)
    _forget(folder, name)
    reservation = _reserve(folder, hidden)
    try:
        os.link(hidden, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        # A server may have done it, and say so of a request that it got twice.
        if isinstance(error, FileExistsError) and is_reservation(folder, name, reservation):
            return reservation
        _forget(folder, name)
        if error.errno not in _WITHOUT_LINKS:
            raise
        return _reserve(folder, name)
    return reservation


@heartbeat.on_share()
def _forget(folder: int, name: bytes) -> None:
    with suppress(FileNotFoundError):
        os.unlink(free_names.hidden(_PURPOSE, name), dir_fd=folder)


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


def discard(folder: int, name: bytes) -> None:
    """Remove a provable reservation of this name that a death left before the journal knew of it."""
    status = recognition.status_of(folder, free_names.hidden(_PURPOSE, name))
    if status is not None:
        release(folder, name, recognition.Pin.of(status).inode)
        _forget(folder, name)
