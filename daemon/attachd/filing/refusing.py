"""Why a file cannot be moved, in words that tell an administrator what to change."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

from attachd.filing import places, recognising
from attachd.model import printable

#: Errors that concern one file or its folders; others are the disk's, and concern all.
PERSONAL = frozenset({errno.EACCES, errno.EPERM, errno.EAGAIN, errno.EBUSY, errno.ETXTBSY, errno.ENAMETOOLONG})


def explain(error: OSError, inbox: Path, source: bytes, root: Path, target: bytes) -> str:
    """Say why the move was refused. An error in ``PERSONAL`` is assumed."""
    if error.errno == errno.EAGAIN:
        return "another program holds the file (a lease or a Windows client's lock) and does not let it be read"
    if error.errno == errno.ENAMETOOLONG:
        return f"the file system of {root} does not take a name as long as {printable(target)}"
    folder, name = places.divide(source)
    return (
        _first_bar(inbox, folder, name)
        or _first_bar(root, places.divide(target)[0], b"")
        or _unreadable(inbox, source)
        or f"the system refuses to move it ({os.strerror(error.errno or 0)}): it may be immutable (lsattr shows it), "
        "in use as a mount point, or kept by a security policy"
    )


def _first_bar(root: Path, relative: bytes, name: bytes) -> str | None:
    """Look for what forbids changing this folder, or the last one on the way to it where it is still to be made."""
    parts = places.split(relative)
    reason = None
    for depth in range(len(parts) + 1):
        path = b"/".join(parts[:depth])
        try:
            with places.folder(root, path) as here:
                reason = bar(here, name if depth == len(parts) else b"", root, path)
        except PermissionError:
            return f"the folder {shown(root, path)} may not be opened by attachd, which runs as {_user(os.geteuid())}"
        except OSError:
            break
    return reason


def _unreadable(root: Path, path: bytes) -> str | None:
    folder, name = places.divide(path)
    with suppress(OSError), places.folder(root, folder) as here:
        status = recognising.status_of(here, name)
        if status and not os.access(name, os.R_OK, dir_fd=here, effective_ids=True, follow_symlinks=False):
            who = _user(os.geteuid())
            return f"the file ({_owned(status)}) may not be read by attachd, which runs as {who} (chmod g+r)"
    return None


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
    status = recognising.status_of(folder, name) if name else None
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
