"""Write a file whole: a reader, and a crash, find the old content or the new one, never half of it."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attachd import heartbeat
from attachd.fs import folders, rename


@heartbeat.on_share()
def write_whole(
    folder: int | Path,
    name: bytes,
    content: bytes,
    *,
    replace: bool,
    mode: int,
    exact: bool = False,
    group: str | None = None,
    durable: bool = True,
) -> None:
    """Put *content* under *name* in a folder: an open one where other users may exchange names, else its path.

    With *replace* the file takes the place of whatever has the name, also of a symlink, which is not followed. Otherwise
    anything with the name raises FileExistsError. ``prepared`` explains the other arguments; *durable* also syncs the folder.
    Raises OSError.
    """
    hidden = b".%s.%s" % (name, secrets.token_hex(4).encode())
    with _opened(folder, name, durable=durable) as here:
        with prepared(here, hidden, content, mode=mode, exact=exact, group=group, durable=durable):
            if replace:
                os.rename(hidden, name, src_dir_fd=here, dst_dir_fd=here)
            else:
                rename.rename(here, hidden, here, name, rename.Reserving())
        if durable:
            folders.synchronise(here)


@contextmanager
def _opened(folder: int | Path, name: bytes, *, durable: bool) -> Iterator[int]:
    """Open a folder that was given as a path; an OSError then names the file as the caller knows it."""
    if isinstance(folder, int):
        yield folder
        return
    try:
        # A folder can be synced only through a readable descriptor, but it takes files without being readable.
        with heartbeat.on_share():
            here = os.open(folder, folders.FOLDER if durable else os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield here
        finally:
            folders.close(here)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder / os.fsdecode(name))) from error


@contextmanager
def prepared(
    folder: int,
    hidden: bytes,
    content: bytes,
    *,
    mode: int,
    exact: bool = False,
    group: str | None = None,
    durable: bool = True,
) -> Iterator[None]:
    """Keep a new file *hidden* in an open folder while the context lasts; within, it can be renamed. Raises OSError.

    The umask limits *mode* unless it is *exact*. The file belongs to *group*, if one is named. Unless it is *durable*, a
    power cut may leave it empty. FileExistsError if anything has the hidden name.
    """
    with heartbeat.on_share():
        file = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        _fill(file, content, mode if exact else None, group, durable=durable)
        yield
    finally:
        with suppress(OSError), heartbeat.on_share():  # Renamed, if all went well.
            os.unlink(hidden, dir_fd=folder)


@heartbeat.on_share()
def _fill(file: int, content: bytes, mode: int | None, group: str | None, *, durable: bool) -> None:
    """Write a new file, and close it."""
    try:
        write_all(file, content)
        if mode is not None:
            os.fchmod(file, mode)
        if group is not None:
            shutil.chown(file, group=group)
        if durable:
            os.fsync(file)
    finally:
        os.close(file)


@heartbeat.on_share()
def write_all(file: int, content: bytes) -> None:
    """Write all of *content*, however many calls that takes. Raises OSError."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]
