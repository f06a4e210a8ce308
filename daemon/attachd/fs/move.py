"""Moves a file from one folder to another: never over another file, and resumable wherever it was cut off."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path

from attachd import errors, heartbeat
from attachd.fs import cross_device, folders, permissions, recognition, removal, rename, sides, sources
from attachd.fs.folders import Dirty
from attachd.fs.recognition import Found, Identity, Pin
from attachd.fs.sides import Side
from attachd.fs.sources import Disturbed, Source

#: Attempts while others keep removing the very folders that are being moved between.
_ATTEMPTS = 3


class Outcome(Enum):
    """How a move ended; what concerns only this file and needs a person is ``Stuck``."""

    MOVED = auto()  #: at the target, and durable once the group is synchronised
    TAKEN = auto()  #: something else is at the target: choose another
    GONE = auto()  #: our file is neither here nor there
    CHANGED = auto()  #: our file holds other content by now: it lies in the inbox, perhaps under a numbered name
    SWAPPED = auto()  #: what was moved was not ours; it is back in the inbox, under its own or a numbered name


@dataclass(frozen=True, slots=True)
class Stuck:
    """This file cannot be moved; *reason* is a sentence for a person."""

    reason: str
    refuses_name: bool = False  #: another name may do
    passes: bool = False  #: by itself, and soon


@dataclass(frozen=True, slots=True)
class Job:
    """Both ends of one move, and what is known of the file."""

    inbox: Path
    source: bytes
    root: Path
    target: bytes
    identity: Identity
    dirty: Dirty
    reserving: rename.Reserving = field(default_factory=rename.Reserving)
    resumed: bool = True


#: Why a file stays that a program still writes to: what is written after the move would be in no issue.
OPEN = "a program has it open for writing; it is moved once that program has closed it"


@dataclass(frozen=True, slots=True)
class _Thing:
    """What stands at one end of the move; at the source it is *held* open."""

    folder: int
    name: bytes
    pin: Pin
    found: Found
    held: Source | None = None

    @property
    def ours(self) -> bool:
        """Return True if it is the file that is moved."""
        return self.found is Found.OURS


class Group(folders.Held):
    """One group of moves: the folders between which it goes, and those that it has changed.

    What it moved is durable when ``sync`` has returned. ``fresh`` are those of the caller's files whose target was chosen
    for this very group, so that no earlier run can have left anything of their move.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dirty = Dirty()
        self.fresh: set[int] = set()
        self.kinds: dict[int, str] = {}

    def sync(self) -> None:
        """Make everything durable that was moved. Raises OSError as ``Dirty.sync``."""
        self.dirty.sync()


def move(
    inbox: Path,
    source: bytes,
    root: Path,
    target: bytes,
    identity: Identity,
    group: Group,
    *,
    fresh: bool = False,
    reserved: Callable[[int, int], None] | None = None,
    reservation: tuple[int, int] | None = None,
    resumed: bool = True,
    provable: bool = False,
) -> Outcome | Stuck:
    """Move the file without replacing anything. Repeat it after a crash with the same target: it goes on from there.

    Both paths are relative to their roots. MOVED is durable when the *group* was synchronised. *fresh*: no earlier run has
    tried this target; not *resumed*: the last try ended in order, so what lies there was put there by a person.

    Where renames cannot refuse to replace, the target is first reserved by an empty file; *reserved* gets its (device, inode),
    for the journal, and *reservation* is what an earlier run got; *provable* as ``Reserving`` says. Raises errors of the disk
    (ENOSPC, EDQUOT, EROFS, EIO).
    """
    reserving = rename.Reserving(reserved, reservation, provable)
    job = Job(inbox, source, root, target, identity, group.dirty, reserving, resumed)
    if fresh and (moved := _move_plainly(job, group)):
        return moved
    try:
        return _persist(job)
    except removal.InUse:
        return Stuck(OPEN, passes=True)
    except OSError as error:
        if error.errno not in permissions.PERSONAL:
            raise
        refuses_name = errors.reach(error) is errors.Reach.NAME
        return Stuck(permissions.explain(error, inbox, source, root, target), refuses_name)


def _persist(job: Job) -> Outcome | Stuck:
    for _ in range(_ATTEMPTS):
        # Something vanished, or was written to, between the look and the act: look again.
        with suppress(FileNotFoundError, Disturbed):
            return _attempt(job)
    try:
        return _attempt(job)
    except Disturbed:
        return Stuck("it is written to all the time while it is moved; it is tried again", passes=True)


def _attempt(job: Job) -> Outcome | Stuck:
    with ExitStack() as stack:
        with sides.on(Side.TARGET):
            there = stack.enter_context(_opened(job.root, job.target))
            target = _look(there, job.target, job.identity)
        with sides.on(Side.SOURCE):
            here = stack.enter_context(_opened(job.inbox, job.source))
            if here is not None:
                filed = target is not None and target.ours
                removal.settle(here, job.inbox, job.source, job.identity, filed=filed, dirty=job.dirty)
            source = _hold(stack, here, job)
        outcome = _act(job, here, there, source, target)
        if there is not None:
            # What an earlier run was copying when it died, if this one went another way.
            cross_device.discard(there, folders.divide(job.target)[1])
        return outcome


def _opened(root: Path, path: bytes) -> AbstractContextManager[int | None]:
    return folders.folder_if_there(root, folders.divide(path)[0])


def _look(folder: int | None, path: bytes, identity: Identity) -> _Thing | None:
    """Look at the target, where a copy counts as well as the file itself."""
    if folder is None:
        return None
    name = folders.divide(path)[1]
    found, pin = recognition.examine(folder, name, identity, copied=True)
    return _Thing(folder, name, pin, found) if pin else None


def _hold(stack: ExitStack, folder: int | None, job: Job) -> _Thing | None:
    """Open what lies at the source, and see whether it is what was sent; None where that is no regular file."""
    if folder is None:
        return None
    name = folders.divide(job.source)[1]
    held = stack.enter_context(sources.opened(folder, name))
    return _Thing(folder, name, held.pin, held.judge(job.identity), held) if held else None


def _act(
    job: Job, here: int | None, there: int | None, source: _Thing | None, target: _Thing | None
) -> Outcome | Stuck:
    """Do what is left to do, judged from nothing but what stands at both ends."""
    if target and _is_reserved(job, target):
        return _carry(job, source, there) if source and source.ours else _cancel(job, source, target)
    if target and target.ours:
        return _finish(job, here, source, target)
    if source and source.found is Found.CHANGED:
        return Outcome.CHANGED
    if source and source.ours:
        return Outcome.TAKEN if target else _carry(job, source, there)
    return _give_back(job, target) if target and job.resumed else Outcome.GONE


def _is_reserved(job: Job, target: _Thing) -> bool:
    reservation = job.reserving.resumed
    return reservation is not None and rename.is_reservation(target.folder, target.name, reservation)


def _cancel(job: Job, source: _Thing | None, target: _Thing) -> Outcome:
    assert job.reserving.resumed
    rename.release(target.folder, target.name, job.reserving.resumed)
    return Outcome.CHANGED if source and source.found is Found.CHANGED else Outcome.GONE


def _carry(job: Job, source: _Thing, there: int | None) -> Outcome | Stuck:
    above, name = folders.divide(job.target)
    if source.held and source.held.is_open_for_writing():
        return Stuck(OPEN, passes=True)
    try:
        if there is not None:
            return _carry_into(job, source, there, name)
        with ExitStack() as stack:
            with sides.on(Side.TARGET):
                made = stack.enter_context(folders.folder(job.root, above, create=True))
            return _carry_into(job, source, made, name)
    except OSError as error:
        if error.errno not in rename.IN_THE_WAY or sides.of(error) is Side.SOURCE:
            raise
        return Outcome.TAKEN


def _carry_into(job: Job, source: _Thing, there: int, name: bytes) -> Outcome | Stuck:
    assert source.held is not None
    try:
        rename.rename(source.folder, source.name, there, name, job.reserving)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _carry_across(job, source, source.held, there, name)
    return verify(job, source.folder, there, source.held)


def verify(job: Job, here: int, there: int, held: Source) -> Outcome | Stuck:
    """Look at what was renamed from the folder *here* to *there*. Raises OSError.

    Between the look at the *held* file and the rename a program may have put another file under the name, or other content
    into this one, or opened it to do so. Who opens it after the rename finds it at its target, and means that.
    """
    name = folders.divide(job.target)[1]
    status = recognition.status_of(there, name)
    if status is not None and Pin.of(status).inode != held.pin.inode:
        found, _ = recognition.examine(there, name, job.identity, copied=True)
        if found is Found.OTHER:
            removal.put_back(there, name, job.inbox, job.source, job.dirty)
            return Outcome.SWAPPED
    elif status is not None:
        # Who does not have it open now, after the rename, has written by now what they would: the content is looked at last.
        used = held.is_open_for_writing()
        changed = not _holds_what_was_sent(held, job.identity)
        if used or changed:
            removal.put_back(there, name, job.inbox, job.source, job.dirty)
        if changed:
            return Outcome.CHANGED if job.identity.sha256 else Outcome.SWAPPED
        if used:
            return Stuck(OPEN, passes=True)
    _touch(job, here, there)
    return Outcome.MOVED


@heartbeat.on_share()
def _holds_what_was_sent(held: Source, identity: Identity) -> bool:
    """The rename has set ctime. If nothing else was done to the file, it holds what it held; else it is read."""
    if held.is_undisturbed():
        return True
    if identity.sha256 is None or not identity.size:
        return Pin.of(os.fstat(held.descriptor)).has_content_of(held.pin)
    try:
        return held.digest() == identity.sha256
    except Disturbed:
        return False


def _carry_across(job: Job, source: _Thing, held: Source, there: int, name: bytes) -> Outcome | Stuck:
    if reason := permissions.bar(source.folder, source.name, job.inbox, folders.divide(job.source)[0]):
        return Stuck(reason)
    if not held.readable:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), source.name)
    with sides.on(Side.TARGET):
        copied = cross_device.copy(held, there, name, job.identity.sha256, job.reserving)
    if copied is None:
        # Whether it holds other content, or is only being written to, shows when it is looked at again.
        raise Disturbed
    _remove(job, source, copied)
    return Outcome.MOVED


def _finish(job: Job, here: int | None, source: _Thing | None, target: _Thing) -> Outcome | Stuck:
    """Remove what is left under the source's name, once it is proven that the target holds the same."""
    if not source or not source.ours:
        _touch(job, here)
        return Outcome.MOVED
    assert source.held is not None
    if source.held.is_open_for_writing():
        return Stuck(OPEN, passes=True)
    digest = source.held.digest()
    if source.pin.inode != target.pin.inode and digest != recognition.digest_of(target.folder, target.name, target.pin):
        return Outcome.TAKEN
    _remove(job, source, digest)
    return Outcome.MOVED


def _remove(job: Job, source: _Thing, digest: bytes) -> None:
    """Remove the source, which holds what *digest* says, after the target was made durable: until then it is the only copy
    that counts.
    """
    identity = replace(job.identity, sha256=digest)
    with ExitStack() as stack:
        with sides.on(Side.TARGET):
            above = folders.divide(job.target)[0]
            stack.enter_context(folders.folder(job.root, above, passing=folders.synchronise))
        with sides.on(Side.SOURCE):
            removal.remove(source.folder, job.inbox, job.source, identity, job.dirty, source.held)
    _touch(job, source.folder)


def _give_back(job: Job, target: _Thing) -> Outcome:
    """Give back what an earlier run renamed in place of our file, before it could look at it.

    That was no empty file, which would be a reservation that nobody recorded, and nothing on another device, where
    files are copied and proven.
    """
    if not target.pin.size:
        return Outcome.GONE
    try:
        removal.put_back(target.folder, target.name, job.inbox, job.source, job.dirty)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return Outcome.GONE
    return Outcome.SWAPPED


def _touch(job: Job, here: int | None, there: int | None = None) -> None:
    """Remember both folders, and those above the target: a process that made one may have died before synchronising it.

    Those above once in a group: *there*, the target's own, shows whether that was done.
    """
    if here is not None:
        job.dirty.touch(here)
    if there is None or job.dirty.touch(there):
        with folders.folder(job.root, folders.divide(job.target)[0], passing=job.dirty.touch):
            pass


# The plain case of a move, for many files that go between the same folders: these are opened once.


def _move_plainly(job: Job, group: Group) -> Outcome | Stuck | None:
    """Move a file whose target is fresh: MOVED, CHANGED, SWAPPED or stuck. Raises OSError once something was moved.

    None where that is not plain: everything is left as it stands, to be judged from what stands at both ends.

    The file is looked at before and after the rename, which replaces nothing: in between another program may have put
    another file under the name, or other content into this one.
    """
    (above, name), (over, new) = folders.divide(job.source), folders.divide(job.target)
    with ExitStack() as stack:
        try:
            here = group.folder(job.inbox, above)
            held = stack.enter_context(sources.opened(here, name, group.kinds))
            if held is None or held.pin.inode != job.identity.inode or not held.is_proven(job.identity):
                return None
            if held.is_open_for_writing():
                return None
            there = group.folder(job.root, over, create=True)
            rename.rename_noreplace(here, name, there, new)
        except OSError:
            return None
        # A program may take what was filed at once, or move its folder away: then it vanishes from under the next step.
        with suppress(FileNotFoundError):
            return verify(job, here, there, held)
    return None
