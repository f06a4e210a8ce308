"""Why a file cannot be moved, in words that tell an administrator what to change."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

from attachd import errors, heartbeat
from attachd.errors import Reach
from attachd.fs import folders, recognition, sides
from attachd.fs.sides import Side
from attachd.model import printable

#: Errors that concern one file or its folders, whatever else is tried.
PERSONAL = frozenset(code for code, reach in errors.MOVES.items() if reach is Reach.FILE) | {errno.ENAMETOOLONG}

#: Opening it answers EAGAIN: Samba, an NFS server or another program of this machine has a lease on it (fcntl(2), F_SETLEASE).
HELD = "another program holds the file (a lease or a Windows client's lock) and does not let it be read; close it in that program"


def explain(error: OSError, inbox: Path, source: bytes, root: Path, target: bytes) -> str:
    """Say why one file cannot be moved, and what to do: which side failed, and where."""
    code, side = error.errno or 0, sides.of(error)
    if code in (errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY, errno.EROFS):
        return _barred(error, inbox, source, root, target)
    if side is not Side.SOURCE and (said := _said_of_target(code, root, target)):
        return said
    return _said_of_file(code) or _failed(error, side, inbox, source, root, target)


def _said_of_target(code: int, root: Path, target: bytes) -> str | None:
    match code:
        case errno.ENAMETOOLONG:
            return f"the file system of {root} does not take a name as long as {printable(target)}; shorten it"
        case errno.EINVAL | errno.EILSEQ | errno.ENOENT:
            return f"the file system of {root} does not take the name {printable(target)}, nor one like it; rename the file"
        case errno.EFBIG:
            return (
                f"it is larger than a file may be in {root} (FAT takes 4 GiB; LimitFSIZE= in the unit is another limit); "
                "take it out of the inbox, or put that folder on another file system"
            )
        case errno.ENOSPC:
            return f"{root} has room for other files, but not for this one ({_free(root)}); make room there"
        case errno.EDQUOT:
            return f"the quota in {root} does not allow this file, though it allows smaller ones; raise it, or make room there"
        case _:
            return None


def _said_of_file(code: int) -> str | None:
    match code:
        case errno.EAGAIN:
            return HELD
        case errno.EMFILE | errno.ENFILE:
            return "attachd has too many files open; raise LimitNOFILE= in its unit"
        case errno.ENOMEM:
            return "this machine is short of memory; it is tried again"
        case _:
            return None


def _failed(error: OSError, side: Side | None, inbox: Path, source: bytes, root: Path, target: bytes) -> str:
    """Say which call failed, and where, where the system's own words are all that is known."""
    words = os.strerror(error.errno) if error.errno else str(error)
    here, there = shown(inbox, folders.divide(source)[0]), shown(root, folders.divide(target)[0])
    away = error.errno in errors.AWAY
    match side:
        case Side.TARGET if away:
            return f"the file system of {there} does not answer ({words})"
        case Side.SOURCE | None if away:
            return f"the file system of its folder does not answer ({words})"
        case Side.SOURCE:
            return f"it cannot be read in {here} ({words}); check the disk of the inbox, or take the file out of it"
        case Side.TARGET:
            return f"it cannot be written to {there} ({words}), though {root} takes other files; check that disk"
        case _:
            return (
                f"moving it from {here} to {there} fails ({words}), and other files can be moved; check the disks of both, "
                "or take the file out of the inbox"
            )


#: What to say of a folder that takes no file at all, and what to do.
_BROKEN = {
    errno.ENOSPC: ("its disk is full ({free})", "Make room there"),
    errno.EDQUOT: ("the quota of {user} is used up", "Raise the quota, or make room there"),
    errno.EROFS: ("it is read-only", "Mount it for writing"),
    errno.EIO: ("its disk reports an error ({words})", "Check the disk and the kernel's log"),
    errno.ENOENT: ("the folder is not there", "Mount it, or make it"),
    errno.ENOTDIR: ("it is not a folder", "Make it one"),
}


def explain_folder(error: OSError, root: Path, what: str) -> str:
    """Say why no file at all can be moved to *root*; *what* names those that wait (Attached files)."""
    code = error.errno or 0
    away = "its file system does not answer ({words})", "Check its server and the network"
    why, remedy = _BROKEN.get(code) or (away if code in errors.AWAY else ("{words}", "Check the folder and its disk"))
    about = {"free": _free(root), "user": _user(os.geteuid()), "words": error.strerror or str(error)}
    return f"{what} cannot be moved to {root}: {why.format_map(about)}. {remedy}; nothing is lost meanwhile."


@heartbeat.on_share()
def _free(root: Path) -> str:
    try:
        status = os.statvfs(root)
    except OSError:
        return "how much is free is unknown"
    if status.f_files and not status.f_favail:
        return "no inode free"
    return f"{status.f_bavail * status.f_frsize} bytes free"


def _barred(error: OSError, inbox: Path, source: bytes, root: Path, target: bytes) -> str:
    folder, name = folders.divide(source)
    if error.errno == errno.EROFS:
        return f"{shown(inbox, folder)}, or the folder below {root} that it goes to, is read-only; mount it for writing"
    return (
        _first_bar(inbox, folder, name)
        or _first_bar(root, folders.divide(target)[0], b"")
        or _unreadable(inbox, source)
        or f"the system refuses to move it ({os.strerror(error.errno or 0)}): it may be immutable (lsattr shows it), "
        "in use as a mount point, or kept by a security policy"
    )


def _first_bar(root: Path, relative: bytes, name: bytes) -> str | None:
    """Look for what forbids changing this folder, or the last one on the way to it where it is still to be made."""
    parts = folders.split(relative)
    reason = None
    for depth in range(len(parts) + 1):
        path = b"/".join(parts[:depth])
        try:
            with folders.folder(root, path) as here:
                reason = bar(here, name if depth == len(parts) else b"", root, path)
        except PermissionError:
            return f"the folder {shown(root, path)} may not be opened by attachd, which runs as {_user(os.geteuid())}"
        except OSError:
            break
    return reason


@heartbeat.on_share()
def _unreadable(root: Path, path: bytes) -> str | None:
    folder, name = folders.divide(path)
    with suppress(OSError), folders.folder(root, folder) as here:
        status = recognition.status_of(here, name)
        if status and not os.access(name, os.R_OK, dir_fd=here, effective_ids=True, follow_symlinks=False):
            who = _user(os.geteuid())
            return f"the file ({_owned(status)}) may not be read by attachd, which runs as {who} (chmod g+r)"
    return None


@heartbeat.on_share()
def bar(folder: int, name: bytes, root: Path, relative: bytes) -> str | None:
    """Say what forbids taking this name out of a folder, the one at *relative* below *root*, or None.

    Raises EROFS as OSError.
    """
    above = os.fstat(folder)
    if not os.access(b".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True):
        if os.fstatvfs(folder).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), shown(root, relative))
        return (
            f"the folder {shown(root, relative)} ({_owned(above)}) may not be changed by attachd, which runs as "
            f"{_user(os.geteuid())}: give its group the right to write (chmod g+rwx)"
        )
    status = recognition.status_of(folder, name) if name else None
    if status is None or not above.st_mode & stat.S_ISVTX or os.geteuid() in (0, above.st_uid, status.st_uid):
        return None
    return (
        f"the folder {shown(root, relative)} ({_owned(above)}) has the sticky bit: only {_user(status.st_uid)}, who owns "
        f"the file ({_owned(status)}), may take it out; remove the bit (chmod -t)"
    )


def shown(root: Path, relative: bytes) -> str:
    return printable(os.path.join(os.fsencode(root), relative).rstrip(b"/"))


def _owned(status: os.stat_result) -> str:
    return f"owner {_user(status.st_uid)}, mode {stat.filemode(status.st_mode)}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
