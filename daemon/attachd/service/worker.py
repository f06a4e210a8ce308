"""One worker's step: what is most pressing is done, once. The loop around it is the service's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from attachd import errors
from attachd.delivery import (
    batch_size,
    blame,
    journal_disk,
    moved_issues,
    outcome,
    pause,
    probe,
    reconcile,
    record,
    upload,
)
from attachd.delivery.runtime import Desk
from attachd.errors import Mistake
from attachd.filing import file_away, retention
from attachd.jira import auth
from attachd.jira.client import Client
from attachd.journal import doubt, pauses, queue
from attachd.journal.rows import Row
from attachd.model import Fault, Scope, State

log = structlog.get_logger()

#: Files up to this size share a request.
SMALL_BYTES = 1024 * 1024
#: A worker looks for work this often even if nothing rings.
LONGEST_IDLE_SECONDS = 30.0
#: How long a worker rests when the journal's disk is full.
FULL_SECONDS = 5.0
#: How often the token's source is looked at while the account is paused.
SECRET_SECONDS = 2.0
#: How many files are moved for one sync of their folders.
FILED_AT_ONCE = 100


def adopt_orphans(desk: Desk) -> None:
    """At the start: rows that an earlier process left SENDING are in doubt, or (no checksum) were never complete.

    Looks begin anew: their seconds count from the start of this process.
    """
    now = desk.clock.now()
    with desk.journal.transaction() as connection:
        pauses.tame(connection, now)
    pause.probe_at_start(desk)
    with desk.journal.transaction() as connection:
        _adopt(desk, connection, doubt.orphans(connection), now)
        first = desk.doubts.looks_seconds[0]
        connection.execute(
            "UPDATE file SET due = max(due, ?), wait = max(wait, ?) WHERE state = 'DOUBTFUL' AND brief = 0",
            (now + first, first),
        )


def step(desk: Desk, client: Client) -> bool:
    """Do the next thing; False if there was nothing to do. Raises what is neither the world's nor the user's fault."""
    try:
        with desk.turns.taken():
            # Whoever met it, and however little there is to write: it is tried until it is over.
            desk.adopting = desk.adopting or desk.journal.failing is not None
            done = _next(desk, client)
        journal_disk.over(desk)
        return done
    except sqlite3.OperationalError as error:
        if not errors.disk_fails(error):
            raise
        journal_disk.met(desk, error)
        desk.stopping.wait(FULL_SECONDS)
        return False
    except Mistake as mistake:
        # The token is read when it is first needed; that it cannot be read holds everything, and fails nothing.
        pause.pause(desk, auth.unreadable(mistake))
        return True


def _next(desk: Desk, client: Client) -> bool:
    if desk.adopting:
        _adopt_own(desk)
    return (
        _file(desk, least=_many(desk))
        or blame.review(desk)
        or _blame(desk, client)
        or _probe(desk, client)
        or _look(desk, client)
        or _recheck(desk, client)
        or _send(desk, client)
        or _file(desk, least=1)
        or retention.step(desk, client, lambda: _met(desk, client))
    )


def _many(desk: Desk) -> int:
    """How many files with a verdict are moved before more is sent. All, where nothing will be sent before the site is met,
    which may take minutes, or before the disk has room again: whether it has, a move finds out.
    """
    return FILED_AT_ONCE if desk.site.introduced and not pause.remembered(desk, file_away.DISK) else 1


def _adopt_own(desk: Desk) -> None:
    """Rows that stayed SENDING because an answer could not be written down: in doubt, as after a crash."""
    now, busy = desk.clock.now(), desk.busy()
    with desk.journal.transaction() as connection:
        _adopt(desk, connection, [row for row in doubt.orphans(connection) if row.lane not in busy], now)
    desk.adopting = bool(busy)


def _adopt(desk: Desk, connection: sqlite3.Connection, orphans: Sequence[Row], now: float) -> None:
    record.apply(connection, orphans, {row.id: outcome.orphaned(row, now, desk.doubts) for row in orphans}, now)


def _blame(desk: Desk, client: Client) -> bool:
    """Ask again about refusals whose witnesses could not be heard. Those that another process left are sent again: with
    which token they were refused is not known any more.
    """
    if not pause.current(desk).looks:
        return False
    with desk.journal.transaction_for_reading() as connection:
        unasked = [row for row in queue.contested(connection, held=False) if row.due <= desk.clock.now()]
    for row in unasked:
        if desk.take(row.lane):
            try:
                if _met(desk, client):
                    _ask_again(desk, client, [each for each in unasked if each.lane == row.lane])
                return True
            finally:
                desk.give_back(row.lane)
    return False


def _ask_again(desk: Desk, client: Client, refused: Sequence[Row]) -> None:
    generation = desk.asked_with.pop(refused[0].id, None)
    if generation is None:
        blame.forget(desk, refused)
    else:
        blame.settle(desk, client, blame.alike(refused), generation)


def idle_seconds(desk: Desk) -> float:
    """How long a worker that found nothing to do may sleep, unless the bell rings."""
    now = desk.clock.now()
    with desk.journal.transaction_for_reading() as connection:
        due = queue.next_due(connection, now)
        paused = any(p.scope is Scope.ACCOUNT and p.holds(now) for p in pauses.read(connection))
        known = batch_size.most(connection, desk.config.batch.max_files, cloud=desk.site.cloud)
    waits = [LONGEST_IDLE_SECONDS, desk.pacer.soonest(desk.clock.boot(), known.writes)]
    waits.append(due - now if due is not None else None)
    waits.append(SECRET_SECONDS if paused else None)
    waits.append(FULL_SECONDS if desk.journal.failing else None)
    waits.append(desk.retain_at - desk.clock.boot() if retention.enabled(desk) else None)
    return max(0.01, min(wait for wait in waits if wait is not None))


def conclude(desk: Desk) -> None:
    """At the end of a worker's life: what has its verdict is moved; what cannot be is moved by the next process."""
    with suppress(sqlite3.OperationalError):
        while _file(desk, least=1):
            pass


def _file(desk: Desk, *, least: int) -> bool:
    """Move what has its verdict, if there are that many files: what several workers sent is moved together."""
    with desk.lock:
        taken = set(desk.filing)
    with desk.journal.transaction_for_reading() as connection:
        verdicts = queue.with_verdict(connection, desk.clock.now(), FILED_AT_ONCE, taken)
    return len(verdicts) >= least and file_away.carry(desk, verdicts) > 0


def _probe(desk: Desk, client: Client) -> bool:
    now = desk.clock.now()
    with desk.lock:
        if desk.probing:
            return False
        desk.probing = True
    try:
        held = pause.due_probe(desk, now)
        if held is None:
            return False
        desk.bell.ring()
        probe.probe(desk, client, held)
        return True
    finally:
        with desk.lock:
            desk.probing = False


def _look(desk: Desk, client: Client) -> bool:
    gate = pause.current(desk)
    if not gate.looks or desk.pacer.wait_for_all(desk.clock.boot()):
        return False
    with desk.journal.transaction_for_reading() as connection:
        due = doubt.doubtful_lanes(connection, desk.clock.now(), desk.busy(), desk.site.url)
    for lane in due:
        if desk.take(lane):
            try:
                if _met(desk, client):
                    generation = desk.credentials.generation
                    reconcile.look(desk, client, lane)
                    _settle_found(desk, client, lane, generation)
                return True
            finally:
                desk.give_back(lane)
    return False


def _recheck(desk: Desk, client: Client) -> bool:
    """Ask whether an issue is still where it was moved to, before files go there."""
    if desk.clock.boot() < desk.recheck_at or not moved_issues.are_due(desk) or not pause.current(desk).looks:
        return False
    with desk.lock:
        if desk.rechecking:
            return False
        desk.rechecking = True
    try:
        return moved_issues.recheck(desk, client, lambda: _met(desk, client))
    finally:
        with desk.lock:
            desk.rechecking = False


def _settle_found(desk: Desk, client: Client, lane: str, generation: int) -> None:
    """Find out whom it concerns that the look was not shown the issue."""
    with desk.journal.transaction_for_reading() as connection:
        refused = [row for row in queue.contested(connection, held=False) if row.lane == lane]
    if refused:
        blame.settle(desk, client, blame.alike(refused), generation)


def _send(desk: Desk, client: Client) -> bool:
    # What a request may hold depends on the site. It is met as soon as anything waits, while the first scan is still made.
    if not desk.site.introduced and _may_send(desk, pause.current(desk)) and _waits(desk) and not _met(desk, client):
        return True
    claimed = claim(desk)
    if claimed is None:
        return False
    lane, batch = claimed
    try:
        generation = desk.credentials.generation
        written = upload.send(desk, client, batch)
        refused = [row for row in written if row.state is State.READY and row.contested is not None and not row.held]
        if refused:
            blame.settle(desk, client, blame.alike(refused), generation)
        for row in written:
            if row.state is State.ATTACHED and row.ever_doubtful:
                reconcile.report_extra(desk, client, row)
        # What has its verdict is filed by whoever has nothing to send; that may be one who sleeps.
        desk.bell.ring()
        return True
    finally:
        _end(desk, lane)


def _may_send(desk: Desk, gate: pause.Gate) -> bool:
    return gate.uploads and desk.guard.sight.there and not desk.stopping.is_set()


def _waits(desk: Desk) -> bool:
    with desk.journal.transaction_for_reading() as connection:
        return queue.waits(connection)


def _end(desk: Desk, lane: str) -> None:
    """Give back what ``claim`` reserved."""
    desk.parallel.leave()
    desk.give_back(lane)


def _met(desk: Desk, client: Client) -> bool:
    """Whether the site is known, be it only now."""
    if not desk.site.introduced:
        _meet(desk, client)
    return desk.site.introduced


def _meet(desk: Desk, client: Client) -> None:
    """Get to know the site. One worker asks; the others heed what it was told."""
    # Without the turn: who comes back for it while another has it and waits for this lock would wait for long.
    with desk.turns.left(), desk.site.lock:
        if desk.site.introduced or not pause.current(desk).looks:
            return
        fault = probe.introduce(desk, client)
        if fault is not None:
            # Nothing can be done at a site that was not met, whatever part of it asked for the pause.
            wide = fault.scope if fault.scope in (Scope.SITE, Scope.ACCOUNT) else Scope.SITE
            pause.pause(desk, replace(fault, scope=wide, subject=""))


def claim(desk: Desk) -> tuple[str, list[Row]] | None:
    """Reserve the lane whose turn it is, and choose what goes in one request; None if nothing may be sent now.

    Counts as an upload under way (``desk.parallel``) until the caller ends it.
    """
    gate = pause.current(desk)
    if not _may_send(desk, gate) or not desk.parallel.enter():
        return None
    claimed: tuple[str, list[Row]] | None = None
    try:
        claimed, used_up = _choose(desk, gate)
    finally:
        if claimed is None:
            desk.parallel.leave()
    for lane, frees_at in used_up:
        pause.pause(desk, _too_many(desk, lane, frees_at))
    return claimed


def _choose(desk: Desk, gate: pause.Gate) -> tuple[tuple[str, list[Row]] | None, list[tuple[str, float]]]:
    """The first lane that may be served and its batch; and the issues that have used up their hour, with its end."""
    now, boot = desk.clock.now(), desk.clock.boot()
    busy, used_up, batch = desk.busy(), list[tuple[str, float]](), desk.config.batch
    with desk.journal.transaction_for_reading() as connection:
        known = batch_size.most(connection, batch.max_files, cloud=desk.site.cloud)
        most_bytes = min(batch.max_bytes, known.bytes or batch.max_bytes)
        for lane in queue.lanes(connection, desk.guard.epoch):
            if lane in busy or not gate.lets(lane) or desk.pacer.wait(lane, boot, known.writes):
                continue
            left, frees_at = queue.left_of_hour(connection, lane, now, desk.config.limits.issue_files_per_hour)
            if left <= 0:
                used_up.append((lane, frees_at))
                continue
            most = min(known.files, left, desk.site.free_slots(lane) or known.files)
            chosen = together(queue.sendable(connection, lane, now, desk.guard.epoch, most), most, most_bytes)
            if chosen and desk.take(lane):
                return (lane, chosen), used_up
    return None, used_up


def _too_many(desk: Desk, lane: str, frees_at: float) -> Fault:
    """So many files for one issue are more likely a wrong folder than meant: the rest waits for its time, or a person."""
    most = desk.config.limits.issue_files_per_hour
    reason = (
        f"{lane} got as many files within an hour as it may ({most}, limits.issue_files_per_hour), and more wait: a wrong "
        f"folder may have been dragged in; if it is meant, `attachd resume --issue {lane}` lets as many follow"
    )
    return Fault(Scope.ISSUE, "too-many-files", reason, lane, max(1.0, frees_at - desk.clock.now()))


def together(candidates: Sequence[Row], max_files: int, max_bytes: int) -> list[Row]:
    """Choose what shares a request: the first file, and if it is small the small ones behind it. Pure.

    Never two of one stored name, never one that was ever in doubt, never more than each file's own share allows.
    """
    if not candidates:
        return []
    chosen, names, size, most = [candidates[0]], {candidates[0].name}, candidates[0].size, max_files
    if not _shares(candidates[0]):
        return chosen
    most = min(most, candidates[0].share)
    for row in candidates[1:]:
        most_with = min(most, row.share)
        fits = len(chosen) < most_with and size + row.size <= max_bytes
        if _shares(row) and row.name not in names and fits:
            chosen.append(row)
            names.add(row.name)
            size, most = size + row.size, most_with
    return chosen


def _shares(row: Row) -> bool:
    return row.size <= SMALL_BYTES and row.share > 1 and not row.ever_doubtful
