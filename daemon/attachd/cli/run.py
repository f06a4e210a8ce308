"""``run``: the service, and how it starts and ends; ``once`` uses the same start and end."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO, cast

import typer

from attachd import errors
from attachd.cli import common
from attachd.clock import Clock
from attachd.config import Log
from attachd.errors import Mistake
from attachd.heartbeat import Hang
from attachd.journal import counts, database
from attachd.logger import get_logger
from attachd.logs import setup
from attachd.model import Word
from attachd.report import health, pauses
from attachd.report.health import Condition, Kind
from attachd.report.progress import Progress
from attachd.service import reload, reminders, start, token_reminder, watchdog
from attachd.service.engine import Engine
from attachd.service.signals import Signals
from attachd.service.watchdog import Liveness

if TYPE_CHECKING:
    from attachd.cli.terminal import Bars

log = get_logger()

#: How often the main thread checks the other threads and reports to the service manager, in seconds.
STATUS_SECONDS = 5.0
#: How often it reminds people of lasting problems, and looks for files to give up, in seconds.
REMIND_SECONDS = 60.0
#: How often it looks whether another process (`pause`, `resume`) has written to the journal, in seconds.
LISTEN_SECONDS = 1.0

#: Time to move files and close the journal at the end, besides the time for uploads, in seconds.
_FILING_SECONDS = 30.0

AdoptInbox = Annotated[
    bool,
    typer.Option(
        "--adopt-inbox",
        help="Take over an inbox whose marker is missing or names another journal, and write a new marker.",
    ),
]
AdoptSite = Annotated[
    bool,
    typer.Option("--adopt-site", help="Continue files of another jira.url, because it is the same site."),
]


def run(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    adopt_inbox: AdoptInbox = False,
    adopt_site: AdoptSite = False,
) -> None:
    """Run the service in the foreground until SIGTERM."""
    # In a terminal, SIGHUP means that the terminal was closed.
    with Signals(reloads=not os.isatty(0)) as signals:
        engine = started(signals, config, instance, adopt_inbox, adopt_site)
        reload.announce(engine.runtime.journal)
        watchdog.send(ready=True, status="started")
        folders, site = engine.runtime.config.folders, engine.runtime.config.jira.url
        log.info("service.started", inbox=str(folders.inbox), site=site, state=str(engine.held.state))
        start.tell_copies(engine.runtime.config)
        with _page(engine):
            try:
                _watch(engine, signals)
            except sqlite3.DatabaseError as error:
                engine.crashed = engine.crashed or error
        end(engine)


@contextmanager
def _page(engine: Engine) -> Iterator[None]:
    """Serve the web page while the service runs. Without web.listen, nothing of it is loaded."""
    if not engine.runtime.config.web.listen:
        yield
        return
    from attachd.web.server import PageServer

    page = PageServer(engine, engine.held.state)
    page.start()
    try:
        yield
    finally:
        page.stop()


def _watch(engine: Engine, signals: Signals) -> None:
    """Do the main thread's work until a signal stops the service or another thread crashes."""
    told = reminded = -REMIND_SECONDS
    told_live: object = (frozenset(), None)
    liveness, progress = Liveness(engine.runtime.beats), Progress(engine.runtime, engine.held.state)
    while not signals.wait(liveness.seconds(LISTEN_SECONDS)):
        with errors.left_to_workers():
            engine.heed_others()
        progress.step()
        if signals.reload():
            watchdog.send(reloading=True)
            reload.reload(engine)
            watchdog.send(ready=True)
        if time.monotonic() - told >= liveness.seconds(STATUS_SECONDS):
            told = time.monotonic()
            engine.runtime.journal.reserve()
            hangs = liveness.step()
            told_live = _note_live(engine, hangs, told_live)
            watchdog.send(status=_status_line(engine))
        if time.monotonic() - reminded >= REMIND_SECONDS:
            reminded = time.monotonic()
            token_reminder.remind(engine.runtime)
            reminders.step(engine.runtime)


@contextmanager
def journal_named(state: Path) -> Iterator[None]:
    """Turn an unusable journal into a mistake with a remedy, so that nothing waits for it."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if (mistake := _unusable(error, state)) is None:
            raise
        raise mistake from error


def _unusable(error: BaseException, state: Path) -> Mistake | None:
    """Return the mistake for a failing disk (75, try again) or a damaged journal (78); None for a bug."""
    if isinstance(error, sqlite3.DatabaseError) and (errors.disk_fails(error) or errors.is_damage(error)):
        return database.unusable(state / database.FILE_NAME, error)
    return None


def started(
    signals: Signals,
    file: common.ConfigFile,
    instance: common.Instance,
    adopt_inbox: bool,
    adopt_site: bool,
    log_above: Bars | None = None,
) -> Engine:
    """Start everything, the log first. If that fails, print why and end the process."""
    with common.mistakes_printed():
        try:
            settings, state = common.prepared(file, instance)
        except Mistake as mistake:
            raise _with_folders(mistake, file, instance) from None
        os.umask(0o007)
        _configure_log(settings.log, log_above)
        with journal_named(state):
            held = start.start(
                settings, clock=Clock(), environ=os.environ, adopt_inbox=adopt_inbox, adopt_site=adopt_site
            )
            engine = Engine(held, on_crash=signals.ring)
            setup.report_crashes(engine.thread_crashed)
            token_reminder.remind(held.runtime)
            engine.start()
            return engine


def _with_folders(mistake: Mistake, file: common.ConfigFile, instance: common.Instance) -> Mistake:
    """Return all mistakes at once: missing folders too if only the token is unusable."""
    try:
        settings, state = common.prepared(file, instance, check_token=False)
        missing = start.missing_folders(settings, state)
    except Mistake:
        return mistake
    return Mistake(*mistake.problems, *missing, exit_code=mistake.exit_code)


def _configure_log(settings: Log, bars: Bars | None) -> None:
    if bars is None:
        setup.configure(settings)
        return
    # The bars show what the log lines of each file would say.
    level = "warning" if settings.level == "info" else settings.level
    form = "console" if settings.format == "auto" else settings.format
    setup.configure(settings.model_copy(update={"level": level, "format": form}), cast(TextIO, bars.log))


def end(engine: Engine, conclude: Callable[[], int] = lambda: 0) -> None:
    """Stop the threads and exit with the code that *conclude* returns.

    If a thread has crashed, the process ends with its traceback and status 1.
    """
    seconds = 0.0 if engine.crashed else engine.runtime.config.limits.stop_seconds
    # Ask the service manager for the time that uploads and filing need.
    watchdog.send(stopping=True)
    watchdog.send(status="waiting for uploads to finish", extend_timeout_usec=int((seconds + _FILING_SECONDS) * 1e6))
    log.info("service.stopping", seconds=seconds)
    ended = engine.stop(seconds)
    code, crashed = conclude(), engine.crashed
    if crashed is not None:
        code = _log_crash(crashed, engine.held.state)
    log.info("service.stopped", drained=ended)
    if ended:
        engine.held.release()
    setup.flush()
    sys.stdout.flush()
    # A thread that hangs in a system call must not keep the process alive. The journal knows what it was doing.
    os._exit(code) if not ended else sys.exit(code)


def _log_crash(crashed: BaseException, state: Path) -> int:
    """Log what ended the service, and return the exit code. A damaged journal is still damaged at the next start."""
    if (mistake := _unusable(crashed, state)) is None:
        log.critical("service.crashed", exc_info=crashed)
        return 1
    for problem in mistake.problems:
        log.critical("journal.unusable", reason=f"{problem.where} {problem.what}", remedy=problem.remedy)
    return mistake.exit_code


def _note_live(engine: Engine, hangs: Sequence[Hang], before: object) -> object:
    """Record for other processes what hangs and why there is no page, if that has changed. Return what is recorded."""
    page = engine.runtime.page_trouble
    now = frozenset((hang.loop, hang.degraded) for hang in hangs), page
    if now != before:
        with errors.left_to_workers():
            health.note_live(engine.runtime.journal, hangs, page, engine.runtime.clock.wall())
            return now
    return before


def _status_line(engine: Engine) -> str:
    """Return systemd's status line, even if the journal cannot be read and the workers wait for it."""
    try:
        return "; ".join(_standing(engine))
    except sqlite3.OperationalError as error:
        if not errors.disk_fails(error):
            raise
        return f"the journal cannot be read: {error}"


def _standing(engine: Engine) -> list[str]:
    found = counts.standing(engine.runtime.journal).words
    parts = [f"{found[w]:,} {w}" for w in (Word.WAITING, Word.SENDING, Word.IN_DOUBT, Word.BLOCKED) if found[w]]
    conditions = health.of_runtime(engine.runtime)
    paused = pauses.listed([each.pause for each in conditions if each.pause is not None])
    return [", ".join(parts) or "idle", *paused, *(_condition(each) for each in conditions if each.pause is None)]


def _condition(each: Condition) -> str:
    return each.brief if each.kind == Kind.INBOX else each.sentence
