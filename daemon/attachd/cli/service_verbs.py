"""``run`` and ``once``: the service itself."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import structlog
import typer

from attachd import troubles
from attachd.beating import Hang
from attachd.cli import common
from attachd.clock import Clock
from attachd.journal import database, report
from attachd.model import Cure, Mistake, Scope, Word, printable
from attachd.service import expiring, logs, notify, reloading, reminding, starting
from attachd.service.liveness import Liveness
from attachd.service.progressing import Progress
from attachd.service.running import Engine
from attachd.service.signals import Signals

log = structlog.get_logger()

#: How often the main thread looks whether the others get on, and tells the service manager, in seconds.
STATUS_SECONDS = 5.0
#: How often it looks whether people are to be told of something, and what is to be given up.
REMIND_SECONDS = 60.0
#: How often it looks whether another process (`pause`, `resume`) has written to the journal.
LISTEN_SECONDS = 1.0

#: What the end may take besides the uploads' time: files are moved, and the journal is closed.
_FILING_SECONDS = 30.0

AdoptInbox = Annotated[
    bool,
    typer.Option(
        "--adopt-inbox", help="Take over an inbox whose marker is missing or another's: writes it anew, once."
    ),
]
AdoptSite = Annotated[
    bool,
    typer.Option(
        "--adopt-site", help="Go on with files that were begun under another jira.url: both are the same site."
    ),
]


def run(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    adopt_inbox: AdoptInbox = False,
    adopt_site: AdoptSite = False,
) -> None:
    """Run the service in the foreground, until SIGTERM."""
    # In a terminal SIGHUP says that this is closed.
    with Signals(reloads=not os.isatty(0)) as signals:
        engine = _started(signals, config, instance, adopt_inbox, adopt_site)
        reloading.announce(engine.desk.journal)
        notify.send(ready=True, status="started")
        folders, site = engine.desk.config.folders, engine.desk.config.jira.url
        log.info("service.started", inbox=str(folders.inbox), site=site, state=str(engine.held.state))
        with _page(engine):
            try:
                _watch(engine, signals)
            except sqlite3.DatabaseError as error:
                engine.crashed = engine.crashed or error
        _end(engine)


@contextmanager
def _page(engine: Engine) -> Iterator[None]:
    """Serve the web page meanwhile, where the configuration has one; nothing of it is loaded where it has none."""
    if not engine.desk.config.web.listen:
        yield
        return
    from attachd.web.serving import Serving

    page = Serving(engine, engine.held.state)
    page.start()
    try:
        yield
    finally:
        page.stop()


def _watch(engine: Engine, signals: Signals) -> None:
    """What the main thread does until it is told to stop, or another thread has crashed."""
    told = reminded = -REMIND_SECONDS
    liveness, progress = Liveness(engine.desk.beats), Progress(engine.desk, engine.held.state)
    while not signals.wait(liveness.seconds(LISTEN_SECONDS)):
        with troubles.left_to_workers():
            engine.heed_others()
        progress.step()
        if signals.reload():
            notify.send(reloading=True)
            reloading.reload(engine)
            notify.send(ready=True)
        if time.monotonic() - told >= liveness.seconds(STATUS_SECONDS):
            told = time.monotonic()
            notify.send(status=_status_line(engine, liveness.step()))
        if time.monotonic() - reminded >= REMIND_SECONDS:
            reminded = time.monotonic()
            expiring.remind(engine.desk)
            reminding.step(engine.desk)


def once(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    wait: Annotated[
        float, typer.Option("--wait", metavar="S", min=0, help="End after so many seconds without progress.")
    ] = 300.0,
    adopt_inbox: AdoptInbox = False,
    adopt_site: AdoptSite = False,
) -> None:
    """Take what is in the inbox, wait for the verdicts, and end.

    Ends 0 when all is attached or there was nothing to do, 3 when some failed, 4 when some still wait or are in doubt.
    """
    with Signals() as signals:
        engine = _started(signals, config, instance, adopt_inbox, adopt_site)
        began = engine.desk.clock.now()
        with common.mistakes_told(), _journal_named(engine.held.state):
            reason = _wait_for_verdicts(engine, signals, wait)
            _end(engine, lambda: _conclude(engine, began, reason))


@contextmanager
def _journal_named(state: Path) -> Iterator[None]:
    """End in words where the journal cannot be used, before or instead of anything that could wait for it."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if (mistake := _unusable(error, state)) is None:
            raise
        raise mistake from error


def _unusable(error: BaseException, state: Path) -> Mistake | None:
    """What is to be done about a disk that fails (75, to be tried again), or a journal that is damaged (78); None for a bug."""
    if isinstance(error, sqlite3.DatabaseError) and (troubles.disk_fails(error) or troubles.is_damage(error)):
        return database.unusable(state / database.FILE_NAME, error)
    return None


def _started(
    signals: Signals, file: common.ConfigFile, instance: common.Instance, adopt_inbox: bool, adopt_site: bool
) -> Engine:
    with common.mistakes_told():
        settings, state = common.prepared(file, instance)
        os.umask(0o007)
        logs.configure(settings.log)
        for notice in settings.notices:
            log.warning("configuration.renamed", reason=notice)
        with _journal_named(state):
            held = starting.start(
                settings, clock=Clock(), environ=os.environ, adopt_inbox=adopt_inbox, adopt_site=adopt_site
            )
            engine = Engine(held, on_crash=signals.ring)
            logs.report_crashes(engine.thread_crashed)
            expiring.remind(held.desk)
            engine.start()
            return engine


def _end(engine: Engine, conclude: Callable[[], int] = lambda: 0) -> None:
    """Stop the threads and leave, with the exit code that is concluded then. A thread that crashed ends the process with its
    traceback and status 1.
    """
    seconds = 0.0 if engine.crashed else engine.desk.config.limits.stop_seconds
    # However soon the service manager would lose patience: uploads have their time, and what they reach is filed.
    notify.send(stopping=True)
    notify.send(status="lets uploads end", extend_timeout_usec=int((seconds + _FILING_SECONDS) * 1e6))
    log.info("service.stopping", seconds=seconds)
    ended = engine.stop(seconds)
    code, crashed = conclude(), engine.crashed
    if crashed is not None:
        code = _tell_crash(crashed, engine.held.state)
    log.info("service.stopped", drained=ended)
    if ended:
        engine.held.release()
    logs.flush()
    sys.stdout.flush()
    # A thread that hangs in a system call must not keep the process: what it was doing is in the journal.
    os._exit(code) if not ended else sys.exit(code)


def _tell_crash(crashed: BaseException, state: Path) -> int:
    """Say what ended the service; the exit code. A journal that is damaged stays so at the next start."""
    if (mistake := _unusable(crashed, state)) is None:
        log.critical("service.crashed", exc_info=crashed)
        return 1
    for problem in mistake.problems:
        log.critical("journal.unusable", reason=f"{problem.where}: {problem.what}", remedy=problem.remedy)
    return mistake.exit_code


def _status_line(engine: Engine, hangs: Sequence[Hang]) -> str:
    """How it stands; also where the journal cannot be read, for which the workers wait."""
    try:
        return "; ".join(_standing(engine, hangs))
    except sqlite3.OperationalError as error:
        if not troubles.disk_fails(error):
            raise
        return f"the journal cannot be read: {error}"


def _standing(engine: Engine, hangs: Sequence[Hang]) -> list[str]:
    found = report.standing(engine.desk.journal).words
    pauses = report.active_pauses(engine.desk.journal, engine.desk.clock.now())
    parts = [f"{found[w]} {w}" for w in (Word.WAITING, Word.SENDING, Word.IN_DOUBT, Word.BLOCKED) if found[w]]
    if not engine.desk.guard.sight.there:
        parts.append("the inbox is not there")
    parts += [str(hang) for hang in hangs]
    return [", ".join(parts) or "idle", *(f"paused: {pause.reason}" for pause in pauses)]


# --- once -------------------------------------------------------------------------------------------------------


def _wait_for_verdicts(engine: Engine, signals: Signals, patience: float) -> str:
    """Wait until all is decided; returns why it ends before that, "" if it does not."""
    progress, since, asked, told = None, time.monotonic(), 0.0, False
    while not signals.wait(0.05 if engine.intake.scanned.is_set() else 0.01):
        if not engine.intake.scanned.is_set():
            continue
        if not engine.desk.guard.sight.there:
            return engine.desk.guard.sight.reason
        if not told:
            told = True
            _tell_settling(engine)
        standing = report.standing(engine.desk.journal)
        if standing.left == standing.stuck:
            return ""
        if paused := _paused(engine, standing):
            return paused
        if time.monotonic() - asked < 1.0:
            continue
        engine.heed_others()
        asked, now = time.monotonic(), report.progress(engine.desk.journal)
        if now != progress:
            progress, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            return f"nothing has changed for {patience:g} seconds"
    return "it was told to stop"


def _paused(engine: Engine, standing: report.Standing) -> str:
    """Why nothing that is left can be sent now, "" if something can."""
    journal, now = engine.desk.journal, engine.desk.clock.now()
    wide = [
        p
        for p in report.active_pauses(journal, now)
        if p.scope in (Scope.ACCOUNT, Scope.SITE) or (p.scope is Scope.OPERATOR and not p.subject)
    ]
    # One whose next probe is due is not looked at before that was made.
    wide = [p for p in wide if p.cure is Cure.HAND or p.until > now]
    if wide:
        return wide[0].reason
    by_hand = report.paused_by_hand(journal, now)
    if by_hand and standing.left == standing.stuck + report.waiting_in(journal, by_hand):
        return f"paused by hand: {', '.join(by_hand)}"
    return ""


def _tell_settling(engine: Engine) -> None:
    """Say what a person who watches would otherwise wait for in silence."""
    settling = report.standing(engine.desk.journal).settling
    if settling:
        settle = engine.desk.config.settle
        log.info(
            "files.settling",
            files=settling,
            seconds=settle.quiet_seconds,
            seconds_unproven=settle.quiet_seconds_unproven,
            reason="a file is sent when nobody has it open and it has been unchanged so long",
        )


def _conclude(engine: Engine, began: float, reason: str) -> int:
    """Print what became of the files, and choose the exit code."""
    journal = engine.desk.journal
    failed, left, strays = report.failed_since(journal, began), report.standing(journal).left, report.strays(journal)
    attached = report.attached_since(journal, began)
    print(f"{attached} attached, {failed} failed, {left + sum(s.files for s in strays)} waiting")
    for row in report.failures_since(journal, began):
        print(f"failed: {printable(row.path)}: {row.reason}")
    for stray in strays:
        print(f"waiting: {stray.files} in {printable(stray.folder) or 'the inbox itself'}: {stray.reason}")
    for row in report.troubled(journal):
        print(f"waiting: {printable(row.path)}: {row.said}")
    if reason:
        print(f"ended early: {reason}")
    return 3 if failed else 4 if left or strays or not engine.desk.guard.sight.there else 0
