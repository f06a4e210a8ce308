"""Delete old files that Jira holds, and forget old rows: ``[retention]``.

attachd deletes a file only after it has read the attachment and then the file, and both have the content that was sent. It
deletes a failed file only if the same content is on its issue by now. It keeps everything else and logs why. If Jira does not
let our account read contents, it keeps everything.

Age counts in the journal's time, so setting the clock ahead makes nothing old. A missing file proves nothing, because done and
failed can be mounts that are away.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from attachd import errors, heartbeat
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
from attachd.logger import get_logger
from attachd.model import State, printable
from attachd.share import notes

log = get_logger()

DAY = 86_400.0
#: How long after the start nothing is asked: the files that wait come first.
FIRST_SECONDS = 60.0
#: The pause between two files, in seconds: each costs a request to Jira, and there is no hurry.
PACE_SECONDS = 1.0
#: The pause after nothing was due, or after Jira did not answer, in seconds.
REST_SECONDS = 600.0
#: How often attachd goes through the history.
HISTORY_SECONDS = DAY
#: Rows that one step forgets at most.
_FORGOTTEN_AT_ONCE = 200
#: Bytes that a slow disk reads in a second; a file is read twice before it is deleted.
_SLOW_BYTES = 1_000_000


@dataclass(slots=True)
class _Course:
    """When the next step is due, and when the history is gone through again (CLOCK_BOOTTIME); how far that has come."""

    next_at: float = 0.0
    forget_at: float = 0.0
    forgotten: tuple[float, int] = (0.0, 0)


@dataclass(frozen=True, slots=True)
class Holds:
    """Jira holds the file."""


@dataclass(frozen=True, slots=True)
class Lacks:
    """Jira does not hold the file, or attachd cannot find out."""

    reason: str


@dataclass(frozen=True, slots=True)
class Silent:
    """attachd can find out nothing now, about any file."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Jira does not let our account read contents, so no file can be compared."""


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
    """Return True if the configuration lets anything be deleted or forgotten."""
    kept = runtime.config.retention
    return bool(kept.done_days or kept.failed_days or kept.history_days)


def is_due(runtime: Runtime) -> bool:
    """Return True if it is time for the next step of retention."""
    return enabled(runtime) and _seconds_left(runtime) <= 0 and runtime.guard.sight.there


def idle_seconds(runtime: Runtime) -> float | None:
    """Return in how many seconds the next step is due; None where retention is off, or waits for the inbox."""
    left = _seconds_left(runtime)
    return left if enabled(runtime) and left > 0 else None


def _seconds_left(runtime: Runtime) -> float:
    first = runtime.started + FIRST_SECONDS - runtime.clock.now()
    return max(first, runtime.memory(_Course).next_at - runtime.clock.boot())


def step(runtime: Runtime, client: Client, met: Callable[[], bool]) -> bool:
    """Do the next thing, of which there is one at a time; False if there is nothing to do now.

    *met* gets to know the site first where it is not known. Not while the inbox is away: then its siblings may be too.
    """
    with runtime.alone("retention") as mine:
        if not mine or not is_due(runtime):
            return False
        course = runtime.memory(_Course)
        course.next_at = runtime.clock.boot() + REST_SECONDS  # for workers that ask meanwhile
        done = _next(runtime, client, met)
        course.next_at = runtime.clock.boot() + (PACE_SECONDS if done else REST_SECONDS)
        return done


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
    """Return True if a file is old enough: otherwise there is no need to contact Jira."""
    kept, now = runtime.config.retention, runtime.clock.now()
    days = min(days for days in (kept.done_days, kept.failed_days, kept.history_days) if days)
    with runtime.journal.transaction_for_reading() as connection:
        return bool(retention.finished_before(connection, now - days * DAY, (0.0, 0), 1))


# --- One file ---------------------------------------------------------------------------------------------------------


def _judge(runtime: Runtime, client: Client, shelf: Shelf, row: Row) -> bool:
    """Find out whether Jira holds the file, and act on that. False if attachd can find out nothing about any file now."""
    answer = _ask(runtime, client, row)
    if isinstance(answer, Silent):
        return False
    if isinstance(answer, Closed | Holds):
        _tell_closed(runtime, closed=isinstance(answer, Closed))
    if isinstance(answer, Closed):
        return False
    values: dict[str, object] = {}
    file = {"id": row.ident, "issue": row.issue, "file": f"{shelf.name}/{printable(row.target or b'')}"}
    if isinstance(answer, Lacks):
        log.warning("file.kept", **file, reason=f"it is older than {shelf.days} days, but {answer.reason}")
    else:
        try:
            with runtime.beats.busy(60 + 2 * row.size / _SLOW_BYTES, lambda: 0):
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
    """Delete the file, or log that it would be deleted, and return the row's new values. A file that was changed stays."""
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
    said = f"deleted from {shelf.name} after {age} days, because Jira has it"
    return {"root": None, "target": None, "note": None, "reason": f"{row.reason}; {said}" if row.reason else said}


def _tell_closed(runtime: Runtime, *, closed: bool) -> None:
    """Log once that nothing is deleted because nothing can be compared, and note it for ``check`` and the next start."""
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
        return Lacks("attachd never read it, so it cannot be compared")
    return _is_attached(runtime, client, row) if row.state is State.DONE else _is_on_issue(runtime, client, row)


def _is_attached(runtime: Runtime, client: Client, row: Row) -> Answer:
    """Ask for one attachment. Data Center leaves the id out of its answer, so it is taken from the question."""
    answer = runtime.site.hear(runtime.ask(lambda: client.attachment(runtime.site.version, row.attachment or "")))
    told = answer.json if isinstance(answer, Reply) and answer.status == 200 else None
    there = attachments.parse_attachment({"id": row.attachment, **told}) if isinstance(told, dict) else None
    if there is None:
        return _not_shown(answer, f"Jira no longer shows attachment {row.attachment}")
    if (there.id, there.size) != (row.attachment, row.size):
        return Lacks(f"attachment {row.attachment} in Jira differs from the file")
    return _compared(runtime, client, row, there)


def _compared(runtime: Runtime, client: Client, row: Row, there: attachments.Attachment) -> Answer:
    """Read an attachment again: it may have been removed or replaced since it was last read."""
    match reconcile.read(runtime, client, there, again=True):
        case Digest(sha256) if sha256 == row.sha256:
            return Holds()
        case Digest():
            return Lacks(f"the content of attachment {there.id} in Jira differs from the file")
        case Unreadable(reason, everywhere=False):
            return Lacks(f"the content of attachment {there.id} cannot be read ({reason})")
        case NotYet():
            return Silent()
        case Unreadable() | None:
            return Closed()
        case other:
            assert_never(other)


#: The key in ``meta`` for: nothing can be compared, and so nothing is deleted.
CLOSED = "retention.closed"
NOT_COMPARED = "Jira does not let this account read attachments, so attachd cannot compare them and deletes nothing"


def _not_shown(answer: Exchange, reason: str) -> Lacks | Silent:
    """Judge an answer without an attachment: it concerns this file if Jira itself says 403 or 404, else all files."""
    if isinstance(answer, Reply) and answer.status in (403, 404) and answer.is_jira:
        return Lacks(f"{reason} ({answer.status})")
    return Silent()


def _is_on_issue(runtime: Runtime, client: Client, row: Row) -> Answer:
    """Find out by its content whether a person has attached a failed file, which attachd did not attach."""
    if not row.size:
        return Lacks("it is empty, so any empty attachment would match")
    answer = runtime.site.hear(runtime.ask(lambda: client.listing(runtime.site.version, row.issue)))
    if not isinstance(answer, Reply) or answer.status != 200:
        return _not_shown(answer, f"Jira does not show {row.issue}")
    parsed = attachments.parse_listing(answer.json)
    for attachment in parsed.attachments if parsed else ():
        if attachment.size == row.size and not isinstance(found := _compared(runtime, client, row, attachment), Lacks):
            return found
    return Lacks(f"no attachment of {row.issue} has its content")


# --- The history ------------------------------------------------------------------------------------------------------


def _forget(runtime: Runtime, now: float) -> bool:
    """Forget some rows that were finished long ago, except those whose file may still be deleted or taken back."""
    days, boot = runtime.config.retention.history_days, runtime.clock.boot()
    course = runtime.memory(_Course)
    if not days or boot < course.forget_at:
        return False
    with runtime.journal.transaction_for_reading() as connection:
        old = retention.finished_before(connection, now - days * DAY, course.forgotten, _FORGOTTEN_AT_ONCE)
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
        course.forgotten, course.forget_at = (0.0, 0), boot + HISTORY_SECONDS
        return False
    course.forgotten = (old[-1].finished_at or 0.0, old[-1].id)
    return True


def _may_go(runtime: Runtime, row: Row) -> bool:
    """Return True if the row is no longer needed.

    It identifies a failed file that is moved back, above all one that may be attached.
    """
    if row.target is None or row.state is State.WITHDRAWN:
        return True
    if row.state is State.DONE:
        return not runtime.config.retention.done_days or _is_gone(runtime.config.folders.done, row.target)
    if row.may_be_attached and not _is_settled(runtime, row):
        return False
    return _is_gone(runtime.config.folders.failed, row.target)


def _is_settled(runtime: Runtime, row: Row) -> bool:
    """Return True if a file that came back took over the doubt of this failed one, and has its own verdict."""
    with runtime.journal.transaction_for_reading() as connection:
        heir = rows.find(connection, row.heir) if row.heir is not None else None
    return heir is not None and heir.state in (State.DONE, State.FAILED)


@heartbeat.on_share()
def _is_gone(root: Path, target: bytes) -> bool:
    """Return True if a person took the file out. An empty folder proves nothing, because its mount may be away."""
    above, name = fs_folders.divide(target)
    try:
        with os.scandir(root) as listed:
            if not any(listed):
                return False
        with fs_folders.folder_if_there(root, above) as folder:
            return folder is None or recognition.status_of(folder, name) is None
    except OSError:
        return False
