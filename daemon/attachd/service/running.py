"""The threads of the service: one that scans, some that deliver, and the main one that waits for the end.

A loop is three lines around a step. A step that raises what is nobody's expected trouble ends the process: the service
manager starts it again, into the same journal.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable

import structlog

from attachd.delivery import carrying, policy, worker
from attachd.intake.scanning import Report, Scanner
from attachd.intake.watching import Doorbell, Watch
from attachd.service import starting
from attachd.service.starting import Held

log = structlog.get_logger()

#: After a look at single folders the scanner rests this many times as long as the look took.
_REST = 4.0


class Engine:
    """The running service. ``crashed`` holds what ended a thread, to be raised where the process ends."""

    def __init__(self, held: Held, on_crash: Callable[[], None] = lambda: None) -> None:
        """Prepare the threads; ``start`` begins. *on_crash* is called by the thread that crashed."""
        self._on_crash = on_crash
        self.desk = held.desk
        self.held = held
        self.crashed: BaseException | None = None
        self.ended = threading.Event()
        self.scanned = threading.Event()
        folders = held.desk.config.folders
        self._scanner = Scanner(held.desk.journal, held.desk.config, held.desk.clock, held.desk.guard)
        self._doorbell = Doorbell(bytes(folders.inbox.resolve()))
        self._watch = Watch(folders.inbox, self._doorbell)
        self._settles: dict[bytes, float] = {}
        self._next_full = 0.0
        self._told_absent = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Adopt what an earlier process left, then begin to scan and to deliver."""
        worker.adopt_orphans(self.desk)
        context = starting.tls_context(self.desk.config)
        self._spawn("intake", self._scan_loop)
        for number in range(self.desk.config.upload.parallel):
            self._spawn(f"worker-{number + 1}", lambda: self._work_loop(context))

    def stop(self, seconds: float) -> bool:
        """End: uploads that end within *seconds* do; others are cut before their last boundary. True if all ended."""
        self.desk.stopping.set()
        self._doorbell.ring(None)
        self.desk.bell.ring()
        ended = self._join(seconds)
        if not ended:
            self.desk.cutting.set()
            ended = self._join(2.0)
        self._watch.stop()
        return ended

    def heed_others(self) -> None:
        """Wake everybody if another process has written to the journal: something was paused or resumed by hand."""
        if self.desk.journal.changed_by_others():
            self.desk.bell.ring()

    def thread_crashed(self) -> None:
        """A thread that is not ours has died (watchdog's): the service manager starts the service anew."""
        self._crash(RuntimeError("a thread of a library has crashed; the log says where"))

    def _crash(self, error: BaseException) -> None:
        self.crashed = self.crashed or error
        self.ended.set()
        self._on_crash()

    def _join(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _spawn(self, name: str, loop: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                loop()
            except BaseException as error:  # noqa: BLE001 - handed to the main thread, which ends the process
                self._crash(error)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    # --- Delivery -----------------------------------------------------------------------------------------------

    def _work_loop(self, context: ssl.SSLContext) -> None:
        client = starting.make_client(self.desk, context)
        try:
            while not self.desk.stopping.is_set():
                heard = self.desk.bell.count()
                if not worker.step(self.desk, client):
                    self.desk.bell.wait(heard, worker.idle_seconds(self.desk))
        except policy.Stopped:
            pass
        finally:
            client.close()

    # --- Intake -------------------------------------------------------------------------------------------------

    def _scan_loop(self) -> None:
        while not self.desk.stopping.is_set():
            self.scan_step()

    def scan_step(self) -> None:
        """Scan what is due, then wait until something is."""
        began = self.desk.clock.boot()
        if began >= self._next_full:
            self._scan_all()
        took = self.desk.clock.boot() - began
        everything, folders = self._doorbell.wait(self._until_next())
        if self.desk.stopping.is_set():
            return
        if everything:
            self._next_full = 0.0
            return
        now = self.desk.clock.boot()
        folders |= {name for name, at in self._settles.items() if at <= now}
        if folders:
            self._look_at(folders)
            self.desk.stopping.wait(min(_REST * (self.desk.clock.boot() - now), 5.0) if took or folders else 0.0)

    def _until_next(self) -> float:
        soonest = min([self._next_full, *self._settles.values()])
        return max(0.001, soonest - self.desk.clock.boot())

    def _scan_all(self) -> None:
        rescan = self.desk.config.settle.rescan_seconds
        fresh = self._scanner.remounted()
        if fresh:
            # Rows whose file already lies at its target are closed first; only then is a file matched to a row.
            carrying.close_moved(self.desk)
            self._watch.start()
        report = self._scanner.scan()
        self._settles = report.settles
        self._heed(report)
        if report.there:
            carrying.drop_notes(self.desk)
        self._next_full = self.desk.clock.boot() + rescan
        self.scanned.set()
        self.desk.bell.ring()

    def _look_at(self, folders: set[bytes]) -> None:
        if self._scanner.elsewhere():
            self._next_full = 0.0
            return
        report = self._scanner.scan(folders)
        for name in folders:
            self._settles.pop(name, None)
        self._settles |= report.settles
        self._heed(report)
        self.desk.bell.ring()

    def _heed(self, report: Report) -> None:
        """Say once that the inbox is not there, and once that it is again."""
        if report.there == self._told_absent:
            self._told_absent = not report.there
            if report.there:
                log.info("inbox.returned", inbox=str(self.desk.guard.inbox))
            else:
                log.warning("inbox.absent", inbox=str(self.desk.guard.inbox), reason=self.desk.guard.sight.reason)
