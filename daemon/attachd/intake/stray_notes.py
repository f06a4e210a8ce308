"""Notes of our own that lie in the inbox: dragged along with their file, or dropped on purpose.

Only one that the journal knows byte for byte, and whose own file came back beside it, is removed. One that may have been dragged
along is left alone. Everything else is a file like any other.
"""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path

from attachd.fs import folders, recognition
from attachd.intake.files import Entry
from attachd.journal import identity, moved_issues, rows
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.logger import get_logger
from attachd.model import State, printable
from attachd.share import notes

log = get_logger()

#: What ``filing.notes`` puts behind the name of a file.
_END = re.compile(rb"\.(?:why|link)(?: \(\d+\))?\.txt\Z", re.IGNORECASE)


#: Of so many notes the log says that they are left alone; `attachd why` says it of all.
MOST_TOLD = 1000


class Fate(Enum):
    """What becomes of a file that reads as a note."""

    FILE = auto()  #: an ordinary file: it was dropped on purpose
    LEFT = auto()  #: it may have been dragged along, so it is neither attached nor removed
    REMOVED = auto()  #: it was dragged along


def judge(*, known: bool, own_issue: bool, came_back: bool, beside: bool) -> Fate:
    """Decide. Pure.

    *known*: the journal has it byte for byte; *own_issue*: it lies in a folder of the issue that it speaks of; *came_back*: its
    very file left failed and came into this folder; *beside*: a file of the name that it belongs to lies there, or did.
    """
    if known and came_back:
        return Fate.REMOVED
    return Fate.LEFT if (known and own_issue) or beside else Fate.FILE


class LeftAlone:
    """The notes that this process has left alone. It logs each once, at the second look: its file may only just be coming."""

    def __init__(self) -> None:
        """Remember none yet."""
        self._told: dict[bytes, bool] = {}

    def add(self, path: bytes, key: str) -> None:
        """Take note of one that lies in a folder of the issue *key*."""
        if path not in self._told:
            if len(self._told) < MOST_TOLD:
                self._told[path] = False
        elif not self._told[path]:
            self._told[path] = True
            log.warning("note.left_alone", issue=key, file=printable(path), reason=_MAY_BE_OURS, remedy=_REMEDY)


_MAY_BE_OURS = "it reads as a note of attachd's own that came with its file, so it is neither attached nor removed"
_REMEDY = "delete it, or give it another name to have it attached"


class Dragged:
    """Judges the notes of one folder of the inbox, whose files go to the issue *key*."""

    def __init__(self, journal: Journal, inbox: Path, failed: Path, key: str, left: LeftAlone) -> None:
        self._journal, self._inbox, self._failed, self._key, self._left = journal, inbox, failed, key, left

    def sort(self, entries: Sequence[Entry]) -> tuple[list[Entry], int]:
        """Return the files among these, and how many notes were left alone; the others of them are removed."""
        suspects = [entry for entry in entries if notes.may_be_named(entry.path.rpartition(b"/")[2])]
        if not suspects:
            return list(entries), 0
        with self._journal.transaction_for_reading() as connection:
            admitted = {
                path
                for path, row in identity.at_paths(connection, [entry.path for entry in suspects]).items()
                if row.state is not State.SEEN
            }
        fates = {e.path: self._fate(e, entries) for e in suspects if e.path not in admitted}
        taken = [entry for entry in entries if fates.get(entry.path, Fate.FILE) is Fate.FILE]
        left = [path for path, fate in fates.items() if fate is Fate.LEFT]
        for path in left:
            self._left.add(path, self._key)
        return taken, len(left)

    def _fate(self, entry: Entry, entries: Sequence[Entry]) -> Fate:
        """What cannot be read just now is left alone: the next scan knows more. Intake says so of what it may not read."""
        try:
            note = notes.read(self._inbox, entry.path)
        except OSError as error:
            private = error.errno in (errno.EACCES, errno.EPERM)
            return Fate.FILE if private else Fate.LEFT
        if note is None:
            return Fate.FILE
        with self._journal.transaction_for_reading() as connection:
            described = _described(connection, note.ident)
            known = described is not None and described.note_sha256 == note.sha256
            own_issue = described is not None and _same_issue(connection, described, self._key)
            rivals = _came_into(connection, described, entry.path) if described is not None and known else []
        came_back = described is not None and known and self._came_back(described, entry, entries, rivals)
        fate = judge(known=known, own_issue=own_issue, came_back=came_back, beside=self._beside(entry.path))
        if fate is Fate.REMOVED:
            return self._remove(entry, note)
        return fate

    def _came_back(self, described: Row, note: Entry, entries: Sequence[Entry], rivals: Sequence[Row]) -> bool:
        if described.target is None or recognition.lies(self._failed, described.target) is not False:
            return False
        if any(_alike(described, row.mtime_ns, row.sha256) for row in rivals):
            return True
        folder = note.path.rpartition(b"/")[0]
        near = [e for e in entries if e.path.rpartition(b"/")[0] == folder and e.print.size == described.size]
        return any(
            e.path != note.path and (e.print.mtime_ns == described.mtime_ns or self._reads_as(described, e.path))
            for e in near
        )

    def _reads_as(self, described: Row, path: bytes) -> bool:
        if described.sha256 is None:
            return False
        above, name = folders.divide(path)
        try:
            with folders.folder(self._inbox, above) as folder:
                status = recognition.status_of(folder, name)
                pin = recognition.Pin.of(status) if status is not None else None
                return pin is not None and recognition.digest_of(folder, name, pin) == described.sha256
        except OSError:
            return False

    def _beside(self, path: bytes) -> bool:
        """Whether a file of the name that the note was written for lies, or has lain, in its folder."""
        folder, _, name = path.rpartition(b"/")
        stem = folder + b"/" + _END.sub(b"", name)
        if recognition.lies(self._inbox, stem) is not False:
            return True
        filed = self._key.encode() + b"/" + stem.partition(b"/")[2]
        with self._journal.transaction_for_reading() as connection:
            return bool(identity.at_paths(connection, [stem])) or _was_filed(connection, filed)

    def _remove(self, entry: Entry, note: notes.Note) -> Fate:
        try:
            if not notes.remove(self._inbox, entry.path, note.ident, note.sha256):
                return Fate.LEFT
        except OSError as error:
            log.warning("note.not_removed", id=note.ident, file=printable(entry.path), reason=str(error))
            return Fate.LEFT
        log.info("note.removed", id=note.ident, issue=self._key, file=printable(entry.path))
        return Fate.REMOVED


def _described(connection: sqlite3.Connection, ident: str) -> Row | None:
    """The failed row that a note names."""
    number = ident[1:]
    if ident[:1] != "F" or not number.isascii() or not number.isdigit() or len(number) > 18:
        return None
    row = rows.find(connection, int(number))
    return row if row is not None and row.state is State.FAILED else None


def _same_issue(connection: sqlite3.Connection, row: Row, key: str) -> bool:
    return bool(moved_issues.keys_of(connection, key) & {row.folder_key, row.issue})


def _came_into(connection: sqlite3.Connection, described: Row, note: bytes) -> list[Row]:
    """Later rows of files of the same size in the folder in which a note lies, whatever became of them."""
    folder = note.rpartition(b"/")[0]
    found = connection.execute(
        rows.SELECT + "WHERE id > ? AND size = ? AND path > ? AND path < ?",
        (described.id, described.size, folder + b"/", folder + b"0"),
    )
    return [row for row in map(rows.from_sql, found) if row.path.rpartition(b"/")[0] == folder and row.path != note]


def _alike(described: Row, mtime_ns: int, sha256: bytes | None) -> bool:
    return mtime_ns == described.mtime_ns or (sha256 is not None and sha256 == described.sha256)


def _was_filed(connection: sqlite3.Connection, target: bytes) -> bool:
    found = connection.execute(
        "SELECT 1 FROM file WHERE target = ? AND root IN ('done', 'failed') AND finished_at IS NOT NULL LIMIT 1",
        (target,),
    )
    return found.fetchone() is not None
