"""What people who drop files read on the share, where they see folders and nothing else: ``_STATUS.txt`` and ``_WHY.txt``. Pure.

Moments stand in these texts as times of day, never as lengths: so a text is another one only when something has happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from attachd.journal.counts import UnroutedFolder
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.model import Cure, Scope, Word, printable
from attachd.report import pauses as report_pauses
from attachd.report.health import Condition, Kind, Severity
from attachd.share import status_files
from attachd.text import _time_of_day, files, moment

#: Conditions that have a part of their own.
_OWN_PARTS = {Kind.UNROUTED, Kind.UNLISTED}
#: How many lines of a kind a text has at the most.
MOST_LINES = 20
#: How many folders hold a ``_WHY.txt`` at the most, those first that have waited for longest.
MOST_FOLDERS = 100


@dataclass(frozen=True, slots=True)
class Seen:
    """What the journal says of all files at one moment; ``oldest`` is when the one was seen that has waited for longest.

    ``named`` are files by name, for who may read names: being sent, waiting for more than their turn, finished last.
    """

    now: float
    words: Mapping[Word, int]
    oldest: float | None
    failed: int
    attached_today: int
    pauses: Sequence[Pause]
    unrouted: Sequence[UnroutedFolder]
    blocked: Sequence[Row]
    absent: Mapping[str, str]
    named: tuple[Sequence[Row], Sequence[Row], Sequence[Row]] | None = None
    conditions: Sequence[Condition] = ()


# --- _STATUS.txt ------------------------------------------------------------------------------------------------


def status(seen: Seen, *, running: bool) -> list[str]:
    """The lines of ``_STATUS.txt`` but for the time of writing."""
    lines = _running(running)
    lines += ["", *_waiting(seen)]
    lines += [f"  {line}" for line in _elsewhere(seen)]
    others = [each for each in seen.conditions if each.pause is None and each.kind not in _OWN_PARTS]
    holds = [
        f"{_sentence(each)}; files wait, and nothing is lost." for each in others if each.severity is Severity.STOPPED
    ]
    if holds := holds + [_pause(pause, seen.now) for pause in seen.pauses]:
        lines += ["", "Held up:", *(f"  {line}" for line in _some(holds))]
    if rest := [f"{_sentence(each)}." for each in others if each.severity is not Severity.STOPPED]:
        lines += ["", "For whoever looks after attachd:", *(f"  {line}" for line in _some(rest))]
    if seen.absent:
        lines += ["", "Cannot be looked into:", *(f"  {f}: {why}" for f, why in list(seen.absent.items())[:MOST_LINES])]
    if seen.unrouted:
        where = [f"  {_unrouted_place(each)}: {files(each.files)}" for each in seen.unrouted]
        lines += ["", "Not attached, because the folder is not named like an issue:", *_some(where)]
    for title, rows in zip(("Being sent:", "Waiting:", "Last:"), seen.named or (), strict=False):
        if rows:
            lines += ["", title, *(f"  {_named(row, seen.now)}" for row in rows[:MOST_LINES])]
    return lines


def as_of(now: float) -> str:
    """The line that tells how old the text is."""
    return (
        f"As of {moment(now)}. Renewed when something changes, and every hour while attachd runs: if this is older, it does "
        "not run, and whoever looks after it should know."
    )


def _running(running: bool) -> list[str]:
    if running:
        return ["attachd is running: a file that is put into the folder of an issue is attached to that issue."]
    return ["attachd is not running. What is put here is safe, and is attached once it runs again."]


def _waiting(seen: Seen) -> Iterator[str]:
    waiting = seen.words.get(Word.WAITING, 0)
    since = f", the first since {moment(seen.oldest)}" if seen.oldest is not None else ""
    left = sum(seen.words.values())
    yield f"{files(left)} to be dealt with{since}." if left else "No file waits."
    for word in (Word.SENDING, Word.IN_DOUBT, Word.BLOCKED):
        if seen.words.get(word):
            # Written into the folder only where it lasts.
            where = (
                f"; {status_files.WHY.decode()} in the folder says why" if word is Word.BLOCKED and seen.blocked else ""
            )
            yield f"  {_count(word, seen.words[word])}{where}"
    if waiting and waiting != left:
        yield f"  {_count(Word.WAITING, waiting)}"


def _count(word: Word, count: int) -> str:
    one = count == 1
    match word:
        case Word.SENDING:
            return f"{files(count)} {'is' if one else 'are'} being sent"
        case Word.IN_DOUBT:
            return f"{files(count)} may be attached already, which is being looked up"
        case Word.BLOCKED:
            return f"{files(count)} cannot be taken"
        case _:
            return f"{files(count)} {'waits' if one else 'wait'}"


def _elsewhere(seen: Seen) -> Iterator[str]:
    if seen.attached_today:
        yield f"{files(seen.attached_today)} attached today"
    if seen.failed:
        yield f"{files(seen.failed)} in the folder “failed”, each with a note beside it that says why"


def _pause(pause: Pause, now: float) -> str:
    """What is held up, why, and what ends it, for people who can do nothing about it; without times that move on."""
    what = report_pauses.what(pause, now)
    match pause.cure:
        case Cure.HAND:
            end = "it goes on when whoever runs attachd resumes it"
        case Cure.TIME:
            end = f"it goes on at {moment(pause.until)}"
        case Cure.PROBE:
            end = "attachd keeps trying, and goes on by itself"
        case _:
            assert_never(pause.cure)
    rest = "" if pause.scope in (Scope.ISSUE, Scope.PROJECT) or pause.subject else "; files wait, and nothing is lost"
    return f"{what[:1].upper()}{what[1:]}; {end}{rest}."


def _sentence(each: Condition) -> str:
    return f"{each.sentence[:1].upper()}{each.sentence[1:]}"


def _unrouted_place(unrouted: UnroutedFolder) -> str:
    return printable(unrouted.folder) or "here, in no folder"


def _named(row: Row, now: float) -> str:
    path = printable(row.path)
    if row.finished_at is not None:
        word = "attached to" if row.attachment else "not attached to"
        when = _time_of_day(row.finished_at, now)
        reason = "" if row.attachment or not row.said else f": {row.said}"
        return f"{when}  {path}  {word} {row.folder_key}{reason}"
    return f"{path}: {row.said}" if row.said else path


# --- _WHY.txt ---------------------------------------------------------------------------------------------------


def why(seen: Seen, warn_seconds: float) -> dict[bytes, bytes]:
    """The folders that are to hold a ``_WHY.txt`` ("" is the inbox itself), and its text."""
    texts = {s.folder: _of_unrouted(s) for s in seen.unrouted if seen.now - s.since >= warn_seconds}
    by_folder: dict[bytes, list[Row]] = {}
    for row in seen.blocked:
        by_folder.setdefault(row.path.partition(b"/")[0], []).append(row)
    for folder, rows in by_folder.items():
        texts.setdefault(folder, _of_blocked(rows))
    return dict(list(texts.items())[:MOST_FOLDERS])


def _of_unrouted(unrouted: UnroutedFolder) -> bytes:
    since = f"since {moment(unrouted.since)}"
    if unrouted.folder:
        what = f"{files(unrouted.files)} in this folder {_are(unrouted.files)} not attached, {since}:"
        reason = f"{unrouted.reason}."
        remedy = "When the folder has the name of an issue, or its files were moved to where they belong, this text disappears."
    else:
        what = f"{files(unrouted.files)} directly in this folder {_are(unrouted.files)} not attached, {since}:"
        reason = "a file has to lie in the folder of its issue, which is named like it, such as TEST-123."
        remedy = "When the files were moved into the folders of their issues, this text disappears."
    return status_files.render("why files here are not attached", [what, "", f"  {reason}", "", remedy])


def _of_blocked(rows: Sequence[Row]) -> bytes:
    below = [f"  {printable(row.path.partition(b'/')[2])}, since {moment(row.since)}: {row.blocked}" for row in rows]
    what = f"{files(len(rows))} in this folder cannot be taken:"
    remedy = "When that is put right, attachd takes them by itself, and this text disappears."
    return status_files.render("why files here are not attached yet", [what, "", *_some(below), "", remedy])


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _some(lines: Sequence[str]) -> list[str]:
    """So many lines at the most, and how many more there would be."""
    rest = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], f"  and {rest} more"] if rest > 0 else list(lines)
