"""Witnesses: issues that accepted a file of ours. One that is still visible shows that the account is what it was."""

from __future__ import annotations

from collections.abc import Sequence

from attachd.delivery.desk import Desk
from attachd.jira.client import Client
from attachd.jira.reply import Exchange, Reply
from attachd.journal import pauses, queue

#: How long an issue that accepted a file counts as a witness.
WITNESS_SECONDS = 30 * 86400.0
#: How long it counts that one could not be seen; one wrong answer takes no witness away for good.
STRUCK_SECONDS = 86400.0
#: How many are asked.
WITNESSES = 3


def known(desk: Desk, lane: str = "") -> list[str]:
    """Those to be asked about *lane*: from other projects first, for a lost role speaks about its project alone."""
    now = desk.clock.now()
    with desk.journal.transaction() as connection:
        found = queue.witnesses(connection, desk.site.url, now - WITNESS_SECONDS, lane, now - STRUCK_SECONDS)
    return chosen(found, lane)


def chosen(lanes: Sequence[str], lane: str) -> list[str]:
    """The first few, those of the own project last. Pure."""
    own = pauses.project(lane)
    return sorted(lanes, key=lambda witness: pauses.project(witness) == own)[:WITNESSES]


def ask(desk: Desk, client: Client, lane: str) -> Exchange:
    """Whether an issue is there: its listing."""
    return desk.site.hear(desk.asked(lambda: client.listing(desk.site.version or "2", lane)))


def visible(answer: Exchange) -> bool:
    """Whether Jira showed the issue."""
    return isinstance(answer, Reply) and answer.status == 200 and isinstance(answer.json, dict)


def strike(desk: Desk, lanes: Sequence[str]) -> None:
    """These cannot be seen any more: no witnesses for a day, or until they accept a file again."""
    now = desk.clock.now()
    with desk.journal.transaction() as connection:
        for lane in lanes:
            queue.strike(connection, lane, now)


def alive(desk: Desk, client: Client) -> bool | None:
    """Whether a witness, or where there is none the oldest waiting issue, is visible; None where none can be asked."""
    lanes = known(desk)
    if not lanes:
        with desk.journal.transaction() as connection:
            lanes = queue.oldest_lane(connection)
    return any(visible(ask(desk, client, lane)) for lane in lanes) if lanes else None
