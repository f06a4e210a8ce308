"""``once``: attaches what is in the inbox, waits for the results, and prints them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attachd.cli import common, run
from attachd.clock import Clock
from attachd.journal import counts, lookup, sites
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.logger import get_logger
from attachd.model import Cure, Scope, printable
from attachd.report import health, pauses
from attachd.service.engine import Engine
from attachd.service.signals import Signals

if TYPE_CHECKING:
    from attachd.cli.terminal import Bars

log = get_logger()


def once(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    wait: Annotated[
        float, typer.Option("--wait", metavar="S", min=0, help="End after S seconds without progress.")
    ] = 300.0,
    adopt_inbox: run.AdoptInbox = False,
    adopt_site: run.AdoptSite = False,
    as_json: common.AsJson = False,
) -> None:
    """Attach what is in the inbox, wait for the results, and end.

    Exit code 0: everything is attached, or the inbox is empty.
    3: some files failed.
    4: some files still wait, are in doubt, or cannot be read.
    """
    # Taken before anything is sent: a result may arrive before the engine's start returns.
    began = Clock().boot()
    with Signals() as signals:
        # A person watches a terminal: show bars instead of a line for each file.
        bars = _bars() if os.isatty(2) else None
        engine = run.started(signals, config, instance, adopt_inbox, adopt_site, log_above=bars)
        clock = engine.runtime.clock
        began += clock.now() - clock.boot()
        with common.mistakes_printed(), run.journal_named(engine.held.state):
            with bars or nullcontext():
                reason = _wait_for_verdicts(
                    engine, signals, wait, (lambda: bars.step(engine.runtime, began)) if bars else lambda: None
                )
            run.end(engine, lambda: _conclude(engine, began, reason, as_json=as_json))


def _bars() -> Bars:
    # Loaded only here: other verbs start without it.
    from attachd.cli import terminal

    return terminal.Bars()


def _wait_for_verdicts(engine: Engine, signals: Signals, patience: float, draw: Callable[[], None]) -> str:
    """Wait until every file has its result. Return why the wait ended early, or "". Call *draw* meanwhile."""
    progress, since, asked, told = None, time.monotonic(), 0.0, False
    while not signals.wait(0.05 if engine.intake.scanned.is_set() else 0.01):
        if not engine.intake.scanned.is_set():
            continue
        if not engine.runtime.guard.sight.there:
            return engine.runtime.guard.sight.reason
        draw()
        if not told:
            told = True
            _log_settling(engine)
        standing = counts.standing(engine.runtime.journal)
        if standing.left == standing.stuck:
            return ""
        if paused := _paused(engine, standing):
            return paused
        if time.monotonic() - asked < 1.0:
            continue
        engine.heed_others()
        asked, now = time.monotonic(), counts.progress(engine.runtime.journal)
        if now != progress:
            progress, since = now, time.monotonic()
        elif reason := _in_vain(engine, standing, time.monotonic() - since, patience):
            return reason
    return "a signal stopped it"


#: How many files that still settle are listed by name.
_MOST_SETTLING = 20


def _paused(engine: Engine, standing: counts.Standing) -> str:
    """Return why no remaining file can be sent now, or "" if one can."""
    journal, now = engine.runtime.journal, engine.runtime.clock.wall()
    if journal.failing and (stopped := health.stopping(health.of_runtime(engine.runtime))):
        return stopped[0]
    wide = [
        p
        for p in counts.active_pauses(journal, now)
        if p.scope in (Scope.ACCOUNT, Scope.SITE) or (p.scope is Scope.OPERATOR and not p.subject)
    ]
    # A pause whose next probe is due may end at once, so it does not count.
    wide = [p for p in wide if p.cure is Cure.HAND or p.until > now]
    if wide:
        return wide[0].reason
    by_hand = counts.paused_by_hand(journal, now)
    if by_hand and standing.left == standing.stuck + lookup.waiting_in(journal, by_hand):
        return f"paused by hand: {', '.join(by_hand)}"
    return ""


def _in_vain(engine: Engine, standing: counts.Standing, seconds: float, patience: float) -> str:
    """Return why further waiting is useless after *seconds* without progress, or "" if it is not."""
    journal = engine.runtime.journal
    issues = [each.issue for each in pauses.suspects(journal, engine.runtime.config.jira.url)]
    if issues and standing.left == standing.stuck + lookup.waiting_in(journal, issues):
        return "several issues were refused with the same error, so attachd's account may have lost access"
    with journal.transaction_for_reading() as connection:
        others = sites.elsewhere(connection, engine.runtime.site.url)
    if others and standing.left == standing.stuck + sum(each.files for each in others):
        return f"the waiting files may already be at {others[0].site}, but jira.url has changed since"
    return f"nothing has changed for {patience:g} seconds" if seconds > patience else ""


def _log_settling(engine: Engine) -> None:
    """Log what attachd waits for, so that a person at the terminal knows."""
    settling = counts.standing(engine.runtime.journal).settling
    if settling:
        settle = engine.runtime.config.settle
        log.info(
            "files.settling",
            files=settling,
            seconds=settle.quiet_seconds,
            seconds_unproven=settle.quiet_seconds_unproven,
            reason="attachd sends a file once no program has it open and it has not changed for so long",
        )


def _conclude(engine: Engine, began: float, reason: str, *, as_json: bool = False) -> int:
    """Print the results, and return the exit code."""
    journal, there = engine.runtime.journal, engine.runtime.guard.sight.there
    found = _result(journal, began, reason)
    if as_json:
        common.print_json(found)
    else:
        print("\n".join(_in_words(found)))
    waits = found["waiting"] or found["unrouted_files"] or found["not_listed"]
    return 3 if found["failed"] else 4 if waits or not there else 0


def _result(journal: Journal, began: float, reason: str) -> dict[str, Any]:
    """Return what ``once`` prints with ``--json``: how many files have which result, and which need attention."""
    unrouted = counts.unrouted(journal)
    return {
        "attached": counts.attached_since(journal, began),
        "failed": counts.failed_since(journal, began),
        "waiting": counts.standing(journal).left,
        "unrouted_files": sum(each.files for each in unrouted),
        "failures": [_named(row, row.reason) for row in counts.failures_since(journal, began)],
        "unrouted": [
            {"folder": printable(each.folder) or ".", "files": each.files, "reason": each.reason} for each in unrouted
        ],
        "not_listed": counts.troubles(journal),
        "waits": [_named(row, row.said) for row in lookup.troubled(journal)]
        + [_named(row, "it is still settling") for row in lookup.settling(journal, _MOST_SETTLING)],
        "ended_early": reason or None,
    }


def _named(row: Row, reason: str | None) -> dict[str, Any]:
    return {"id": row.ident, "file": printable(row.path), "issue": row.issue, "reason": reason}


def _in_words(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['attached']} attached, {found['failed']} failed, {found['waiting'] + found['unrouted_files']} waiting"
    for row in found["failures"]:
        yield f"failed: {row['file']}: {row['reason']}"
    for each in found["unrouted"]:
        where = "the inbox itself" if each["folder"] == "." else each["folder"]
        yield f"waiting: {each['files']} in {where}: {each['reason']}"
    for folder, why in found["not_listed"].items():
        yield f"not listed: {folder}: {why}"
    for row in found["waits"]:
        yield f"waiting: {row['file']}: {row['reason']}"
    if found["ended_early"]:
        yield f"ended early: {found['ended_early']}"
