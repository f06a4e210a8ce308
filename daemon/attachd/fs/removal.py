"""Remove our file from a folder, and put back what turns out to be another file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from attachd import heartbeat
from attachd.fs import folders, free_names, recognition, rename, sources
from attachd.fs.folders import Dirty
from attachd.fs.recognition import Found, Identity, Pin
from attachd.fs.sources import Source

_PURPOSE = b"gone"


class InUse(Exception):
    """A program has our file open for writing: what it writes after the removal would be nowhere. The file keeps its name."""


def put_back(folder: int, name: bytes, inbox: Path, source: bytes, dirty: Dirty) -> bytes:
    """Move whatever is under *name* to the first free path for *source* in the inbox, and return that. Raises OSError.

    That is its own name unless something has taken it meanwhile: a person expects it there.
    """
    while True:
        free = free_names.choose(inbox, source)
        above, new = folders.divide(free)
        try:
            with folders.folder(inbox, above, create=True) as back:
                rename.rename(folder, name, back, new, rename.Reserving())
                dirty.touch(folder)
                dirty.touch(back)
                return free
        except OSError as error:
            if error.errno not in rename.IN_THE_WAY:
                raise  # Else it was taken since it was chosen.


@heartbeat.on_share()
def remove(
    folder: int, inbox: Path, source: bytes, identity: Identity, dirty: Dirty, held: Source | None = None
) -> None:
    """Remove our file from the inbox, and nothing else. Raises OSError.

    There is no unlink by inode. So the file is renamed aside first, and examined before it is lost: a file that a person put
    there a moment ago goes back, and so does ours if a program wrote to it since it was copied. To find that out it is read,
    unless it is the *held* file and undisturbed. Raises ``InUse`` if a program opened it before it was renamed aside, and may
    still write to it: then it has its name again.
    """
    name = folders.divide(source)[1]
    aside = free_names.hidden(_PURPOSE, name)
    try:
        os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
    except FileNotFoundError:
        return
    if held and held.wire and _is(folder, aside, held) and not held.is_open_for_writing() and held.is_undisturbed():
        os.unlink(aside, dir_fd=folder)
        dirty.touch(folder)
        return
    settle(folder, inbox, source, replace(identity, ctime_ns=recognition.UNREAD), filed=True, dirty=dirty)


def _is(folder: int, name: bytes, held: Source) -> bool:
    status = recognition.status_of(folder, name)
    return status is not None and Pin.of(status).inode == held.pin.inode


@heartbeat.on_share()
def settle(folder: int, inbox: Path, source: bytes, identity: Identity, *, filed: bool, dirty: Dirty) -> None:
    """Deal with what ``remove`` set aside, perhaps before a crash: delete our file if it is *filed*, put back anything else.

    Our file is put back too, and ``InUse`` raised, if a program has it open for writing. Aside it would be in the way of the
    next one of its name, and nobody would find it once its folder is renamed. Raises OSError.
    """
    aside = free_names.hidden(_PURPOSE, folders.divide(source)[1])
    # Nobody opens a hidden name: a program that does not write to it now never will, and its content shows what was written.
    used = filed and _is_open_for_writing(folder, aside)
    found, _ = recognition.examine(folder, aside, identity, copied=True)
    if found is Found.OURS and filed and not used:
        os.unlink(aside, dir_fd=folder)
        dirty.touch(folder)
    elif found is not Found.NOTHING:
        put_back(folder, aside, inbox, source, dirty)
        if found is Found.OURS and filed:
            raise InUse


def _is_open_for_writing(folder: int, name: bytes) -> bool:
    with sources.opened(folder, name) as held:
        return held is not None and held.is_open_for_writing()


def clear(root: Path, target: bytes, identity: Identity) -> Found:
    """Delete a filed file durably if it is the very one, and return what lay there. Repeat it after a crash. Raises OSError.

    Another file that a person put under the name stays, even if that happened at the last moment. So does ours if a program
    has it open for writing: that is CHANGED.
    """
    above, name = folders.divide(target)
    with folders.folder_if_there(root, above) as folder:
        if folder is None:
            return Found.NOTHING
        dirty = Dirty()
        try:
            settle(folder, root, target, identity, filed=True, dirty=dirty)
            found, _ = recognition.examine(folder, name, identity, copied=True)
            if found is Found.OURS:
                remove(folder, root, target, identity, dirty)
        except InUse:
            found = Found.CHANGED
        dirty.sync()
        return found
