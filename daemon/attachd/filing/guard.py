"""The mount guard: whether the inbox that lies at the configured path is the one that the journal knows.

An unmounted inbox looks like an empty one. So each inbox carries a marker with an id of its own, ``.attachd/id``; where
it is missing or another, the inbox *is not there*: everything waits, nothing is withdrawn, no folder is created.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from attachd.filing import filesystems, places, recognising

FOLDER = ".attachd"
MARKER = "id"
LOCK = "lock"
#: More than any marker has.
_MOST_BYTES = 64 * 1024


#: Device and inode of a folder, and the id of the mount that it is reached through.
Mount = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Marker:
    """What ``.attachd/id`` says: the inbox's own id, and which state folder keeps its journal."""

    inbox: str
    state: str


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at the inbox: ``mount`` changes when another file system (or the same one again) lies at the path."""

    there: bool
    reason: str = ""
    mount: Mount = (0, 0, 0)


@contextmanager
def opened(inbox: Path, *, create: bool = False) -> Iterator[int]:
    """Open our folder in the inbox, where others may exchange names: never through a symlink. Raises ``OSError``."""
    if create:
        (inbox / FOLDER).mkdir(mode=0o755, exist_ok=True)
    with places.folder(inbox, os.fsencode(FOLDER)) as folder:
        yield folder


def read_marker(inbox: Path) -> Marker | None:
    """Read the marker; None where there is none that makes sense."""
    try:
        with opened(inbox) as folder:
            content = json.loads(_read(folder))
        return Marker(str(content["inbox"]), str(content["state"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(folder: int) -> bytes:
    """Read the marker's file; empty for what is no file, and no more of it than a marker has."""
    file = os.open(MARKER, recognising.READ, dir_fd=folder)
    try:
        return os.read(file, _MOST_BYTES) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)


def write_marker(inbox: Path, marker: Marker) -> None:
    """Write the marker, atomically and durably, making ``.attachd`` where it is missing. Raises ``OSError``."""
    content = json.dumps({"inbox": marker.inbox, "state": marker.state}) + "\n"
    fresh = f"{MARKER}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with opened(inbox, create=True) as folder:
        with open(os.open(fresh, flags, 0o644, dir_fd=folder), "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, MARKER, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    with places.folder(inbox, b"") as above:
        os.fsync(above)


def new_id() -> str:
    """An id for an inbox that has none yet."""
    return secrets.token_hex(8)


class Guard:
    """Looks at the inbox and remembers the last look; shared by intake and delivery.

    ``epoch`` numbers the times in which device and inode numbers may be compared; intake raises it after a remount.
    """

    def __init__(self, inbox: Path, inbox_id: str, epoch: int) -> None:
        """Guard *inbox*, whose marker must say *inbox_id*."""
        self.inbox = inbox
        self.inbox_id = inbox_id
        self.epoch = epoch
        self.sight = Sight(False, "it has not been looked at yet")
        self._claim: Callable[[], str] | None = None
        self._claimed: Mount | None = None
        self._lock = threading.Lock()

    def claim_with(self, claim: Callable[[], str], claimed: Mount | None) -> None:
        """Call *claim* whenever another mount than the one that is *claimed* lies at the path: it takes the inbox's lock, or says
        who has it.
        """
        self._claimed, self._claim = claimed, claim
        self.look()

    def look(self) -> Sight:
        """Look now. Never raises: what cannot be read is not there, and the reason says why."""
        with self._lock:
            sight = self._look()
            if sight.there and self._claim and sight.mount != self._claimed:
                reason = self._claim()
                sight = Sight(False, reason) if reason else sight
                self._claimed = None if reason else sight.mount
            self.sight = sight
            return sight

    def _look(self) -> Sight:
        try:
            mount = mount_of(self.inbox)
        except OSError as error:
            return Sight(False, f"the inbox {self.inbox} cannot be opened ({error.strerror}); is it mounted?")
        marker = read_marker(self.inbox)
        if marker is None:
            return Sight(
                False,
                f"{self.inbox} carries no marker of attachd: it is not mounted, or the marker was deleted "
                "(`attachd run --adopt-inbox` writes a new one, once)",
            )
        if marker.inbox != self.inbox_id:
            return Sight(
                False,
                f"{self.inbox} is another inbox than the one that the journal knows "
                "(`attachd run --adopt-inbox` takes it over, once)",
            )
        return Sight(True, mount=mount)


def mount_of(folder: Path) -> Mount:
    """What lies at a path now. Raises ``OSError``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(descriptor)
        return status.st_dev, status.st_ino, filesystems.mount_id(descriptor)
    finally:
        os.close(descriptor)
