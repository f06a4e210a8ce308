"""Pauses in words: what is held up, since when, and what ends it; and which of them people are told of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import assert_never

from attachd.journal import contested, counts
from attachd.journal.by_hand import Resumed
from attachd.journal.contested import ContestedIssue
from attachd.journal.database import Journal
from attachd.journal.pauses import Pause, project
from attachd.model import Cure, Scope
from attachd.text import clock

#: The kind of what ``told`` adds, and how many of its issues are named.
FUSE, _MOST_NAMED = "fuse", 3


def told(journal: Journal, site: str, now: float) -> list[Pause]:
    """What people, monitors and programs are told of: the pauses that hold, and refusals that wait for a person (the fuse).

    The latter hold up no other file and are no pause of the journal: so many issues are refused alike that the fault is more
    likely the account's.
    """
    return [*counts.active_pauses(journal, now), *blown(suspects(journal, site))]


def blown(held: Sequence[ContestedIssue]) -> list[Pause]:
    """What the fuse holds, as a pause; empty where it holds nothing."""
    if not held:
        return []
    issues = [each.issue for each in held]
    more = f" and {len(issues) - _MOST_NAMED} more" if len(issues) > _MOST_NAMED else ""
    reason = (
        f"files for {', '.join(issues[:_MOST_NAMED])}{more} were refused alike ({held[0].reason.removesuffix('.')}): "
        "look at the folders' names, and at what the account may see"
    )
    since = min(each.since for each in held)
    return [Pause(Scope.ACCOUNT, "", FUSE, reason, Cure.HAND, since, 0.0, 0.0, 1)]


def suspects(journal: Journal, site: str) -> list[ContestedIssue]:
    """The issues whose refused files wait for a person, as the account is suspected; empty where it is not."""
    line = journal.timeline()
    with journal.transaction_for_reading() as connection:
        return [replace(each, since=line.shown(each.since)) for each in contested.issues(connection, site)]


def widest(pauses: Sequence[Pause], issue: str, now: float, *, looks: bool = False) -> Pause | None:
    """The pause that a person is told of first for a file of this issue; *looks*: only what also keeps from looking."""
    return next(iter(holding(pauses, issue, now, looks=looks)), None)


def holding(pauses: Sequence[Pause], issue: str, now: float, *, looks: bool = False) -> list[Pause]:
    """All that hold up a file of this issue, the widest first."""
    held = {(p.scope, p.subject): p for p in pauses if p.holds(now)}
    wide = [(Scope.ACCOUNT, ""), (Scope.SITE, "")]
    narrow = [
        (Scope.ENDPOINT, ""),
        (Scope.PROJECT, project(issue)),
        (Scope.OPERATOR, issue),
        (Scope.ISSUE, issue),
    ]
    order = wide if looks else [(Scope.OPERATOR, ""), *wide, *narrow]
    return [held[which] for which in order if which in held]


def what(pause: Pause, now: float) -> str:
    """Say what is held up since when, and why, as a clause."""
    since = f"since {clock(pause.since, now)}"
    why = f"({pause.reason.removesuffix('.')})"
    if pause.kind == FUSE:
        return f"attachd's account is suspected {since}, and nothing fails for it: {pause.reason}"
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
    if pause.kind == FUSE:
        return f"{resume} files them as refused, and so does any file that is accepted"
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


# --- By hand ------------------------------------------------------------------------------------------------------


def paused_in_words(made: Pause, now: float) -> str:
    """Say what is held up now, and until when."""
    what = f"Nothing is sent to {made.subject}" if made.subject else "Nothing is sent to Jira"
    again = f"attachd resume --issue {made.subject}" if made.subject else "attachd resume"
    if made.wait:
        return f"{what} until {clock(made.until, now)}, or until `{again}`."
    return f"{what} until `{again}`."


def resumed_in_words(done: Resumed, key: str, now: float) -> Iterator[str]:
    """Say what was ended, a line each, and what was not."""
    for each in done.ended:
        yield f"Ended: {_about(each)} (since {clock(each.since, now)})."
    for each in done.tried:
        yield f"Tried again now: {_about(each)} (since {clock(each.since, now)}). It ends once the try succeeds."
    if done.believed:
        yield (
            f"Believed: Jira's refusal of {_files(done.believed)}, held until now. They go to the folder failed, each with "
            "a note that says why."
        )
    if done.again:
        yield f"Tried again now: {_files(done.again)} that Jira had refused."
    for each in done.kept:
        until = clock(each.until, now)
        yield f"Stays until {until}: {_about(each)}. Jira itself asked for this wait."
    for moved in done.forgotten:
        yield f"Forgotten: that {moved} was moved. Its files go to {moved} again, unless Jira says twice that it was."
    if done == Resumed((), (), (), 0, 0):
        yield f"Nothing of {key} was paused." if key else "Nothing was paused."


def _about(each: Pause) -> str:
    if each.scope is Scope.OPERATOR:
        return f"the pause of {each.subject} by hand" if each.subject else "the pause by hand"
    about = f"the pause of {each.scope} {each.subject}" if each.subject else f"the pause of the {each.scope}"
    return f"{about}: {each.reason.removesuffix('.')}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
