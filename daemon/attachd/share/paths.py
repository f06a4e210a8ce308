"""The state folder, the state of the inbox, and the place of a typed path in the folders."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from attachd.config import Config
from attachd.journal.terms import Known
from attachd.share import inbox_marker, locks

Roots = Mapping[str, Path]


def roots(config: Config) -> Roots:
    """Return the three folders by name."""
    folders = config.folders
    return {"inbox": folders.inbox, "done": folders.done, "failed": folders.failed}


def sight(config: Config, state: Path, known: Known) -> inbox_marker.Sight:
    """Return whether the inbox is there, is the one that the journal knows, and is not used by another attachd.

    The next start takes over an inbox that another attachd has used since. A running service says why it has not done so.
    """
    inbox = config.folders.inbox
    found = inbox_marker.Guard(inbox, str(known.inbox), 0).look()
    if not found.there:
        return found
    if other := other_holder(inbox, state):
        return inbox_marker.Sight(False, f"another attachd ({other}) uses the inbox {inbox}")
    if not known.knows(found.term) and locks.holder(state / "lock"):
        return inbox_marker.Sight(False, worked_since(inbox, inbox_marker.read_marker(inbox)))
    return found


def worked_since(inbox: Path, marker: inbox_marker.Marker | None) -> str:
    """Say that another journal was used with the inbox, so that this one is old."""
    by = f" (state folder {marker.state})" if marker else ""
    return f"another attachd has used {inbox} since{by}, or an older journal was restored"


def other_holder(inbox: Path, state: Path) -> locks.Holder | None:
    """Return the holder of the inbox's lock, if it certainly does not use *state*.

    It looks twice: a starting process has its lock before its name is in it, and an ending one releases one lock after the
    other.
    """
    if _other(inbox, state) is None:
        return None
    time.sleep(_AGAIN_SECONDS)
    return _other(inbox, state)


#: A start or an end takes much less time between its two locks.
_AGAIN_SECONDS = 0.1


def _other(inbox: Path, state: Path) -> locks.Holder | None:
    holder = holder_of(inbox)
    if holder is None or os.path.realpath(holder.state) == os.path.realpath(state):
        return None
    ours = locks.holder(state / "lock")
    # A host may be renamed while a service runs, and a lock file may be closed to readers (SMB).
    if ours and (holder.pid in (0, ours.pid)):
        return None
    return holder


def holder_of(inbox: Path) -> locks.Holder | None:
    """Return the holder of the inbox's lock, or None."""
    try:
        with inbox_marker.opened(inbox) as folder:
            return locks.holder(lock_of(inbox), folder=folder)
    except OSError:
        return None


def lock_of(inbox: Path) -> Path:
    """Return the path of the inbox's lock file."""
    return inbox / inbox_marker.FOLDER / inbox_marker.LOCK


def place(given: bytes, cwd: bytes, known: Roots) -> tuple[str, bytes] | None:
    """Return the folder and the path below it, or None; a relative path counts from *cwd*.

    The path counts as it is written first, so that a link out of a folder still counts as in it.
    """
    written = os.path.normpath(os.path.join(cwd, given))
    above, name = os.path.split(written)
    for path in (written, os.path.join(os.path.realpath(above), name)):
        for root, folder in known.items():
            for top in (os.path.normpath(bytes(folder)), os.path.realpath(bytes(folder))):
                if path == top or path.startswith(top.rstrip(b"/") + b"/"):
                    return root, path[len(top) :].lstrip(b"/")
    return None


def below(given: bytes) -> bytes | None:
    """Return a path as the verbs print it, below one of the folders, or None if it cannot be one."""
    path = os.path.normpath(given)
    return None if path.startswith(b"/") or path.split(b"/")[0] in (b".", b"..") else path


def here() -> bytes:
    """Return the current folder, or the root if it was removed meanwhile."""
    try:
        return os.getcwdb()
    except FileNotFoundError:
        return b"/"


def state_folder(config: Config, environ: Mapping[str, str]) -> Path:
    """Return the state folder: from the configuration, systemd, the inbox's marker, or the user's default."""
    if config.folders.state is not None:
        return config.folders.state
    if environ.get("STATE_DIRECTORY"):
        return Path(environ["STATE_DIRECTORY"].partition(":")[0])
    marker = inbox_marker.read_marker(config.folders.inbox)
    if marker is not None:
        return Path(marker.state)
    base = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME", "/var/lib"), ".local/state")
    return Path(base) / "attachd"
