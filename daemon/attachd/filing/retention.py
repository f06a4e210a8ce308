"""Deletes by age what Jira holds, and forgets what has been finished for long: ``[retention]``.

Only what Jira has just been found to hold is deleted: the attachment was read and has the content that was sent, and the file
must still read so too. A failed file goes only where the same content is on its issue by now. Everything else is kept, and
said; where Jira hands no contents out to our credentials, that is everything.

Age is told by the journal's time: a clock that is set ahead makes nothing old. That a file is not there proves nothing: done and
failed may be mounts that are away.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import structlog

from attachd import errors
from attachd.delivery import pause, reconcile
from attachd.delivery.runtime import Runtime
from attachd.fs import folders as fs_folders
from attachd.fs import permissions, recognition, removal
from attachd.fs.recognition import Found, Identity
from attachd.jira import attachments
from attachd.jira.client import Client
from attachd.jira.contents import Digest, NotYet, Unreadable
from attachd.jira.reply import Exchange, Reply
from attachd.journal import database, retention, rows
from attachd.journal.retention import Walk
from attachd.journal.rows import Row
from attachd.model import State, printable
from attachd.share import notes

log = structlog.get_logger()

DAY = 86_400.0
#: Between two files, in seconds: Jira is asked about each, and there is no hurry.
PACE_SECONDS = 1.0
#: How long nothing is asked where nothing was due, or where Jira did not answer.
REST_SECONDS = 600.0
#: How often the history is gone through once more.
HISTORY_SECONDS = DAY
#: So many rows are forgotten at once.
_FORGOTTEN_AT_ONCE = 200
#: A slow disk reads so many bytes a second; a file is read twice before it goes.
_SLOW_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Holds:
    """Jira holds the file."""


@dataclass(frozen=True, slots=True)
class Lacks:
    """It does not, or that cannot be found out of this file."""

    reason: str


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing can be found out now, of any file."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Jira does not hand contents out to us: no file can be compared."""


Answer = Holds | Lacks | Silent | Closed


@dataclass(frozen=True, slots=True)
class Shelf:
    """One of the two folders that grow, what it is called, and how long its files are kept."""

    name: str
    root: Path
    walk: Walk
    days: int


def shelves(runtime: Runtime, now: float) -> list[Shelf]:
    """Those whose files are deleted by age."""
    kept, folders = runtime.config.retention, runtime.config.folders
    both = (
        ("done", folders.done, State.DONE, kept.done_days),
        ("failed", folders.failed, State.FAILED, kept.failed_days),
    )
    # A dry run has a place of its own: afterwards everything is gone through once more.
    walk = "retention.dry" if kept.dry_run else "retention"
    return [
        Shelf(name, root, Walk(f"{walk}.{name}", state, now - days * DAY), days)
        for name, root, state, days in both
        if days
    ]


def enabled(runtime: Runtime) -> bool:
    """Whether anything is ever to be deleted or forgotten."""
    kept = runtime.config.retention
    return bool(kept.done_days or kept.failed_days or kept.history_days)


def step(runtime: Runtime, client: Client, met: Callable[[], bool]) -> bool:
    """Do the next thing, of which there is one at a time; False if there is nothing to do now.

    *met*: whether the site is known, be it only now. Not while the inbox is away: then its siblings may be too.
    """
    boot = runtime.clock.boot()
    with runtime.lock:
        if not enabled(runtime) or runtime.retaining or boot < runtime.retain_at or not runtime.guard.sight.there:
            return False
        runtime.retaining = True
        runtime.retain_at = boot + REST_SECONDS  # for whoever asks meanwhile
    try:
        done = _next(runtime, client, met)
        runtime.retain_at = runtime.clock.boot() + (PACE_SECONDS if done else REST_SECONDS)
        return done
    finally:
        with runtime.lock:
            runtime.retaining = False


def _next(runtime: Runtime, client: Client, met: Callable[[], bool]) -> bool:
    if not pause.current(runtime).looks or not _is_due(runtime) or not met():
        return False
    now = runtime.clock.now()
    for shelf in shelves(runtime, now):
        with runtime.journal.transaction() as connection:
            found = retention.find(connection, shelf.walk, now)
        if found.row is not None:
            if _judge(runtime, client, shelf, found.row):
                return True
            break  # of the other folder's files nothing would be found out either
        if found.more:
            return True
    return not runtime.config.retention.dry_run and _forget(runtime, now)


def _is_due(runtime: Runtime) -> bool:
    """Whether anything is old enough, so that Jira is not met for nothing."""
    kept, now = runtime.config.retention, runtime.clock.now()
    days = min(days for days in (kept.done_days, kept.failed_days, kept.history_days) if days)
    with runtime.journal.transaction_for_reading() as connection:
        return bool(retention.finished_before(connection, now - days * DAY, (0.0, 0), 1))


# --- One file ---------------------------------------------------------------------------------------------------------


def _judge(runtime: Runtime, client: Client, shelf: Shelf, row: Row) -> bool:
    """Find out whether Jira holds it, and act on that; False where that is not to be found out of any file now."""
    answer = _ask(runtime, client, row)
    if isinstance(answer, Silent):
        return False
    if isinstance(answer, Closed | Holds):
        _tell_closed(runtime, closed=isinstance(answer, Closed))
    if isinstance(answer, Closed):
        return False
    values: dict[str, object] = {}
    file = {"id": row.ident, "issue": row.folder_key, "file": f"{shelf.name}/{printable(row.target or b'')}"}
    if isinstance(answer, Lacks):
        log.warning("file.kept", **file, reason=f"it is older than {shelf.days} days, but {answer.reason}")
    else:
        try:
            with runtime.turns.left(), runtime.beats.busy(60 + 2 * row.size / _SLOW_BYTES, lambda: 0):
                values = _act(runtime, shelf, row, file)
        except OSError as error:
            log.warning("file.not_deleted", **file, reason=str(error))
            if error.errno not in permissions.PERSONAL and error.errno not in errors.READING:
                return False
    with runtime.journal.transaction() as connection:
        if values:
            rows.change(connection, row.id, values)
        retention.passed(connection, shelf.walk, row)
    return True


def _act(runtime: Runtime, shelf: Shelf, row: Row, file: dict[str, str]) -> dict[str, object]:
    """Delete it, or say that it would be deleted; returns what the row says then. What is not as it was sent stays."""
    assert row.target is not None
    identity = Identity(row.size, row.mtime_ns, None, row.sha256)
    if runtime.config.retention.dry_run:
        if recognition.look(shelf.root, row.target, identity, copied=True) is Found.OURS:
            log.info("file.would_be_deleted", **file, bytes=row.size, attachment=row.attachment)
        return {}
    if removal.clear(shelf.root, row.target, identity) is not Found.OURS:
        return {}
    log.info("file.deleted", **file, bytes=row.size, attachment=row.attachment)
    if row.note is not None:
        notes.remove(shelf.root, row.note, row.ident, row.note_sha256)
    elif runtime.config.folders.link_notes:
        notes.remove_link(shelf.root, row.target, row.ident, row.note_sha256)
    age = int((runtime.clock.now() - (row.finished_at or 0.0)) / DAY)
    said = f"deleted from {shelf.name} after {age} days, as Jira has it"
    return {"root": None, "target": None, "note": None, "reason": f"{row.reason}; {said}" if row.reason else said}


def _tell_closed(runtime: Runtime, *, closed: bool) -> None:
    """Say once that nothing is deleted because nothing can be compared, and remember it for ``check`` and the next start."""
    with runtime.journal.transaction_for_reading() as connection:
        known = bool(database.get(connection, CLOSED))
    if known != closed:
        with runtime.journal.transaction() as connection:
            database.put(connection, CLOSED, int(closed))
        if closed:
            log.warning("deletion.blocked", site=runtime.site.url, reason=NOT_COMPARED)


def _ask(runtime: Runtime, client: Client, row: Row) -> Answer:
    if row.site != runtime.site.url:
        return Lacks(f"it was sent to another site ({row.site})")
    if row.sha256 is None:
        return Lacks("it was never read, so that nothing can be compared with it")
    return _is_attached(runtime, client, row) if row.state is State.DONE else _is_on_issue(runtime, client, row)


def _is_attached(runtime: Runtime, client: Client, row: Row) -> Answer:
    """Data Center leaves the id out of its answer; the address that was asked names it."""
    answer = runtime.site.hear(runtime.ask(lambda: client.attachment(runtime.site.version, row.attachment or "")))
    told = answer.json if isinstance(answer, Reply) and answer.status == 200 else None
    there = attachments.parse_attachment({"id": row.attachment, **told}) if isinstance(told, dict) else None
    if there is None:
        return _not_shown(answer, f"Jira does not show attachment {row.attachment} any more")
    if (there.id, there.size) != (row.attachment, row.size):
        return Lacks(f"attachment {row.attachment} is another in Jira than was sent")
    return _compared(runtime, client, row, there)


def _compared(runtime: Runtime, client: Client, row: Row, there: attachments.Attachment) -> Answer:
    """Read an attachment anew: it may have been taken away or replaced since it was last read."""
    match reconcile.read(runtime, client, there, anew=True):
        case Digest(sha256) if sha256 == row.sha256:
            return Holds()
        case Digest():
            return Lacks(f"attachment {there.id} has another content in Jira than was sent")
        case Unreadable(reason, everywhere=False):
            return Lacks(f"the content of attachment {there.id} cannot be read ({reason})")
        case NotYet():
            return Silent()
        case Unreadable() | None:
            return Closed()
        case other:
            assert_never(other)


#: What ``meta`` calls that nothing can be compared, and why nothing is deleted then.
CLOSED = "retention.closed"
NOT_COMPARED = "Jira does not hand contents out to this account, so that nothing can be compared; nothing is deleted"


def _not_shown(answer: Exchange, reason: str) -> Lacks | Silent:
    """One attachment or issue that is not to be seen is no trouble of the site's; what is no answer of Jira's is."""
    if isinstance(answer, Reply) and answer.status in (403, 404) and answer.is_jira:
        return Lacks(f"{reason} ({answer.status})")
    return Silent()


def _is_on_issue(runtime: Runtime, client: Client, row: Row) -> Answer:
    """A failed file was not attached by us; by its content it shows whether somebody else has done so."""
    if not row.size:
        return Lacks("it is empty, and any empty file would be taken for it")
    answer = runtime.site.hear(runtime.ask(lambda: client.listing(runtime.site.version, row.issue)))
    if not isinstance(answer, Reply) or answer.status != 200:
        return _not_shown(answer, f"Jira does not show {row.issue}")
    parsed = attachments.parse_listing(answer.json)
    for attachment in parsed.attachments if parsed else ():
        if attachment.size == row.size and not isinstance(found := _compared(runtime, client, row, attachment), Lacks):
            return found
    return Lacks(f"its content was not found on {row.issue}")


# --- The history ------------------------------------------------------------------------------------------------------


def _forget(runtime: Runtime, now: float) -> bool:
    """Forget some of what has been finished for long; one whose file is still to be deleted, or taken back, is kept."""
    days, boot = runtime.config.retention.history_days, runtime.clock.boot()
    if not days or boot < runtime.forget_at:
        return False
    with runtime.journal.transaction_for_reading() as connection:
        old = retention.finished_before(connection, now - days * DAY, runtime.forgotten, _FORGOTTEN_AT_ONCE)
    gone = []
    for row in old:
        runtime.beats.beat()
        if _may_go(runtime, row):
            gone.append(row.id)
    with runtime.journal.transaction() as connection:
        retention.forget(connection, gone)
    if gone:
        log.info("history.forgotten", files=len(gone), days=days)
    if len(old) < _FORGOTTEN_AT_ONCE:
        runtime.forgotten, runtime.forget_at = (0.0, 0), boot + HISTORY_SECONDS
        return False
    runtime.forgotten = (old[-1].finished_at or 0.0, old[-1].id)
    return True


def _may_go(runtime: Runtime, row: Row) -> bool:
    """What lies in failed is known by its row when it is moved back; above all what may be attached, wherever it is."""
    if row.target is None or row.state is State.WITHDRAWN:
        return True
    if row.state is State.DONE:
        return not runtime.config.retention.done_days or _is_gone(runtime.config.folders.done, row.target)
    if row.may_be_attached and not _is_settled(runtime, row):
        return False
    return _is_gone(runtime.config.folders.failed, row.target)


def _is_settled(runtime: Runtime, row: Row) -> bool:
    """Whether a file that came back has taken over that a failed one may be attached, and has its own verdict."""
    with runtime.journal.transaction_for_reading() as connection:
        heir = rows.find(connection, row.heir) if row.heir is not None else None
    return heir is not None and heir.state in (State.DONE, State.FAILED)


def _is_gone(root: Path, target: bytes) -> bool:
    """Whether a file was taken out: not where the whole folder is empty, as one is whose mount is away."""
    above, name = fs_folders.divide(target)
    try:
        with os.scandir(root) as listed:
            if not any(listed):
                return False
        with fs_folders.folder_if_there(root, above) as folder:
            return folder is None or recognition.status_of(folder, name) is None
    except OSError:
        return False
