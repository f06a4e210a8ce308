"""What has to be read so that files and rows can be matched: whose content a file has, and where a row's own file is."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from attachd.fs import folders
from attachd.intake import examine
from attachd.intake.context import Context
from attachd.intake.examine import status_at
from attachd.intake.files import Entry, fingerprint
from attachd.intake.identity import Evidence, Look, Rival, Where, content_tells, is_sent, judge, spelling, where
from attachd.journal import identity, moved_issues, rows
from attachd.journal.rows import Row
from attachd.share.inbox_marker import Guard


class Candidate(Protocol):
    """A file of a listing, with the row at its path if there is one."""

    @property
    def entry(self) -> Entry:
        """The file."""

    @property
    def row(self) -> Row | None:
        """The row at its path."""


def gather(context: Context, key: str, found: Sequence[Candidate]) -> Evidence:
    """Find out what judging these files needs: checksums, and which rows are no longer at their own paths."""
    evidence = Evidence()
    for each in found:
        if each.row is not None and judge(each.row, each.entry.print, context.guard.epoch, {}) is Look.READ:
            evidence.sums[each.entry.path] = checksum(context, each.entry)
    with context.journal.transaction_for_reading() as connection:
        evidence.keys = moved_issues.keys_of(connection, key)
        wanted = _candidates(connection, evidence.keys, [each.entry for each in found], context.guard.epoch)
    suspects = {row.id: row for some in wanted.values() for row in some}
    spelt = _by_spelling(found) if suspects else {}
    evidence.lost = {row.id: row for row in suspects.values() if _is_away(context, row, spelt)}
    for each in found:
        sent = any(row.id in evidence.lost and is_sent(row) for row in wanted.get(each.entry.path, ()))
        if sent and each.entry.path not in evidence.sums:
            evidence.sums[each.entry.path] = checksum(context, each.entry)
    return evidence


def rivals(context: Context, key: str, new: Sequence[Candidate]) -> dict[int, list[Rival]]:
    """Find the rows that were sent to this issue and whose own file may be one of these *new* ones, by size."""
    sizes = {each.entry.print.size for each in new}
    with context.journal.transaction_for_reading() as connection:
        sent = identity.sent(connection, moved_issues.keys_of(connection, key), sizes)
    spelt, found = _by_spelling(new) if sent else {}, dict[int, list[Rival]]()
    for row in sent:
        if (place := whereabouts(context, row, spelt)) is not Where.HERE:
            found.setdefault(row.size, []).append(Rival(row, place))
    return found


#: Files of a listing by what their spellings have in common.
_Spelt = Mapping[str, Entry]


def _by_spelling(files: Sequence[Candidate]) -> _Spelt:
    return {spelling(each.entry.path): each.entry for each in files}


def _is_another_spelling(path: bytes, status: os.stat_result, spelt: _Spelt) -> bool:
    """Whether a path leads to a listed file only because the file system takes no heed of case, say: that was renamed.

    A second link to it may be spelt alike too, where case counts.
    """
    listed, now = spelt.get(spelling(path)), fingerprint(status)
    if listed is None or listed.path == path or status.st_nlink != 1:
        return False
    return (listed.print.dev, listed.print.ino) == (now.dev, now.ino)


def _candidates(
    connection: sqlite3.Connection, keys: Collection[str], entries: Sequence[Entry], epoch: int
) -> dict[bytes, list[Row]]:
    """Rows of other paths whose file each of these may be: of the same inode, or sent, as large, and known to be elsewhere."""
    renamed = identity.at_inodes(connection, [entry.print for entry in entries], epoch)
    sent: dict[int, list[Row]] = {}
    for row in identity.sent(connection, keys, {entry.print.size for entry in entries}):
        if row.sha256 is not None and (not row.at_path or row.epoch != epoch):
            sent.setdefault(row.size, []).append(row)
    if not renamed and not sent:
        return {}
    found: dict[bytes, list[Row]] = {}
    for entry in entries:
        either = [*renamed.get(identity.content(entry.print), ()), *sent.get(entry.print.size, ())]
        others = [row for row in dict.fromkeys(either) if row.path != entry.path or not row.at_path]
        found[entry.path] = [row for row in others if content_tells(row, entry.print, epoch)]
    return found


def _is_away(context: Context, row: Row, spelt: _Spelt) -> bool:
    if is_sent(row):
        return whereabouts(context, row, spelt) is Where.AWAY
    return not row.at_path or not _holds(context.guard, row, spelt)


def _holds(guard: Guard, row: Row, spelt: _Spelt) -> bool:
    """Whether the file of a row that was never sent still lies at its path; also where that cannot be known."""
    try:
        status = status_at(guard.inbox, row.path)
    except OSError as error:
        return error.errno not in folders.NOWHERE
    now = fingerprint(status)
    if not stat.S_ISREG(status.st_mode) or _is_another_spelling(row.path, status, spelt):
        return False
    if row.epoch == guard.epoch:
        return (now.dev, now.ino) == (row.dev, row.ino)
    return (now.size, now.mtime_ns) == (row.size, row.mtime_ns)


def whereabouts(context: Context, row: Row, spelt: _Spelt) -> Where:
    """Find out where the file of a row is that was sent. What cannot be looked at is away: should it come back, it is a file
    more, and of two equal files each is sent once.
    """
    try:
        status = status_at(context.guard.inbox, row.path)
        its_own = stat.S_ISREG(status.st_mode) and not _is_another_spelling(row.path, status, spelt)
        now = fingerprint(status) if its_own else None
    except OSError:
        now = None
    return where(row, now, context.guard.epoch, lambda: checksum(context, Entry(row.path, now)) if now else None)


def checksum(context: Context, entry: Entry) -> bytes | None:
    """Read a file that a listing shows; None if it cannot be read, or changed since."""
    return examine.checksum(context.guard.inbox, entry, network=context.network(entry.path))


def former(connection: sqlite3.Connection, entry: Entry, epoch: int, evidence: Evidence) -> list[Row]:
    """Rows whose file this is under a new name: the same inode, or sent before a restart with the same content.

    A hard link is no rename: the row's own path must hold it no longer. And a sent row follows only equal content:
    inodes are reused at once, and build machines give all files one mtime. One content may have been sent to two issues,
    with a row for each: the row of the issue that it lies in now comes first.
    """
    if not evidence.lost:
        return []
    candidates = _candidates(connection, evidence.keys, [entry], epoch).get(entry.path, [])
    found = [row for row in candidates if rows.is_unchanged(row, evidence.lost.get(row.id))]
    sha256 = evidence.sums.get(entry.path)
    found = [row for row in found if not is_sent(row) or (sha256 is not None and row.sha256 == sha256)]
    return sorted(found, key=lambda row: row.folder_key not in evidence.keys)[:1]
