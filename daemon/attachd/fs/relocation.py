"""Take a file back to another device: people never see it under two names, and an interrupted run can be resumed.

The copy is made under a hidden name. Then the original is set aside, which shows whether a person took it meanwhile. Then the
copy gets its name durably, and only then the original is deleted. The names that exist show how far an earlier run came.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from attachd import heartbeat
from attachd.fs import cross_device, folders, free_names, recognition, rename, sources
from attachd.fs.recognition import Pin
from attachd.fs.sources import Source

_ASIDE, _COPY = b"aside", b"back"

#: Hidden names that are tried; a file that is not ours keeps its name.
_NAMES = 20


class Outcome(Enum):
    """How it ended."""

    MOVED = auto()  #: at the target, durably, and nowhere else
    TAKEN = auto()  #: something else has the name: choose another
    GONE = auto()  #: somebody took the original away, or changed it: it is left as it is
    OPEN = auto()  #: a program has it open for writing, and what it writes would be nowhere: it is left as it is
    KEPT = auto()  #: an earlier run's copy is not to be found: the original has its own name again


@dataclass(frozen=True, slots=True)
class Job:
    """Both ends of the way back.

    *sha256* is what an earlier run read. *read* is called with what this run reads, to write it into the journal before anything
    is copied. *arrived* returns True if intake has seen the copy since.
    """

    failed: Path
    source: bytes
    inbox: Path
    target: bytes
    sha256: bytes | None
    read: Callable[[bytes], None]
    arrived: Callable[[], bool]
    reserving: rename.Reserving = field(default_factory=rename.Reserving)


@dataclass(frozen=True, slots=True)
class _Ends:
    """The two folders, open, and the names in them."""

    here: int
    original: bytes
    there: int
    name: bytes

    @property
    def aside(self) -> bytes:
        return free_names.hidden(_ASIDE, self.original)

    def find(self, digest: bytes) -> bytes | None:
        """Find the copy by its content, under one of its hidden names."""
        return next((name for name in self._hidden() if _digest(self.there, name) == digest), None)

    def free(self) -> bytes:
        """Choose a hidden name that nothing has. Raises OSError if all are taken."""
        found = next((name for name in self._hidden() if recognition.status_of(self.there, name) is None), None)
        if found is None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.name)
        return found

    def _hidden(self) -> list[bytes]:
        return list(itertools.islice(free_names.numbered(free_names.hidden(_COPY, self.name)), _NAMES))


def relocate(job: Job) -> Outcome:
    """Move the file, or continue an earlier run. Raises OSError."""
    above, name = folders.divide(job.target)
    within, original = folders.divide(job.source)
    with folders.folder(job.failed, within) as here, folders.folder(job.inbox, above, create=True) as there:
        ends = _Ends(here, original, there, name)
        if recognition.status_of(here, ends.aside) is not None:
            return _resume(job, ends)
        if recognition.status_of(there, name) is not None and not _is_reserved(job, ends):
            return Outcome.TAKEN
        return _begin(job, ends)


def begun(failed: Path, source: bytes) -> bool:
    """Return True if an earlier run has set the original aside. Raises OSError if that cannot be known."""
    above, name = folders.divide(source)
    with folders.folder_if_there(failed, above) as here:
        return here is not None and recognition.status_of(here, free_names.hidden(_ASIDE, name)) is not None


def _begin(job: Job, ends: _Ends) -> Outcome:
    with sources.opened(ends.here, ends.original) as source:
        if source is None and recognition.status_of(ends.here, ends.original) is None:
            _discard(job, ends)
        hidden = _copy(job, ends, source) if source is not None else None
        if source is None or hidden is None:
            return Outcome.GONE
        return _exchange(job, ends, source, hidden)


def _copy(job: Job, ends: _Ends, source: Source) -> bytes | None:
    """Make a whole, durable copy under a hidden name, and return that name. None if the original changed meanwhile."""
    try:
        digest = source.digest()
    except sources.Disturbed:
        return None
    if digest != job.sha256:
        job.read(digest)
    hidden = ends.find(digest)  # An earlier run may have come as far as this.
    if hidden is None:
        hidden = ends.free()
        if cross_device.copy(source, ends.there, hidden, digest, rename.Reserving()) is None:
            return None
    folders.synchronise(ends.there)
    return hidden


def _discard(job: Job, ends: _Ends) -> None:
    """Remove the whole or half copy that an earlier run made of a file that a person has taken since."""
    cross_device.discard(ends.there, ends.free())
    hidden = ends.find(job.sha256) if job.sha256 is not None else None
    if hidden is not None:
        _unlink(ends.there, hidden)


def _exchange(job: Job, ends: _Ends, source: Source, hidden: bytes) -> Outcome:
    """Set the original aside, and give the copy its name. If a person takes or opens it before that, they have it."""
    try:
        rename.rename(ends.here, ends.original, ends.here, ends.aside, rename.Reserving())
    except OSError as error:
        _unlink(ends.there, hidden)
        if isinstance(error, FileNotFoundError):
            return Outcome.GONE
        raise
    used = source.is_open_for_writing()
    status = recognition.status_of(ends.here, ends.aside)
    if used or status is None or not Pin.of(status).has_content_of(source.pin):
        # Replaced or written to since it was copied, or about to be: what is there now counts.
        _give_back(ends)
        _unlink(ends.there, hidden)
        return Outcome.OPEN if used else Outcome.GONE
    folders.synchronise(ends.here)
    return _show(job, ends, hidden)


def _show(job: Job, ends: _Ends, hidden: bytes) -> Outcome:
    try:
        rename.rename(ends.there, hidden, ends.there, ends.name, job.reserving)
    except OSError as error:
        if error.errno not in rename.IN_THE_WAY:
            raise
        _give_back(ends)
        _unlink(ends.there, hidden)
        return Outcome.TAKEN
    folders.synchronise(ends.there)
    return _finish(ends)


def _finish(ends: _Ends) -> Outcome:
    _unlink(ends.here, ends.aside)
    folders.synchronise(ends.here)
    return Outcome.MOVED


def _resume(job: Job, ends: _Ends) -> Outcome:
    """Continue an earlier run that set the original aside and died: its copy has its name already, or gets it now."""
    digest = _digest(ends.here, ends.aside)
    if digest is not None and digest == job.sha256:
        hidden = ends.find(digest)
        if hidden is not None:
            return _show(job, ends, hidden)
        if _digest(ends.there, ends.name) == digest or job.arrived():
            return _finish(ends)
    _give_back(ends)
    return Outcome.KEPT


def _give_back(ends: _Ends) -> None:
    """Give the original its own name again, or the first that is free."""
    for name in free_names.numbered(ends.original):
        try:
            rename.rename(ends.here, ends.aside, ends.here, name, rename.Reserving())
        except FileExistsError:
            continue
        folders.synchronise(ends.here)
        return


def _digest(folder: int, name: bytes) -> bytes | None:
    status = recognition.status_of(folder, name)
    if status is None or not stat.S_ISREG(status.st_mode):
        return None
    return recognition.digest_of(folder, name, Pin.of(status))


@heartbeat.on_share()
def _unlink(folder: int, name: bytes) -> None:
    os.unlink(name, dir_fd=folder)


def _is_reserved(job: Job, ends: _Ends) -> bool:
    reservation = job.reserving.resumed
    return reservation is not None and rename.is_reservation(ends.there, ends.name, reservation)
