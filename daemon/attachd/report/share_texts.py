"""The texts that people who drop files read on the share: ``_STATUS.txt`` and ``_WHY.txt``. Pure.

They name points in time and no lengths, so that a text changes only when something has happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from attachd.journal.counts import UnroutedFolder
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.model import Word, printable
from attachd.report import pauses as report_pauses
from attachd.report.health import Condition, Kind, Severity
from attachd.share import status_files
from attachd.text import _time_of_day, capital, files, moment, sentence

#: Conditions that have a section of their own.
_OWN_PARTS = {Kind.UNROUTED, Kind.UNLISTED}
#: At most so many lines of a kind.
MOST_LINES = 20
#: At most so many folders hold a ``_WHY.txt``, the ones that have waited longest first.
MOST_FOLDERS = 100


@dataclass(frozen=True, slots=True)
class Overview:
    """What the journal says of all files at one moment; ``oldest`` is when the oldest waiting file was first seen.

    ``named`` are files by name, if names may be shown: uploading, waiting for more than their turn, finished last.
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


def status(seen: Overview, *, running: bool) -> list[str]:
    """Return the lines of ``_STATUS.txt`` without the time of writing."""
    lines = _running(running)
    lines += ["", *_waiting(seen)]
    lines += [f"  {line}" for line in _elsewhere(seen)]
    others = [each for each in seen.conditions if each.pause is None and each.kind not in _OWN_PARTS]
    holds = [
        f"{capital(each.sentence)}. Files wait, and nothing is lost."
        for each in others
        if each.severity is Severity.STOPPED
    ]
    if holds := holds + [report_pauses.for_share(pause, seen.now) for pause in seen.pauses]:
        lines += ["", "Paused:", *(f"  {line}" for line in _some(holds))]
    if rest := [f"{capital(each.sentence)}." for each in others if each.severity is not Severity.STOPPED]:
        lines += ["", "For the administrator:", *(f"  {line}" for line in _some(rest))]
    if seen.absent:
        lines += [
            "",
            "Folders that attachd cannot open:",
            *(f"  {f}: {why}" for f, why in list(seen.absent.items())[:MOST_LINES]),
        ]
    if seen.unrouted:
        where = [f"  {_unrouted_place(each)}: {files(each.files)}" for each in seen.unrouted]
        lines += ["", "Not in an issue folder (not attached):", *_some(where)]
    for title, rows in zip(("Uploading:", "Waiting:", "Recent:"), seen.named or (), strict=False):
        if rows:
            lines += ["", title, *(f"  {_named(row, seen.now)}" for row in rows[:MOST_LINES])]
    return lines


def as_of(now: float) -> str:
    """Return the line that says how old the text is."""
    return f"As of {moment(now)}. Updated at least hourly. Older? Then attachd is down: tell your administrator."


def _running(running: bool) -> list[str]:
    if running:
        return [
            "attachd is running. Put a file into a folder that is named like an issue, and it is attached to that issue."
        ]
    return ["attachd is not running. Files that you put here are safe, and are attached once it runs again."]


def _waiting(seen: Overview) -> Iterator[str]:
    waiting = seen.words.get(Word.WAITING, 0)
    since = f", the oldest since {moment(seen.oldest)}" if seen.oldest is not None else ""
    left = sum(seen.words.values())
    yield f"In the inbox: {files(left)}{since}." if left else "No files are waiting."
    for word in (Word.SENDING, Word.IN_DOUBT, Word.BLOCKED):
        if seen.words.get(word):
            # The folder gets its text only if the file stays blocked.
            lasting = word is Word.BLOCKED and seen.blocked
            where = f" ({status_files.WHY.decode()} in the folder says why)" if lasting else ""
            yield f"  {_count(word, seen.words[word])}{where}"
    if waiting and waiting != left:
        yield f"  {_count(Word.WAITING, waiting)}"


def _count(word: Word, count: int) -> str:
    one = count == 1
    match word:
        case Word.SENDING:
            return f"{files(count)} {'is' if one else 'are'} uploading"
        case Word.IN_DOUBT:
            return f"{files(count)} may be attached already; attachd is looking at the issue"
        case Word.BLOCKED:
            return f"{files(count)} {'is' if one else 'are'} blocked"
        case _:
            return f"{files(count)} {'waits' if one else 'wait'}"


def _elsewhere(seen: Overview) -> Iterator[str]:
    if seen.attached_today:
        yield f"{files(seen.attached_today)} attached today"
    if seen.failed:
        notes = "with a note" if seen.failed == 1 else "each with a note"
        yield f"{files(seen.failed)} in the folder “failed”, {notes} that says why"


def _unrouted_place(unrouted: UnroutedFolder) -> str:
    return printable(unrouted.folder) or "directly in the inbox"


def _named(row: Row, now: float) -> str:
    path = printable(row.path)
    if row.finished_at is not None:
        word = "attached to" if row.attachment else "not attached to"
        when = _time_of_day(row.finished_at, now)
        reason = "" if row.attachment or not row.said else f": {row.said}"
        return f"{when}  {path}  {word} {row.folder_key}{reason}"
    return f"{path}: {row.said}" if row.said else path


# --- _WHY.txt ---------------------------------------------------------------------------------------------------


def why(seen: Overview, warn_seconds: float) -> dict[bytes, bytes]:
    """Return the text of ``_WHY.txt`` for each folder that should hold one ("" is the inbox itself)."""
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
        what = f"{files(unrouted.files)} in this folder {_have(unrouted.files)} not been attached {since}:"
        reason = sentence(unrouted.reason)
        remedy = "Rename the folder, or move its files to the right one. This text then disappears."
    else:
        what = f"{files(unrouted.files)} directly in the inbox {_have(unrouted.files)} not been attached {since}:"
        reason = "A file must be in a folder that is named like its issue, such as TEST-123."
        remedy = "Move the files into such folders. This text then disappears."
    return status_files.render("why files here are not attached", [what, "", f"  {reason}", "", remedy])


def _of_blocked(rows: Sequence[Row]) -> bytes:
    below = [f"  {printable(row.path.partition(b'/')[2])} (since {moment(row.since)}): {row.blocked}" for row in rows]
    what = f"{files(len(rows))} in this folder {_are(len(rows))} blocked:"
    remedy = "When that is fixed, attachd takes them by itself, and this text disappears."
    return status_files.render("why files here are not attached yet", [what, "", *_some(below), "", remedy])


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _some(lines: Sequence[str]) -> list[str]:
    """Return the first lines, and how many more there are."""
    rest = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], f"  and {rest:,} more"] if rest > 0 else list(lines)
