"""Events from the kernel, as hints: which folders of the inbox are worth a look before the next scan.

Only the lowest part of watchdog is used, the reader of inotify(7). Its observer goes blind for good on ordinary mkdir, mv and
rmdir, skips in silence what exceeds the limit of watches, holds all events back for half a second after a move out of the
tree, throws its own queue away after an overflow, and costs five times as much. Here the scanner itself has each folder
watched as it lists it, first watched and then listed: whatever an event failed to tell is mended by the next scan.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from watchdog.observers.inotify_c import (
    DEFAULT_EVENT_BUFFER_SIZE,
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from attachd import heartbeat
from attachd.logger import get_logger
from attachd.share import status_files

log = get_logger()

#: What tells that there may be something new. Files that go away are found by the scan.
_MASK = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_EXCL_UNLINK
)
#: The masks of events of files; one of a folder also has IN_ISDIR.
_OF_FILES = frozenset({InotifyConstants.IN_CREATE, InotifyConstants.IN_CLOSE_WRITE, InotifyConstants.IN_MOVED_TO})
_FINISHED = InotifyConstants.IN_CLOSE_WRITE | InotifyConstants.IN_MOVED_TO
_COMES = InotifyConstants.IN_CREATE | InotifyConstants.IN_MOVED_TO
_OURS = CallbackId(1)

#: A file that was only made is looked at after so many seconds. Most are closed before, which is a change at once.
_CREATED_SECONDS = 0.2

#: Names that begin so are no change: they only show that events come at all.
CANARY = b".attachd-canary-"

#: The name under which files that lie in the inbox itself are a change.
INBOX = b""
#: What attachd writes there itself, and what is hidden, begins so.
_OUR_NAMES = (b".", status_files.STATUS, status_files.WHY)

# ``Watch`` logs an overflow, with what attachd does about it.
logging.getLogger("watchdog.observers.inotify_c").addFilter(lambda record: "overflowed" not in record.getMessage())


#: So many files of one folder are looked at one by one; of more the whole folder is listed.
MOST_FILES = 250
#: Of more events in one read, those of files in a folder become one, with this name, which no file has.
_FEW = 100
_MANY = b"/"

#: Where so many reads follow one another closely, events are left to gather for so many seconds before the next: a thread that
#: wakes up for each takes the interpreter from those who work.
_GATHER_SECONDS = 0.005
_FLOOD = 20


class Reader(InotifyFD):
    """watchdog's thread that reads events, made cheap for many at once: of those that tell the same, one is enough."""

    def __init__(self) -> None:
        """Ready to be started."""
        super().__init__()
        self.name = "watch"
        self._read_at, self._in_a_row = 0.0, 0

    def read_events(self, *, event_buffer_size: int = DEFAULT_EVENT_BUFFER_SIZE) -> list[InotifyEvent]:
        """Wait for events. Of many, those of files that were made or finished are given once for each folder."""
        if self._in_a_row >= _FLOOD:
            time.sleep(_GATHER_SECONDS)
        events, before = super().read_events(event_buffer_size=event_buffer_size), self._read_at
        self._read_at = time.monotonic()
        self._in_a_row = self._in_a_row + 1 if self._read_at - before < 2 * _GATHER_SECONDS else 0
        return _gathered(events) if len(events) > _FEW else events


def _gathered(events: Sequence[InotifyEvent]) -> list[InotifyEvent]:
    """Of files in a folder all tell the same: that there are some. Of everything else each tells its name."""
    told: dict[object, InotifyEvent] = {}
    for event in events:
        if event.mask not in _OF_FILES or event.name.startswith(CANARY):
            told[event] = event
        elif event.name.startswith(_OUR_NAMES):
            told[event.wd, event.mask, True] = event
        else:
            told[event.wd, event.mask, False] = InotifyEvent(event.wd, event.mask, 0, _MANY)
    return list(told.values())


class Changes:
    """Collects in which folders something changed, and which files directly in them are new, and wakes the scanner.

    The thread that reads events only adds to a set, because a slow thread would lose events. A path is that of a folder of the
    inbox, or of a file directly in one: of that folder nothing else has changed.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        #: The files that are new, by folder; b"" stands for all of it.
        self._new: dict[bytes, set[bytes]] = {}
        self._later: dict[bytes, float] = {}
        self._heard: set[bytes] = set()
        self._everything = False

    def add(self, paths: Collection[bytes] | None) -> None:
        """Ask for a look at *paths*; None asks for a full scan."""
        with self._condition:
            self._heard.update(folder_of(path) for path in paths or ())
            if paths is None:
                self._everything = True
            elif all(self._knows(path) for path in paths):
                return
            for path in paths or ():
                self._add(path)
            self._condition.notify_all()

    def add_later(self, path: bytes) -> None:
        """Ask for a look at *path* in a moment, unless it changes before that."""
        with self._condition:
            self._heard.add(folder_of(path))
            if len(self._later) >= MOST_FILES:
                path = folder_of(path)
            if not self._knows(path) and path not in self._later:
                self._later[path] = time.monotonic() + _CREATED_SECONDS
                self._condition.notify_all()

    def _knows(self, path: bytes) -> bool:
        folder, _, name = path.partition(b"/")
        files = self._new.get(folder, ())
        return name in files or b"" in files

    def _add(self, path: bytes) -> None:
        folder, _, name = path.partition(b"/")
        files = self._new.setdefault(folder, set())
        if not name or len(files) >= MOST_FILES:
            self._new[folder] = {b""}
        elif b"" not in files:
            files.add(name)

    def wait(self, seconds: float) -> tuple[bool, set[bytes]]:
        """Wait for a change, at most *seconds*. Return whether a full scan was asked for, and the paths that changed."""
        until = time.monotonic() + seconds
        with self._condition:
            while not self._is_due() and (left := min([until, *self._later.values()]) - time.monotonic()) > 0:
                self._condition.wait(left)
            paths = {
                b"%b/%b" % (folder, name) if name else folder for folder, names in self._new.items() for name in names
            }
            found = self._everything, paths
            self._everything, self._new = False, {}
            return found

    def _is_due(self) -> bool:
        now = time.monotonic()
        for path in [path for path, at in self._later.items() if at <= now]:
            self._add(path)
        self._later = {path: at for path, at in self._later.items() if not self._knows(path)}
        return self._everything or bool(self._new)

    def heard(self) -> set[bytes]:
        """The folders of which any event has told since ``forget``."""
        with self._condition:
            return set(self._heard)

    def forget(self) -> None:
        """Forget which folders events have come from."""
        with self._condition:
            self._heard = set()


def folder_of(path: bytes) -> bytes:
    """The folder of the inbox in which a path lies."""
    return path.partition(b"/")[0]


@dataclass(slots=True)
class _Watched:
    """A folder that is watched: under which *path* below the inbox it was last listed (``b""``: it is the inbox), and when."""

    path: bytes
    identity: tuple[int, int]
    listing: int


class Watch:
    """The watches on the folders of one inbox, for as long as that lies there. The scanner adds, the kernel tells."""

    def __init__(self, changes: Changes) -> None:
        """Add to *changes*; nothing is watched before ``start``."""
        self._changes = changes
        self._lock = threading.Lock()
        self._reader: Reader | None = None
        self._watched: dict[WatchDescriptor, _Watched] = {}
        #: The folders that are watched, by device and inode.
        self.known: dict[tuple[int, int], WatchDescriptor] = {}
        self._listing = 0
        self._canaries: dict[bytes, threading.Event] = {}
        #: Grows whenever a folder ceases to be watched.
        self.losses = 0
        #: How often the kernel's queue has overflowed.
        self.overflows = 0
        #: Whether the kernel grants no more watches.
        self.exhausted = False

    def start(self) -> bool:
        """Begin to watch, or begin again. Return False if the kernel refuses; scans work without."""
        self.stop()
        try:
            reader = Reader()
        except OSError:
            return False
        reader.start()
        self._reader = reader
        return True

    def stop(self) -> None:
        """Stop watching."""
        reader, self._reader = self._reader, None
        with self._lock:
            self._watched, self.known, self.exhausted = {}, {}, False
            self.losses += 1
        if reader is not None:
            reader.stop()
            reader.join()

    @property
    def alive(self) -> bool:
        """Whether the thread that reads events lives."""
        return self._reader is not None and self._reader.is_alive()

    # --- What the scanner does ----------------------------------------------------------------------------------

    @heartbeat.on_share()
    def cover(self, folder: int, identity: tuple[int, int], path: bytes) -> bool:
        """Have the folder behind a descriptor watched, before it is listed; *identity* is its device and inode."""
        if self._still(identity, path):
            return True
        reader = self._reader
        if reader is None:
            return False
        try:
            with self._lock:
                # By its descriptor: whatever lies at the path by now, this is what is listed.
                wd = reader.add_callback(b"/proc/self/fd/%d" % folder, _MASK, self, _OURS)
                if wd == -1:
                    return False
                self._watched[wd] = _Watched(path, identity, self._listing)
                self.known[identity] = wd
        except OSError as error:
            self.exhausted |= error.errno == errno.ENOSPC
            return False
        return True

    def _still(self, identity: tuple[int, int], path: bytes) -> bool:
        with self._lock:
            wd = self.known.get(identity)
            if wd is None:
                return False
            watched = self._watched[wd]
            watched.path, watched.listing = path, self._listing
            return True

    def listing(self) -> None:
        """Everything is listed now: what is not met before ``listed`` does not lie in the inbox any more."""
        with self._lock:
            self._listing += 1
            self.exhausted = False

    def listed(self) -> None:
        """Stop watching what was moved away."""
        with self._lock:
            gone = [wd for wd, watched in self._watched.items() if watched.listing != self._listing]
            for wd in gone:
                self.known.pop(self._watched.pop(wd).identity, None)
                self.losses += 1
        if gone and self._reader is not None:
            self._reader.remove_callbacks([(wd, _OURS) for wd in gone])

    def count(self) -> int:
        """How many folders are watched."""
        with self._lock:
            return len(self._watched)

    def expect(self, name: bytes) -> threading.Event:
        """What is set as soon as an event tells of the canary *name*; ``forget`` it afterwards."""
        with self._lock:
            return self._canaries.setdefault(name, threading.Event())

    def forget(self, name: bytes) -> None:
        """Expect it no longer."""
        with self._lock:
            self._canaries.pop(name, None)

    # --- What the kernel tells, in watchdog's thread: an exception would end it ------------------------------------

    def on_event(self, event: InotifyEvent) -> None:
        """Note the change that an event tells of."""
        with self._lock:
            watched = self._watched.get(event.wd)
            canary = self._canaries.get(event.name) if event.name.startswith(CANARY) else None
        if event.name.startswith(CANARY):
            if canary:
                canary.set()
        elif watched is not None:
            self._tell(event, watched.path)

    def _tell(self, event: InotifyEvent, path: bytes) -> None:
        if not path:
            # A folder there may be an issue's; a file there is nobody's, which is to be seen soon.
            if event.is_directory and event.name:
                self._changes.add((event.name,))
            elif not event.name:
                self._changes.add(None)
            elif event.mask & _COMES and not event.name.startswith(_OUR_NAMES):
                self._changes.add_later(INBOX)
        elif event.is_directory:
            self._changes.add((folder_of(path),))
        elif event.mask & _FINISHED:
            self._changes.add((_place(path, event.name),))
        else:
            self._changes.add_later(_place(path, event.name))

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """A folder is gone: removed, or its file system was unmounted."""
        with self._lock:
            watched = self._watched.pop(wd, None)
            if watched is not None and self.known.get(watched.identity) == wd:
                del self.known[watched.identity]
                self.losses += 1
        if watched is not None:
            self._changes.add((folder_of(watched.path),) if watched.path else None)

    def on_queue_overflow(self) -> None:
        """The kernel has dropped events: only a scan can tell of what."""
        self.overflows += 1
        log.warning("watch.overflow", reason="more happened than the kernel could queue", remedy="a full scan follows")
        self._changes.add(None)


def _place(folder: bytes, name: bytes) -> bytes:
    """The path of a file of which an event tells, or the folder of the inbox, where more may have changed with it."""
    alone = name not in (b"", _MANY) and b"/" not in folder and not name.startswith(_OUR_NAMES)
    return b"%b/%b" % (folder, name) if alone else folder_of(folder)


def identity(status: os.stat_result) -> tuple[int, int]:
    """What a folder is known by while it exists."""
    return status.st_dev, status.st_ino
