"""The threads of the service: one that scans, several that deliver, and the main thread that waits for the end.

A loop is three lines around a step. If a step raises an unexpected error, the process ends, and the service manager starts
it again with the same journal.
"""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections.abc import Callable

from attachd.config import Config
from attachd.delivery import orphans
from attachd.delivery.runtime import Runtime
from attachd.hooks import dispatcher
from attachd.hooks.dispatcher import Hooks
from attachd.jira import connection
from attachd.journal import lookup
from attachd.logger import get_logger
from attachd.model import Cure, Scope
from attachd.report import metrics
from attachd.report.share_writer import ShareWriter
from attachd.service import worker
from attachd.service.intake_loop import IntakeLoop
from attachd.service.start import Held

log = get_logger()

#: How long a new configuration waits for intake, whose step takes less than a second.
_TAKEN_UP_SECONDS = 10.0


class Engine:
    """The running service. ``crashed`` holds the error that ended a thread, to be raised when the process ends."""

    def __init__(self, held: Held, on_crash: Callable[[], None] = lambda: None) -> None:
        """Prepare the threads; ``start`` starts them. The thread that crashed calls *on_crash*."""
        self._on_crash = on_crash
        self.runtime = held.runtime
        self.held = held
        self.crashed: BaseException | None = None
        self.ended = threading.Event()
        self.intake = IntakeLoop(held.runtime)
        self._hooks = Hooks(held.runtime, dispatcher.targets(held.runtime))
        self._threads: list[threading.Thread] = []
        self._by_hand = _by_hand(self.runtime)

    def start(self) -> None:
        """Adopt what an earlier process left, then start to scan and deliver."""
        orphans.adopt_all(self.runtime)
        context = connection.tls_context(self.runtime.config)
        self._spawn("intake", self._intake_loop)
        # One worker more than may send: it files what has its verdict while the others wait for Jira.
        for number in range(self.runtime.config.upload.parallel + 1):
            self._spawn(f"worker-{number + 1}", lambda: self._work_loop(context))
        self._hooks.start()
        share, others = ShareWriter(self.runtime), tuple(self._threads)
        self._spawn("status-files", lambda: share.loop(self.intake.scanned, others))
        if self.runtime.config.metrics.textfile:
            self._spawn("metrics", lambda: metrics.loop(self.runtime, lambda: self.intake.scanned_at))

    def stop(self, seconds: float) -> bool:
        """Stop. Uploads may end within *seconds*; others are cut before their last boundary. True if all threads ended."""
        self.runtime.stopping.set()
        self.intake.changes.add(None)
        self.runtime.wakeup.notify_all()
        ended = self._join(seconds)
        if not ended:
            self.runtime.cutting.set()
            ended = self._join(2.0)
        self.intake.stop()
        if not self.crashed:
            self._hooks.stop()
        return ended

    def heed_others(self) -> None:
        """Wake a worker if another process has written to the journal, as `pause` and `resume` do."""
        if self.runtime.journal.changed_by_others():
            self.runtime.wakeup.notify()
            self.note_by_hand()

    def note_by_hand(self, *, log_it: bool = True) -> None:
        """Log what was paused or resumed by hand since the last call, because the verbs have no log of their own."""
        before, self._by_hand = self._by_hand, _by_hand(self.runtime)
        for subject in (self._by_hand.keys() - before.keys()) if log_it else ():
            log.info("operator.paused", issue=subject, until=self._by_hand[subject])
        for subject in (before.keys() - self._by_hand.keys()) if log_it else ():
            # A pause whose time is over has ended by itself.
            if (before[subject] or math.inf) > self.runtime.clock.wall():
                log.info("operator.resumed", issue=subject)

    def reconfigure(self, config: Config) -> None:
        """Go on with another configuration, which has the same values for everything that is fixed at the start.

        Returns when intake has taken it up. If intake hangs in a file system that does not answer, it does so later.
        """
        self.runtime.reconfigure(config)
        self.intake.reconfigure()
        self.intake.taken_up.wait(_TAKEN_UP_SECONDS)
        self.runtime.wakeup.notify_all()

    def thread_crashed(self) -> None:
        """End the process, because a thread of a library (watchdog) has died; the service manager restarts it."""
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
            finally:
                self.runtime.beats.leave()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work_loop(self, context: ssl.SSLContext) -> None:
        client = connection.make_client(self.runtime.config, self.runtime.credentials, context)
        try:
            seen = self.runtime.wakeup.count()
            while not self.runtime.stopping.is_set():
                self.runtime.beats.beat()
                if not worker.step(self.runtime, client):
                    self.runtime.wakeup.wait(seen, worker.idle_seconds(self.runtime))
                seen = self.runtime.wakeup.count()
            worker.conclude(self.runtime)
        except connection.Stopped:
            pass
        finally:
            client.close()

    def _intake_loop(self) -> None:
        while not self.runtime.stopping.is_set():
            self.runtime.beats.beat()
            self.intake.step()


def _by_hand(runtime: Runtime) -> dict[str, float | None]:
    """Return what is paused by hand ("": everything), and until when; None: until it is resumed."""
    by_hand = [each for each in lookup.every_pause(runtime.journal) if each.scope is Scope.OPERATOR]
    return {each.subject: None if each.cure is Cure.HAND else each.until for each in by_hand}
