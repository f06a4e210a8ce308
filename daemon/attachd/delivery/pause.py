"""Faults become pauses. Pauses end by time, by a probe that succeeds, by an accepted file, or by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from attachd.delivery import backoff
from attachd.delivery.runtime import Runtime
from attachd.jira import auth
from attachd.journal import outbox, pauses
from attachd.journal.pauses import Pause
from attachd.logger import get_logger
from attachd.model import Cure, Fault, Scope

log = get_logger()


#: Kinds of pauses whose every try feeds the CAPTCHA counter of an account that people share: tried once after ten
#: minutes, then hourly, or when the secret changes.
LOCKING = frozenset({"captcha", "password"})
LOCKING_FIRST_SECONDS, LOCKING_SECONDS = 600.0, 3600.0


@dataclass(frozen=True, slots=True)
class Gate:
    """What the pauses of this moment let through."""

    uploads: bool
    looks: bool
    issues: frozenset[str]
    projects: frozenset[str]

    def lets(self, issue: str) -> bool:
        """Return True if a file of this issue may be sent."""
        return self.uploads and issue not in self.issues and pauses.project(issue) not in self.projects


def gate(found: Sequence[Pause], now: float) -> Gate:
    """Say what may be sent, and whether issues may be looked at. Pure."""
    active = [pause for pause in found if pause.holds(now)]
    wide = {pause.scope for pause in active if not pause.subject}
    looks = not wide & {Scope.SITE, Scope.ACCOUNT}
    by_hand = {p.subject for p in active if p.scope is Scope.OPERATOR and p.subject}
    return Gate(
        uploads=looks and not wide & {Scope.ENDPOINT, Scope.OPERATOR},
        looks=looks,
        issues=frozenset({p.subject for p in active if p.scope is Scope.ISSUE} | by_hand),
        projects=frozenset(p.subject for p in active if p.scope is Scope.PROJECT),
    )


def extended(earlier: Pause | None, fault: Fault, now: float) -> Pause:
    """The pause that a fault makes: longer each time in a row, at least what Jira asked for, probed at least every 2 h."""
    times = earlier.times + 1 if earlier and earlier.kind == fault.kind else 1
    wait = backoff.growing(fault.kind, times)
    if fault.kind in LOCKING:
        wait = LOCKING_FIRST_SECONDS if times == 1 else LOCKING_SECONDS
    elif fault.wait is not None:
        wait = max(fault.wait, 1.0) + backoff.growing("rate-limit", 1) / 4
    wait = min(wait, backoff.LONGEST_SECONDS)
    since = earlier.since if earlier and goes_on(earlier, fault.kind, now) else now
    told = earlier.told if earlier else 0.0
    return Pause(fault.scope, fault.subject, fault.kind, fault.reason, fault.cure, since, now + wait, wait, times, told)


def goes_on(earlier: Pause, kind: str, now: float) -> bool:
    """Return True if trouble of *kind* is still the *earlier* one: while that holds, or for as long again after its end."""
    return earlier.holds(now) or (earlier.kind == kind and now < earlier.until + earlier.wait)


def lasted(runtime: Runtime, fault: Fault) -> float:
    """Return for how many seconds this trouble has lasted; 0 if it is new."""
    earlier, now = _earlier(runtime, fault), runtime.clock.now()
    return now - earlier.since if earlier and earlier.kind == fault.kind and goes_on(earlier, fault.kind, now) else 0.0


def prolong(runtime: Runtime, fault: Fault) -> None:
    """The trouble was met again and holds nothing up: it is remembered for another while."""
    earlier = _earlier(runtime, fault)
    if earlier is not None and earlier.kind == fault.kind:
        with runtime.journal.transaction() as connection:
            pauses.put(connection, replace(earlier, until=runtime.clock.now()))


def _earlier(runtime: Runtime, fault: Fault) -> Pause | None:
    with runtime.journal.transaction_for_reading() as connection:
        return pauses.find(connection, fault.scope, fault.subject)


def pause(runtime: Runtime, fault: Fault) -> None:
    """Pause what the fault affects. A cause is logged once while it lasts."""
    fault = _explained(runtime, fault)
    now = runtime.clock.now()
    with runtime.journal.transaction() as connection:
        earlier = pauses.find(connection, fault.scope, fault.subject)
        if earlier and earlier.cure is Cure.HAND and fault.cure is not Cure.HAND:
            return
        made = extended(earlier, fault, now)
        fresh = earlier is None or earlier.kind != made.kind or made.times == 1
        pauses.put(connection, replace(made, told=now) if fresh or earlier is None else made)
        if fresh:
            outbox.put_pause(connection, "paused", made, now)
    if fresh:
        log.warning(
            "delivery.paused",
            scope=made.scope,
            subject=made.subject,
            kind=made.kind,
            reason=made.reason,
            seconds=round(made.wait, 1),
        )


def _explained(runtime: Runtime, fault: Fault) -> Fault:
    """A refused account: whether each try feeds a counter, and at which address the token may be good all the same."""
    if fault.scope is not Scope.ACCOUNT or fault.kind != "refused":
        return fault
    if _is_password(runtime):
        return replace(fault, kind="password")
    jira = runtime.config.jira
    if not auth.may_be_needed(jira.url, jira.auth.kind):
        return fault
    where = f"{auth.ADDRESS}CLOUD-ID"
    return replace(fault, reason=f"{fault.reason}. {auth.hint(jira.auth.kind, where)} (`attachd check` shows it)")


def relieve(connection: sqlite3.Connection, issue: str, began: float, now: float) -> list[Pause]:
    """End the pauses of *issue*: Jira accepted a file of it that was sent after *began*.

    But what went wrong while it was under way still is, and what Jira asked us to wait is waited. Returns what ended.
    """
    over = {
        (Scope.SITE, ""),
        (Scope.ACCOUNT, ""),
        (Scope.ENDPOINT, ""),
        (Scope.ISSUE, issue),
        (Scope.PROJECT, pauses.project(issue)),
    }
    known = [p for p in pauses.read(connection) if (p.scope, p.subject) in over and p.cure is not Cure.HAND]
    ended = [p for p in known if p.until == 0.0 or p.until - p.wait < began - 0.001]
    for each in ended:
        pauses.drop(connection, each.scope, each.subject, now)
        if _is_told(each):
            outbox.put_pause(connection, "resumed", each, now)
    return ended


def _is_told(ended: Pause) -> bool:
    """Return True if the end is to be reported. The end of a pause that a probe opened was reported then."""
    return bool(ended.until) or ended.cure is Cure.PROBE


def tell_ended(runtime: Runtime, ended: Sequence[Pause]) -> None:
    """Say once that what was paused goes on."""
    if ended:
        runtime.wakeup.notify()
    for each in ended:
        if _is_told(each):
            log.info("delivery.resumed", scope=each.scope, subject=each.subject, kind=each.kind)


def may_be_due(known: Sequence[Pause], now: float) -> bool:
    """Return True if a probe is due, or would be if the token was changed, which ``due_probe`` finds out. Pure."""
    return any(p.cure is Cure.PROBE and (p.until <= now or p.scope is Scope.ACCOUNT) for p in known)


def due_probe(runtime: Runtime) -> Pause | None:
    """Return the pause that is to be probed now, or None: its time has come, or the token was changed.

    For one worker at a time: a change of the token is noticed once.
    """
    now = runtime.clock.now()
    waiting = [p for p in _read(runtime) if p.cure is Cure.PROBE]
    for each in waiting:
        if each.until <= now or (each.scope is Scope.ACCOUNT and runtime.secret_changed()):
            return each
    return None


def probe_at_start(runtime: Runtime) -> None:
    """A new process probes at once what an earlier one was waiting for: the cause may be gone.

    Not where each try feeds the CAPTCHA counter of a shared account, and not what Jira gave a time for.
    """
    with runtime.journal.transaction() as connection:
        for each in pauses.read(connection):
            if each.cure is Cure.PROBE and each.kind not in LOCKING:
                pauses.put(connection, replace(each, until=0.0))


def _is_password(runtime: Runtime) -> bool:
    """Return True for basic authentication outside Cloud: a password, perhaps of a person. A refused token locks no account."""
    return runtime.config.jira.auth.kind == "basic" and runtime.site.version == "2"


def open_for_a_try(runtime: Runtime, held: Pause) -> None:
    """The probe succeeded: uploads are let through again, but only an accepted one makes it forgotten."""
    with runtime.journal.transaction() as connection:
        pauses.ended(connection, held, runtime.clock.now())
        pauses.put(connection, replace(held, cure=Cure.TIME, until=0.0))
        outbox.put_pause(connection, "resumed", held, runtime.clock.now())
    tell_ended(runtime, [held])


def current(runtime: Runtime) -> Gate:
    """The gate as it is now."""
    return gate(_read(runtime), runtime.clock.now())


def left(runtime: Runtime, scope: Scope) -> float:
    """Return how many seconds are left of the pause of a whole *scope*; 0 if there is none."""
    with runtime.journal.transaction_for_reading() as connection:
        held = pauses.find(connection, scope)
    return max(0.0, held.until - runtime.clock.now()) if held else 0.0


def _read(runtime: Runtime) -> list[Pause]:
    with runtime.journal.transaction_for_reading() as connection:
        return pauses.read(connection)
