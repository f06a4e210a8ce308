"""Events from the kernel, as hints: which folders of the inbox are worth a look before the next scan.

watchdog does not tell when the kernel's queue overflows, misses files in folders that were just made, and loses its way
when trees are moved; so nothing is ever concluded from an event, and nothing is lost without one.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import structlog
from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

log = structlog.get_logger()

#: Without a filter watchdog loses events at 30,000 files a second instead of 50,000, and costs twice the time.
_EVENTS = [
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]


# A clean stop is logged as an error by watchdog 7.1, because its emitter is asked once more after it has ended.
logging.getLogger("watchdog.observers.inotify").addFilter(
    lambda record: "thread is inactive" not in record.getMessage()
)


class Doorbell(FileSystemEventHandler):
    """Collects the folders that rang. watchdog's thread only adds to a set: a slow handler would make it lose events."""

    def __init__(self, inbox: bytes) -> None:
        """Listen for paths below *inbox*."""
        self._prefix = inbox.rstrip(b"/") + b"/"
        self._condition = threading.Condition()
        self._folders: set[bytes] = set()
        self._everything = False

    def dispatch(self, event: FileSystemEvent) -> None:
        """Note the folders that an event is about. Never raises: an exception would end watchdog's thread for good."""
        found = {self._folder(os.fsencode(path)) for path in (event.src_path, event.dest_path) if path}
        self.ring({folder for folder in found if folder})

    def _folder(self, path: bytes) -> bytes | None:
        if not path.startswith(self._prefix):
            return None
        return path[len(self._prefix) :].partition(b"/")[0]

    def ring(self, folders: set[bytes] | None) -> None:
        """Ask for a look at *folders*; None asks for a full scan."""
        with self._condition:
            self._everything |= folders is None
            self._folders |= folders or set()
            self._condition.notify_all()

    def wait(self, seconds: float) -> tuple[bool, set[bytes]]:
        """Wait until somebody rings, at most *seconds*; returns whether a full scan was asked for, and which folders."""
        with self._condition:
            self._condition.wait_for(lambda: self._everything or self._folders, seconds)
            rang = self._everything, self._folders
            self._everything, self._folders = False, set()
            return rang


class Watch:
    """The observer of one inbox, for as long as that lies there."""

    def __init__(self, inbox: Path, bell: Doorbell) -> None:
        """Watch *inbox*, ring *bell*."""
        self._inbox = Path(os.path.realpath(inbox))
        self._bell = bell
        self._observer: object | None = None

    def start(self) -> bool:
        """Begin to watch, or begin anew. False (said in the log) where the kernel refuses: the scan does without."""
        self.stop()
        observer = Observer()
        try:
            observer.schedule(self._bell, str(self._inbox), recursive=True, event_filter=_EVENTS)
            observer.start()
        except OSError as error:
            log.warning(
                "watch.refused",
                folder=str(self._inbox),
                reason=str(error),
                remedy="files are found by scanning; raise fs.inotify.max_user_watches or max_user_instances",
            )
            return False
        self._observer = observer
        return True

    def stop(self) -> None:
        """Stop watching."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()  # type: ignore[attr-defined]
            observer.join()  # type: ignore[attr-defined]
