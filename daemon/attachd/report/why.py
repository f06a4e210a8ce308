"""What holds a file, since when, and what comes next: one sentence for people who do not know the program. Pure.

What waits in the journal is explained in ``holding``; here is everything else that can be found at a path.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from attachd import text
from attachd.config import Settle
from attachd.intake import gates
from attachd.journal.rows import Row
from attachd.model import State, Word, printable, word
from attachd.report import why_waiting
from attachd.report.why_waiting import Answer, Circumstances, Waiting

# --- What can be found at a path --------------------------------------------------------------------------------


class Rule(Enum):
    """Whose rule it is that leaves a name alone."""

    OWN = "own"  #: attachd's own files
    KEPT = "kept"  #: the names of its temporary files
    HIDDEN = "hidden"  #: a dot in front
    BUILT_IN = "built in"  #: unfinished transfers, litter of desktops and file servers
    USERS = "user's"  #: ``settle.ignore``, or that of a ``[[folder]]``
    LISTED = "listed"  #: an ``.attachdignore``
    MARKER = "marker"  #: ``settle.ready_suffix``


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The path is in none of the three folders."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing lies there, and the journal knows nothing of it; *there*: something does, that attachd did not put there."""

    there: bool = False


@dataclass(frozen=True, slots=True)
class Unreachable:
    """It cannot be looked at; *reason* is the system's."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A *pattern* leaves the name alone, or (*above*) that of a folder on the way to it; *file* is where it stands."""

    pattern: str
    rule: Rule
    above: bytes = b""
    file: bytes = b""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Nothing of its folder is taken, because an ignore file on the way to it cannot be used: *reason*."""

    folder: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Unlisted:
    """The last scan could not look into a *folder* on the way to it: *reason*."""

    folder: str
    reason: str


@dataclass(frozen=True, slots=True)
class Special:
    """It is no regular file but *kind*, or (*above*) a folder on the way to it is."""

    kind: str
    above: bytes = b""


@dataclass(frozen=True, slots=True)
class NoIssue:
    """Its folder is no issue's: *reason*; "" for what lies loose in the inbox. *folder*: the path is that folder.

    *since* the scans have found files in it that are not attached; None where none has yet.
    """

    reason: str
    folder: bool = False
    since: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TooDeep:
    """It lies in a folder of an issue's folder, and those are left alone; *most*: because it is nested that deeply."""

    most: int = 0


@dataclass(frozen=True, slots=True)
class Unseen:
    """A file in the folder of an issue that no scan has found yet."""

    key: str
    size: int
    rules: Settle = field(default=gates.DEFAULTS, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Empty:
    """A folder without files; *key* is the issue of one in the inbox."""

    key: str = ""


@dataclass(frozen=True, slots=True)
class Dragged:
    """A note of ours that was moved into the inbox along with its file."""


@dataclass(frozen=True, slots=True)
class ComingBack:
    """``retry`` began, at *since*, to take it from *source* below failed to *target* below the inbox, and has not ended that."""

    source: bytes
    target: bytes
    since: float


@dataclass(frozen=True, slots=True)
class Finished:
    """A file with a verdict. *there*: it still lies where it was filed; *note*: the path is that of its note."""

    row: Row
    there: bool
    note: bool = False


Situation = (
    Elsewhere
    | Unknown
    | Unreachable
    | Ignored
    | Undecided
    | Unlisted
    | Special
    | NoIssue
    | TooDeep
    | Unseen
    | Empty
    | Dragged
    | ComingBack
    | Finished
    | Waiting
)


# --- In words ---------------------------------------------------------------------------------------------------


def explain(name: str, found: Situation, world: Circumstances) -> Answer:
    """Say what holds the file that people call *name*."""
    match found:
        case Waiting():
            return why_waiting.explain(name, found, world)
        case Finished():
            return _finished(name, found, world)
        case Unseen():
            return _unseen(name, found, world)
        case Undecided(folder, reason):
            sentence = (
                f"{name} cannot be taken: {printable(folder)}/{reason}; nothing of that folder is before it is mended."
            )
            return Answer(sentence, Word.BLOCKED)
        case Unlisted(folder, reason):
            return Answer(f"{name} cannot be taken: {folder} was not looked into, because {reason}.", Word.BLOCKED)
        case NoIssue():
            return Answer(_no_issue(name, found, world), Word.WAITING, since=found.since)
        case ComingBack():
            return Answer(_coming_back(name, found, world), Word.WAITING, since=found.since)
        case Elsewhere() | Unknown():
            return Answer(_unknown(name, found, world), None, known=False)
        case Unreachable() | Ignored() | Special() | TooDeep() | Empty() | Dragged():
            return Answer(_left_alone(name, found, world), None)
        case _:
            assert_never(found)


def _unknown(name: str, found: Elsewhere | Unknown, world: Circumstances) -> str:
    if isinstance(found, Elsewhere):
        folders = f"{world.inbox}, {world.done} and {world.failed}"
        return f"{name} lies in none of the folders that attachd works with, which are {folders}."
    if found.there:
        return (
            f"attachd knows nothing of {name}: it was put there by somebody else, or by attachd before its journal was lost "
            "or restored from a copy."
        )
    return f"Nothing lies at {name}, and attachd has never had anything of this name."


def _coming_back(name: str, found: ComingBack, world: Circumstances) -> str:
    source = f"{world.failed}/{printable(found.source)}"
    return (
        f"{name} waits, because `attachd retry` began at {text.clock(found.since, world.now)} to take {source} back to "
        f"{world.inbox}/{printable(found.target)}, and has not ended that. attachd ends it with its next look at the "
        f"inbox{why_waiting.not_running(world)}. If this stays, `attachd retry {source}` says what is in the way."
    )


def _no_issue(name: str, found: NoIssue, world: Circumstances) -> str:
    since = f" (such files lie there since {text.clock(found.since, world.now)})" if found.since is not None else ""
    if not found.reason:
        return (
            f"{name} is not attached, because it lies in no issue's folder; move it into a folder of the inbox that is "
            f"named like its issue, such as TEST-123{since}."
        )
    said = f"Nothing in {name} is attached" if found.folder else f"{name} is not attached"
    return f"{said}: {found.reason}{since}."


def _left_alone(
    name: str, found: Unreachable | Ignored | Special | TooDeep | Empty | Dragged, world: Circumstances
) -> str:
    match found:
        case Unreachable(reason):
            return f"{name} cannot be looked at by attachd ({reason}); give its user or group the right to."
        case Ignored():
            return _ignored(name, found, world)
        case Special(kind, above):
            what = f"its folder {printable(above)} is" if above else "it is"
            return f"{name} is left alone, because {what} {kind}, and attachd takes nothing but real files and folders."
        case TooDeep(most):
            why = f"deeper than {most} folders" if most else "in a folder of an issue's folder"
            setting = "" if most else ' (folders.nested = "ignore")'
            return f"{name} is left alone, because it lies {why}{setting}; move it directly into the issue's folder."
        case Empty(key):
            what = f"; what is dropped there is attached to {key}" if key else ""
            return f"{name} holds no files{what}."
        case Dragged():
            return (
                f"{name} reads as a note of attachd's own about a file that had failed. If it came back with that file, it is "
                f"removed with the next look at the folder{why_waiting.not_running(world)}. If it stays, attachd cannot tell: "
                "delete it, or give it another name to have it attached."
            )
        case _:
            assert_never(found)


def _ignored(name: str, found: Ignored, world: Circumstances) -> str:
    pattern = printable(os.fsencode(found.pattern))
    whose = f"the name of its folder {printable(found.above)}" if found.above else "its name"
    match found.rule:
        case Rule.OWN:
            return f"{name} belongs to attachd itself, and is never attached."
        case Rule.KEPT:
            return (
                f"{name} is left alone, because names that begin with .attachd- are kept for attachd's own temporary files; "
                "rename it to have it attached."
            )
        case Rule.HIDDEN:
            return (
                f"{name} is left alone, because {whose} begins with a dot, as those of hidden and unfinished files do; "
                "rename it to have it attached."
            )
        case Rule.BUILT_IN:
            return (
                f"{name} is left alone, because {whose} is of the form {pattern}, as those of unfinished transfers and "
                "of litter are; rename it, once it is complete, to have it attached."
            )
        case Rule.USERS:
            return f"{name} is left alone, because {whose} fits the pattern {pattern} of ignore in {world.config}."
        case Rule.LISTED:
            return f"{name} is left alone, because {whose} fits the pattern {pattern} of {printable(found.file)}."
        case Rule.MARKER:
            return (
                f"{name} is not attached itself: as its name is of the form {pattern}, it releases the file beside it whose name "
                "it carries, and is removed when that is attached or refused."
            )
        case _:
            assert_never(found.rule)


def _unseen(name: str, found: Unseen, world: Circumstances) -> Answer:
    if world.absent:
        return Answer(f"{name} waits, because {world.absent}{why_waiting.not_running(world)}.", Word.WAITING)
    if world.stopped:
        sentence = f"{name} waits, because {world.stopped[0]}; it goes on by itself when that is put right"
        return Answer(f"{sentence}{why_waiting.not_running(world)}.", Word.WAITING)
    if not world.running:
        return Answer(f"{name} has not been noticed yet{why_waiting.not_running(world)}.", Word.WAITING)
    when = f"when it is closed and nobody has changed it for {why_waiting.quiet(found.size, found.rules)}"
    if found.rules.ready_suffix:
        when = f"when a file of its name and {found.rules.ready_suffix} lies beside it"
    sentence = (
        f"{name} has not been noticed yet; attachd finds it within {text.span(world.rescan)}, and sends it to "
        f"{found.key} {when}."
    )
    return Answer(sentence, Word.WAITING)


def _finished(name: str, found: Finished, world: Circumstances) -> Answer:
    row = found.row
    if found.note:
        name = f"{name} says why {printable(row.target or row.path)} failed; that file"
    match row.state:
        case State.DONE:
            sentence = _done(name, found, world)
            if row.remark:
                sentence = f"{sentence.removesuffix('.')}; {row.remark}."
        case State.FAILED:
            sentence = _failed(name, found, world)
        case _:
            when = text.clock(row.finished_at or row.since, world.now)
            sentence = f"{name} was not attached: {why_waiting.clause(row.reason)} (at {when})."
    return Answer(sentence, word(row.state, None), row, since=row.finished_at)


def _done(name: str, found: Finished, world: Circumstances) -> str:
    row = found.row
    when = text.clock(row.verdict_at or row.since, world.now)
    said = f"{name} was attached to {why_waiting.issue(row)} at {when}, as attachment {row.attachment}"
    if row.ground is not None and row.reason:
        said = f"{said} ({why_waiting.clause(row.reason)})"
    if row.target is None:
        return f"{said}; {why_waiting.clause(row.reason)}."
    place = f"{world.done}/{printable(row.target)}"
    if name == place and found.there:
        return f"{said}."
    return f"{said}, and lies in {place}." if found.there else f"{said}; it has been taken out of {world.done} since."


def _failed(name: str, found: Finished, world: Circumstances) -> str:
    row = found.row
    when = text.clock(row.verdict_at or row.since, world.now)
    said = f"{name} was refused for {why_waiting.issue(row)} at {when}: {why_waiting.clause(row.reason)}"
    if row.target is None:
        return f"{said}."
    if not found.there:
        return f"{said}; it has been taken out of {world.failed} since."
    doubt = (
        "look at the issue first, because it may be attached all the same"
        if row.may_be_attached
        else "put that right first"
    )
    return (
        f"{said}; to try again, {doubt}, then move {world.failed}/{printable(row.target)} back into "
        f"{world.inbox}/{row.folder_key}, or have `attachd retry` do it."
    )
