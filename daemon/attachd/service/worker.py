"""One worker's step: it reads what there is, decides what is most pressing, and does that. The loop is the engine's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from attachd import errors
from attachd.delivery import (
    batch,
    batch_size,
    blame,
    journal_disk,
    moved_issues,
    orphans,
    pause,
    probe,
    reconcile,
    upload,
)
from attachd.delivery.runtime import Runtime
from attachd.errors import Mistake
from attachd.filing import file_away, retention
from attachd.jira import auth
from attachd.jira.client import Client
from attachd.journal import pauses, queue
from attachd.journal.rows import Row
from attachd.model import Scope, State
from attachd.service.decide import Action, View, decide

#: A worker looks for work this often even if nothing wakes it.
LONGEST_IDLE_SECONDS = 30.0
#: How long a worker rests when the journal's disk is full.
FULL_SECONDS = 5.0
#: How often the token's source is looked at while the account is paused.
SECRET_SECONDS = 2.0


def step(runtime: Runtime, client: Client) -> bool:
    """Do the next thing; False if there was nothing to do. Raises what is neither the world's nor the user's fault."""
    try:
        # Whichever worker met the full disk, and however little there is to write: try until it is over.
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
        # The token is read when it is first needed. While it cannot be read, everything waits and nothing fails.
        pause.pause(runtime, auth.unreadable(mistake))
        return True


def _next(runtime: Runtime, client: Client) -> bool:
    """Do what is most pressing. An action that finds nothing to do may have changed something: then look once more."""
    if runtime.adopting:
        orphans.adopt_own(runtime)
    action: Action | None = None
    while action := decide(view := View.read(runtime), after=action):
        if _do(action, runtime, client, view):
            return True
    return False


def _do(action: Action, runtime: Runtime, client: Client, view: View) -> bool:
    """Do one thing; False if there turned out to be nothing to do."""
    match action:
        case Action.FILE_GROUP | Action.FILE_REST:
            return file_away.carry(runtime, view.verdicts) > 0
        case Action.REVIEW_REFUSALS:
            return blame.review(runtime, view.contested)
        case Action.ASK_AGAIN:
            return _ask_again(runtime, client, view)
        case Action.PROBE:
            return _probe(runtime, client)
        case Action.LOOK:
            return _look(runtime, client, view)
        case Action.RECHECK:
            return _recheck(runtime, client)
        case Action.SEND:
            return _send(runtime, client, view)
        case Action.RETAIN:
            return retention.step(runtime, client, lambda: probe.met(runtime, client))


def _ask_again(runtime: Runtime, client: Client, view: View) -> bool:
    for row in view.unasked:
        if runtime.take(row.issue):
            try:
                if probe.met(runtime, client):
                    blame.ask_again(runtime, client, [each for each in view.unasked if each.issue == row.issue])
                return True
            finally:
                runtime.give_back(row.issue)
    return False


def _probe(runtime: Runtime, client: Client) -> bool:
    with runtime.alone("probe") as mine:
        # Another worker may have probed since the view was read.
        due = pause.due_probe(runtime) if mine else None
        if due is None:
            return False
        runtime.wakeup.notify()
        probe.probe(runtime, client, due)
        return True


def _look(runtime: Runtime, client: Client, view: View) -> bool:
    for issue in view.doubtful:
        if runtime.take(issue):
            try:
                if probe.met(runtime, client):
                    _look_at(runtime, client, issue)
                return True
            finally:
                runtime.give_back(issue)
    return False


def _look_at(runtime: Runtime, client: Client, issue: str) -> None:
    generation = runtime.credentials.generation
    reconcile.look(runtime, client, issue)
    blame.settle_unasked(runtime, client, issue, generation)


def _recheck(runtime: Runtime, client: Client) -> bool:
    """Ask whether an issue is still where it was moved to, before files go there."""
    with runtime.alone("recheck") as mine:
        return mine and moved_issues.recheck(runtime, client, lambda: probe.met(runtime, client))


def _send(runtime: Runtime, client: Client, view: View) -> bool:
    gate = view.gate
    # What a request may hold depends on the site. It is met as soon as a file waits, even during the first scan.
    if not runtime.site.introduced:
        if not probe.met(runtime, client):
            return True
        gate = pause.current(runtime)
    claimed = batch.claim(runtime, gate)
    if claimed is None:
        return False
    issue, files = claimed
    try:
        generation = runtime.credentials.generation
        written = upload.send(runtime, client, files)
        blame.settle_answered(runtime, client, written, generation)
        if _may_look_at_once(runtime, written):
            _look_at(runtime, client, issue)
        for row in written:
            if row.state is State.ATTACHED and row.ever_doubtful:
                reconcile.report_extra(runtime, client, row)
        # A worker that has nothing to send files what has its verdict; it may be asleep.
        runtime.wakeup.notify()
        return True
    finally:
        batch.release(runtime, issue)


def _may_look_at_once(runtime: Runtime, written: Sequence[Row]) -> bool:
    """Return True for a request that was declined as a whole, if Jira may be asked now.

    The account may be the reason, and then the look shows it. Until that is known, this worker sends nothing else.
    """
    now, boot = runtime.clock.now(), runtime.clock.boot()
    declined = any(row.state is State.DOUBTFUL and row.brief and row.due <= now for row in written)
    return declined and pause.current(runtime).looks and not runtime.pacer.wait_for_all(boot)


def idle_seconds(runtime: Runtime) -> float:
    """Return how long a worker that found nothing to do may sleep, unless something wakes it."""
    now = runtime.clock.now()
    with runtime.journal.transaction_for_reading() as connection:
        due = queue.next_due(connection, now)
        paused = any(p.scope is Scope.ACCOUNT and p.holds(now) for p in pauses.read(connection))
        known = batch_size.most(connection, runtime.config.batch.max_files, cloud=runtime.site.cloud)
    waits = [LONGEST_IDLE_SECONDS, runtime.pacer.soonest(runtime.clock.boot(), known.writes)]
    waits.append(due - now if due is not None else None)
    waits.append(SECRET_SECONDS if paused else None)
    waits.append(FULL_SECONDS if runtime.journal.failing else None)
    waits.append(retention.idle_seconds(runtime))
    return max(0.01, min(wait for wait in waits if wait is not None))


def conclude(runtime: Runtime) -> None:
    """At the end of a worker's life, move what has its verdict. The next process moves what cannot be moved now."""
    with suppress(sqlite3.OperationalError):
        while (verdicts := View.read(runtime).verdicts) and file_away.carry(runtime, verdicts) > 0:
            pass
