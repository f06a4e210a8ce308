"""What intake finds out by touching files: whether one can be taken, whose content it is, what is gone.

A settled file must be readable now and movable afterwards; else it is blocked, and never sent.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from attachd import errors
from attachd.fs import folders, leases, permissions, relocation
from attachd.intake import gating, walking
from attachd.intake.observing import Evidence, Look, Rival, Where, is_sent, judge, where
from attachd.intake.walking import Entry, fingerprint
from attachd.journal import admission, identity, rows
from attachd.journal.database import Journal
from attachd.journal.rows import EVERY, Row
from attachd.model import Fingerprint, State, printable
from attachd.share.inbox_marker import Guard

log = structlog.get_logger()

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1024 * 1024
#: Rows that are looked at in one transaction.
_AT_ONCE = 1000


class Candidate(Protocol):
    """A file of a listing, with the row at its path if there is one."""

    @property
    def entry(self) -> Entry:
        """The file."""

    @property
    def row(self) -> Row | None:
        """The row at its path."""


@dataclass(frozen=True, slots=True)
class Free:
    """It can be taken; ``sha256`` only where it was asked for, ``lacks`` the end that it lacks."""

    sha256: bytes | None = None
    lacks: str | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """It cannot be taken; *reason* is a sentence for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class Moving:
    """It changed or vanished while it was looked at: the next scan looks again."""


#: Whether a path below the inbox lies on a network file system.
Network = Callable[[bytes], bool]
#: What judges an open file before it is read as a whole.
Gate = Callable[[int], gating.Go | gating.Wait]


def examine(
    inbox: Path, path: bytes, print_: Fingerprint, held: folders.Held, *, checksum: bool, gate: Gate | None = None
) -> Free | Bar | Moving | gating.Wait:
    """Open the file as it will be opened for sending, and see whether its folder would let it go and *gate* lets it pass.

    Without a gate it is only what somebody writes to that counts as moving. *held* holds the folders of many files.
    """
    above, name = folders.divide(path)
    try:
        folder = held.folder(inbox, above)
        reason = permissions.bar(folder, name, inbox, above)
        if reason:
            return Bar(reason)
        descriptor = os.open(name, _READ, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return Moving()
        return Bar(_why_unreadable(inbox, path, error))
    try:
        return _examine_open(descriptor, print_, gate or _closed, checksum=checksum)
    except OSError as error:
        passing = errors.passing(error)
        return Bar(f"it cannot be read now: {passing}" if passing else f"it cannot be read: {error.strerror}")
    finally:
        os.close(descriptor)


def _examine_open(descriptor: int, print_: Fingerprint, gate: Gate, *, checksum: bool) -> Free | Moving | gating.Wait:
    passed = gate(descriptor)
    if not _is(os.fstat(descriptor), print_):
        return Moving()
    if isinstance(passed, gating.Wait):
        return passed
    if not checksum:
        return Free(lacks=passed.lacks)
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, _CHUNK):
        digest.update(chunk)
    return Free(digest.digest(), passed.lacks) if _is(os.fstat(descriptor), print_) else Moving()


def _closed(descriptor: int) -> gating.Go | gating.Wait:
    return gating.Wait(0.0, leases.STILL_OPEN) if leases.writer(descriptor) is leases.Writer.SOMEBODY else gating.Go()


def _as_it_is(descriptor: int) -> gating.Go | gating.Wait:
    """The gate of network file systems, where nobody can say who writes."""
    del descriptor
    return gating.Go()


def anew(inbox: Path, entry: Entry) -> Entry:
    """What a file is after it was opened; as it was listed where it cannot be opened.

    An NFS client asks the server for the current size and times when a file is opened, and else may show what it
    remembers for a minute (close-to-open consistency, nfs(5)).
    """
    above, name = folders.divide(entry.path)
    try:
        with folders.folder(inbox, above) as folder:
            descriptor = os.open(name, _READ, dir_fd=folder)
    except OSError:
        return entry
    try:
        status = os.fstat(descriptor)
        return Entry(entry.path, fingerprint(status)) if stat.S_ISREG(status.st_mode) else entry
    finally:
        os.close(descriptor)


def _is(status: os.stat_result, print_: Fingerprint) -> bool:
    return stat.S_ISREG(status.st_mode) and fingerprint(status)._replace(ctime_ns=print_.ctime_ns) == print_


def _why_unreadable(inbox: Path, path: bytes, error: OSError) -> str:
    if passing := errors.passing(error):
        return f"it cannot be read now: {passing}"
    try:
        status = _status(inbox, path)
    except OSError:
        return f"it cannot be read: {error.strerror}"
    owner = f"owner {status.st_uid}, group {status.st_gid}, mode {stat.filemode(status.st_mode)}"
    return f"it cannot be read ({error.strerror}; {owner}); let attachd's group read it (chmod g+r)"


def still_in_failed(failed: Path, source: bytes) -> bool:
    """Whether the original of what is being taken back is there, under its name or set aside; also where that is unknown."""
    try:
        return lies_there(failed, source) is not False or relocation.begun(failed, source)
    except OSError:
        return True


def lies_there(inbox: Path, path: bytes) -> bool | None:
    """Whether a regular file lies at a path; None where that cannot be known (a folder that may not be opened).

    Where a folder, a link, a pipe, a socket or a device has taken its name, the file is gone.
    """
    try:
        return stat.S_ISREG(_status(inbox, path).st_mode)
    except OSError as error:
        return False if error.errno in folders.NOWHERE else None


def _status(inbox: Path, path: bytes) -> os.stat_result:
    """What the name itself is, reached without following a link. Raises OSError."""
    above, name = folders.divide(path)
    with folders.folder(inbox, above) as folder:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)


# --- Evidence ---------------------------------------------------------------------------------------------------


def gather(journal: Journal, guard: Guard, key: str, found: Sequence[Candidate], network: Network) -> Evidence:
    """Find out what judging these files needs: checksums, and which rows are no longer at their own paths."""
    evidence = Evidence()
    for each in found:
        if each.row is not None and judge(each.row, each.entry.print, guard.epoch, {}) is Look.READ:
            evidence.sums[each.entry.path] = _sum(guard.inbox, each.entry, network)
    with journal.transaction_for_reading() as connection:
        evidence.keys = identity.keys(connection, key)
        wanted = _candidates(connection, evidence.keys, [each.entry for each in found], guard.epoch)
    suspects = {row.id: row for rows in wanted.values() for row in rows}
    evidence.lost = {row.id: row for row in suspects.values() if _is_away(guard, row, network)}
    for each in found:
        sent = any(row.id in evidence.lost and is_sent(row) for row in wanted.get(each.entry.path, ()))
        if sent and each.entry.path not in evidence.sums:
            evidence.sums[each.entry.path] = _sum(guard.inbox, each.entry, network)
    return evidence


def rivals(
    journal: Journal, guard: Guard, key: str, sizes: Collection[int], network: Network
) -> dict[int, list[Rival]]:
    """Find the rows that were sent to this issue and whose own file may be a new one of these *sizes*, by size."""
    with journal.transaction_for_reading() as connection:
        sent = identity.sent(connection, identity.keys(connection, key), sizes)
    found: dict[int, list[Rival]] = {}
    for row in sent:
        if (place := whereabouts(guard, row, network)) is not Where.HERE:
            found.setdefault(row.size, []).append(Rival(row, place))
    return found


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
        rows = [*renamed.get(identity.content(entry.print), ()), *sent.get(entry.print.size, ())]
        found[entry.path] = [row for row in dict.fromkeys(rows) if row.path != entry.path or not row.at_path]
    return found


def _is_away(guard: Guard, row: Row, network: Network) -> bool:
    if is_sent(row):
        return whereabouts(guard, row, network) is Where.AWAY
    return not row.at_path or not _holds(guard, row)


def _holds(guard: Guard, row: Row) -> bool:
    """Whether the file of a row that was never sent still lies at its path; also where that cannot be known."""
    try:
        status = _status(guard.inbox, row.path)
    except OSError as error:
        return error.errno not in folders.NOWHERE
    now = fingerprint(status)
    if not stat.S_ISREG(status.st_mode):
        return False
    if row.epoch == guard.epoch:
        return (now.dev, now.ino) == (row.dev, row.ino)
    return (now.size, now.mtime_ns) == (row.size, row.mtime_ns)


def whereabouts(guard: Guard, row: Row, network: Network) -> Where:
    """Find out where the file of a row is that was sent. What cannot be looked at is away: should it come back, it is a file
    more, and of two equal files each is sent once.
    """
    try:
        status = _status(guard.inbox, row.path)
        now = fingerprint(status) if stat.S_ISREG(status.st_mode) else None
    except OSError:
        now = None
    return where(row, now, guard.epoch, lambda: _sum(guard.inbox, Entry(row.path, now), network) if now else None)


def sighted(guard: Guard, departed: Sequence[Row], network: Network, beat: Callable[[], None]) -> set[int]:
    """Find out whose files still lie anywhere in the inbox, by the ids of the rows: carried to another issue's folder, to one
    that is no issue's, or under a name that is left alone, they may come back.

    By inode, of whatever epoch; else by size, time and content. One that cannot be read may be any's.
    """
    found: set[int] = set()
    for entry in walking.everything(guard.inbox, beat):
        here = identity.content(entry.print)
        for row in departed:
            if identity.content(row.fingerprint) == here:
                found.add(row.id)
            elif (row.size, row.mtime_ns) == here[2:] and row.sha256 and row.id not in found:
                beat()
                if _sum(guard.inbox, entry, network) in (None, row.sha256):
                    found.add(row.id)
    return found


def departing(
    journal: Journal, guard: Guard, departed: Sequence[Row], apart: float, moment: admission.Moment
) -> list[Row]:
    """Of rows that were departed before a scan began, those whose file that scan has not recognised."""
    with journal.transaction_for_reading() as connection:
        current = [row for row in rows.many(connection, [row.id for row in departed]) if row in departed]
        unsettled = identity.unsettled_sizes(connection) if current else set()
        return [
            row
            for row in current
            if not any((key, row.size) in unsettled for key in identity.keys(connection, row.asked))
            and (not row.at_path or (may_count(row, moment, apart) and lies_there(guard.inbox, row.path) is False))
        ]


def _sum(inbox: Path, entry: Entry, network: Network) -> bytes | None:
    gate = _as_it_is if network(entry.path) else _closed
    with folders.Held() as held:
        result = examine(inbox, entry.path, entry.print, held, checksum=True, gate=gate)
    return result.sha256 if isinstance(result, Free) else None


def former(connection: sqlite3.Connection, entry: Entry, epoch: int, evidence: Evidence) -> list[Row]:
    """Rows whose file this is under a new name: the same inode, or sent before a restart with the same content.

    A hard link is no rename: the row's own path must hold it no longer. And a sent row follows only equal content:
    inodes are reused at once, and build machines give all files one mtime. One content may have been sent to two issues,
    with a row for each: the row of the issue that it lies in now comes first.
    """
    if not evidence.lost:
        return []
    candidates = _candidates(connection, evidence.keys, [entry], epoch).get(entry.path, [])
    found = [row for row in candidates if evidence.lost.get(row.id) == row]
    sha256 = evidence.sums.get(entry.path)
    found = [row for row in found if not is_sent(row) or (sha256 is not None and row.sha256 == sha256)]
    return sorted(found, key=lambda row: row.asked not in evidence.keys)[:1]


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a new file may be attached already: earlier failures of its size, notes of such, or a journal that was *lost*."""

    earlier: tuple[Row, ...]
    heard: frozenset[bytes]
    lost: bool


def doubts(journal: Journal, found: Sequence[Candidate]) -> dict[bytes, Doubt]:
    """Which settled files have to be read, and perhaps looked up, before they are sent for the first time."""
    suspicious: dict[bytes, Doubt] = {}
    with journal.transaction_for_reading() as connection:
        sizes = {each.entry.print.size for each in found}
        failed = {size: tuple(identity.uncertain(connection, size)) for size in sizes}
        heard = {size: identity.heard(connection, size) for size in sizes}
    for each in found:
        size, lost = each.entry.print.size, each.row is not None and each.row.suspect_at is not None
        if failed[size] or heard[size] or lost:
            suspicious[each.entry.path] = Doubt(failed[size], heard[size], lost)
    return suspicious


def claim(doubt: Doubt, sha256: bytes, keys: frozenset[str], left: Callable[[Row], bool]) -> admission.Claim | None:
    """By which attempt a file of this content may be attached; None where nothing speaks for that.

    *keys* are those of its issue, and *left* says whether the file of a failed row lies in failed no more.
    """
    alike = [row for row in doubt.earlier if row.sha256 == sha256]
    unknown = doubt.lost or sha256 in doubt.heard
    if not alike:
        told = admission.TOLD if sha256 in doubt.heard else 0
        return admission.Claim(0.0, told, "") if unknown else None
    back = [row for row in alike if left(row)]
    here = [row for row in alike if keys & {row.asked, row.lane}]
    newest = next(iter([row for row in back if row in here] or back or here or alike))
    times = [row.doubt_at if row.doubt_at is not None else row.sent_at or 0.0 for row in alike]
    attempts = [row.doubt_attempt if row.doubt_attempt is not None else row.attempt or 0 for row in alike]
    slacks = [row.doubt_slack if row.doubt_at is not None else row.sent_slack for row in alike]
    authors = {row.author for row in alike}
    return admission.Claim(
        at=0.0 if unknown else min(times),
        attempt=admission.TOLD if unknown else min(attempts),
        author=(newest.author or "") if len(authors) == 1 and not unknown else "",
        slack=max((slack for slack in slacks if slack is not None), default=None) if None not in slacks else None,
        name=newest.name if newest in here else None,
        brief=not unknown,
        judged=judged_by_return(newest) if newest in back else None,
        judged_at=newest.judged_at if newest in back else None,
        # One file of this content came back; another that does so later has the next one's doubt.
        heirs=(newest.id,) if newest in back and newest in here else (),
    )


def judged_by_return(row: Row) -> str | None:
    """Which attachments a person has looked at, where the file of a failed row came back.

    Who moves it back by hand does what its note says: look at the attachments that it names, and move the file back to have it
    sent again. ``retry`` alone says nothing about them; with --not-attached it says so of all.
    """
    judged = set((row.judged or "").split())
    if row.returned is None or EVERY in judged:
        judged.update((row.candidates or "").split())
    return " ".join(sorted(judged)) or None


def count_missing(journal: Journal, row_ids: Sequence[int], moment: admission.Moment, apart: float) -> None:
    """Count complete listings, *apart* seconds from each other, that did not show these rows' files.

    Two make it certain: what was never sent is withdrawn then. Of what was sent the second one is counted in ``departing``.
    """
    with journal.transaction(durable=False) as connection:
        for row_id in row_ids:
            row = identity.still_at_path(connection, row_id)
            if row is None:
                continue
            if row.state is State.SEEN:
                admission.withdraw(connection, row, moment, "")
            elif row.missing and is_sent(row):
                continue  # It may have been carried elsewhere: what is so is concluded when everything was looked through.
            elif may_count(row, moment, apart):
                missing = admission.count_missing(connection, row, moment)
                if missing >= 2 and row.state is State.READY:
                    admission.withdraw(connection, row, moment, "it was taken out of the inbox before it was sent")
                    log.info("file.withdrawn", id=row.ident, issue=row.asked, file=printable(row.path))


def may_count(row: Row, moment: admission.Moment, apart: float) -> bool:
    """Whether a listing counts that does not show the row's file: not directly after another one. Pure."""
    since = row.missing_boot
    return since is None or since > moment.boot or moment.boot - since >= apart


def leave_alone(journal: Journal, row_ids: Sequence[int], moment: admission.Moment) -> None:
    """Withdraw rows whose files are not to be taken any more (ignored now, or in a folder that is no issue's).

    Only what was never sent; what was has its verdict to come.
    """
    if not row_ids:
        return
    with journal.transaction(durable=False) as connection:
        for row_id in row_ids:
            row = identity.still_at_path(connection, row_id)
            if row is not None and row.state in (State.SEEN, State.READY) and not is_sent(row):
                admission.withdraw(
                    connection, row, moment, "it is not to be taken any more (ignored, or no issue's folder)"
                )


def hold_back(journal: Journal, folder: bytes, reason: str, moment: admission.Moment) -> None:
    """Let nothing go that lies below a folder of which nothing may be taken; what was sent has its verdict to come."""
    held, after = admission.Hold(blocked=reason), b""
    while True:
        with journal.transaction(durable=False) as connection:
            found = admission.under(connection, folder, after, _AT_ONCE)
            for row in found:
                if row.state in (State.SEEN, State.READY) and not is_sent(row) and row.blocked != reason:
                    admission.set_back(connection, row, held, moment)
        if len(found) < _AT_ONCE:
            return
        after = found[-1].path
