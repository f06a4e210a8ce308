"""The mount guard: whether the inbox that lies at the configured path is the one that the journal knows.

An unmounted inbox looks like an empty one. So each inbox carries a marker with an id of its own, ``.attachd/id``; where
it is missing or another, the inbox *is not there*: everything waits, nothing is withdrawn, no folder is created.

The marker also names the *term* of the journal that worked with the inbox last. Another host that mounts the same share
begins a term of its own, and from then on this journal is old: what it believes unsent may be attached.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from attachd import heartbeat
from attachd.fs import filesystems, folders, recognition
from attachd.fs.whole_file import write_whole

FOLDER = ".attachd"
MARKER = "id"
LOCK = "lock"
#: How far the term's journal has come: a copy of that journal is recognised by having come less far.
ATTEMPT = "attempt"
#: More than any marker has.
_MOST_BYTES = 64 * 1024


#: Device and inode of a folder, and the id of the mount that it is reached through.
Mount = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Marker:
    """What ``.attachd/id`` says: the inbox's own id, which state folder keeps its journal, and in which term it works.

    A new term begins whenever another journal takes over. No term: written by an attachd that knew of none.
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
    """What this process holds of the inbox."""

    def verify(self, mount: Mount, marker: Marker) -> str:
        """Return why the inbox is not ours to work with now, or ``""``. Takes a lost lock again; writes nothing else."""

    def recover(self) -> str:
        """Make the inbox ours again where that is safe; return why not, or ``""``. Only between two scans."""

    @property
    def term(self) -> str:
        """Return the term in which this journal works."""


@contextmanager
def opened(inbox: Path, *, create: bool = False) -> Iterator[int]:
    """Open our folder in the inbox, where others may exchange names: never through a symlink. Raises ``OSError``."""
    if create:
        with heartbeat.on_share():
            (inbox / FOLDER).mkdir(mode=0o755, exist_ok=True)
    with folders.folder(inbox, os.fsencode(FOLDER)) as folder:
        yield folder


def read_marker(inbox: Path) -> Marker | None:
    """Read the marker; None where there is none that makes sense."""
    try:
        with opened(inbox) as folder:
            content = json.loads(_read(folder))
        return Marker(str(content["inbox"]), str(content["state"]), str(content.get("term", "")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@heartbeat.on_share()
def _read(folder: int, name: str = MARKER) -> bytes:
    """Read a file of ours; empty for what is no file, and no more of it than a marker has."""
    file = os.open(name, recognition.READ, dir_fd=folder)
    try:
        return os.read(file, _MOST_BYTES) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)


@heartbeat.on_share()
def write_marker(inbox: Path, marker: Marker) -> None:
    """Write the marker, atomically and durably, making ``.attachd`` where it is missing. Raises ``OSError``."""
    content = json.dumps({"inbox": marker.inbox, "state": marker.state, "term": marker.term}) + "\n"
    with opened(inbox, create=True) as folder:
        write_whole(folder, MARKER.encode(), content.encode(), replace=True, mode=0o644)
    with folders.folder(inbox, b"") as above:
        folders.synchronise(above)


def read_attempt(inbox: Path, term: str) -> int:
    """Return the last attempt that is noted for *term*; 0 where none is."""
    try:
        with opened(inbox) as folder:
            content = json.loads(_read(folder, ATTEMPT))
        return int(content["attempt"]) if content["term"] == term else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def write_attempt(inbox: Path, term: str, attempt: int) -> None:
    """Note how far the journal of *term* has come. Not synchronised: an older note finds out less. Raises ``OSError``."""
    content = json.dumps({"term": term, "attempt": attempt}) + "\n"
    with opened(inbox) as folder:
        write_whole(folder, ATTEMPT.encode(), content.encode(), replace=True, mode=0o644, durable=False)


def new_id() -> str:
    """An id for an inbox that has none yet, or for a term."""
    return secrets.token_hex(8)


class Guard:
    """Looks at the inbox and remembers the last look; shared by intake and delivery.

    ``epoch`` numbers the times in which device and inode numbers may be compared; intake raises it after a remount.
    """

    def __init__(
        self,
        inbox: Path,
        inbox_id: str,
        epoch: int,
        boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        """Guard *inbox*, whose marker must say *inbox_id*. *boot* counts the time in which a process was frozen, too."""
        self.inbox = inbox
        self.inbox_id = inbox_id
        self.epoch = epoch
        self.sight = Sight(False, "it has not been looked at yet")
        self._boot = boot
        self._looked = float("-inf")
        self._claim: Claim | None = None
        self._lock = threading.Lock()

    def claim_with(self, claim: Claim) -> None:
        """Have each look verify that the inbox is still ours, and look now."""
        self._claim = claim
        self.look()

    def look(self) -> Sight:
        """Look now. Never raises: what cannot be read is not there, and the reason says why."""
        with self._alone():
            return self._observe()

    def sure(self, seconds: float) -> bool:
        """Return True if the inbox is there and ours, by a look that is not older than *seconds*.

        Whatever froze this process meanwhile counts: another host may work with the inbox by now.
        """
        with self._alone():
            if self._boot() - self._looked >= seconds:
                self._observe()
            return self.sight.there

    def recover(self) -> Sight:
        """Look, and take the inbox again where it is not ours any more and may be. Only for intake, between two scans."""
        with self._alone():
            sight = self._observe()
            if sight.there or self._claim is None:
                return sight
            if reason := self._claim.recover():
                self.sight = replace(sight, reason=reason)
                return self.sight
            return self._observe()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep out other threads. One of them may hang on the share, so waiting for it is waiting for the share."""
        with ExitStack() as stack:
            with heartbeat.on_share():
                stack.enter_context(self._lock)
            yield

    def _observe(self) -> Sight:
        # What the look finds out may have changed as soon as it began.
        looked = self._boot()
        self.sight = self._look()
        self._looked = looked
        return self.sight

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
        if self._claim and (reason := self._claim.verify(mount, marker)):
            return Sight(False, reason)
        return Sight(True, mount=mount, term=self._claim.term if self._claim else marker.term)


@heartbeat.on_share()
def mount_of(folder: Path) -> Mount:
    """What lies at a path now. Raises ``OSError``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return mount_of_descriptor(descriptor)
    finally:
        os.close(descriptor)


@heartbeat.on_share()
def mount_of_descriptor(descriptor: int) -> Mount:
    """As ``mount_of``, of an open folder."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, filesystems.mount_id(descriptor)


@heartbeat.on_share()
def place_of(folder: Path) -> str:
    """Which folder of which file system it is, the same after a restart of the machine; "" where that cannot be told.

    NFS tells no id of its file system (statvfs(3)); a mount point under it that is not mounted is a folder of another one.
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
