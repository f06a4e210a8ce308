"""The mount guard: is the folder at the configured path the inbox that the journal knows?

An unmounted inbox looks like an empty one. So each inbox carries a marker with its own id, ``.attachd/id``. Without that
marker the inbox *is not there*: everything waits, nothing is withdrawn, no folder is created.

The marker also names the *term* of the journal that was used with the inbox last. Another host that mounts the same share
begins its own term, and from then on this journal is old: files that it believes unsent may be attached.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from attachd import heartbeat
from attachd.fs import filesystems, folders, recognition
from attachd.fs.whole_file import write_whole

FOLDER = ".attachd"
MARKER = "id"
LOCK = "lock"
#: The progress of the term's journal: an old copy of that journal has made less.
ATTEMPT = "attempt"
#: No marker is as long as this.
_MOST_BYTES = 64 * 1024


#: Device and inode of a folder, and the id of the mount that it is reached through.
Mount = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Marker:
    """The contents of ``.attachd/id``: the inbox's id, the state folder of its journal, and the term.

    A new term begins whenever another journal takes over. The term is "" if an attachd without terms wrote the marker.
    """

    inbox: str
    state: str
    term: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at the inbox: ``mount`` changes when another file system (or the same one again) lies at the path, ``term``
    when another journal may have worked with it meanwhile.
    """

    there: bool
    reason: str = ""
    mount: Mount = (0, 0, 0)
    term: str = ""


class Claim(Protocol):
    """The inbox as this process holds it (``tenure.Tenure``)."""

    def verify(self, mount: Mount, marker: Marker) -> str:
        """Return why the inbox is not ours to work with now, or ``""``. Takes a lost lock again; writes nothing else."""

    def recover(self) -> str:
        """Make the inbox ours again if that is safe; return why not, or ``""``. Only between two scans."""

    @property
    def term(self) -> str:
        """Return the term in which this journal works."""


@contextmanager
def opened(inbox: Path, *, create: bool = False) -> Iterator[int]:
    """Open our folder in the inbox, never through a symlink that others put there. Raises ``OSError``."""
    if create:
        with heartbeat.on_share():
            (inbox / FOLDER).mkdir(mode=0o755, exist_ok=True)
    with folders.folder(inbox, os.fsencode(FOLDER)) as folder:
        yield folder


def read_marker(inbox: Path) -> Marker | None:
    """Return the marker, or None if it is missing or invalid."""
    try:
        with opened(inbox) as folder:
            content = json.loads(_read(folder))
        return Marker(str(content["inbox"]), str(content["state"]), str(content.get("term", "")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@heartbeat.on_share()
def _read(folder: int, name: str = MARKER) -> bytes:
    """Read at most as much as a marker holds; empty if it is not a regular file."""
    file = os.open(name, recognition.READ, dir_fd=folder)
    try:
        return os.read(file, _MOST_BYTES) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)


@heartbeat.on_share()
def write_marker(inbox: Path, marker: Marker) -> None:
    """Write the marker, whole and durable, and make ``.attachd`` if it is missing. Raises ``OSError``."""
    content = json.dumps({"inbox": marker.inbox, "state": marker.state, "term": marker.term}) + "\n"
    with opened(inbox, create=True) as folder:
        write_whole(folder, MARKER.encode(), content.encode(), replace=True, mode=0o644)
    with folders.folder(inbox, b"") as above:
        folders.synchronise(above)


def read_attempt(inbox: Path, term: str) -> int:
    """Return the last attempt that is noted for *term*, or 0."""
    try:
        with opened(inbox) as folder:
            content = json.loads(_read(folder, ATTEMPT))
        return int(content["attempt"]) if content["term"] == term else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def write_attempt(inbox: Path, term: str, attempt: int) -> None:
    """Note the progress of the journal of *term*. Not synced: an old note only recognises fewer copies. Raises ``OSError``."""
    content = json.dumps({"term": term, "attempt": attempt}) + "\n"
    with opened(inbox) as folder:
        write_whole(folder, ATTEMPT.encode(), content.encode(), replace=True, mode=0o644, durable=False)


def new_id() -> str:
    """Return a new id for an inbox or a term."""
    return secrets.token_hex(8)


class Guard:
    """Looks at the inbox and remembers the last look; shared by intake and delivery.

    ``epoch`` counts the periods in which device and inode numbers may be compared; intake raises it after a remount.
    """

    def __init__(
        self,
        inbox: Path,
        inbox_id: str,
        epoch: int,
        boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        """Guard *inbox*, whose marker must have *inbox_id*. *boot* also counts time in which the process was frozen."""
        self.inbox = inbox
        self.inbox_id = inbox_id
        self.epoch = epoch
        self.sight = Sight(False, "the inbox has not been checked yet")
        self._boot = boot
        self._looked = float("-inf")
        self._claim: Claim | None = None
        self._lock = threading.Lock()

    def claim_with(self, claim: Claim) -> None:
        """Have each look verify that the inbox is still ours, and look now."""
        self._claim = claim
        self.look()

    def look(self) -> Sight:
        """Look now. Never raises: an inbox that cannot be read is not there, and the reason says why."""
        with heartbeat.on_share().holding(self._lock):
            return self._observe()

    def sure(self, seconds: float) -> bool:
        """Return True if the inbox is there and ours, by a look that is not older than *seconds*.

        Time in which this process was frozen counts, because another host may use the inbox by now.
        """
        with heartbeat.on_share().holding(self._lock):
            if self._boot() - self._looked >= seconds:
                self._observe()
            return self.sight.there

    def recover(self) -> Sight:
        """Look, and retake an inbox that is no longer ours but may be. Only for intake, between two scans."""
        with heartbeat.on_share().holding(self._lock):
            sight = self._observe()
            if sight.there or self._claim is None:
                return sight
            if reason := self._claim.recover():
                self.sight = replace(sight, reason=reason)
                return self.sight
            return self._observe()

    def _observe(self) -> Sight:
        # The result may be out of date from the moment when the look began.
        looked = self._boot()
        self.sight = self._look()
        self._looked = looked
        return self.sight

    def _look(self) -> Sight:
        try:
            mount = mount_of(self.inbox)
        except OSError as error:
            return Sight(False, f"the inbox {self.inbox} cannot be opened ({error.strerror}). Check that it is mounted")
        marker = read_marker(self.inbox)
        if marker is None:
            return Sight(
                False,
                f"the inbox {self.inbox} has no attachd marker. Mount it. If the marker was deleted, "
                "`attachd run --adopt-inbox` writes a new one",
            )
        if marker.inbox != self.inbox_id:
            return Sight(
                False,
                f"{self.inbox} is not the inbox that the journal knows. Mount the right one, or take this one over with "
                "`attachd run --adopt-inbox`",
            )
        if self._claim and (reason := self._claim.verify(mount, marker)):
            return Sight(False, reason)
        return Sight(True, mount=mount, term=self._claim.term if self._claim else marker.term)


@heartbeat.on_share()
def mount_of(folder: Path) -> Mount:
    """Return what is mounted at a path now. Raises ``OSError``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return mount_of_descriptor(descriptor)
    finally:
        os.close(descriptor)


@heartbeat.on_share()
def mount_of_descriptor(descriptor: int) -> Mount:
    """Return the same for an open folder."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, filesystems.mount_id(descriptor)


@heartbeat.on_share()
def place_of(folder: Path) -> str:
    """Return the file system and inode of a folder, stable across reboots; "" if they are unknown.

    NFS reports no file system id (statvfs(3)). An empty mount point belongs to another file system than the inbox.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        system = os.fstatvfs(descriptor).f_fsid
        return f"{system:x}:{os.fstat(descriptor).st_ino}" if system else ""
    except OSError:
        return ""
    finally:
        os.close(descriptor)
