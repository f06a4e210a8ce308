"""The file itself: opened once, without following any link, and held until its verdict is known."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from attachd import heartbeat
from attachd.delivery import blame, outcome, pause, probe, reconcile, record
from attachd.delivery.attribution import Absent, Arrived, Pending, Unclear, in_words
from attachd.delivery.runtime import Runtime
from attachd.fs import folders as fs_folders
from attachd.fs import leases, permissions, recognition
from attachd.fs.leases import Writer
from attachd.jira import multipart
from attachd.jira.client import Client
from attachd.jira.reply import Exchange
from attachd.journal import rows
from attachd.journal.rows import Row
from attachd.model import Cure, Fault, Scope, State, Stored, signed64


@dataclass(frozen=True, slots=True)
class NotThere:
    """Nothing lies at the path now; intake finds out whether it was moved or taken away."""


@dataclass(frozen=True, slots=True)
class NotTheSame:
    """Something else lies at the path than was admitted: it settles again."""


@dataclass(frozen=True, slots=True)
class Written:
    """A program has it open for writing: it settles again, which is no failure."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It cannot be read; *reason* is a sentence for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The very file that was admitted, as it was when it was opened. The function that opened it closes the descriptor."""

    descriptor: int
    mtime_ns: int
    ctime_ns: int


@heartbeat.on_share()
def open_same(
    inbox: Path, row: Row, epoch: int, folders: fs_folders.Held, *, network: bool = False
) -> Opened | NotThere | NotTheSame | Written | Unreadable:
    """Open the file of *row* if it is still the one admitted, and closed; ``O_NONBLOCK`` so that a FIFO put there meanwhile
    does not hold us (open(2)).

    It may have been opened for writing again since it was admitted: it waits for its turn, for a pause or an outage.
    """
    above, name = fs_folders.divide(row.path)
    try:
        folder = folders.folder(inbox, above)
        descriptor = os.open(name, recognition.READ, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return NotThere()
        if error.errno == errno.ELOOP:
            return NotTheSame()
        held = error.errno == errno.EAGAIN
        return Unreadable(permissions.HELD if held else f"attachd cannot read the file: {error.strerror}")
    status = os.fstat(descriptor)
    if not _same(status, row, epoch):
        os.close(descriptor)
        return NotTheSame()
    if leases.writer(descriptor, network=network) is Writer.SOMEBODY:
        os.close(descriptor)
        return Written()
    return Opened(descriptor, status.st_mtime_ns, status.st_ctime_ns)


def close(opened: Opened) -> None:
    """Let go of it, which may be a request to a share's server."""
    with heartbeat.on_share():
        os.close(opened.descriptor)


def _same(status: os.stat_result, row: Row, epoch: int) -> bool:
    mtime_ns, ctime_ns = signed64(status.st_mtime_ns), signed64(status.st_ctime_ns)
    if not stat.S_ISREG(status.st_mode) or (status.st_size, mtime_ns) != (row.size, row.mtime_ns):
        return False
    inode = signed64(status.st_dev), signed64(status.st_ino)
    return row.epoch != epoch or (*inode, ctime_ns) == (row.dev, row.ino, row.ctime_ns)


#: The issue is looked at before a file larger than this is sent, unless it was seen a short while ago.
LARGE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """A row whose file is open, and the file as a part of a body: as it was when it was opened."""

    row: Row
    part: multipart.Part


def load(runtime: Runtime, stack: contextlib.ExitStack, row: Row, folders: fs_folders.Held) -> Loaded | None:
    network = runtime.network(row.path)
    found = open_same(runtime.guard.inbox, row, runtime.guard.epoch, folders, network=network)
    if isinstance(found, Opened):
        # As it was when it was opened: until the body is made Jira may be asked things, and what is written meanwhile has
        # not settled.
        stack.callback(close, found)
        return Loaded(row, multipart.Part(found.descriptor, row.name, row.size, found.mtime_ns, found.ctime_ns))
    set_aside(runtime, row, found)
    return None


def set_aside(runtime: Runtime, row: Row, found: NotThere | NotTheSame | Written | Unreadable) -> None:
    now = runtime.clock.now()
    values: dict[str, Any]
    match found:
        case NotThere():
            wait = runtime.config.settle.rescan_seconds
            values = {
                "due": now + wait,
                "wait": wait,
                "reason": "the file is no longer where it was dropped; the next scan finds out why",
            }
        case NotTheSame():
            values = aside(runtime, row, "the file changed before it was sent")
        case Written():
            values = aside(runtime, row, leases.STILL_OPEN)
        case Unreadable(reason):
            values = aside(runtime, row, reason, blocked=True)
        case _:
            assert_never(found)
    with runtime.journal.transaction() as connection:
        rows.change_if_same(connection, row, values)


def aside(runtime: Runtime, row: Row, reason: str, *, blocked: bool = False) -> dict[str, Any]:
    """Return the columns of a file that cannot be sent as it is: it settles again.

    But one that may have arrived by an earlier attempt keeps what is known of that attempt: intake finds out by its
    checksum whether it is still the same.
    """
    if row.ever_doubtful:
        wait = runtime.config.settle.rescan_seconds if blocked else 1.0
        return {"due": runtime.clock.now() + wait, "wait": wait, "reason": reason}
    return {
        "blocked": reason if blocked else None,
        "state": State.SEEN,
        "since": runtime.clock.now(),
        "quiet_boot": runtime.clock.boot(),
        "reason": reason,
        "sha256": None,
        "contested": None,
    }


def within_limits(runtime: Runtime, client: Client, loaded: list[Loaded]) -> list[Loaded]:
    """Refuse before a byte is sent what Jira would refuse. The limit is asked again before any refusal."""
    known = probe.limits(runtime, client, fresh=False)
    if known and (not known.enabled or any(known.largest and f.row.size > known.largest for f in loaded)):
        known = probe.limits(runtime, client, fresh=True)
    if known and not known.enabled:
        reason = "attachments are disabled in this Jira (attachment/meta)"
        pause.pause(runtime, Fault(Scope.SITE, "disabled", reason, cure=Cure.TIME, wait=60))
        return []
    too_large = [f for f in loaded if known and known.largest and f.row.size > known.largest]
    now = runtime.clock.now()
    for file in too_large:
        reason = f"the file has {file.row.size:,} bytes, and this Jira allows {known.largest if known else 0:,}"
        with runtime.journal.transaction() as connection:
            rows.change_if_same(connection, file.row, outcome.refused(file.row, reason, now))
            written = rows.one(connection, file.row.id)
        record.tell([written])
    return [f for f in loaded if f not in too_large]


def is_still_missing(runtime: Runtime, client: Client, row: Row) -> bool:
    """The look directly before a repeated attempt; False if it must not be sent now."""
    seen = reconcile.ask(runtime, client, row.issue)
    now = runtime.clock.now()
    if not isinstance(seen, reconcile.Seen):
        _cannot_look(runtime, client, row, seen)
        return False
    finding = reconcile.find(runtime, client, row.issue, seen).get(row.id)
    if isinstance(finding, Absent):
        return _sees_again(runtime, row)
    if finding is None:
        return False  # intake changed it meanwhile
    with runtime.journal.transaction() as connection:
        if isinstance(finding, Arrived) and reconcile.is_anothers(connection, runtime, row, finding.attachment):
            return False
        rows.change_if_same(connection, row, _found_before(runtime, row, finding, now))
        written = rows.one(connection, row.id)
    record.tell([written])
    return False


def _sees_again(runtime: Runtime, row: Row) -> bool:
    """Return True if the row says nothing of looks that failed; what it says is over now, and the next turn sends it."""
    if row.blind_since is None:
        return True
    with runtime.journal.transaction() as connection:
        rows.change_if_same(connection, row, {"blind_since": None})
    return False


def is_visible(runtime: Runtime, client: Client, row: Row) -> bool:
    """See whether the issue is there before a large file, so that gigabytes are not pushed at a 404."""
    seen = reconcile.ask(runtime, client, row.issue)
    if isinstance(seen, reconcile.Seen | reconcile.Unsure):
        return True
    if blame.unseen(seen):
        _cannot_look(runtime, client, row, seen)
        return False
    # A listing that cannot be read says nothing against its issue, unless Jira answers nothing else either.
    reason, fault = blame.of_listing(runtime, client, row.issue, seen)
    if fault is not None:
        _wait_for_a_listing(runtime, row, reason, fault)
    return fault is None


def _found_before(runtime: Runtime, row: Row, finding: Arrived | Unclear | Pending, now: float) -> outcome.Values:
    match finding:
        case Arrived(attachment, ground):
            remark = f"an earlier attempt had arrived, {in_words(ground)}"
            return outcome.attached(Stored(attachment.id, attachment.name, remark), now, ground=ground)
        case Pending(_, reason):
            said = f"{reconcile.ids_of(finding)} may be this file, but cannot be read now: {reason}"
            told = outcome.told([a.id for a in finding.candidates])
            return {"reason": said} | outcome.unusable(row, said, now, runtime.doubts) | told
        case Unclear(several):
            return outcome.ask_a_person(row, [a.id for a in several], now)
        case _:
            assert_never(finding)


#: Why a file waits that was in doubt, or is large, and whose issue cannot be read.
_UNREAD = "attachd must look at the issue before it sends the file, and cannot read it now"


def _cannot_look(runtime: Runtime, client: Client, row: Row, answer: Exchange | reconcile.Unsure) -> None:
    """Let a file wait that must not be sent without a look. A person is asked if no look succeeds for too long."""
    now = runtime.clock.now()
    if isinstance(answer, reconcile.Unsure):
        values = outcome.unusable(row, answer.reason, now, runtime.doubts, soon=True)
        _wait(runtime, row, {"reason": answer.reason} | values)
    elif fate := blame.unseen(answer):
        _wait(runtime, row, outcome.after(row, fate, now, runtime.doubts))
    else:
        _wait_for_a_listing(runtime, row, *blame.of_listing(runtime, client, row.issue, answer))


def _wait_for_a_listing(runtime: Runtime, row: Row, reason: str, fault: Fault | None) -> None:
    values = outcome.unusable(row, reason, runtime.clock.now(), runtime.doubts, world=fault)
    _wait(runtime, row, {"reason": _UNREAD} | values)
    if fault is not None:
        pause.pause(runtime, fault)


def _wait(runtime: Runtime, row: Row, values: outcome.Values) -> None:
    with runtime.journal.transaction() as connection:
        rows.change_if_same(connection, row, values)
        written = rows.one(connection, row.id)
    if written.state is State.REFUSED:
        record.tell([written])
