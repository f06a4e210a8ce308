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
from attachd.delivery.runtime import Runtime
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


def adopt_orphans(runtime: Runtime) -> None:
    """At the start: rows that an earlier process left SENDING are in doubt, or (no checksum) were never complete.

    Looks begin anew: their seconds count from the start of this process.
    """
    now = runtime.clock.now()
    with runtime.journal.transaction() as connection:
        pauses.tame(connection, now)
    pause.probe_at_start(runtime)
    with runtime.journal.transaction() as connection:
        _adopt(runtime, connection, doubt.orphans(connection), now)
        first = runtime.doubts.looks_seconds[0]
        connection.execute(
            "UPDATE file SET due = max(due, ?), wait = max(wait, ?) WHERE state = 'DOUBTFUL' AND brief = 0",
            (now + first, first),
        )


def step(runtime: Runtime, client: Client) -> bool:
    """Do the next thing; False if there was nothing to do. Raises what is neither the world's nor the user's fault."""
    try:
        # Whoever met it, and however little there is to write: it is tried until it is over.
        runtime.adopting = runtime.adopting or runtime.journal.failing is not None
        done = _next(runtime, client)
        journal_disk.over(runtime)
        return done
    except sqlite3.OperationalError as error:
        if not errors.disk_fails(error):
            raise
        journal_disk.met(runtime, error)
        runtime.stopping.wait(FULL_SECONDS)
        return False
    except Mistake as mistake:
        # The token is read when it is first needed; that it cannot be read holds everything, and fails nothing.
        pause.pause(runtime, auth.unreadable(mistake))
        return True


def _next(runtime: Runtime, client: Client) -> bool:
    if runtime.adopting:
        _adopt_own(runtime)
    return (
        _file(runtime, least=_many(runtime))
        or blame.review(runtime)
        or _blame(runtime, client)
        or _probe(runtime, client)
        or _look(runtime, client)
        or _recheck(runtime, client)
        or _send(runtime, client)
        or _file(runtime, least=1)
        or retention.step(runtime, client, lambda: _met(runtime, client))
    )


def _many(runtime: Runtime) -> int:
    """How many files with a verdict are moved before more is sent. All, where nothing will be sent before the site is met,
    which may take minutes, or before the disk has room again: whether it has, a move finds out.
    """
    return FILED_AT_ONCE if runtime.site.introduced and not pause.remembered(runtime, file_away.DISK) else 1


def _adopt_own(runtime: Runtime) -> None:
    """Rows that stayed SENDING because an answer could not be written down: in doubt, as after a crash."""
    now, busy = runtime.clock.now(), runtime.busy()
    with runtime.journal.transaction() as connection:
        _adopt(runtime, connection, [row for row in doubt.orphans(connection) if row.issue not in busy], now)
    runtime.adopting = bool(busy)


def _adopt(runtime: Runtime, connection: sqlite3.Connection, orphans: Sequence[Row], now: float) -> None:
    record.apply(connection, orphans, {row.id: outcome.orphaned(row, now, runtime.doubts) for row in orphans}, now)


def _blame(runtime: Runtime, client: Client) -> bool:
    """Ask again about refusals whose witnesses could not be heard. Those that another process left are sent again: with
    which token they were refused is not known any more.
    """
    if not pause.current(runtime).looks:
        return False
    with runtime.journal.transaction_for_reading() as connection:
        unasked = [row for row in queue.contested(connection, held=False) if row.due <= runtime.clock.now()]
    for row in unasked:
        if runtime.take(row.issue):
            try:
                if _met(runtime, client):
                    _ask_again(runtime, client, [each for each in unasked if each.issue == row.issue])
                return True
            finally:
                runtime.give_back(row.issue)
    return False


def _ask_again(runtime: Runtime, client: Client, refused: Sequence[Row]) -> None:
    generation = runtime.asked_with.pop(refused[0].id, None)
    if generation is None:
        blame.forget(runtime, refused)
    else:
        blame.settle(runtime, client, blame.alike(refused), generation)


def idle_seconds(runtime: Runtime) -> float:
    """How long a worker that found nothing to do may sleep, unless the bell rings."""
    now = runtime.clock.now()
    with runtime.journal.transaction_for_reading() as connection:
        due = queue.next_due(connection, now)
        paused = any(p.scope is Scope.ACCOUNT and p.holds(now) for p in pauses.read(connection))
        known = batch_size.most(connection, runtime.config.batch.max_files, cloud=runtime.site.cloud)
    waits = [LONGEST_IDLE_SECONDS, runtime.pacer.soonest(runtime.clock.boot(), known.writes)]
    waits.append(due - now if due is not None else None)
    waits.append(SECRET_SECONDS if paused else None)
    waits.append(FULL_SECONDS if runtime.journal.failing else None)
    waits.append(runtime.retain_at - runtime.clock.boot() if retention.enabled(runtime) else None)
    return max(0.01, min(wait for wait in waits if wait is not None))


def conclude(runtime: Runtime) -> None:
    """At the end of a worker's life: what has its verdict is moved; what cannot be is moved by the next process."""
    with suppress(sqlite3.OperationalError):
        while _file(runtime, least=1):
            pass


def _file(runtime: Runtime, *, least: int) -> bool:
    """Move what has its verdict, if there are that many files: what several workers sent is moved together."""
    with runtime.lock:
        taken = set(runtime.filing)
    with runtime.journal.transaction_for_reading() as connection:
        verdicts = queue.with_verdict(connection, runtime.clock.now(), FILED_AT_ONCE, taken)
    return len(verdicts) >= least and file_away.carry(runtime, verdicts) > 0


def _probe(runtime: Runtime, client: Client) -> bool:
    now = runtime.clock.now()
    with runtime.lock:
        if runtime.probing:
            return False
        runtime.probing = True
    try:
        held = pause.due_probe(runtime, now)
        if held is None:
            return False
        runtime.bell.ring()
        probe.probe(runtime, client, held)
        return True
    finally:
        with runtime.lock:
            runtime.probing = False


def _look(runtime: Runtime, client: Client) -> bool:
    gate = pause.current(runtime)
    if not gate.looks or runtime.pacer.wait_for_all(runtime.clock.boot()):
        return False
    with runtime.journal.transaction_for_reading() as connection:
        due = doubt.doubtful_issues(connection, runtime.clock.now(), runtime.busy(), runtime.site.url)
    for issue in due:
        if runtime.take(issue):
            try:
                if _met(runtime, client):
                    generation = runtime.credentials.generation
                    reconcile.look(runtime, client, issue)
                    _settle_found(runtime, client, issue, generation)
                return True
            finally:
                runtime.give_back(issue)
    return False


def _recheck(runtime: Runtime, client: Client) -> bool:
    """Ask whether an issue is still where it was moved to, before files go there."""
    if (
        runtime.clock.boot() < runtime.recheck_at
        or not moved_issues.are_due(runtime)
        or not pause.current(runtime).looks
    ):
        return False
    with runtime.lock:
        if runtime.rechecking:
            return False
        runtime.rechecking = True
    try:
        return moved_issues.recheck(runtime, client, lambda: _met(runtime, client))
    finally:
        with runtime.lock:
            runtime.rechecking = False


def _settle_found(runtime: Runtime, client: Client, issue: str, generation: int) -> None:
    """Find out whom it concerns that the look was not shown the issue."""
    with runtime.journal.transaction_for_reading() as connection:
        refused = [row for row in queue.contested(connection, held=False) if row.issue == issue]
    if refused:
        blame.settle(runtime, client, blame.alike(refused), generation)


def _send(runtime: Runtime, client: Client) -> bool:
    # What a request may hold depends on the site. It is met as soon as anything waits, while the first scan is still made.
    if (
        not runtime.site.introduced
        and _may_send(runtime, pause.current(runtime))
        and _waits(runtime)
        and not _met(runtime, client)
    ):
        return True
    claimed = claim(runtime)
    if claimed is None:
        return False
    issue, batch = claimed
    try:
        generation = runtime.credentials.generation
        written = upload.send(runtime, client, batch)
        refused = [row for row in written if row.state is State.READY and row.contested is not None and not row.held]
        if refused:
            blame.settle(runtime, client, blame.alike(refused), generation)
        for row in written:
            if row.state is State.ATTACHED and row.ever_doubtful:
                reconcile.report_extra(runtime, client, row)
        # What has its verdict is filed by whoever has nothing to send; that may be one who sleeps.
        runtime.bell.ring()
        return True
    finally:
        _end(runtime, issue)


def _may_send(runtime: Runtime, gate: pause.Gate) -> bool:
    return gate.uploads and runtime.guard.sight.there and not runtime.stopping.is_set()


def _waits(runtime: Runtime) -> bool:
    with runtime.journal.transaction_for_reading() as connection:
        return queue.waits(connection)


def _end(runtime: Runtime, issue: str) -> None:
    """Give back what ``claim`` reserved."""
    runtime.parallel.leave()
    runtime.give_back(issue)


def _met(runtime: Runtime, client: Client) -> bool:
    """Whether the site is known, be it only now."""
    if not runtime.site.introduced:
        _meet(runtime, client)
    return runtime.site.introduced


def _meet(runtime: Runtime, client: Client) -> None:
    """Get to know the site. One worker asks; the others heed what it was told."""
    with runtime.site.lock:
        if runtime.site.introduced or not pause.current(runtime).looks:
            return
        fault = probe.introduce(runtime, client)
        if fault is not None:
            # Nothing can be done at a site that was not met, whatever part of it asked for the pause.
            wide = fault.scope if fault.scope in (Scope.SITE, Scope.ACCOUNT) else Scope.SITE
            pause.pause(runtime, replace(fault, scope=wide, subject=""))


def claim(runtime: Runtime) -> tuple[str, list[Row]] | None:
    """Reserve the issue whose turn it is, and choose what goes in one request; None if nothing may be sent now.

    Counts as an upload under way (``runtime.parallel``) until the caller ends it.
    """
    gate = pause.current(runtime)
    if not _may_send(runtime, gate) or not runtime.parallel.enter():
        return None
    claimed: tuple[str, list[Row]] | None = None
    try:
        claimed, used_up = _choose(runtime, gate)
    finally:
        if claimed is None:
            runtime.parallel.leave()
    for issue, frees_at in used_up:
        pause.pause(runtime, _too_many(runtime, issue, frees_at))
    return claimed


def _choose(runtime: Runtime, gate: pause.Gate) -> tuple[tuple[str, list[Row]] | None, list[tuple[str, float]]]:
    """The first issue that may be served and its batch; and the issues that have used up their hour, with its end."""
    now, boot = runtime.clock.now(), runtime.clock.boot()
    busy, used_up, batch = runtime.busy(), list[tuple[str, float]](), runtime.config.batch
    with runtime.journal.transaction_for_reading() as connection:
        known = batch_size.most(connection, batch.max_files, cloud=runtime.site.cloud)
        most_bytes = min(batch.max_bytes, known.bytes or batch.max_bytes)
        for issue in queue.issues(connection, runtime.guard.epoch):
            if issue in busy or not gate.lets(issue) or runtime.pacer.wait(issue, boot, known.writes):
                continue
            left, frees_at = queue.left_of_hour(connection, issue, now, runtime.config.limits.issue_files_per_hour)
            if left <= 0:
                used_up.append((issue, frees_at))
                continue
            most = min(known.files, left, runtime.site.free_slots(issue) or known.files)
            chosen = together(queue.sendable(connection, issue, now, runtime.guard.epoch, most), most, most_bytes)
            if chosen and runtime.take(issue):
                return (issue, chosen), used_up
    return None, used_up


def _too_many(runtime: Runtime, issue: str, frees_at: float) -> Fault:
    """So many files for one issue are more likely a wrong folder than meant: the rest waits for its time, or a person."""
    most = runtime.config.limits.issue_files_per_hour
    reason = (
        f"{issue} got as many files within an hour as it may ({most}, limits.issue_files_per_hour), and more wait: a wrong "
        f"folder may have been dragged in; if it is meant, `attachd resume --issue {issue}` lets as many follow"
    )
    return Fault(Scope.ISSUE, "too-many-files", reason, issue, max(1.0, frees_at - runtime.clock.now()))


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
