"""Issues that were moved to another key: two keys are one issue only when two answers, some seconds apart, have said so.

Jira answers for the old key with the new one, and so does a cache that mixes two issues up. What counts is Jira's number of the
issue, which no move changes: the old key has to lead to it twice, and the new key too. It is asked again each day and after a
start. The first answer that contradicts it ends it, and the files that wait are sent to the key of their folder again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from attachd.delivery.runtime import Claim, Runtime
from attachd.jira import attachments
from attachd.jira.client import Client
from attachd.jira.reply import Exchange, Reply
from attachd.journal import moved_issues

log = structlog.get_logger()

#: How far apart the two answers are: longer than a cache keeps what is asked for often.
APART_SECONDS = 5.0
#: How often it is asked whether what is known still holds, and how often at the most anything is asked for that.
TRUSTED_SECONDS, EVERY_SECONDS = 86_400.0, 60.0


@dataclass(frozen=True, slots=True)
class Named:
    """The key and the number of the issue that Jira answered with."""

    key: str
    issue_id: str


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
    boot, claim = runtime.clock.boot(), runtime.claims.get(issue)
    if claim is None or (claim.key, claim.issue_id) != (said.key, said.issue_id):
        runtime.claims[issue] = Claim(said.key, said.issue_id, boot)
        return f"Jira answered with {said.key} when asked for {issue}; it is asked again before that is believed"
    if boot - claim.since < APART_SECONDS:
        return f"Jira answers with {said.key} when asked for {issue}; it is asked again before that is believed"
    answer = runtime.site.hear(runtime.ask(lambda: client.issue(runtime.site.version, said.key)))
    if not said.issue_id or named(answer) != said:
        return f"Jira answers with {said.key} when asked for {issue}, but {said.key} does not lead to the same issue"
    with runtime.journal.transaction() as connection:
        moved_issues.merge_issue(connection, issue, said.key, said.issue_id, runtime.clock.now())
    runtime.claims.pop(issue, None)
    runtime.bell.ring()
    log.info("issue.moved", issue=issue, now=said.key)
    return f"{issue} was moved to {said.key}"


def are_due(runtime: Runtime) -> bool:
    """Whether any moved issue is to be asked about; where none is, nobody looks for a while."""
    if _due(runtime):
        return True
    runtime.recheck_at = runtime.clock.boot() + EVERY_SECONDS
    return False


def _due(runtime: Runtime) -> list[moved_issues.Moved]:
    boot, now = runtime.clock.boot(), runtime.clock.now()
    with runtime.journal.transaction_for_reading() as connection:
        due = moved_issues.moved_before(connection, max(now - TRUSTED_SECONDS, runtime.started), now)
    return [each for each in due if boot - runtime.rechecked.get(each.folder_key, -EVERY_SECONDS) >= EVERY_SECONDS]


def recheck(runtime: Runtime, client: Client, met: Callable[[], bool]) -> bool:
    """Ask about one moved issue whether that still holds, where files wait for it; False where none is due.

    *met*: whether the site is known, be it only now.
    """
    due, now = _due(runtime), runtime.clock.now()
    if not due:
        return False
    if not met():
        return True
    each = due[0]
    runtime.rechecked[each.folder_key] = runtime.clock.boot()
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
