"""Issues that were moved to another key: two keys are one lane only when two answers, some seconds apart, have said so.

Jira answers for the old key with the new one, and so does a cache that mixes two issues up. What counts is Jira's number of the
issue, which no move changes: the old key has to lead to it twice, and the new key too. It is asked again each day and after a
start. The first answer that contradicts it ends it, and the files that wait are sent to the key of their folder again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from attachd.delivery.runtime import Claim, Desk
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
    issue: str


def named(answer: Exchange) -> Named | None:
    """Read which issue an answer is about; None where it does not say both."""
    found = answer.json if isinstance(answer, Reply) and answer.status == 200 else None
    if not isinstance(found, dict):
        return None
    key, issue = attachments.text(found.get("key")), attachments.text(found.get("id"))
    return Named(key, issue) if key and issue else None


def heard(desk: Desk, client: Client, lane: str, said: Named) -> str:
    """Take note that Jira answered for *lane* with another issue's key. Returns why that answer cannot be used yet.

    The second time, the new key is asked too, and then both are one lane.
    """
    boot, claim = desk.clock.boot(), desk.claims.get(lane)
    if claim is None or (claim.key, claim.issue) != (said.key, said.issue):
        desk.claims[lane] = Claim(said.key, said.issue, boot)
        return f"Jira answered with {said.key} when asked for {lane}; it is asked again before that is believed"
    if boot - claim.since < APART_SECONDS:
        return f"Jira answers with {said.key} when asked for {lane}; it is asked again before that is believed"
    answer = desk.site.hear(desk.asked(lambda: client.issue(desk.site.version, said.key)))
    if not said.issue or named(answer) != said:
        return f"Jira answers with {said.key} when asked for {lane}, but {said.key} does not lead to the same issue"
    with desk.journal.transaction() as connection:
        moved_issues.merge_lane(connection, lane, said.key, said.issue, desk.clock.now())
    desk.claims.pop(lane, None)
    desk.bell.ring()
    log.info("issue.moved", issue=lane, now=said.key)
    return f"{lane} was moved to {said.key}"


def are_due(desk: Desk) -> bool:
    """Whether any moved issue is to be asked about; where none is, nobody looks for a while."""
    if _due(desk):
        return True
    desk.recheck_at = desk.clock.boot() + EVERY_SECONDS
    return False


def _due(desk: Desk) -> list[moved_issues.Moved]:
    boot, now = desk.clock.boot(), desk.clock.now()
    with desk.journal.transaction_for_reading() as connection:
        due = moved_issues.moved_before(connection, max(now - TRUSTED_SECONDS, desk.started), now)
    return [each for each in due if boot - desk.rechecked.get(each.asked, -EVERY_SECONDS) >= EVERY_SECONDS]


def recheck(desk: Desk, client: Client, met: Callable[[], bool]) -> bool:
    """Ask about one moved issue whether that still holds, where files wait for it; False where none is due.

    *met*: whether the site is known, be it only now.
    """
    due, now = _due(desk), desk.clock.now()
    if not due:
        return False
    if not met():
        return True
    each = due[0]
    desk.rechecked[each.asked] = desk.clock.boot()
    said = named(desk.site.hear(desk.asked(lambda: client.issue(desk.site.version, each.asked))))
    if said is None:
        return True  # No answer is no contradiction; what was proven holds until Jira says otherwise.
    with desk.journal.transaction() as connection:
        if said.key == each.lane and each.issue in ("", said.issue):
            moved_issues.confirm_moved(connection, each.asked, said.issue, now)
            return True
        files = moved_issues.split_lane(connection, each.asked)
    log.warning("issue.not_moved", issue=each.asked, was=each.lane, now=said.key, files=files)
    return True
