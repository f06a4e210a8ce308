"""The loop that brings what lies in the inbox into the journal: full scans, and in between looks at folders that changed."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from contextlib import suppress

from attachd import errors
from attachd.delivery import journal_disk
from attachd.delivery.runtime import Runtime
from attachd.filing import file_away, note_cleanup, retry
from attachd.intake import mounts
from attachd.intake.context import Context
from attachd.intake.coverage import Coverage, MissedEvents
from attachd.intake.folder_scan import SHARE, Report
from attachd.intake.inotify import Changes, Watch, folder_of
from attachd.intake.scanner import Scanner
from attachd.journal import database
from attachd.logger import get_logger
from attachd.service import worker

log = get_logger()

#: How often every folder is listed, however quiet it looks.
RELIST_SECONDS = 3600.0

#: After a look at single folders the scanner rests as long as the look took, at most some seconds. Before another scan after an
#: overflow it rests so many times as long as the last one took, at most a second.
_LONGEST_REST = 5.0
_OVERFLOW_TIMES = 4.0
_OVERFLOW_REST = 0.9

#: How often a scan wakes the workers, because there may be something to send by now.
_RING_SECONDS = 0.025

#: How long a round may wait, however seldom scans are wanted: of a mount that comes or goes no event tells.
_LONGEST_WAIT = 5.0


class _Stopping(Exception):
    """The service stops, or the configuration changed: abandon the scan, and conclude nothing from it."""


class IntakeLoop:
    """What the intake thread does; ``step`` is one round."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.changes = Changes()
        self.watch = Watch(self.changes)
        self.coverage = Coverage(runtime.config.folders.inbox, self.watch)
        runtime.network = self.coverage.shared
        self.scanned, self.taken_up = threading.Event(), threading.Event()
        self.scanned_at: float | None = None
        self._scanner, self._outdated = self._new_scanner(), False
        self._missed = MissedEvents()
        self._settles: dict[bytes, float] = {}
        self._next_full = self._next_fully = self._rang = 0.0
        self._fully = True
        self._overflows = self._told_overflows = 0
        self._told_absent = set[str]()
        self._told_reasons: dict[str, str] | None = None

    def stop(self) -> None:
        """Stop watching. Call it when the thread has ended."""
        self.watch.stop()

    def reconfigure(self) -> None:
        """Take up the configuration that the runtime has now, and look at everything again. From another thread.

        ``taken_up`` is set then: no file is sent any more because of what an earlier configuration said of its folder.
        """
        self.taken_up.clear()
        self._outdated = True
        self.changes.add(None)

    def _take_up(self) -> None:
        """Begin again, as after a start: each file waits until it is found again, under whatever its folder means now."""
        # Before the flag is taken back: where the journal's disk is full, this is tried again.
        self._scanner.begin_epoch()
        self._outdated = False
        earlier, self._scanner = self._scanner, self._new_scanner()
        self._scanner.succeed(earlier)
        self._settles, self._next_full, self._fully = {}, 0.0, True
        self.taken_up.set()

    def _new_scanner(self) -> Scanner:
        runtime = self._runtime
        place = runtime.journal, runtime.config, runtime.clock, runtime.guard
        return Scanner(Context(*place, self.coverage, checkpoint=self._checkpoint))

    def step(self) -> None:
        """Scan what is due, then wait until something is. A scan does not hold up the end of the service.

        Where the journal's disk is full or fails, it is waited for: what could not be noted is found again.
        """
        try:
            with suppress(_Stopping):
                self._step()
        except sqlite3.OperationalError as error:
            if not errors.disk_fails(error):
                raise
            journal_disk.met(self._runtime, error)
            self._fully, self._next_full = True, 0.0
            self._runtime.wakeup.notify()
            self._runtime.stopping.wait(worker.FULL_SECONDS)

    def _checkpoint(self) -> None:
        """Beat, wake delivery now and then, and abandon the scan where it has become pointless."""
        self._runtime.beats.beat()
        if self._boot() - self._rang >= _RING_SECONDS:
            self._rang = self._boot()
            self._runtime.wakeup.notify()
        if self._runtime.stopping.is_set() or self._outdated:
            raise _Stopping

    def _step(self) -> None:
        if self._outdated:
            self._take_up()
        if self._boot() >= self._next_full:
            self._scan_all()
        everything, paths = self.changes.wait(self._until_next())
        if self._runtime.stopping.is_set():
            return
        self._count_missed()
        if everything:
            self._next_full, self._fully = 0.0, True
            return
        if self._scanner.came_or_went() or (self._runtime.guard.sight.there and self.coverage.came_or_went()):
            # Another mount is prepared for before anything is concluded from what lies there. The log says now that the inbox is
            # missing: on a share whose server is away the next look waits as long as this one did. The full scan makes up for
            # the changes that are dropped here.
            self._next_full, self._fully = 0.0, True
            if not self._runtime.guard.sight.there:
                self._heed(Report(there=False))
            return
        now = self._boot()
        paths |= {path for path, at in self._settles.items() if at <= now}
        if paths:
            spent = self._scanner.effort.spent()
            self._look_at(paths)
            self._runtime.stopping.wait(min(self._scanner.effort.spent() - spent, _LONGEST_REST))

    def _boot(self) -> float:
        return self._runtime.clock.boot()

    def _until_next(self) -> float:
        soonest = min([self._next_full, *self._settles.values()])
        return min(max(0.001, soonest - self._boot()), _LONGEST_WAIT)

    # --- Everything ---------------------------------------------------------------------------------------------

    def _scan_all(self) -> None:
        began, spent = self._boot(), self._scanner.effort.spent()
        if self._runtime.guard.look().there:
            # What lies half in failed and half in the inbox is in one place before the scan sees it.
            retry.end_what_was_begun(self._runtime.config, self._runtime.journal)
        self._prepare(began)
        heard = self.changes.heard()
        self.changes.forget()
        if self._fully or began >= self._next_fully:
            self._fully, self._next_fully = True, began + RELIST_SECONDS
        self._rang = began
        report = self._scanner.scan(fully=self._fully)
        self._fully = False
        self._settles = report.settles
        self._heed(report)
        if report.there:
            note_cleanup.drop_notes(self._runtime)
            self._missed.compare(report.found, heard, self._boot())
            self._tell()
        took = self._scanner.effort.spent() - spent
        interval = self._interval(took)
        # What has lost its path is looked for once more in everything, and that soon: it is closed then.
        self._next_full = self._boot() + (max(1.0, (SHARE - 1) * took) if report.missing else interval)
        if report.there:
            self.scanned_at = self._runtime.clock.wall()
        self.scanned.set()
        self._runtime.wakeup.notify()
        if self._overflowed():
            self._runtime.stopping.wait(min(_OVERFLOW_TIMES * took, _OVERFLOW_REST))

    def _prepare(self, boot: float) -> None:
        """Have watched what lies there now, and see what the watches are worth."""
        if self._scanner.remounted():
            # Rows whose file already lies at its target are closed first; only then is a file matched to a row.
            file_away.close_moved(self._runtime)
            self.coverage.begin(boot)
            self._fully = True
            self._missed.excuse()
        elif self._runtime.guard.sight.there and self.coverage.check(boot):
            self._fully = True
            self._missed.excuse()
        if self._overflowed():
            # Among what was lost may be that a folder went, in whose place another has its inode now: watch all of them again.
            self._overflows = self.watch.overflows
            self.coverage.begin(boot)
            self._missed.excuse()

    def _overflowed(self) -> bool:
        return self.watch.overflows != self._overflows

    def _interval(self, took: float) -> float:
        """How long until the next full scan: as configured, sooner where events do not tell, at most 5 % of the time."""
        rescan = self._runtime.config.settle.rescan_seconds
        if not self._runtime.guard.sight.there or self.coverage.blind(b""):
            rescan = min(rescan, mounts.POLL_SECONDS)
        return max(rescan, (SHARE - 1) * took)

    # --- Single folders and files -------------------------------------------------------------------------------

    def _look_at(self, paths: set[bytes]) -> None:
        # Who is woken at once finds nothing yet, and takes the interpreter from the look.
        self._rang = self._boot()
        report = self._scanner.scan(paths)
        left = {path: at for path, at in self._settles.items() if path not in paths and folder_of(path) not in paths}
        self._settles = left | report.settles
        self._heed(report)
        self._runtime.wakeup.notify()

    # --- Telling ------------------------------------------------------------------------------------------------

    def _heed(self, report: Report) -> None:
        """Say once that the inbox is not there, and why, once for each reason; and once that it is again."""
        inbox = str(self._runtime.guard.inbox)
        if report.there:
            if self._told_absent:
                log.info("inbox.returned", inbox=inbox)
            self._told_absent.clear()
            return
        reason = self._runtime.guard.sight.reason or "it was away for a moment"
        # It may be another process each time.
        if (alike := re.sub(r"[0-9]+", "", reason)) not in self._told_absent:
            self._told_absent.add(alike)
            log.warning("inbox.absent", inbox=inbox, reason=reason)

    def _count_missed(self) -> None:
        found = self._missed.confirm(self.changes.heard(), self._boot())
        if found:
            self.coverage.missed(found)
            with self._runtime.journal.transaction(durable=False) as connection:
                database.increment(connection, "watch.found", sum(found.values()))

    def _tell(self) -> None:
        """Write down for ``status`` what events are worth here, and how often the kernel's queue overflowed."""
        reasons, overflows = self.coverage.reasons(), self.watch.overflows - self._told_overflows
        if reasons == self._told_reasons and not overflows:
            return
        for mount, reason in reasons.items():
            if (self._told_reasons or {}).get(mount) != reason:
                log.info("watch.blind", folder=mount, reason=reason, seconds=mounts.POLL_SECONDS)
        with self._runtime.journal.transaction(durable=False) as connection:
            database.put(connection, "watch.blind", json.dumps(reasons))
            if overflows:
                database.increment(connection, "watch.overflows", overflows)
        self._told_reasons, self._told_overflows = reasons, self._told_overflows + overflows
