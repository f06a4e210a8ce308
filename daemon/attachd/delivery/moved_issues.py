"""Issues that were moved to another key: two keys are one issue only when two answers, some seconds apart, have said so.

Jira answers for the old key with the new one, and so does a cache that mixes two issues up. What counts is Jira's number of the
issue, which no move changes: the old key has to lead to it twice, and the new key too. It is asked again each day and after a
start. The first answer that contradicts it ends it, and the files that wait are sent to the key of their folder again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from attachd.delivery.runtime import Runtime
from attachd.jira import attachments
from attachd.jira.client import Client
from attachd.jira.reply import Exchange, Reply
from attachd.journal import moved_issues
from attachd.logger import get_logger

log = get_logger()

#: How far apart the two answers are: longer than a cache keeps what is asked for often.
APART_SECONDS = 5.0
#: How often attachd asks whether what it knows still holds, and how often at most it asks anything for that.
TRUSTED_SECONDS, EVERY_SECONDS = 86_400.0, 60.0


@dataclass(frozen=True, slots=True)
class Named:
    """The key and the number of the issue that Jira answered with."""

    key: str
    issue_id: str


@dataclass(frozen=True, slots=True)
class Claim:
    """One answer said that an issue has another key; *since* is when (CLOCK_BOOTTIME)."""

    key: str
    issue_id: str
    since: float


@dataclass(slots=True)
class _Asked:
    """What Jira said of moved issues, and when it was asked (CLOCK_BOOTTIME).

    ``claims`` are issues that one answer called moved. ``rechecked`` is when each moved one was last asked about, and
    ``recheck_at`` when the next one is.
    """

    claims: dict[str, Claim] = field(default_factory=dict)
    rechecked: dict[str, float] = field(default_factory=dict)
    recheck_at: float = 0.0


def named(answer: Exchange) -> Named | None:
    """Read which issue an answer is about; None where it does not say both."""
    found = answer.json if isinstance(answer, Reply) and answer.status == 200 else None
    if not isinstance(found, dict):
        return None
    key, issue_id = attachments.text(found.get("key")), attachments.text(found.get("id"))
    return Named(key, issue_id) if key and issue_id else None


def heard(runtime: Runtime, client: Client, issue: str, said: Named) -> str:
    """Take note that Jira answered for *issue* with another issue's key. Returns why that answer cannot be used yet.

    The second time, the new key is asked too, and then both are one issue.
    """
    boot, claims = runtime.clock.boot(), runtime.memory(_Asked).claims
    claim = claims.get(issue)
    if claim is None or (claim.key, claim.issue_id) != (said.key, said.issue_id):
        claims[issue] = Claim(said.key, said.issue_id, boot)
        return f"Jira answered with {said.key} when asked for {issue}. attachd asks again before it believes that"
    if boot - claim.since < APART_SECONDS:
        return f"Jira answers with {said.key} when asked for {issue}. attachd asks again before it believes that"
    answer = runtime.site.hear(runtime.ask(lambda: client.issue(runtime.site.version, said.key)))
    if not said.issue_id or named(answer) != said:
        return f"Jira answers with {said.key} when asked for {issue}, but {said.key} is another issue"
    with runtime.journal.transaction() as connection:
        moved_issues.merge_issue(connection, issue, said.key, said.issue_id, runtime.clock.now())
    claims.pop(issue, None)
    runtime.wakeup.notify()
    log.info("issue.moved", issue=issue, now=said.key)
    return f"{issue} was moved to {said.key}"


def are_due(runtime: Runtime, connection: sqlite3.Connection) -> bool:
    """Return True if it is time to ask about a moved issue. Where it is not, no worker looks for a while."""
    asked = runtime.memory(_Asked)
    if runtime.clock.boot() < asked.recheck_at:
        return False
    if _due(runtime, connection):
        return True
    asked.recheck_at = runtime.clock.boot() + EVERY_SECONDS
    return False


def _due(runtime: Runtime, connection: sqlite3.Connection) -> list[moved_issues.Moved]:
    boot, now = runtime.clock.boot(), runtime.clock.now()
    due = moved_issues.moved_before(connection, max(now - TRUSTED_SECONDS, runtime.started), now)
    rechecked = runtime.memory(_Asked).rechecked
    return [each for each in due if boot - rechecked.get(each.folder_key, -EVERY_SECONDS) >= EVERY_SECONDS]


def recheck(runtime: Runtime, client: Client, met: Callable[[], bool]) -> bool:
    """Ask about one moved issue whether that still holds, where files wait for it; False where none is due.

    *met* gets to know the site first where it is not known; False if it cannot.
    """
    now = runtime.clock.now()
    with runtime.journal.transaction_for_reading() as connection:
        due = _due(runtime, connection)
    if not due:
        return False
    if not met():
        return True
    each = due[0]
    runtime.memory(_Asked).rechecked[each.folder_key] = runtime.clock.boot()
    said = named(runtime.site.hear(runtime.ask(lambda: client.issue(runtime.site.version, each.folder_key))))
    if said is None:
        return True  # No answer is no contradiction; what was proven holds until Jira says otherwise.
    with runtime.journal.transaction() as connection:
        if said.key == each.issue and each.issue_id in ("", said.issue_id):
            moved_issues.confirm_moved(connection, each.folder_key, said.issue_id, now)
            return True
        files = moved_issues.split_issue(connection, each.folder_key)
    log.warning("issue.not_moved", issue=each.folder_key, was=each.issue, now=said.key, files=files)
    return True
