"""Deliver events to hooks: a webhook, a command, a comment on the issue. Each has a thread that nothing else waits for.

A target receives one event after the other. Each is retried until the target takes it or a day is over, also after a
downtime of either side. If an answer is lost, the target gets the event twice, with the same id.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from attachd import errors
from attachd.config import validators
from attachd.delivery import backoff
from attachd.delivery.runtime import Runtime
from attachd.hooks import comment
from attachd.hooks.command import Command
from attachd.hooks.webhook import Webhook
from attachd.journal import outbox
from attachd.journal.outbox import Event
from attachd.logger import get_logger

log = get_logger()

#: The kinds of events.
KINDS = validators.EVENTS
#: How often the outbox is read, in seconds.
LOOK_SECONDS = 2.0
#: After so long an event that its target does not take is given up.
GIVE_UP_SECONDS = 86_400.0
#: At the end of the process the targets may still receive events for so long, in seconds.
LAST_SECONDS = 10.0


class Target(Protocol):
    """A receiver of events."""

    @property
    def name(self) -> str:
        """Return its name in the journal."""
        ...

    @property
    def at_once(self) -> int:
        """Return how many events it takes at once."""
        ...

    def send(self, waiting: Sequence[Event], ended: threading.Event) -> tuple[int, str]:
        """Deliver the first events. Return how many were delivered, and why not more; 0 and "" means later."""
        ...


class Hooks:
    """The threads of all targets."""

    def __init__(self, runtime: Runtime, targets: Sequence[Target]) -> None:
        """From now on the outbox keeps events for these targets, and for no others."""
        self._runtime = runtime
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._loop, args=(each,), name=f"hook-{each.name}", daemon=True) for each in targets
        ]
        outbox.begin(runtime.journal, [each.name for each in targets])

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Deliver what is left within ``LAST_SECONDS``; the next process delivers the rest."""
        if not self._threads:
            return
        until = time.monotonic() + LAST_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._ended.set()
        for thread in self._threads:
            thread.join(2.0)

    def _loop(self, target: Target) -> None:
        progress = Progress()
        while not self._ended.is_set():
            last = self._runtime.stopping.is_set()
            done = False
            try:
                done = step(self._runtime, target, progress, self._ended) == (True, "")
            except sqlite3.ProgrammingError:
                return  # The process ends, and the journal is closed.
            except sqlite3.OperationalError as error:
                if not errors.disk_fails(error):
                    raise
                progress.failures += 1
            if last and not done:
                return
            if not done:
                self._runtime.stopping.wait(wait_after(progress.failures))


@dataclass(slots=True)
class Progress:
    """The failures in a row, and the last delivered event, even if the journal's disk is full."""

    failures: int = 0
    delivered: int = 0


def wait_after(failures: int) -> float:
    """Return how long to wait after so many failures in a row."""
    return backoff.file_wait(failures) if failures else LOOK_SECONDS


def step(runtime: Runtime, target: Target, progress: Progress, ended: threading.Event) -> tuple[bool, str]:
    """Deliver the next events. Return whether any were delivered, and why it failed. Failures are logged at begin and end."""
    waiting = outbox.after(runtime.journal, target.name, target.at_once)
    if waiting and waiting[-1].id <= progress.delivered:
        outbox.told(runtime.journal, target.name, waiting[-1].id)
        return True, ""
    waiting = [event for event in waiting if event.id > progress.delivered]
    if not waiting:
        return False, ""
    count, reason = target.send(waiting, ended)
    if reason:
        if not progress.failures:
            log.warning(
                "hook.failed", hook=target.name, number=waiting[0].id, reason=reason, remedy="attachd retries for a day"
            )
        progress.failures += 1
        if runtime.clock.now() - waiting[0].at < GIVE_UP_SECONDS:
            return False, reason
        log.error("hook.given_up", hook=target.name, number=waiting[0].id, kind=waiting[0].kind, reason=reason)
        count = 1
    elif count:
        if progress.failures:
            log.info("hook.recovered", hook=target.name)
        progress.failures = 0
    if count:
        progress.delivered = waiting[count - 1].id
        outbox.told(runtime.journal, target.name, progress.delivered)
    return bool(count), reason


def targets(runtime: Runtime) -> list[Target]:
    """Return the targets of the configuration."""
    settings = runtime.config.hooks
    wanted = frozenset(settings.events or KINDS)
    found: list[Target] = []
    if settings.url:
        found.append(Webhook(runtime, settings.url, wanted))
    if settings.command:
        found.append(Command(runtime, settings.command, wanted))
    if settings.issue_comment:
        found.append(comment.Comment(runtime))
    return found
