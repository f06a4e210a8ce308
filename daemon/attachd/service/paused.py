"""Pauses in words: what is held up, since when, and what ends it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from attachd.delivery import pausing
from attachd.journal.pauses import Pause
from attachd.model import Cure, Scope
from attachd.service.phrasing import clock


def widest(pauses: Sequence[Pause], lane: str, now: float, *, looks: bool = False) -> Pause | None:
    """The pause that a person is told of for a file of this issue; *looks*: only what also keeps from looking."""
    holding = {(p.scope, p.subject): p for p in pauses if p.holds(now)}
    wide = [(Scope.ACCOUNT, ""), (Scope.SITE, "")]
    narrow = [
        (Scope.ENDPOINT, ""),
        (Scope.PROJECT, pausing.project(lane)),
        (Scope.OPERATOR, lane),
        (Scope.ISSUE, lane),
    ]
    order = wide if looks else [(Scope.OPERATOR, ""), *wide, *narrow]
    return next((holding[which] for which in order if which in holding), None)


def what(pause: Pause, now: float) -> str:
    """Say what is held up since when, and why, as a clause."""
    since = f"since {clock(pause.since, now)}"
    why = f"({pause.reason.removesuffix('.')})"
    match pause.scope:
        case Scope.OPERATOR if pause.subject:
            return f"{pause.subject} is paused by hand {since}"
        case Scope.OPERATOR:
            return f"everything is paused by hand {since}"
        case Scope.ACCOUNT:
            return f"Jira does not accept attachd's account {since} {why}"
        case Scope.SITE:
            return f"nothing can be sent to Jira {since} {why}"
        case Scope.ENDPOINT:
            return f"Jira takes no attachments {since} {why}"
        case Scope.PROJECT:
            return f"nothing can be attached in the project {pause.subject} {since} {why}"
        case Scope.ISSUE:
            return f"nothing can be attached to {pause.subject} {since} {why}"
        case _:
            assert_never(pause.scope)


def end(pause: Pause, now: float) -> str:
    """Say what ends it, as a clause."""
    resume = "`attachd resume`"
    if pause.scope is Scope.OPERATOR and pause.subject:
        resume = f"`attachd resume --issue {pause.subject}`"
    match pause.cure:
        case Cure.HAND:
            return f"it goes on with {resume}"
        case Cure.TIME:
            return f"it goes on at {clock(pause.until, now)}"
        case Cure.PROBE:
            at = f"at {clock(pause.until, now)}" if pause.until > now else "at once"
            changed = ", when the token is changed" if pause.scope is Scope.ACCOUNT else ""
            return f"attachd tries again {at}{changed} or with {resume}, and then goes on by itself"
        case _:
            assert_never(pause.cure)
