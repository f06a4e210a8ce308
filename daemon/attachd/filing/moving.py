"""Moves a file from one folder to another: never over another file, and resumable wherever it was cut off."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from attachd.filing import copying, durability, places, recognising, refusing, renaming, returning
from attachd.filing.durability import Dirty as Dirty
from attachd.filing.numbering import Chooser as Chooser
from attachd.filing.numbering import choose as choose
from attachd.filing.recognising import Found as Found
from attachd.filing.recognising import Identity as Identity
from attachd.filing.recognising import Pin
from attachd.filing.recognising import look as look

#: Attempts while others keep removing the very folders that are being moved between.
_ATTEMPTS = 3


class Outcome(Enum):
    """How a move ended; what concerns only this file and needs a person is ``Stuck``."""

    MOVED = auto()  #: at the target, and durable once the group is synchronised
    TAKEN = auto()  #: something else is at the target: choose another
    GONE = auto()  #: our file is neither here nor there
    SWAPPED = auto()  #: what was moved was not ours; it is back in the inbox, under its own or a numbered name


@dataclass(frozen=True, slots=True)
class Stuck:
    """This file cannot be moved; *reason* is a sentence for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class Job:
    """Both ends of one move, and what is known of the file."""

    inbox: Path
    source: bytes
    root: Path
    target: bytes
    identity: Identity
    dirty: Dirty
    reserving: renaming.Reserving = field(default_factory=renaming.Reserving)


@dataclass(frozen=True, slots=True)
class _Thing:
    """What stands at one end of the move; *ours*: it is the file that is moved."""

    folder: int
    name: bytes
    pin: Pin
    ours: bool


def move(
    inbox: Path,
    source: bytes,
    root: Path,
    target: bytes,
    identity: Identity,
    dirty: Dirty,
    *,
    reserved: Callable[[int, int], None] | None = None,
    reservation: tuple[int, int] | None = None,
) -> Outcome | Stuck:
    """Move the file without replacing anything. Repeat it after a crash with the same target: it goes on from there.

    Both paths are relative to their roots. MOVED is durable when *dirty* was synchronised. Where renames cannot refuse
    to replace, the target is first reserved by an empty file; *reserved* is told its (device, inode), to be journalled,
    and *reservation* is what an earlier run was told. Errors of the disk (ENOSPC, EDQUOT, EROFS, EIO) are raised.
    """
    job = Job(inbox, source, root, target, identity, dirty, renaming.Reserving(reserved, reservation))
    try:
        return _persist(job)
    except OSError as error:
        if error.errno not in refusing.PERSONAL:
            raise
        return Stuck(refusing.explain(error, inbox, source, root, target))


def _persist(job: Job) -> Outcome | Stuck:
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):  # Something vanished between the look and the act: look again.
            return _attempt(job)
    return _attempt(job)


def _attempt(job: Job) -> Outcome | Stuck:
    with _opened(job.root, job.target) as there, _opened(job.inbox, job.source) as here:
        target = _look(there, job.target, job.identity, copied=True)
        if here is not None:
            filed = target is not None and target.ours
            returning.settle(here, job.inbox, job.source, job.identity, filed=filed, dirty=job.dirty)
        outcome = _act(job, here, there, _look(here, job.source, job.identity, copied=False), target)
        if there is not None:
            # What an earlier run was copying when it died, if this one went another way.
            copying.discard(there, places.divide(job.target)[1])
        return outcome


def _opened(root: Path, path: bytes) -> AbstractContextManager[int | None]:
    return places.folder_if_there(root, places.divide(path)[0])


def _look(folder: int | None, path: bytes, identity: Identity, *, copied: bool) -> _Thing | None:
    if folder is None:
        return None
    name = places.divide(path)[1]
    found, pin = recognising.examine(folder, name, identity, copied=copied)
    return _Thing(folder, name, pin, found is Found.OURS) if pin else None


def _act(
    job: Job, here: int | None, there: int | None, source: _Thing | None, target: _Thing | None
) -> Outcome | Stuck:
    """Do what is left to do, judged from nothing but what stands at both ends."""
    if target and _is_reserved(job, target):
        return _carry(job, source, there) if source and source.ours else _cancel(job, target)
    if target and target.ours:
        return _finish(job, here, source, target)
    if source and source.ours:
        return Outcome.TAKEN if target else _carry(job, source, there)
    return _give_back(job, target) if target else Outcome.GONE


def _is_reserved(job: Job, target: _Thing) -> bool:
    reservation = job.reserving.resumed
    return reservation is not None and renaming.is_reservation(target.folder, target.name, reservation)


def _cancel(job: Job, target: _Thing) -> Outcome:
    assert job.reserving.resumed
    renaming.release(target.folder, target.name, job.reserving.resumed)
    return Outcome.GONE


def _carry(job: Job, source: _Thing, there: int | None) -> Outcome | Stuck:
    above, name = places.divide(job.target)
    try:
        if there is not None:
            return _carry_into(job, source, there, name)
        with places.folder(job.root, above, create=True) as made:
            return _carry_into(job, source, made, name)
    except OSError as error:
        if error.errno not in renaming.IN_THE_WAY:
            raise
        return Outcome.TAKEN


def _carry_into(job: Job, source: _Thing, there: int, name: bytes) -> Outcome | Stuck:
    try:
        renaming.rename(source.folder, source.name, there, name, job.reserving)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _carry_across(job, source, there, name)
    return verify(job, source.folder, there, source.pin)


def verify(job: Job, here: int, there: int, pin: Pin) -> Outcome:
    """Look at what was renamed from the folder *here*, where the file was *pin*, to *there*: between the look and the rename
    somebody may have put new content under the name. Raises OSError.
    """
    name = places.divide(job.target)[1]
    found, now = recognising.examine(there, name, job.identity, copied=True)
    if found is Found.OTHER and now != pin:
        returning.put_back(there, name, job.inbox, job.source, job.dirty)
        return Outcome.SWAPPED
    _touch(job, here, there)
    return Outcome.MOVED


def _carry_across(job: Job, source: _Thing, there: int, name: bytes) -> Outcome | Stuck:
    if reason := refusing.bar(source.folder, source.name, job.inbox, places.divide(job.source)[0]):
        return Stuck(reason)
    file = os.open(source.name, recognising.READ, dir_fd=source.folder)
    try:
        copied = copying.copy(file, there, name, source.pin, job.identity.sha256, job.reserving)
    finally:
        os.close(file)
    if not copied:
        return Outcome.GONE
    _remove(job, source)
    return Outcome.MOVED


def _finish(job: Job, here: int | None, source: _Thing | None, target: _Thing) -> Outcome:
    """Remove what is left under the source's name, once it is proven that the target holds the same."""
    if not source or not source.ours:
        _touch(job, here)
    elif _alike(source, target):
        _remove(job, source)
    else:
        return Outcome.TAKEN
    return Outcome.MOVED


def _alike(one: _Thing, other: _Thing) -> bool:
    if one.pin.inode == other.pin.inode:
        return True
    digest = recognising.digest_of(one.folder, one.name, one.pin)
    return digest is not None and digest == recognising.digest_of(other.folder, other.name, other.pin)


def _remove(job: Job, source: _Thing) -> None:
    """Remove the source, after the target was made durable: until then it is the only copy that counts."""
    with places.folder(job.root, places.divide(job.target)[0], passing=durability.synchronise):
        returning.remove(source.folder, job.inbox, job.source, job.identity, job.dirty)
    _touch(job, source.folder)


def _give_back(job: Job, target: _Thing) -> Outcome:
    """Give back what an earlier run renamed in place of our file, before it could look at it.

    That was no empty file, which would be a reservation that nobody recorded, and nothing on another device, where
    files are copied and proven.
    """
    if not target.pin.size:
        return Outcome.GONE
    try:
        returning.put_back(target.folder, target.name, job.inbox, job.source, job.dirty)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return Outcome.GONE
    return Outcome.SWAPPED


def _touch(job: Job, here: int | None, there: int | None = None) -> None:
    """Remember both folders, and those above the target: who made one may have died before synchronising it.

    Those above once in a group: *there*, the target's own, shows whether that was done.
    """
    if here is not None:
        job.dirty.touch(here)
    if there is None or job.dirty.touch(there):
        with places.folder(job.root, places.divide(job.target)[0], passing=job.dirty.touch):
            pass
