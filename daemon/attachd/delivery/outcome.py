"""Which state follows which answer: pure functions from a row and a fate, or a look, to the columns that change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from attachd.delivery import backoff
from attachd.journal.rows import Proof, Row
from attachd.model import Contested, Fate, Fault, InDoubt, Misstored, NotDelivered, Refused, State, Stored

Values = dict[str, Any]

#: Rounds of doubt of one file alone, each with another file accepted meanwhile, after which a person must look.
ROUNDS = 3
#: Rounds that end in a 200 that proves nothing.
NONSENSE_ROUNDS = 2
#: When a second answer is asked for.
SOON_SECONDS = 5.0
PERSON = "Look at the issue: the file may be attached. To send it again, move it back into its folder"


@dataclass(frozen=True, slots=True)
class Doubts:
    """How long and how often is looked for what is in doubt."""

    looks_seconds: Sequence[float]
    give_up_seconds: float


def after(row: Row, fate: Fate, now: float, doubts: Doubts, *, alone: bool = True) -> Values:
    """What becomes of a row that was SENDING, *alone* in its request or not."""
    match fate:
        case Stored():
            return attached(fate, now)
        case Misstored():
            return refused(row, fate.reason, now) | {"attachment": fate.attachment, "stored_as": fate.name}
        case Refused():
            return refused(row, fate.reason, now)
        case Contested():
            refusal = {"contested": fate.status, "contested_at": row.contested_at or now, "proof": Proof.NONE}
            return back(row, now) | refusal | {"reason": fate.reason}
        case NotDelivered():
            return back(row, now) | {"reason": fate.reason}
        case InDoubt():
            return doubtful(row, fate, now, doubts, alone=alone)
        case _:
            assert_never(fate)


def attached(fate: Stored, now: float, *, ground: str | None = None) -> Values:
    """Jira holds it. *ground*: on what an attachment is credited to it that no answer named."""
    return {
        "ground": ground,
        "state": State.ATTACHED,
        "since": now,
        "verdict_at": now,
        "attachment": fate.attachment,
        "stored_as": fate.name,
        "reason": fate.remark or None,
        "blocked": None,
        "contested": None,
        "due": 0,
        "wait": 0,
    }


def refused(row: Row, reason: str, now: float) -> Values:
    """A verdict about this file or its issue. What was ever in doubt may be attached, whatever the last attempt came to."""
    values: Values = {"state": State.REFUSED, "since": now, "verdict_at": now, "reason": reason}
    uncertain = {"may_be_attached": int(row.ever_doubtful)}
    return values | uncertain | {"blocked": None, "contested": None, "due": 0, "wait": 0}


def back(row: Row, now: float) -> Values:
    """It was not delivered: it waits for the next attempt, or is withdrawn if its content is gone from the path."""
    if not row.at_path:
        return {"state": State.READY, "since": now}
    return {"state": State.READY, "since": now, "due": now + 1.0, "wait": 1.0}


def ask_a_person(row: Row, candidates: Sequence[str], now: float) -> Values:
    """These attachments may be the file, and only a person can tell."""
    which = f"attachment {', '.join(candidates)}" if candidates else "an attachment of the issue"
    return refused(row, f"{which} may be this file. {PERSON}", now) | told(candidates)


def told(candidates: Sequence[str]) -> Values:
    """Which attachments a person is asked to look at: moving the file back then says that none of them is it."""
    return {"candidates": " ".join(candidates) or None}


#: Faults of one file's uploads, with others accepted in between, after which it is the file that something declines.
FAULTS = 3


def behind_others(row: Row, fault: Fault, now: float, *, others_accepted: bool) -> Values:
    """Its upload met a fault that may be its own: other files are tried before it, so that one file never stops all.

    *others_accepted* since the last such fault: then it is the only one, and waits alone, longer each time.
    """
    alone = row.fault_attempt is None or others_accepted
    faults = row.site_faults + int(alone)
    if faults >= FAULTS and others_accepted and fault.kind in ("proxy", "network", "server-error"):
        whose = "it failed with this one" if fault.kind == "server-error" else "a proxy in front of it refused this one"
        return refused(row, f"Jira accepts other files, but {whose} {faults} times: {fault.reason}", now)
    values: Values = {"site_faults": faults, "fault_attempt": row.attempt}
    if faults > 1:
        wait = backoff.file_wait(faults)
        values |= {"due": now + wait, "wait": wait}
    return values


def doubtful(row: Row, fate: InDoubt, now: float, doubts: Doubts, *, alone: bool) -> Values:
    """It may have been stored: the first doubtful attempt is remembered for as long as the row lives."""
    wait = 0.0 if fate.brief else doubts.looks_seconds[0]
    return {
        "state": State.DOUBTFUL,
        "since": now,
        "reason": fate.reason,
        "doubt_attempt": row.doubt_attempt if row.ever_doubtful else row.attempt,
        "doubt_at": row.doubt_at if row.ever_doubtful else row.sent_at,
        "doubt_slack": row.doubt_slack if row.ever_doubtful else row.sent_slack,
        "looks": 0,
        "brief": int(fate.brief),
        "share": fate.share,
        "rounds": row.rounds + int(alone and not fate.brief),
        "nonsense": row.nonsense + int(fate.nonsense),
        "blind_since": None,
        "due": now + wait,
        "wait": wait,
    }


def orphaned(row: Row, now: float, doubts: Doubts) -> Values:
    """A process died while sending it. Without a checksum it was never complete on the wire."""
    if row.sha256 is None:
        return back(row, now) | {"reason": "attachd was stopped before the upload was complete"}
    fate = InDoubt("attachd was stopped before Jira answered")
    return doubtful(row, fate, now, doubts, alone=False)


def _looks(row: Row, doubts: Doubts) -> Sequence[float]:
    """When this round's looks are made, in seconds from its start. A request that was declined is looked up at once as well."""
    return (0.0, *doubts.looks_seconds) if row.brief else doubts.looks_seconds


def is_last_look(row: Row, doubts: Doubts, *, fresh: bool) -> bool:
    """Return True if the look that was just made ends the round.

    Of a request that was declined one look is enough if its listing is *fresh*, proven to be newer than the attempt: it shows
    what was stored of it in part. A listing that may lag behind is asked for until the round is over.
    """
    return row.looks + 1 >= len(_looks(row, doubts)) or bool(row.brief and fresh)


def not_found(
    row: Row, now: float, doubts: Doubts, *, others_accepted: bool, longest: float, fresh: bool = False
) -> Values:
    """A usable look did not show it. After the last look of the round it may be sent again, or a person must look.

    *others_accepted* since this round's attempt. *longest* is the time-out of its reply: where there was none, the last look is
    not made before that is over.
    """
    looks, times = row.looks + 1, _looks(row, doubts)
    if not is_last_look(row, doubts, fresh=fresh):
        step = times[looks] - times[looks - 1]
        if looks == len(times) - 1 and not row.brief:
            step = max(step, longest - times[looks - 1])
        return {"looks": looks, "blind_since": None, "due": now + step, "wait": step}
    if row.nonsense >= NONSENSE_ROUNDS:
        return refused(row, f"{row.reason}, {row.nonsense} times. {PERSON}", now)
    if row.rounds >= ROUNDS and others_accepted:
        return refused(row, f"{row.reason}, {row.rounds} times, while Jira accepted other files. {PERSON}", now)
    # A round in which Jira accepted nothing at all says nothing of this file.
    rounds = row.rounds if others_accepted or row.brief else max(0, row.rounds - 1)
    return back(row, now) | {"looks": looks, "blind_since": None, "rounds": rounds} | settled_doubt(row)


def settled_doubt(row: Row) -> Values:
    """What the looks have settled: Jira declined the whole request, and nothing of this file came of it.

    A doubt that is older than that request stays.
    """
    if row.brief and row.doubt_attempt == row.attempt:
        return {"doubt_attempt": None, "doubt_at": None, "doubt_slack": None, "brief": 0}
    return {}


def unusable(
    row: Row, reason: str, now: float, doubts: Doubts, *, world: Fault | None = None, soon: bool = False
) -> Values:
    """The look showed nothing that can be relied on: an unreadable answer is not an empty list.

    Where the *world* is at fault (an outage, a dead account), its hours do not count towards giving the file up, and a wait
    that Jira asks for is kept. *soon*: a second answer is wanted.
    """
    if world is not None:
        wait = max(SOON_SECONDS, world.wait or 0.0) if world.kind == "rate-limit" else SOON_SECONDS
        return {"blind_since": None, "due": now + wait, "wait": wait}
    blind = row.blind_since if row.blind_since is not None else now
    if now - blind >= doubts.give_up_seconds:
        hours = doubts.give_up_seconds / 3600
        return refused(row, f"the issue's attachments could not be read for {hours:g} hours ({reason}). {PERSON}", now)
    wait = SOON_SECONDS if soon else min(backoff.file_wait(1 + int((now - blind) // 60)), 900.0)
    return {"blind_since": blind, "due": now + wait, "wait": wait}
