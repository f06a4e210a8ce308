"""Say what holds a file, since when, and what comes next, to people who do not know the program. Pure.

Files that wait in the journal are explained in ``why_waiting``; here is everything else that can lie at a path.
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
from attachd.report.circumstances import Circumstances, Waiting
from attachd.report.why_waiting import Answer, to_come

# --- What can be found at a path --------------------------------------------------------------------------------


class Rule(Enum):
    """Which rule ignores a name."""

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
    """The journal does not know the path; *there*: something lies at it all the same."""

    there: bool = False


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The path cannot be opened; *reason* is the system's."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A *pattern* ignores the name, or (*above*) the name of a folder on the way to it; *file* holds the pattern."""

    pattern: str
    rule: Rule
    above: bytes = b""
    file: bytes = b""


@dataclass(frozen=True, slots=True)
class Undecided:
    """An ignore file on the way to it cannot be used (*reason*), so nothing in that folder is taken."""

    folder: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Unlisted:
    """The last scan could not look into a *folder* on the way to it: *reason*."""

    folder: str
    reason: str


@dataclass(frozen=True, slots=True)
class Special:
    """It is not a regular file but *kind*, or (*above*) a folder on the way to it is."""

    kind: str
    above: bytes = b""


@dataclass(frozen=True, slots=True)
class NoIssue:
    """It is not in an issue folder: *reason*; "" for a file directly in the inbox. *folder*: the path is that folder.

    *since* is when a scan first found files in it; None before the first such scan.
    """

    reason: str
    folder: bool = False
    since: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TooDeep:
    """It lies in a subfolder that is ignored; *most*: because it is nested deeper than that."""

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
    """A note of attachd that was moved into the inbox along with its file."""


@dataclass(frozen=True, slots=True)
class ComingBack:
    """``retry`` began at *since* to move it from *source* in failed to *target* in the inbox, and has not finished."""

    source: bytes
    target: bytes
    since: float


@dataclass(frozen=True, slots=True)
class Finished:
    """A file with a verdict. *there*: it still lies where it was filed; *note*: the path is the path of its note."""

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
            return Answer(_unseen(name, found, world), Word.WAITING)
        case Undecided(folder, reason):
            sentence = f"{name} is blocked: {printable(folder)}/{reason}. Fix that file; nothing in its folder is taken before."
            return Answer(sentence, Word.BLOCKED)
        case Unlisted(folder, reason):
            return Answer(f"{name} is blocked: attachd cannot list {folder}: {reason}.", Word.BLOCKED)
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
        return f"{name} is not in {world.inbox}, {world.done} or {world.failed}. attachd knows no other folders."
    if found.there:
        return (
            f"attachd does not know {name}. Someone else put it there, or attachd did before its journal was lost or "
            "restored from a copy."
        )
    return f"There is no {name}, and attachd has never seen a file of that name."


def _coming_back(name: str, found: ComingBack, world: Circumstances) -> str:
    source = f"{world.failed}/{printable(found.source)}"
    target = f"{world.inbox}/{printable(found.target)}"
    return to_come(
        world,
        f"{name} is waiting: `attachd retry` began to move {source} back to {target} at "
        f"{text.clock(found.since, world.now)}, and has not finished",
        "attachd finishes that at its next scan of the inbox",
        f"If this stays, run `attachd retry {source}`: it says what is in the way",
    )


def _no_issue(name: str, found: NoIssue, world: Circumstances) -> str:
    since = f" Files have been there since {text.clock(found.since, world.now)}." if found.since is not None else ""
    if not found.reason:
        return (
            f"{name} is not attached, because it is not in an issue folder. Move it into a folder that is named like its "
            f"issue, such as TEST-123.{since}"
        )
    said = f"Nothing in {name} is attached" if found.folder else f"{name} is not attached"
    return f"{said}: {found.reason}.{since}"


def _left_alone(
    name: str, found: Unreachable | Ignored | Special | TooDeep | Empty | Dragged, world: Circumstances
) -> str:
    match found:
        case Unreachable(reason):
            return f"attachd cannot read {name} ({reason}). Give its user or group permission."
        case Ignored():
            return _ignored(name, found, world)
        case Special(kind, above):
            what = f"its folder {printable(above)} is" if above else "it is"
            return f"{name} is ignored, because {what} {kind}. attachd takes only regular files and folders."
        case TooDeep(most):
            why = f"deeper than {most} folders" if most else "in a subfolder of the issue folder"
            setting = "" if most else ' (folders.nested = "ignore")'
            return f"{name} is ignored, because it is {why}{setting}. Move it directly into the issue folder."
        case Empty(key):
            what = f" Files in it are attached to {key}." if key else ""
            return f"{name} holds no files.{what}"
        case Dragged():
            return to_come(
                world,
                f"{name} looks like attachd's note about a failed file",
                "If the file came back with it, the next scan removes the note",
                "If it stays, attachd cannot tell: delete it, or rename it to attach it",
            )
        case _:
            assert_never(found)


def _ignored(name: str, found: Ignored, world: Circumstances) -> str:
    pattern = printable(os.fsencode(found.pattern))
    whose = f"its folder {printable(found.above)}" if found.above else "its name"
    ignored = f"{name} is ignored: {whose}"
    match found.rule:
        case Rule.OWN:
            return f"{name} belongs to attachd itself and is never attached."
        case Rule.KEPT:
            return f"{ignored} begins with .attachd-, like attachd's own temporary files. Rename it to attach it."
        case Rule.HIDDEN:
            return f"{ignored} begins with a dot, like hidden and unfinished files. Rename it to attach it."
        case Rule.BUILT_IN:
            return (
                f"{ignored} matches {pattern}, like unfinished transfers and system files. Once it is complete, rename it to "
                "attach it."
            )
        case Rule.USERS:
            return f"{ignored} matches {pattern}, one of the ignore patterns in {world.config}."
        case Rule.LISTED:
            return f"{ignored} matches {pattern} in {printable(found.file)}."
        case Rule.MARKER:
            return (
                f"{name} is a ready marker ({pattern}). It releases the file beside it and is not attached itself. attachd "
                "removes it with that file."
            )
        case _:
            assert_never(found.rule)


def _unseen(name: str, found: Unseen, world: Circumstances) -> str:
    if world.absent:
        return to_come(world, f"{name} is waiting because {world.absent}")
    if world.stopped:
        return to_come(
            world, f"{name} is waiting because {world.stopped[0]}", "It goes on by itself when that is fixed"
        )
    seen = f"attachd has not seen {name} yet"
    if not world.running:
        return to_come(world, seen)
    when = f"once it is closed and has not changed for {why_waiting.quiet(found.size, found.rules)}"
    if found.rules.ready_suffix:
        when = f"once its marker (its name and {found.rules.ready_suffix}) lies beside it"
    return to_come(
        world,
        seen,
        f"It will find the file within {text.span(world.rescan)}",
        f"It sends the file to {found.key} {when}",
    )


def _finished(name: str, found: Finished, world: Circumstances) -> Answer:
    row = found.row
    if found.note:
        name = f"{name} says why {printable(row.target or row.path)} failed. That file"
    match row.state:
        case State.DONE:
            sentence = _done(name, found, world)
            if row.remark:
                sentence = f"{sentence} {text.capital(row.remark)}."
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
        return f"{said}. {text.capital(why_waiting.clause(row.reason))}."
    place = f"{world.done}/{printable(row.target)}"
    if name == place and found.there:
        return f"{said}."
    return f"{said}. It is now in {place}." if found.there else f"{said}. It is no longer in {world.done}."


def _failed(name: str, found: Finished, world: Circumstances) -> str:
    row = found.row
    when = text.clock(row.verdict_at or row.since, world.now)
    said = f"{name} was refused for {why_waiting.issue(row)} at {when}: {why_waiting.clause(row.reason)}."
    if row.target is None:
        return said
    if not found.there:
        return f"{said} It is no longer in {world.failed}."
    first = "fix that first"
    if row.may_be_attached:
        first = "look at the issue first, because the file may be attached"
    return (
        f"{said} To try again, {first}. Then move {world.failed}/{printable(row.target)} back into "
        f"{world.inbox}/{row.folder_key}, or run `attachd retry`."
    )
