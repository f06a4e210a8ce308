"""403 and 404: whose fault is it? Only a verdict about this file or this issue may move a file to failed.

A token that expired looks like "issue does not exist" on Jira Cloud, where most calls may be made anonymously. So a
refusal is believed only with a live account and a witness: an issue that accepted a file of ours and is still visible.
Without one it is *held*: the file stays in the inbox, and ``why`` says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from attachd.delivery import meeting, outcome, pausing, policy, recording
from attachd.delivery import site as site_
from attachd.delivery.desk import Desk
from attachd.jira import verdict
from attachd.jira.client import Client
from attachd.jira.exchange import Broken, Exchange, Reply
from attachd.journal import queue, rows
from attachd.journal.rows import Row
from attachd.model import Cure, Fault, Scope, printable

log = structlog.get_logger()

#: How long an issue that accepted a file counts as a witness.
WITNESS_SECONDS = 30 * 86400.0
#: How many witnesses are asked.
WITNESSES = 3
#: Held refusals of different issues that blow the fuse.
FUSE = 3
#: When a witness is asked again that did not answer.
ASK_AGAIN_SECONDS = 30.0
#: A 403 without anything that speaks against the account is tried hourly, and believed after a day.
FORBIDDEN_EVERY_SECONDS, FORBIDDEN_SECONDS = 3600.0, 86400.0


def account_fault(desk: Desk, client: Client) -> Fault | None:
    """Ask who we are; None while the account is alive (or anonymous, which nothing can prove)."""
    if desk.credentials.anonymous:
        return None
    found = site_.who(desk.site.hear(policy.asked(lambda: client.myself(desk.site.version), desk.stopping)))
    return found if isinstance(found, Fault) else None


def of_listing(desk: Desk, client: Client, answer: Exchange) -> tuple[str, Fault | None, bool]:
    """Say why a listing is unusable, what is wrong with the world, and whether Jira does not show us the issue."""
    if isinstance(answer, Broken):
        return answer.error, verdict.unreachable(answer), False
    if answer.status in (403, 404) and answer.is_jira:
        reason = f"Jira does not show the issue ({answer.status}: {'; '.join(answer.words)})"
        return reason, account_fault(desk, client), True
    if answer.status == 200 and answer.json is not None:
        return "Jira's answer does not list the attachments", None, False
    return f"Jira answered {answer.status}", site_.not_jira(answer), False


def settle(desk: Desk, client: Client, contested: Row, generation: int | None = None) -> None:
    """Find out at once whom a 403 or 404 concerns; what cannot be known yet is held.

    *generation* is that of the credentials before it was sent. If they are others now, the account that is alive is not
    the one that was refused: an access token may have ended on the way.
    """
    generation = desk.credentials.generation if generation is None else generation
    fault = account_fault(desk, client)
    if fault is not None:
        _forget(desk, contested)
        pausing.pause(desk, fault)
        return
    if desk.credentials.generation != generation:
        _forget(desk, contested)
        return
    if _proven(desk, contested):
        _believe(desk, [contested], _NOT_TO_THIS_ONE.format(contested.reason))
        return
    with desk.journal.transaction() as connection:
        accepted = queue.accepted_before(connection, desk.site.url, contested.lane)
    if contested.contested == 403 or accepted:
        _hold_for_a_day(desk, contested, alone=accepted and contested.contested == 404)
        return
    limits = None if desk.site.cloud else meeting.limits(desk, client, fresh=True)
    if limits and limits.largest and contested.size > limits.largest:
        _believe(desk, [contested], f"it is larger than the {limits.largest} bytes that Jira allows")
        return
    with desk.journal.transaction() as connection:
        known = _order(
            queue.witnesses(connection, desk.site.url, desk.clock.now() - WITNESS_SECONDS, contested.lane),
            contested.lane,
        )
    _hear_witnesses(desk, client, contested, known)


def _order(lanes: Sequence[str], lane: str) -> list[str]:
    """Witnesses from other projects first: a role lost on one project speaks about that project alone."""
    own = pausing.project(lane)
    return sorted(lanes, key=lambda witness: pausing.project(witness) == own)[:WITNESSES]


def _hear_witnesses(desk: Desk, client: Client, contested: Row, known: Sequence[str]) -> None:
    for witness in known:
        answer = desk.site.hear(policy.asked(lambda key=witness: client.listing(desk.site.version, key), desk.stopping))  # type: ignore[misc]
        if isinstance(answer, Broken):
            _forget(desk, contested)
            pausing.pause(desk, verdict.unreachable(answer))
            return
        if answer.status not in (200, 403, 404):
            _ask_again(desk, contested)
            return
        if _visible(answer):
            _believe(desk, [contested], _UNKNOWN.format(contested.reason))
            return
    if len(known) >= 2:
        _forget(desk, contested)
        reason = f"none of the issues that accepted files ({', '.join(known)}) can be seen any more; the account lost its rights"
        pausing.pause(desk, Fault(Scope.ACCOUNT, "no-witness", reason, cure=Cure.PROBE, wait=60))
        return
    _hold(desk, contested)


def _ask_again(desk: Desk, contested: Row) -> None:
    """A witness could not be heard: nothing is concluded from that."""
    now = desk.clock.now()
    with desk.journal.transaction() as connection:
        rows.change_if_same(connection, contested, {"due": now + ASK_AGAIN_SECONDS, "wait": ASK_AGAIN_SECONDS})


def _visible(answer: Reply) -> bool:
    return answer.status == 200 and isinstance(answer.json, dict)


_NOT_CONTESTED = {"contested": None, "contested_at": None, "held": 0, "due": 0, "wait": 0}


def _forget(desk: Desk, contested: Row) -> None:
    """The answer said nothing about this file: it is sent again when the world is well."""
    with desk.journal.transaction() as connection:
        rows.change_if_same(connection, contested, _NOT_CONTESTED)


def _believe(desk: Desk, contested: Sequence[Row], reason: str) -> None:
    now = desk.clock.now()
    with desk.journal.transaction() as connection:
        believed = [
            row
            for row in contested
            if rows.change_if_same(connection, row, outcome.refused(reason, now, may_be_attached=row.ever_doubtful))
        ]
        written = [rows.one(connection, row.id) for row in believed]
    for row in written:
        recording.tell(row)


def _hold(desk: Desk, contested: Row) -> None:
    """No witness speaks for the account: the refusal waits for one, or for ``fuse.hold_minutes``."""
    wait = desk.config.fuse.hold_minutes * 60.0
    now = desk.clock.now()
    with desk.journal.transaction() as connection:
        rows.change_if_same(connection, contested, {"held": 1, "due": now + wait, "wait": wait})
    log.warning(
        "file.held",
        id=contested.ident,
        issue=contested.lane,
        file=printable(contested.path),
        reason=contested.reason,
        seconds=wait,
    )


def _hold_for_a_day(desk: Desk, contested: Row, *, alone: bool) -> None:
    """A role may have been lost: the project (*alone*: the issue) pauses, is tried hourly, and is believed after a day.

    A 403 is believed at once when another issue of the project has accepted a file after it, unless this issue itself
    had accepted one before.
    """
    now = desk.clock.now()
    if now - (contested.contested_at or now) >= FORBIDDEN_SECONDS:
        _believe(desk, [contested], f"Jira has refused it for a day ({contested.reason})")
        return
    with desk.journal.transaction() as connection:
        values = {"held": 1, "due": now + FORBIDDEN_EVERY_SECONDS, "wait": FORBIDDEN_EVERY_SECONDS}
        rows.change_if_same(connection, contested, values)
    project = pausing.project(contested.lane)
    if alone:
        reason = f"{contested.lane} accepted files before, and does not any more ({contested.reason})"
        pausing.pause(desk, Fault(Scope.ISSUE, "refused", reason, contested.lane, FORBIDDEN_EVERY_SECONDS))
    else:
        reason = f"Jira does not let us attach files in project {project} ({contested.reason})"
        pausing.pause(desk, Fault(Scope.PROJECT, "forbidden", reason, project, FORBIDDEN_EVERY_SECONDS))


def review(desk: Desk) -> bool:
    """Decide about held refusals whose time has come, or that something has proven; True if anything was decided."""
    with desk.journal.transaction() as connection:
        held = queue.contested(connection, held=True)
    if not held:
        return False
    by_day = [row for row in held if _is_by_day(desk, row)]
    decided = [_review_by_day(desk, row) for row in by_day]
    return any([*decided, _review_unknown(desk, [row for row in held if row not in by_day])])


def _is_by_day(desk: Desk, row: Row) -> bool:
    with desk.journal.transaction() as connection:
        return row.contested == 403 or queue.accepted_before(connection, desk.site.url, row.lane)


def _review_by_day(desk: Desk, row: Row) -> bool:
    """Believe a 403 when another issue of the project accepted a file since; else let it be tried when its hour is over."""
    now = desk.clock.now()
    if _proven(desk, row):
        _believe(desk, [row], _NOT_TO_THIS_ONE.format(row.reason))
        return True
    if row.due > now:
        return False
    with desk.journal.transaction() as connection:
        rows.change_if_same(connection, row, {"contested": None, "held": 0, "due": 0, "wait": 0})
    return True


_UNKNOWN = (
    "Jira does not know the issue or does not show it to us ({}); "
    "move the file into the right issue's folder, or have the account's rights checked"
)
_NOT_TO_THIS_ONE = (
    "Jira lets us attach files to other issues of the project, and not to this one ({}); have the rights on it checked"
)


def _proven(desk: Desk, row: Row) -> bool:
    """Whether another issue of the project has accepted a file since Jira's first 403 for this one."""
    if row.contested != 403 or row.contested_at is None:
        return False
    like = pausing.project(row.lane).replace("_", "!_") + "-%"
    with desk.journal.transaction() as connection:
        before = queue.accepted_before(connection, desk.site.url, row.lane)
        return not before and queue.accepted_after(connection, row.contested_at, like)


def _review_unknown(desk: Desk, held: Sequence[Row]) -> bool:
    """Any success since the refusal proves that the account is well. Otherwise it is believed after ``fuse.hold_minutes``,
    unless so many issues are held by then that the fault is more likely ours: then the fuse is blown, and a person decides.
    """
    now = desk.clock.now()
    with desk.journal.transaction() as connection:
        proven = [row for row in held if queue.accepted_after(connection, row.contested_at or now)]
    due = [row for row in held if row.due <= now and row not in proven]
    blown = len({row.lane for row in held}) >= FUSE
    believed = proven if blown else proven + due
    for row in believed:
        _believe(desk, [row], _UNKNOWN.format(row.reason))
    if due and blown:
        _blow_fuse(desk, due)
    return bool(believed)


def _blow_fuse(desk: Desk, due: Sequence[Row]) -> None:
    now, wait = desk.clock.now(), desk.config.fuse.hold_minutes * 60.0
    with desk.journal.transaction() as connection:
        for row in due:
            rows.change_if_same(connection, row, {"due": now + wait, "wait": wait})
    lanes = sorted({row.lane for row in due})
    log.error(
        "fuse.blown", issues=lanes, remedy="look at the account's rights; when any file is accepted, these are believed"
    )
