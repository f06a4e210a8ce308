"""The right to work with the inbox: its lock, and the term that marker and journal agree on.

The lock decides which process works, but it does not prevent a file from being attached twice. A file server may drop it
silently, and any user who may write to the inbox can exchange the lock file. The marker prevents it: it names the term of
the inbox. A process that finds another term there is old. It sends and moves nothing until it has taken the inbox over, and
then looks everything up first, as after ``attachd restore``.

The order: take the lock; doubt all files and announce a term in the journal (one transaction); write the marker; record in
the journal that the term has begun; only then scan. If the process dies before the marker is written, the inbox keeps the
other term, and the next start doubts again. If it dies later, the journal has announced the marker's term, and doubts.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

from attachd import heartbeat
from attachd.clock import Clock
from attachd.fs import folders, recognition
from attachd.journal import backup, database, terms
from attachd.journal.database import Journal
from attachd.journal.terms import Known
from attachd.logger import get_logger
from attachd.share import inbox_marker, locks, paths
from attachd.share.inbox_marker import Marker, Mount

log = get_logger()

#: How often the journal's progress is noted in the inbox: a younger copy of the journal is not recognised.
NOTED_SECONDS = 60.0
#: How long another term is respected while this process holds the lock all the time. Otherwise two services would take the
#: inbox from each other at every look, if the locks of the file system do not work.
CONTESTED_SECONDS = 300.0
#: Errors of opening our folder if something else lies there, or permission is missing.
_REPLACED = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM})


class Standing(Enum):
    """The relation of a journal to its inbox, according to the marker."""

    NEW = auto()  #: neither knows the other
    LOST = auto()  #: the journal is new, and another one was used here
    OURS = auto()  #: no other journal was used here since this one
    OLD = auto()  #: another journal was, or a later copy of this one
    UNMARKED = auto()  #: the folder that carried the marker has none: nothing shows which journal was used last
    AWAY = auto()  #: there is no marker, or that of another inbox: probably not mounted


def judge(known: Known, marker: Marker | None, noted: int, place: str) -> Standing:
    """Compare a journal with the inbox: the *marker*, the last attempt *noted* for its term, and the folder's *place*. Pure."""
    if known.inbox is None:
        # A first start that died after the marker was written had announced its term.
        ours = marker is not None and marker.term != "" and marker.term == known.announced
        return Standing.NEW if marker is None or ours else Standing.LOST
    if marker is None and known.place and known.place == place:
        return Standing.UNMARKED
    if marker is None or marker.inbox != known.inbox:
        return Standing.AWAY
    return Standing.OURS if known.knows(marker.term) and noted <= known.attempt else Standing.OLD


class Tenure:
    """The inbox as this process holds it. Call ``begin`` once; then ``inbox_marker.Guard`` calls it, under its lock.

    *busy* returns True while anything is being sent: the inbox must not be taken over then.
    """

    def __init__(self, journal: Journal, inbox: Path, state: Path, clock: Clock) -> None:
        self._journal, self._inbox, self._state, self._clock = journal, inbox, state, clock
        self._known = Known()
        self._lock: locks.Lock | None = None
        # Open, so that no other folder can have its device, inode and mount.
        self._folder: int | None = None
        self._mount: Mount | None = None
        # The lock was not held all the time since the marker was last seen to be ours.
        self._broken = True
        self._contested: tuple[str, float] | None = None
        self._noted_at, self._noted = float("-inf"), 0
        self.busy: Callable[[], bool] = lambda: False

    @property
    def inbox_id(self) -> str:
        """Return the id that the inbox's marker must say."""
        return str(self._known.inbox)

    @property
    def term(self) -> str:
        """Return the term in which this journal works."""
        return self._known.begun

    @property
    def held(self) -> bool:
        """Return True if the inbox's lock is held."""
        return self._lock is not None

    def release(self) -> None:
        """Release everything."""
        self._unlock()
        if self._folder is not None:
            folders.close(self._folder)
            self._folder = self._mount = None

    def _unlock(self) -> None:
        self._broken = True
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # --- The start ----------------------------------------------------------------------------------------------------

    def begin(self, *, adopt: bool) -> locks.Holder | locks.NoLocks | None:
        """Take the inbox if it is there; *adopt*: whatever its marker says. Returns the obstacle, or None.

        Raises ``OSError`` if the marker cannot be written.
        """
        self._known = terms.known(self._journal)
        there, standing = folders.is_folder(self._inbox), self._standing()
        if standing is Standing.AWAY and not (adopt and there):
            return None
        if not there:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._inbox))
        if standing is Standing.UNMARKED:
            self._put_right()
        forbidden = self._take(create=True)
        if forbidden is None:
            self._settle(self._standing(), adopt=adopt)
        return forbidden

    def _standing(self) -> Standing:
        marker = inbox_marker.read_marker(self._inbox)
        noted = inbox_marker.read_attempt(self._inbox, marker.term) if marker else 0
        return judge(self._known, marker, noted, inbox_marker.place_of(self._inbox))

    def _settle(self, standing: Standing, *, adopt: bool) -> None:
        """Act on the standing. The lock is held."""
        match standing:
            case Standing.NEW:
                marker = inbox_marker.read_marker(self._inbox)
                self._begin_term(marker.inbox if marker else inbox_marker.new_id(), lambda _: None)
            case Standing.LOST:
                self._begin_lost()
            case Standing.OURS if self._known.begun or self._known.announced:
                self._believe()
            case Standing.OURS:
                self._begin_term(self.inbox_id, lambda _: None)
            case Standing.OLD | Standing.UNMARKED:
                self._take_over()
            case Standing.AWAY if adopt:
                self._take_over()
            case Standing.AWAY:
                self.release()  # it went while its lock was taken

    def _begin_lost(self) -> None:
        marker = inbox_marker.read_marker(self._inbox)
        inbox_id = marker.inbox if marker else inbox_marker.new_id()

        def doubt(connection: sqlite3.Connection) -> None:
            database.put(connection, "inbox", inbox_id)
            database.put(connection, "lost", 1)

        self._begin_term(inbox_id, doubt)
        remedy = "nothing to do: attachd looks each file in the inbox up in Jira before it sends it"
        log.warning("journal.lost", inbox=str(self._inbox), remedy=remedy)

    def _believe(self) -> None:
        """Record that the marker's term has begun, and where, if a process died before it did so."""
        marker = inbox_marker.read_marker(self._inbox)
        place = inbox_marker.place_of(self._inbox)
        if marker is not None and (marker.term, place) != (self._known.begun, self._known.place):
            with self._journal.transaction() as connection:
                terms.begin(connection, marker.term, place)
        self._known, self._broken = terms.known(self._journal), False

    def _begin_term(self, inbox_id: str, doubt: Callable[[sqlite3.Connection], object]) -> None:
        """Begin a term in three durable steps; *doubt* is called in the first. Raises ``OSError``."""
        term = inbox_marker.new_id()
        with self._journal.transaction() as connection:
            doubt(connection)
            terms.announce(connection, term)
        inbox_marker.write_marker(self._inbox, Marker(inbox_id, str(self._state), term))
        with self._journal.transaction() as connection:
            database.put(connection, "inbox", inbox_id)
            terms.begin(connection, term, inbox_marker.place_of(self._inbox))
        self._known, self._broken, self._contested = terms.known(self._journal), False, None
        self._noted_at = float("-inf")

    # --- Each look ----------------------------------------------------------------------------------------------------

    def verify(self, mount: Mount, marker: Marker) -> str:
        """Return why the inbox is not ours to work with now, or ``""``. Takes a lost lock again; writes nothing else."""
        if not self._stands(mount):
            try:
                forbidden = self._take()
            except OSError as error:
                return f"the inbox {self._inbox} cannot be locked: {error.strerror}"
            if forbidden is not None:
                return self._held_by(forbidden)
            log.info("inbox.locked", inbox=str(self._inbox))
            # Another process may have had the lock in between and written its own marker.
            seen = inbox_marker.read_marker(self._inbox)
            if seen is None:
                return f"the marker of {self._inbox} cannot be read"
            marker = seen
        if marker.inbox != self.inbox_id or not self._known.knows(marker.term):
            return paths.worked_since(self._inbox, marker)
        self._broken, self._contested = False, None
        self._note()
        return ""

    def _stands(self, mount: Mount) -> bool:
        """Return True if the lock is held, on the file that lies there now."""
        if self._lock is None or self._mount != mount:
            return False
        try:
            with inbox_marker.opened(self._inbox) as folder:
                return self._lock.stands(inbox_marker.LOCK, folder)
        except OSError:
            return False

    @heartbeat.on_share()
    def _take(self, *, create: bool = False) -> locks.Holder | locks.NoLocks | None:
        """Release the lock, and take the lock file that is there now; None if that worked. Raises ``OSError``."""
        # First, because a lock that the file server has dropped would still keep this process out.
        self._unlock()
        here = os.open(self._inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mount = inbox_marker.mount_of_descriptor(here)
            with inbox_marker.opened(self._inbox, create=create) as folder:
                _clear(folder)
                taken = locks.take(paths.lock_of(self._inbox), self._state, folder=folder)
        except OSError:
            os.close(here)
            raise
        if not isinstance(taken, locks.Lock):
            os.close(here)
            return taken
        self.release()
        self._lock, self._folder, self._mount = taken, here, mount
        if not self._stands(mount):
            # Exchanged between the opening and the locking.
            self._unlock()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return None

    def _held_by(self, forbidden: locks.Holder | locks.NoLocks) -> str:
        if isinstance(forbidden, locks.Holder):
            return f"another attachd ({forbidden}) uses the inbox {self._inbox}"
        return forbidden.reason

    def _note(self) -> None:
        """Note the journal's progress in the inbox, now and then. Without it an old copy may not be recognised."""
        boot = self._clock.boot()
        if boot - self._noted_at < NOTED_SECONDS:
            return
        self._noted_at = boot
        with suppress(OSError, sqlite3.OperationalError):
            attempt = terms.known(self._journal).attempt
            if attempt > self._noted:
                inbox_marker.write_attempt(self._inbox, self.term, attempt)
                self._noted = attempt

    # --- Taking it again ----------------------------------------------------------------------------------------------

    def recover(self) -> str:
        """Make the inbox ours again if that is safe; return why not, or ``""`` if the next look will tell.

        If the folder is provably the one that carried our marker, our own folder in it is repaired after a rename, a deletion or
        an exchange. Another attachd may have used it meanwhile, so everything is looked up first.
        """
        try:
            return self._recover()
        except OSError as error:
            return f"{self._inbox / inbox_marker.FOLDER} cannot be written: {error.strerror}"

    def _recover(self) -> str:
        mount = inbox_marker.mount_of(self._inbox)
        known = (self._folder is not None and self._mount == mount) or self._is_place()
        marker = inbox_marker.read_marker(self._inbox)
        if marker is None or marker.inbox != self.inbox_id:
            if not known:
                return ""
            if marker is None:
                self._put_right()
        if not self._stands(mount) and (forbidden := self._take(create=known)) is not None:
            return self._held_by(forbidden)
        marker = inbox_marker.read_marker(self._inbox)
        if marker is not None and marker.inbox == self.inbox_id and self._known.knows(marker.term):
            return ""
        if marker is not None and self._is_contested(marker.term):
            return _CONTESTED.format(inbox=self._inbox, state=marker.state)
        if self.busy():
            return (
                f"{paths.worked_since(self._inbox, marker)}. attachd takes it over when the present uploads have ended"
            )
        self._take_over()
        return ""

    def _is_place(self) -> bool:
        return self._known.place != "" and self._known.place == inbox_marker.place_of(self._inbox)

    def _is_contested(self, term: str) -> bool:
        """Return True while another term must be respected, although we have held the lock all the time."""
        if self._broken:
            return False
        boot = self._clock.boot()
        if self._contested is None or self._contested[0] != term:
            self._contested = term, boot
        return boot - self._contested[1] < CONTESTED_SECONDS

    def _put_right(self) -> None:
        """Rename whatever lies in the place of our folder, if nothing can be written in it. Raises ``OSError``."""
        try:
            with inbox_marker.opened(self._inbox) as folder:
                status = recognition.status_of(folder, inbox_marker.MARKER.encode())
            if status is None or not stat.S_ISDIR(status.st_mode):
                return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in _REPLACED:
                raise
        aside = f"{inbox_marker.FOLDER}-aside-{inbox_marker.new_id()}"
        with folders.folder(self._inbox, b"") as above, heartbeat.on_share():
            os.rename(inbox_marker.FOLDER, aside, src_dir_fd=above, dst_dir_fd=above)
        log.warning("inbox.set_aside", inbox=str(self._inbox), what=inbox_marker.FOLDER, now=aside)

    def _take_over(self) -> None:
        """Doubt everything, then begin a term. Raises ``OSError``."""
        marker, unfinished = inbox_marker.read_marker(self._inbox), 0

        def doubt(connection: sqlite3.Connection) -> None:
            nonlocal unfinished
            unfinished = backup.doubt(connection, self._clock.now())
            database.increment(connection, "takeovers")

        self._begin_term(self.inbox_id, doubt)
        log.warning(
            "inbox.taken_over",
            inbox=str(self._inbox),
            other=marker.state if marker else None,
            unfinished=unfinished,
            remedy="nothing to do: attachd looks each file in the inbox up in Jira before it sends it",
        )


_CONTESTED = (
    "another attachd (state folder {state}) uses {inbox}, although this one holds the lock. The locks of this file system do "
    "not work: stop one of the two"
)


@heartbeat.on_share()
def _clear(folder: int) -> None:
    """Rename whatever lies in the place of the lock and cannot be locked: a link, a pipe, a folder. Raises ``OSError``."""
    status = recognition.status_of(folder, inbox_marker.LOCK.encode())
    if status is not None and not stat.S_ISREG(status.st_mode):
        os.rename(
            inbox_marker.LOCK,
            f"{inbox_marker.LOCK}-aside-{inbox_marker.new_id()}",
            src_dir_fd=folder,
            dst_dir_fd=folder,
        )
