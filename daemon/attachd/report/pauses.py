"""Pauses in words: what is paused since when, why, and what ends it. Everything that shows a pause asks here."""

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
from attachd.text import capital, clock, files, issues, moment

#: The kind of what ``shown`` adds.
FUSE = "fuse"
_MOST_NAMED = 3

# --- Which pauses there are -------------------------------------------------------------------------------------


def shown(journal: Journal, site: str, now: float) -> list[Pause]:
    """Return the pauses to show to people and programs: those of the journal, and refusals that wait for a person.

    The journal has no pause for the latter, because they hold no other file.
    """
    return [*counts.active_pauses(journal, now), *fuse(suspects(journal, site))]


def fuse(held: Sequence[ContestedIssue]) -> list[Pause]:
    """Return the refusals that wait for a person as a pause; empty if there are none."""
    if not held:
        return []
    keys = [each.issue for each in held]
    more = f" and {len(keys) - _MOST_NAMED:,} more" if len(keys) > _MOST_NAMED else ""
    reason = (
        f"{issues(len(keys))} ({', '.join(keys[:_MOST_NAMED])}{more}) were refused with the same error, so the account "
        f"may have lost access ({held[0].reason.removesuffix('.')}). Check the folders' names and the account's access"
    )
    since = min(each.since for each in held)
    return [Pause(Scope.ACCOUNT, "", FUSE, reason, Cure.HAND, since, 0.0, 0.0, 1)]


def suspects(journal: Journal, site: str) -> list[ContestedIssue]:
    """Return the issues whose refused files wait for a person, because the account may have lost access."""
    line = journal.timeline()
    with journal.transaction_for_reading() as connection:
        return [replace(each, since=line.shown(each.since)) for each in contested.issues(connection, site)]


def widest(pauses: Sequence[Pause], issue: str, now: float, *, looks: bool = False) -> Pause | None:
    """Return the widest pause that holds files of this issue, or None. With *looks*: only pauses that also stop looks."""
    return next(iter(holding(pauses, issue, now, looks=looks)), None)


def holding(pauses: Sequence[Pause], issue: str, now: float, *, looks: bool = False) -> list[Pause]:
    """Return all pauses that hold files of this issue, the widest first."""
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


# --- One pause in words -----------------------------------------------------------------------------------------


def sentences(pause: Pause, now: float) -> str:
    """Return what is paused, why, and what ends it, without the last full stop."""
    return f"{capital(what(pause, now))}. {end(pause, now)}"


def for_share(pause: Pause, now: float) -> str:
    """Return the same for people without a shell. It names no time that moves while the pause lasts."""
    match pause.cure:
        case Cure.HAND:
            ends = "An administrator must resume it"
        case Cure.TIME:
            ends = f"attachd goes on at {moment(pause.until)}"
        case Cure.PROBE:
            ends = "attachd keeps trying"
        case _:
            assert_never(pause.cure)
    safe = "" if pause.scope in (Scope.ISSUE, Scope.PROJECT) or pause.subject else " Files wait, and nothing is lost."
    return f"{capital(what(pause, now))}. {ends}.{safe}"


def what(pause: Pause, now: float) -> str:
    """Return what is paused since when, and why, as a clause."""
    since = f"since {clock(pause.since, now)}"
    why = pause.reason.removesuffix(".")
    if pause.kind == FUSE:
        return f"refused files have been held {since}: {why}"
    match pause.scope:
        case Scope.OPERATOR:
            return f"{pause.subject or 'everything'} has been paused by hand {since}"
        case Scope.ACCOUNT | Scope.SITE:
            return f"everything has been paused {since}: {why}"
        case Scope.ENDPOINT:
            return f"uploads have been paused {since}: {why}"
        case Scope.PROJECT:
            return f"project {pause.subject} has been paused {since}: {why}"
        case Scope.ISSUE:
            return f"{pause.subject} has been paused {since}: {why}"
        case _:
            assert_never(pause.scope)


def end(pause: Pause, now: float) -> str:
    """Return what ends the pause, as a sentence without its full stop."""
    resume = "`attachd resume`"
    if pause.scope is Scope.OPERATOR and pause.subject:
        resume = f"`attachd resume --issue {pause.subject}`"
    if pause.kind == FUSE:
        return f"{resume} files them as refused, and so does any file that Jira accepts"
    match pause.cure:
        case Cure.HAND:
            return f"{resume} ends the pause"
        case Cure.TIME:
            return f"attachd goes on at {clock(pause.until, now)}"
        case Cure.PROBE:
            if pause.until <= now:
                return "attachd tries again at once"
            token = ", and when the token changes" if pause.scope is Scope.ACCOUNT else ""
            return f"attachd tries again at {clock(pause.until, now)}{token}. {resume} retries now"
        case _:
            assert_never(pause.cure)


def next_step(subject: str, cure: Cure, until: float | None, now: float) -> str:
    """Return what ends a pause in two or three words, after the issue or project that it is about."""
    about = f"{subject} " if subject else ""
    if until is None:
        return f"{about}until `attachd resume`"
    if cure is Cure.PROBE:
        return f"{about}next try {clock(until, now)}" if until > now else f"{about}next try at once"
    return f"{about}until {clock(until, now)}"


def listed(pauses: Sequence[Pause]) -> list[str]:
    """Return the pauses for one line: each reason once, with the issues that were paused by hand."""
    by_hand = [each.subject or "everything" for each in pauses if each.scope is Scope.OPERATOR]
    named = [f"paused by hand: {', '.join(by_hand)}"] if by_hand else []
    return named + [f"paused: {each.reason}" for each in pauses if each.scope is not Scope.OPERATOR]


# --- By hand ------------------------------------------------------------------------------------------------------


def paused_in_words(made: Pause, now: float) -> str:
    """Return what is paused now, and until when."""
    held = f"Paused {made.subject or 'everything'}"
    again = f"attachd resume --issue {made.subject}" if made.subject else "attachd resume"
    if made.wait:
        return f"{held} until {clock(made.until, now)}, or until `{again}`."
    return f"{held} until `{again}`."


def resumed_in_words(done: Resumed, key: str, now: float) -> Iterator[str]:
    """Yield a line for each pause that ended, is being tried, or stays."""
    for each in done.ended:
        yield f"Ended: {_about(each)} (since {clock(each.since, now)})."
    for each in done.tried:
        yield f"Trying now: {_about(each)} (since {clock(each.since, now)}). The pause ends if the try succeeds."
    if done.believed:
        yield f"Accepted Jira's refusal of {files(done.believed)}. They go to the folder failed, with notes that say why."
    if done.again:
        yield f"Trying now: {files(done.again)} that Jira had refused."
    for each in done.kept:
        yield f"Stays until {clock(each.until, now)}: {_about(each)}. Jira itself asked for this wait."
    for moved in done.forgotten:
        yield f"Forgot that {moved} was moved. Its files go to {moved} again, unless Jira says twice that it was moved."
    if done == Resumed((), (), (), 0, 0):
        yield f"Nothing of {key} was paused." if key else "Nothing was paused."


def _about(each: Pause) -> str:
    if each.scope is Scope.OPERATOR:
        return f"the pause of {each.subject} by hand" if each.subject else "the pause by hand"
    about = f"the pause of {each.scope} {each.subject}" if each.subject else f"the pause of the {each.scope}"
    return f"{about}: {each.reason.removesuffix('.')}"
