"""Take one file back from failed into the inbox, or continue where an earlier run stopped."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from attachd.config import Config
from attachd.fs import folders, free_names, move, recognition, relocation, rename
from attachd.intake import files
from attachd.intake import router as intake_router
from attachd.journal import database, retries
from attachd.journal.rows import Row
from attachd.share import inbox_marker

#: Names that are tried in their order; then any free one will do.
_NAMES = 20


@dataclass(frozen=True, slots=True)
class Returned:
    """It lies in the inbox again, durably, at *path*. *wanted* is its own path, which something else may have."""

    row: Row
    path: bytes
    wanted: bytes


@dataclass(frozen=True, slots=True)
class Left:
    """It could not be taken back; *name* is what people call it."""

    name: bytes
    reason: str
    replaced: bool = False  #: during the move: a copy of ours may lie in the inbox all the same


def wanted(row: Row, router: intake_router.Router) -> bytes | intake_router.Unrouted:
    """Return the path that the file had in the inbox, or one below the key alone if its folder no longer means that issue."""
    folder, _, rest = row.path.partition(b"/")
    if router.route(folder) == intake_router.Routed(row.folder_key):
        return row.path
    bare = row.folder_key.encode()
    routed = router.route(bare)
    return routed if isinstance(routed, intake_router.Unrouted) else bare + b"/" + rest


def identity_of(failed: Path, target: bytes) -> recognition.Identity | str:
    """Describe what lies there now: that is what attachd tries again, even if a person has changed it since."""
    above, name = folders.divide(target)
    with folders.folder_if_there(failed, above) as folder:
        status = recognition.status_of(folder, name) if folder is not None else None
    if status is None:
        return "it is no longer there"
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    pin = recognition.Pin.of(status)
    return recognition.Identity(pin.size, pin.mtime_ns, pin.inode, None)


def sum_of(root: Path, path: bytes) -> bytes | None:
    above, name = folders.divide(path)
    with folders.folder_if_there(root, above) as folder:
        status = recognition.status_of(folder, name) if folder is not None else None
        if folder is None or status is None:
            return None
        return recognition.digest_of(folder, name, recognition.Pin.of(status))


class TakeBack:
    """One file on its way back."""

    def __init__(self, config: Config, state: Path, row: Row, group: move.Group) -> None:
        self._failed, self._inbox = config.folders.failed, config.folders.inbox
        self._state, self._row, self._group = state, row, group

    def take(self, intent: retries.Intent) -> Returned | Left:
        """Move the file to the chosen name, or to another one if that is taken. Raises OSError."""
        for _ in range(_NAMES):
            outcome = self._move(intent)
            if outcome is not move.Outcome.TAKEN:
                return self._said(intent, outcome)
            target = free_names.choose(self._inbox, intent.wanted, self._promised)
            intent = intent._replace(target=target, reserved_dev=None, reserved_ino=None)
            self._write(intent)
        return Left(intent.source, "other programs take each name in the inbox; try again")

    def _said(self, intent: retries.Intent, outcome: move.Outcome | move.Stuck) -> Returned | Left:
        match outcome:
            case move.Outcome.MOVED:
                return Returned(self._row, intent.target, intent.wanted)
            case move.Stuck(passes=True):
                return Left(intent.source, "a program has it open for writing; close it there, and try again")
            case move.Stuck(reason):
                return Left(intent.source, reason)
            case move.Outcome.GONE:
                return Left(intent.source, "it is no longer there")
            case _:
                return Left(intent.source, "it was replaced during the move; try again", replaced=True)

    def _promised(self, target: bytes) -> bool:
        with database.changing(self._state) as connection:
            return connection is not None and bool(retries.aimed_at(connection, [target]))

    def _move(self, intent: retries.Intent) -> move.Outcome | move.Stuck:
        try:
            return self._move_or_raise(intent)
        except OSError as error:
            if error.errno not in rename.IN_THE_WAY:
                raise
            return move.Outcome.TAKEN  # Something that is no folder bars the way to the name.

    def _move_or_raise(self, intent: retries.Intent) -> move.Outcome | move.Stuck:
        self._discard_reservation(intent.target)
        identity = recognition.Identity(intent.size, intent.mtime_ns, None, intent.sha256)
        set_aside = relocation.begun(self._failed, intent.source)
        lies = recognition.look(self._failed, intent.source, identity)
        if not set_aside and lies is not recognition.Found.OURS:
            return self._without_original(intent, identity, lies)
        # A copy that stands under its name already is compared, and the original removed.
        copied = not set_aside and recognition.look(self._inbox, intent.target, identity) is recognition.Found.OURS
        if set_aside or (not copied and self._far(intent)):
            return self._relocate(intent)
        ends = self._failed, intent.source, self._inbox, intent.target

        def reserved(device: int, inode: int) -> None:
            self._write(intent._replace(reserved_dev=device, reserved_ino=inode))

        return move.move(
            *(*ends, self._inode(intent, identity), self._group),
            reserved=reserved,
            reservation=intent.reservation,
            provable=True,
        )

    def _discard_reservation(self, target: bytes) -> None:
        """Remove the empty file by which an earlier run reserved the name, if it died before it could write that down."""
        above, name = folders.divide(target)
        with folders.folder_if_there(self._inbox, above) as there:
            if there is not None:
                rename.discard(there, name)

    def _inode(self, intent: retries.Intent, identity: recognition.Identity) -> recognition.Identity:
        """As it is now: between the look and the rename it is known by its inode."""
        now = identity_of(self._failed, intent.source)
        return (
            now
            if isinstance(now, recognition.Identity) and (now.size, now.mtime_ns) == (identity.size, identity.mtime_ns)
            else identity
        )

    def _without_original(
        self, intent: retries.Intent, identity: recognition.Identity, lies: recognition.Found
    ) -> move.Outcome:
        """It has left failed: by an earlier run of ours, if it lies at its target, or was seen there since."""
        if recognition.look(self._inbox, intent.target, identity) is recognition.Found.OURS or self._arrived(intent):
            return move.Outcome.MOVED
        return move.Outcome.GONE if lies is recognition.Found.NOTHING else move.Outcome.SWAPPED

    def _far(self, intent: retries.Intent) -> bool:
        """Whether it has to be copied: between two mounts nothing can be renamed (rename(2), EXDEV)."""
        with (
            folders.folder(self._failed, folders.divide(intent.source)[0]) as here,
            folders.folder(self._inbox, folders.divide(intent.target)[0], create=True) as there,
        ):
            return inbox_marker.mount_of_descriptor(here)[::2] != inbox_marker.mount_of_descriptor(there)[::2]

    def _relocate(self, intent: retries.Intent) -> move.Outcome | move.Stuck:
        current = intent

        def read(sha256: bytes) -> None:
            nonlocal current
            current = current._replace(sha256=sha256)
            self._write(current)

        def reserved(device: int, inode: int) -> None:
            nonlocal current
            current = current._replace(reserved_dev=device, reserved_ino=inode)
            self._write(current)

        outcome = relocation.relocate(
            relocation.Job(
                *(self._failed, intent.source, self._inbox, intent.target, intent.sha256, read),
                lambda: self._arrived(current),
                rename.Reserving(reserved, intent.reservation, provable=True),
            )
        )
        match outcome:
            case relocation.Outcome.MOVED:
                return move.Outcome.MOVED
            case relocation.Outcome.TAKEN:
                return move.Outcome.TAKEN
            case relocation.Outcome.GONE:
                return move.Outcome.GONE
            case relocation.Outcome.OPEN:
                return move.Stuck(move.OPEN, passes=True)
            case relocation.Outcome.KEPT:
                self._doubt()
                return move.Outcome.SWAPPED
            case _:
                assert_never(outcome)

    def _arrived(self, intent: retries.Intent) -> bool:
        """Return True if the copy is known: intake has seen it, or a person has moved it within the inbox."""
        # What is moved to done between the first two is in the journal by the third.
        return self._taken_up(intent) or self._lies_elsewhere(intent) or self._taken_up(intent)

    def _taken_up(self, intent: retries.Intent) -> bool:
        with database.changing(self._state) as connection:
            return connection is not None and retries.taken_up(connection, intent)

    def _lies_elsewhere(self, intent: retries.Intent) -> bool:
        """Return True if a file with the content and the time of the copy lies anywhere in the inbox. Walks through all of it."""
        if intent.sha256 is None:
            return False
        alike = (
            entry.path
            for entry in files.everything(self._inbox, lambda: None)
            if (entry.print.size, entry.print.mtime_ns) == (intent.size, intent.mtime_ns)
        )
        return any(sum_of(self._inbox, path) == intent.sha256 for path in alike)

    def _doubt(self) -> None:
        """Record that the copy is missing: a person may have moved it, and it may be attached by now."""
        with database.changing(self._state) as connection:
            if connection is not None:
                retries.doubt(connection, self._row.id)

    def _write(self, intent: retries.Intent) -> None:
        with database.changing(self._state) as connection:
            if connection is not None:
                retries.change(connection, intent)
