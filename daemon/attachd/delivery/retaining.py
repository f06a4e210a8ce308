"""Deletes by age what Jira holds, and forgets what has been finished for long: ``[retention]``.

Only what Jira has just been found to hold is deleted: the attachment has the id and the size, and the file must still read as it
was sent. A failed file goes only where the same content is on its issue by now. Everything else is kept, and said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import structlog

from attachd.delivery import pausing
from attachd.delivery.desk import Desk
from attachd.filing import clearing, moving, notes
from attachd.filing.recognising import Found, Identity
from attachd.jira import listing
from attachd.jira.client import Client
from attachd.jira.exchange import Reply
from attachd.journal import keeping, rows
from attachd.journal.keeping import Walk
from attachd.journal.rows import Row
from attachd.model import State, printable

log = structlog.get_logger()

DAY = 86_400.0
#: Between two files, in seconds: Jira is asked about each, and there is no hurry.
PACE_SECONDS = 1.0
#: How long nothing is asked where nothing was due, or where Jira or the disk did not answer.
REST_SECONDS = 600.0
#: So many rows are forgotten at once.
_FORGOTTEN_AT_ONCE = 200


class Held(Enum):
    """Whether Jira holds a file."""

    YES = auto()
    NO = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Shelf:
    """One of the two folders that grow, what it is called, and how long its files are kept."""

    name: str
    root: Path
    walk: Walk
    days: int


def shelves(desk: Desk, now: float) -> list[Shelf]:
    """Those whose files are deleted by age."""
    kept, folders = desk.config.retention, desk.config.folders
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


def step(desk: Desk, client: Client, met: Callable[[], bool]) -> bool:
    """Do the next thing, of which there is one at a time; False if there is nothing to do now.

    *met*: whether the site is known.
    """
    boot = desk.clock.boot()
    with desk.lock:
        if not enabled(desk) or boot < desk.retain_at:
            return False
        # Whatever happens, and however long it takes: nobody else begins meanwhile.
        desk.retain_at = boot + REST_SECONDS
    done = _next(desk, client, met)
    if done:
        desk.retain_at = desk.clock.boot() + PACE_SECONDS
    return done


def enabled(desk: Desk) -> bool:
    """Whether anything is ever to be deleted or forgotten."""
    kept = desk.config.retention
    return bool(kept.done_days or kept.failed_days or kept.history_days)


def _next(desk: Desk, client: Client, met: Callable[[], bool]) -> bool:
    now = desk.clock.now()
    if pausing.current(desk).looks:
        for shelf in shelves(desk, now):
            with desk.journal.transaction() as connection:
                row = keeping.find(connection, shelf.walk, now)
            if row is not None:
                return met() and _judge(desk, client, shelf, row)
    return not desk.config.retention.dry_run and _forget(desk, now)


def _judge(desk: Desk, client: Client, shelf: Shelf, row: Row) -> bool:
    held = _is_held(desk, client, row)
    if held is Held.UNKNOWN:
        return False
    file = {"id": row.ident, "issue": row.asked, "file": f"{shelf.name}/{printable(row.target or b'')}"}
    values: dict[str, object] = {}
    if held is Held.NO:
        log.warning("file.kept", **file, reason=f"it is older than {shelf.days} days, but Jira does not have it")
    elif desk.config.retention.dry_run:
        log.info("file.would_be_deleted", **file, bytes=row.size, attachment=row.attachment)
    else:
        try:
            found = clearing.clear(shelf.root, row.target or b"", _identity(row))
            if row.note is not None and found is not Found.OTHER:
                notes.remove(shelf.root, row.note, row.ident)
        except OSError as error:
            log.warning("file.not_deleted", **file, reason=str(error))
            return False
        values = _after(desk, shelf, row, found)
        if found is Found.OURS:
            log.info("file.deleted", **file, bytes=row.size, attachment=row.attachment)
    with desk.journal.transaction() as connection:
        if values:
            rows.change(connection, row.id, values)
        keeping.passed(connection, shelf.walk, row)
    return True


def _after(desk: Desk, shelf: Shelf, row: Row, found: Found) -> dict[str, object]:
    """What the row says then: it has no file any more, or what lies there is none of ours."""
    day = desk.clock.now()
    said = {
        Found.OURS: f"deleted from {shelf.name} after {int((day - (row.finished_at or day)) / DAY)} days, as Jira has it",
        Found.NOTHING: f"it was taken out of {shelf.name}",
        Found.OTHER: f"something else lies in {shelf.name} under its name",
    }
    reason = f"{row.reason}; {said[found]}" if row.reason else said[found]
    note = {} if found is Found.OTHER else {"note": None}
    return {"root": None, "target": None, "reason": reason, **note}


def _identity(row: Row) -> Identity:
    return Identity(row.size, row.mtime_ns, None, row.sha256)


def _is_held(desk: Desk, client: Client, row: Row) -> Held:
    """Ask Jira, at the site that the row speaks of."""
    if row.site != desk.site.url:
        return Held.NO
    return _is_attached(desk, client, row) if row.state is State.DONE else _is_on_issue(desk, client, row)


def _is_attached(desk: Desk, client: Client, row: Row) -> Held:
    answer = desk.site.hear(desk.asked(lambda: client.attachment(desk.site.version, row.attachment or "")))
    if not isinstance(answer, Reply):
        return Held.UNKNOWN
    if answer.status == 404 and answer.is_jira:
        return Held.NO
    found = listing.parse_attachment(answer.json) if answer.status == 200 else None
    if found is None:
        return Held.UNKNOWN
    return Held.YES if (found.id, found.size) == (row.attachment, row.size) else Held.NO


def _is_on_issue(desk: Desk, client: Client, row: Row) -> Held:
    """A failed file was not attached by us; by its content it shows whether somebody else has done so (Cloud hands that out)."""
    if row.sha256 is None or not row.size:
        return Held.NO
    answer = desk.site.hear(desk.asked(lambda: client.listing(desk.site.version, row.lane)))
    if isinstance(answer, Reply) and answer.status == 404 and answer.is_jira:
        return Held.NO
    parsed = listing.parse_listing(answer.json) if isinstance(answer, Reply) and answer.status == 200 else None
    if parsed is None:
        return Held.UNKNOWN
    for attachment in parsed.attachments if desk.site.cloud else ():
        if attachment.size != row.size:
            continue
        with desk.turns.left():
            digest = client.content_sha256(desk.site.version, attachment.id, row.size, desk.reply_seconds(row.size))
        if digest == row.sha256:
            return Held.YES
    return Held.NO


# --- The history ------------------------------------------------------------------------------------------------------


def _forget(desk: Desk, now: float) -> bool:
    """Forget some of what has been finished for long; one whose file is still to be deleted, or taken back, is kept."""
    days = desk.config.retention.history_days
    if not days:
        return False
    with desk.journal.transaction_for_reading() as connection:
        old = keeping.finished_before(connection, now - days * DAY, desk.forgotten, _FORGOTTEN_AT_ONCE)
    gone = [row.id for row in old if _may_go(desk, row)]
    with desk.journal.transaction() as connection:
        keeping.forget(connection, gone)
    more = len(old) == _FORGOTTEN_AT_ONCE
    desk.forgotten = (old[-1].finished_at or 0.0, old[-1].id) if more else (0.0, 0)
    if gone:
        log.info("history.forgotten", files=len(gone), days=days)
    return more


def _may_go(desk: Desk, row: Row) -> bool:
    if row.target is None or row.state is State.WITHDRAWN:
        return True
    if row.state is State.DONE:
        return not desk.config.retention.done_days
    # What is moved back from failed is known again by its row, above all where it may be attached.
    try:
        return moving.look(desk.config.folders.failed, row.target, _identity(row)) is not Found.OURS
    except OSError:
        return False
