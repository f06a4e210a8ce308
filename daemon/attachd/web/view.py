"""The contents of the page as plain values: sentences, numbers and lengths of bars."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from attachd import __version__, text
from attachd.config import loader
from attachd.delivery.runtime import Runtime
from attachd.journal import counts as journal_counts
from attachd.journal import lookup
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.model import Scope, State, Word, printable, word
from attachd.report import circumstances, health, why_waiting
from attachd.report import pauses as report_pauses
from attachd.report.circumstances import Circumstances
from attachd.report.health import Kind
from attachd.text import clock, size, span

#: Conditions that have a section of their own.
_OWN_PARTS = {Kind.INBOX, Kind.HANG, Kind.UNROUTED, Kind.UNLISTED}
#: At most so many lines in each section.
MOST = 50
#: How many files of a queue are named.
MOST_NAMED = 5
HOUR = 3600.0
#: Hours of the chart.
HOURS = 48
_TIMES = 20.0
T = TypeVar("T")


@dataclass(slots=True)
class Rates:
    """The speed of uploads: the first look at each, by the id of its row, as (CLOCK_BOOTTIME, bytes)."""

    first: dict[int, tuple[float, int]] = field(default_factory=dict)

    def of(self, row: int, sent: int, boot: float) -> float | None:
        """Return bytes per second since the first look at this upload; None in its first second."""
        began, had = self.first.setdefault(row, (boot, sent))
        return (sent - had) / (boot - began) if boot - began >= 1.0 and sent > had else None

    def forget_all_but(self, rows: set[int]) -> None:
        """Forget the uploads that have ended."""
        self.first = {row: seen for row, seen in self.first.items() if row in rows}


class Sums:
    """Sums over attached files. They cost more the more files there are, so an answer is kept for 20 times its cost.

    A thousand files are counted every second, a million every half minute.
    """

    def __init__(
        self, timer: Callable[[], float] = time.monotonic, worked: Callable[[], float] = time.thread_time
    ) -> None:
        """*worked* measures the cost in CPU time, because a busy machine takes longer."""
        self._timer, self._worked = timer, worked
        self._known: dict[str, tuple[float, Any]] = {}

    def of(self, what: str, ask: Callable[[], T]) -> T:
        """Return the answer of *ask*, or a recent one."""
        now = self._timer()
        until, answer = self._known.get(what, (now, None))
        if until <= now:
            began = self._worked()
            answer = ask()
            self._known[what] = self._timer() + _TIMES * (self._worked() - began), answer
        return cast("T", answer)


def live(runtime: Runtime, rates: Rates, sums: Sums) -> dict[str, Any]:
    """Return what changes by itself. An index answers each question, however many files wait."""
    journal, now = runtime.reader, runtime.clock.wall()
    standing, midnight = journal_counts.standing(journal), journal.timeline().kept(text.midnight(now))
    oldest = lookup.oldest_waiting(journal)
    words = standing.words | {Word.FAILED: standing.words[Word.FAILED] + journal_counts.lying_in_failed(journal)}
    inbox, pauses, unrouted = (
        runtime.guard.sight,
        journal_counts.active_pauses(journal, now),
        journal_counts.unrouted(journal),
    )
    conditions = health.of_runtime(runtime)
    unrouted_files, world = sum(each.files for each in unrouted), _world(runtime, pauses, health.stopping(conditions))
    return {
        "counts": [(str(each), f"{words[each]:,}") for each in words if words[each] or each is Word.WAITING],
        "unrouted_files": f"{unrouted_files:,}" if unrouted_files else "",
        "today": f"{sums.of('today', lambda: journal_counts.attached_since(journal, midnight)):,}",
        "oldest": span(now - oldest) if oldest is not None else "",
        "paused_by_hand": any(each.scope is Scope.OPERATOR and not each.subject for each in pauses),
        "absent": "" if inbox.there else inbox.reason,
        "hangs": [str(hang) for hang in runtime.beats.hangs()],
        "conditions": [
            f"{text.capital(str(each))}." for each in conditions if each.pause is None and each.kind not in _OWN_PARTS
        ],
        "pauses": [_pause(each, now) for each in report_pauses.shown(journal, runtime.config.jira.url, now)],
        "sending": _sending(runtime, rates),
        "queues": [_issue(runtime, each, world) for each in lookup.queues(journal, MOST)],
        "waiting": (waiting := _waiting(runtime, world)),
        # A refusal may wait for a person although nothing is paused.
        "resumable": any("“Resume”" in each["sentence"] for each in waiting),
        "unrouted": [
            {
                "folder": printable(s.folder) or "the inbox itself",
                "files": text.files(s.files),
                "reason": text.sentence(s.reason),
            }
            for s in unrouted[:MOST]
        ],
        "unlisted": list(journal_counts.troubles(journal).items())[:MOST],
        "failed": [_failed(runtime, row, now) for row in journal_counts.failed_lately(journal, MOST)],
        "last": [_verdict(runtime, row, now) for row in journal_counts.last_verdicts(journal, 15)],
    }


def frame(runtime: Runtime) -> dict[str, Any]:
    """Return what does not change."""
    return {
        "version": __version__,
        "site": runtime.site.pages,
        "inbox": str(runtime.config.folders.inbox),
        "instance": loader.instance(runtime.config.file),
    }


def found(runtime: Runtime, wanted: str) -> dict[str, Any]:
    """Return the files of the history whose name, issue, attachment or id contains *wanted*, and how far back it was searched."""
    now = runtime.clock.wall()
    matches = lookup.search(runtime.reader, wanted, MOST)
    back_to = "" if matches.back_to is None else clock(matches.back_to, now)
    return {"files": [_verdict(runtime, row, now) for row in matches.files], "back_to": back_to}


def _pause(each: Pause, now: float) -> dict[str, Any]:
    return {
        # The button stands beside it.
        "sentence": _for_a_page(f"{report_pauses.sentences(each, now)}."),
        "issue": each.subject if each.scope in (Scope.OPERATOR, Scope.ISSUE) else "",
    }


def _sending(runtime: Runtime, rates: Rates) -> list[dict[str, Any]]:
    rows, boot, shown = lookup.sending(runtime.reader), runtime.clock.boot(), []
    rates.forget_all_but({row.id for row in rows})
    for row in rows[:MOST]:
        progress = runtime.progress.get(row.id)
        sent = min(row.size, progress()) if progress else None
        rate = rates.of(row.id, sent, boot) if sent is not None else None
        parts = [] if sent is None else [f"{size(sent)} of {size(row.size)}"]
        if rate:
            parts += [f"{size(rate)}/s", f"{span((row.size - (sent or 0)) / rate)} left"]
        if sent is not None and sent >= row.size:
            parts = [size(row.size), "waiting for Jira's answer"]
        shown.append(
            {
                "file": printable(row.path),
                "id": row.ident,
                "issue": row.issue,
                "link": runtime.site.page(row.issue),
                "percent": 100 * sent // row.size if sent is not None and row.size else None,
                "said": ", ".join(parts),
            }
        )
    return shown


def _world(runtime: Runtime, pauses: Sequence[Pause], stopped: Sequence[str]) -> Circumstances:
    """Return the circumstances as this process knows them, without a look at the inbox."""
    guard = runtime.guard
    return circumstances.gather(
        runtime.config, runtime.clock, guard.sight, pauses, guard.epoch, running=True, stopped=stopped
    )


def _issue(runtime: Runtime, each: lookup.Queue, world: Circumstances) -> dict[str, Any]:
    """Return the queue of one issue: the names of the first files, and what holds the first."""
    first = lookup.first_in(runtime.reader, each.issue, MOST_NAMED)
    pause, sentence = report_pauses.widest(world.pauses, each.issue, world.now), ""
    if pause is not None and not pause.subject:
        sentence = "Paused."
    elif first:
        found = circumstances.waiting(runtime.reader, runtime.rulebook, first[0], ahead=0)
        sentence = _for_a_page(why_waiting.explain("The first", found, world).sentence)
    return {
        "issue": each.issue,
        "link": runtime.site.page(each.issue),
        "files": text.files(each.files),
        "names": [printable(row.path.partition(b"/")[2]) for row in first],
        "more": f"{each.files - len(first):,}" if each.files > len(first) else "",
        "since": span(world.now - each.oldest),
        "sentence": sentence,
    }


def _waiting(runtime: Runtime, world: Circumstances) -> list[dict[str, Any]]:
    """Return the files that wait for more than their turn, the most pressing first; settling files come last."""
    rows = lookup.troubled(runtime.reader, MOST)
    rows += lookup.settling(runtime.reader, MOST - len(rows))
    shown = []
    for row in rows:
        found = circumstances.waiting(runtime.reader, runtime.rulebook, row, ahead=0)
        shown.append(
            {
                "file": printable(row.path),
                "word": str(word(row.state, row.blocked)),
                "since": clock(row.since, world.now),
                "sentence": _for_a_page(why_waiting.explain("It", found, world).sentence),
            }
        )
    return shown


def _for_a_page(sentence: str) -> str:
    """Return the sentence with the name of the button instead of the command."""
    return re.sub("`attachd resume[^`]*`", "“Resume”", sentence)


def _failed(runtime: Runtime, row: Row, now: float) -> dict[str, Any]:
    return _verdict(runtime, row, now) | {"id": row.ident, "doubtful": bool(row.may_be_attached)}


def _verdict(runtime: Runtime, row: Row, now: float) -> dict[str, Any]:
    finished = row.finished_at or row.verdict_at
    return {
        "file": printable(row.path),
        "id": row.ident,
        "word": str(word(row.state, row.blocked)),
        "issue": row.issue,
        "link": runtime.site.page(row.issue),
        "attachment": row.attachment or "",
        "stored_as": row.stored_as
        if row.stored_as and row.stored_as != printable(row.path.rpartition(b"/")[2])
        else "",
        "size": size(row.size),
        "when": clock(finished or row.seen_at, now),
        "reason": text.sentence(row.said or ""),
    }


# --- The chart ----------------------------------------------------------------------------------------------------


def chart(runtime: Runtime, sums: Sums) -> dict[str, Any]:
    """Return the files and bytes that Jira accepted in each of the last hours, as bars with heights in percent."""
    bars = sums.of("hours", lambda: _bars(runtime))
    files, total = sum(bar["files"] for bar in bars), size(sum(bar["bytes"] for bar in bars))
    title = f"Attached in the last {HOURS} hours: {text.files(files)}, {total}."
    if files:
        most, heaviest = max(bar["files"] for bar in bars), max(bar["bytes"] for bar in bars)
        title += f" At most {text.files(most)} and {size(heaviest)} in an hour."
    return {"bars": bars, "title": title}


def _bars(runtime: Runtime) -> list[dict[str, Any]]:
    now = runtime.clock.wall()
    first = (now // HOUR - HOURS + 1) * HOUR
    hours = journal_counts.accepted_by_hour(runtime.reader, first)
    counts = [hours.get(number, (0, 0)) for number in range(HOURS)]
    most_files = max((files for files, _ in counts), default=0) or 1
    most_bytes = max((bytes_ for _, bytes_ in counts), default=0) or 1
    return [
        {
            "files": files,
            "bytes": bytes_,
            "height": round(100 * files / most_files, 1),
            "weight": round(100 * bytes_ / most_bytes, 1),
            "title": f"{clock(first + number * HOUR, now)}: {text.files(files)}, {size(bytes_)}",
        }
        for number, (files, bytes_) in enumerate(counts)
    ]


def failed_row(runtime: Runtime, ident: str) -> Row | None:
    """Return the failed file with this id, or None."""
    number = ident.removeprefix("F")
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        return None
    row = lookup.by_id(runtime.reader, int(number))
    return row if row is not None and row.state is State.FAILED and row.target is not None else None
