"""The verdict, made durable: fates into rows, before any file moves and before any fault is acted upon."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attachd.delivery import batch_size, outcome, pause
from attachd.delivery.runtime import Runtime
from attachd.delivery.server_clock import Kept
from attachd.jira.reply import Exchange, Reply
from attachd.journal import database, doubt, queue, rows
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.logger import get_logger
from attachd.model import Fate, Fault, InDoubt, Misstored, NotDelivered, Refused, Scope, State, Stored, printable

log = get_logger()


def record(
    runtime: Runtime, batch: Sequence[Row], fates: Sequence[Fate], fault: Fault | None, answer: Exchange
) -> list[Row]:
    """Write down what became of each file of a request, and what its *answer* teaches; returns the rows as they are now."""
    now = runtime.clock.now()
    ended: list[Pause] = []
    most = runtime.config.batch.max_files
    with runtime.journal.transaction() as connection:
        known = batch_size.most(connection, most, cloud=runtime.site.cloud)
        batch_size.learn(connection, known, most, answer, fates, fault, sum(row.size for row in batch), now)
        ids = [row.id for row in batch]
        by_id = {row.id: row for row in rows.many(connection, ids)}
        sent = [by_id[row_id] for row_id in ids]
        owners = doubt.credited(connection, sent[0].site or "", _attachments(fates))
        changes: dict[int, dict[str, Any]] = {}
        for row, fate in zip(sent, fates, strict=True):
            believed = _credible(row, fate, owners)
            if isinstance(believed, Refused) and (alike := _alike(connection, row, believed, answer)):
                believed, fault = NotDelivered(believed.reason), alike
            values = outcome.after(row, believed, now, runtime.doubts, alone=len(batch) == 1)
            if fault is not None and values["state"] is State.READY:
                values |= _behind(connection, row, fault, now, files=len(batch))
            changes[row.id] = values
        written = apply(connection, sent, changes, now)
        if any(isinstance(fate, Misstored) for fate in fates):
            fault = fault or _second_issue(connection, sent[0].issue, now)
        if any(isinstance(fate, Stored) for fate in fates):
            _keep_skew(connection, runtime)
            _keep_time(connection, runtime)
            ended = pause.relieve(connection, batch[0].issue, min(row.since for row in sent), now)
    tell(written)
    pause.tell_ended(runtime, ended)
    if fault is not None:
        pause.pause(runtime, fault)
    return written


def _behind(connection: sqlite3.Connection, row: Row, fault: Fault, now: float, *, files: int) -> outcome.Values:
    """What the fault that a request met says of one of its *files*: it may be the cause."""
    if fault.scope is not Scope.SITE and fault.kind not in ("server-error", REFUSED_ALIKE):
        return {}
    if files > 1 and fault.kind in ("proxy", "network"):
        # Which of them is declined is found out in halves, as with those that Jira declines.
        return {"share": files // 2}
    others = queue.accepted_since(connection, row.fault_attempt or row.attempt or 0, row.id)
    return outcome.behind_others(row, fault, now, others_accepted=others)


#: The kind of the pause while Jira refuses files of several issues in the same words.
REFUSED_ALIKE = "refused-alike"
#: So many issues had a file refused in the same words, with nothing accepted since, until a further one is not believed.
_ISSUES_ALIKE = 2


def _alike(connection: sqlite3.Connection, row: Row, refused: Refused, answer: Exchange) -> Fault | None:
    """One file is refused for what it is. Of several issues in a row, in the same words, none of them is the cause: a full
    storage, an expired licence, an API that is no more.

    A file that is too large is too large, however many are.
    """
    if not isinstance(answer, Reply) or not answer.is_jira or answer.status == 413:
        return None
    if doubt.issues_refused_alike(connection, row.site or "", refused.reason) < _ISSUES_ALIKE:
        return None
    reason = f"Jira refuses files of several issues in the same words, so they are not the cause: {refused.reason}"
    return Fault(Scope.ENDPOINT, REFUSED_ALIKE, reason)


#: So much has to be new about a proxy's clock to be written down, in seconds.
_NEW_SKEW_SECONDS = 5.0


def _keep_skew(connection: sqlite3.Connection, runtime: Runtime) -> None:
    """Remember for the next process how far Jira's clock is from its ``Date`` headers."""
    skew, known = runtime.site.time.skew, float(database.get(connection, "site.skew") or 0.0)
    if abs(skew - known) >= _NEW_SKEW_SECONDS:
        database.put(connection, "site.skew", skew)


#: A measurement of Jira's clock is renewed after this time, in seconds.
_RENEWED_SECONDS = 600.0


def _keep_time(connection: sqlite3.Connection, runtime: Runtime) -> None:
    """Let other processes know what time it is at Jira, where that was measured."""
    boot, boot_id = runtime.clock.boot(), runtime.clock.boot_id()
    slack = runtime.site.time.slack(boot)
    if slack is None:
        return
    fresh, text = Kept(boot_id, runtime.site.time.now(boot) - boot, slack, boot), database.get(connection, "site.time")
    known = Kept(*json.loads(text)) if text else None
    if (
        known is None
        or known.boot_id != boot_id
        or boot - known.at >= _RENEWED_SECONDS
        or abs(fresh.ahead - known.ahead) >= _NEW_SKEW_SECONDS
    ):
        database.put(connection, "site.time", json.dumps(fresh))


#: Files of two issues that were stored in a wrong size within this time are no accident.
MISSTORED_SECONDS = 86400.0


def _second_issue(connection: sqlite3.Connection, issue: str, now: float) -> Fault | None:
    """One file of a wrong size needs a person; with a second issue something on the way cuts or changes what is sent."""
    if not doubt.misstored_elsewhere(connection, issue, now - MISSTORED_SECONDS):
        return None
    reason = "files of several issues arrive in Jira with the wrong size: a proxy on the way seems to change them"
    return Fault(Scope.SITE, "wrong-size", reason, wait=3600.0)


def _attachments(fates: Sequence[Fate]) -> list[str]:
    return [fate.attachment for fate in fates if isinstance(fate, Stored | Misstored)]


def _credible(row: Row, fate: Fate, owners: Mapping[str, int]) -> Fate:
    """An attachment id belongs to one row for ever: one that is already credited proves nothing about this file."""
    if isinstance(fate, Stored | Misstored):
        owner = owners.get(fate.attachment, row.id)
        if owner != row.id:
            reason = f"Jira answered with attachment {fate.attachment}, which belongs to another file (F{owner})"
            return InDoubt(reason, nonsense=True)
    return fate


def apply(
    connection: sqlite3.Connection, changed: Sequence[Row], changes: Mapping[int, Mapping[str, Any]], now: float
) -> list[Row]:
    """Change rows, by their ids; one that is to be sent again although its content left the path is withdrawn instead. But not
    what an earlier attempt may have stored: its file may come back, and intake finds out whether it has gone.

    Returns the rows as they are then.
    """
    rows.change_many(connection, changes)
    reason = "the file was replaced, or moved to another issue, before it was attached"
    gone = {"state": State.WITHDRAWN, "since": now, "finished_at": now, "reason": reason, "contested": None}
    after = [rows.changed(row, changes[row.id]) for row in changed]
    again = [row.id for row in after if row.state is State.READY and not row.at_path and not row.ever_doubtful]
    rows.change_many(connection, dict.fromkeys(again, gone))
    return [rows.changed(row, gone) if row.id in again else row for row in after]


def current(runtime: Runtime, known: Iterable[Row]) -> list[Row]:
    """Rows as they are now, in the order of their ids; those that were forgotten are left out."""
    with runtime.journal.transaction_for_reading() as connection:
        return rows.many(connection, [row.id for row in known])


def tell(written: Iterable[Row]) -> None:
    """Log what became of files, once."""
    about = log.bind()
    for row in written:
        _tell(about, row)


def _tell(about: Any, row: Row) -> None:
    file = {"id": row.ident, "issue": row.issue, "file": printable(row.path)}
    match row.state:
        case State.ATTACHED:
            remark = {"remark": row.reason} if row.reason else {}
            about.info("file.attached", **file, attachment=row.attachment, bytes=row.size, **remark)
        case State.REFUSED:
            about.warning("file.refused", **file, reason=row.reason, may_be_attached=bool(row.may_be_attached))
        case State.DOUBTFUL:
            about.warning("file.doubted", **file, reason=row.reason)
        case State.WITHDRAWN:
            about.info("file.withdrawn", **file, reason=row.reason)
        case State.READY | State.SEEN:
            about.info("file.postponed", **file, reason=row.reason or row.blocked or "")
        case _:
            about.debug("file.changed", **file, state=row.state)
