"""Tells others what happened: a webhook, a command, a comment on the issue. Each in a thread that nothing ever waits for.

Each target is told one event after the other, again and again until it takes it or a day is over; what happened while it, or
attachd, was down it is told later. Who gets an event twice, because the answer to the first was lost, knows it by its id.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from attachd import errors
from attachd.config import validators
from attachd.delivery import backoff
from attachd.delivery.runtime import Runtime
from attachd.hooks import comment
from attachd.hooks.command import Command
from attachd.hooks.webhook import Webhook
from attachd.journal import outbox
from attachd.journal.outbox import Event

log = structlog.get_logger()

#: What hooks can be told of.
KINDS = validators.EVENTS
#: How often it is looked whether something happened, in seconds.
LOOK_SECONDS = 2.0
#: When an event is given up that its target does not take.
GIVE_UP_SECONDS = 86_400.0
#: At the end of the process the targets may still be told what they have not been told, for so long, in seconds.
LAST_SECONDS = 10.0


class Target(Protocol):
    """Someone who is told. ``tell`` returns how many of the events are told now, from the first on, and why no more are."""

    @property
    def name(self) -> str:
        """What the journal knows it by."""
        ...

    @property
    def at_once(self) -> int:
        """How many events it can be told together."""
        ...

    def tell(self, waiting: Sequence[Event], ended: threading.Event) -> tuple[int, str]:
        """Tell these, or the first of them; 0 and a reason where that failed, 0 and "" to be asked again later."""
        ...


class Hooks:
    """The threads of all targets."""

    def __init__(self, runtime: Runtime, targets: Sequence[Target]) -> None:
        """Have events written for these targets from now on, and for no others."""
        self._runtime = runtime
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._loop, args=(each,), name=f"hook-{each.name}", daemon=True) for each in targets
        ]
        outbox.begin(runtime.journal, [each.name for each in targets])

    def start(self) -> None:
        """Begin to tell."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Tell what is left, within ``LAST_SECONDS``; what a target does not take by then it is told by the next process."""
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
                return  # The end: nobody reads the journal any more.
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
    """How often in a row it failed, and the last event that was told, also where the journal's disk does not take that down."""

    failures: int = 0
    told: int = 0


def wait_after(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return backoff.file_wait(failures) if failures else LOOK_SECONDS


def step(runtime: Runtime, target: Target, progress: Progress, ended: threading.Event) -> tuple[bool, str]:
    """Tell what comes next; whether anything was told, and why it failed. A failure is logged once, and the end of it."""
    waiting = outbox.after(runtime.journal, target.name, target.at_once)
    if waiting and waiting[-1].id <= progress.told:
        outbox.told(runtime.journal, target.name, waiting[-1].id)
        return True, ""
    waiting = [event for event in waiting if event.id > progress.told]
    if not waiting:
        return False, ""
    told, reason = target.tell(waiting, ended)
    if reason:
        if not progress.failures:
            log.warning(
                "hook.failed", hook=target.name, number=waiting[0].id, reason=reason, remedy="it is tried again"
            )
        progress.failures += 1
        if runtime.clock.now() - waiting[0].at < GIVE_UP_SECONDS:
            return False, reason
        log.error("hook.given_up", hook=target.name, number=waiting[0].id, kind=waiting[0].kind, reason=reason)
        told = 1
    elif told:
        if progress.failures:
            log.info("hook.recovered", hook=target.name)
        progress.failures = 0
    if told:
        progress.told = waiting[told - 1].id
        outbox.told(runtime.journal, target.name, progress.told)
    return bool(told), reason


def targets(runtime: Runtime) -> list[Target]:
    """Who is told, by the configuration."""
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
