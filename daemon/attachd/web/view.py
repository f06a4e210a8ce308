"""What the page shows, as plain values: sentences, numbers and lengths of bars. What it is made of decides nothing."""

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
from attachd.report import health, why_waiting
from attachd.report import pauses as report_pauses
from attachd.report.health import Kind
from attachd.report.why_waiting import Circumstances
from attachd.text import clock, size, span

#: Conditions that have a part of their own.
_OWN_PARTS = {Kind.INBOX, Kind.HANG, Kind.UNROUTED, Kind.UNLISTED}
#: How many lines each part has at the most.
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
    """How fast uploads are: what was seen of each before, by the id of its row, as (CLOCK_BOOTTIME, bytes)."""

    first: dict[int, tuple[float, int]] = field(default_factory=dict)

    def of(self, row: int, sent: int, boot: float) -> float | None:
        """Bytes per second since this upload was seen first; None while that is too short."""
        began, had = self.first.setdefault(row, (boot, sent))
        return (sent - had) / (boot - began) if boot - began >= 1.0 and sent > had else None

    def forget_all_but(self, rows: set[int]) -> None:
        """These are under way; the others have ended."""
        self.first = {row: seen for row, seen in self.first.items() if row in rows}


class Sums:
    """Sums over what was attached, which take the longer the more that was: the same answer again until twenty times as long
    has passed as it took. A thousand files are counted in every second, a million every half minute.
    """

    def __init__(
        self, timer: Callable[[], float] = time.monotonic, worked: Callable[[], float] = time.thread_time
    ) -> None:
        """Nothing is known yet. *worked* tells what the asking costs: on a busy machine it takes longer than that."""
        self._timer, self._worked = timer, worked
        self._known: dict[str, tuple[float, Any]] = {}

    def of(self, what: str, ask: Callable[[], T]) -> T:
        """What *ask* answers, or has answered a moment ago."""
        now = self._timer()
        until, answer = self._known.get(what, (now, None))
        if until <= now:
            began = self._worked()
            answer = ask()
            self._known[what] = self._timer() + _TIMES * (self._worked() - began), answer
        return cast("T", answer)


def live(runtime: Runtime, rates: Rates, sums: Sums) -> dict[str, Any]:
    """What changes by itself. Each question is answered by an index, however many files wait."""
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
        "counts": [(str(each), words[each]) for each in words if words[each] or each is Word.WAITING],
        "unrouted_files": unrouted_files,
        "today": text.files(sums.of("today", lambda: journal_counts.attached_since(journal, midnight))),
        "oldest": span(now - oldest) if oldest is not None else "",
        "paused_by_hand": any(each.scope is Scope.OPERATOR and not each.subject for each in pauses),
        "absent": "" if inbox.there else inbox.reason,
        "hangs": [str(hang) for hang in runtime.beats.hangs()],
        "conditions": [
            f"{str(each)[:1].upper()}{str(each)[1:]}."
            for each in conditions
            if each.pause is None and each.kind not in _OWN_PARTS
        ],
        "pauses": [_pause(each, now) for each in report_pauses.told(journal, runtime.config.jira.url, now)],
        "sending": _sending(runtime, rates),
        "queues": [_issue(runtime, each, world) for each in lookup.queues(journal, MOST)],
        "waiting": (waiting := _waiting(runtime, world)),
        # Also what no pause holds up may wait for a person's word.
        "resumable": any("“Resume”" in each["sentence"] for each in waiting),
        "unrouted": [
            {"folder": printable(s.folder) or "the inbox itself", "files": text.files(s.files), "reason": s.reason}
            for s in unrouted[:MOST]
        ],
        "unlisted": list(journal_counts.troubles(journal).items())[:MOST],
        "failed": [_failed(runtime, row, now) for row in journal_counts.failed_lately(journal, MOST)],
        "last": [_verdict(runtime, row, now) for row in journal_counts.last_verdicts(journal, 15)],
    }


def frame(runtime: Runtime) -> dict[str, Any]:
    """What stays."""
    return {
        "version": __version__,
        "site": runtime.site.pages,
        "inbox": str(runtime.config.folders.inbox),
        "instance": loader.instance(runtime.config.file),
    }


def found(runtime: Runtime, wanted: str) -> list[dict[str, Any]]:
    """What the history says of files whose name, issue, attachment or id contains *wanted*."""
    now = runtime.clock.wall()
    return [_verdict(runtime, row, now) for row in lookup.search(runtime.reader, wanted, MOST)]


def _pause(each: Pause, now: float) -> dict[str, Any]:
    said = report_pauses.what(each, now)
    return {
        # The button stands beside it.
        "sentence": _for_a_page(f"{said[:1].upper()}{said[1:]}; {report_pauses.end(each, now)}."),
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
    """What holds for all files, as this process knows it: the file system of the inbox is not asked."""
    guard = runtime.guard
    return why_waiting.circumstances(
        runtime.config, runtime.clock, guard.sight, pauses, guard.epoch, running=True, stopped=stopped
    )


def _issue(runtime: Runtime, each: lookup.Queue, world: Circumstances) -> dict[str, Any]:
    """What waits for its turn to be sent to one issue: the first by name, and what holds the first."""
    first = lookup.first_in(runtime.reader, each.issue, MOST_NAMED)
    pause, sentence = report_pauses.widest(world.pauses, each.issue, world.now), ""
    if pause is not None and not pause.subject:
        sentence = "Paused, as everything is."
    elif first:
        found = why_waiting.waiting(runtime.reader, runtime.rulebook, first[0], ahead=0)
        sentence = _for_a_page(why_waiting.explain("The first", found, world).sentence)
    return {
        "issue": each.issue,
        "link": runtime.site.page(each.issue),
        "files": text.files(each.files),
        "names": [printable(row.path.partition(b"/")[2]) for row in first],
        "more": max(0, each.files - len(first)),
        "since": span(world.now - each.oldest),
        "sentence": sentence,
    }


def _waiting(runtime: Runtime, world: Circumstances) -> list[dict[str, Any]]:
    """What waits for more than its turn, the most pressing first; what settles comes last."""
    rows = lookup.troubled(runtime.reader, MOST)
    rows += lookup.settling(runtime.reader, MOST - len(rows))
    shown = []
    for row in rows:
        found = why_waiting.waiting(runtime.reader, runtime.rulebook, row, ahead=0)
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
    """A sentence that names a verb, for people who have a button."""
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
        "reason": row.said or "",
    }


# --- The chart ----------------------------------------------------------------------------------------------------


def chart(runtime: Runtime, sums: Sums) -> dict[str, Any]:
    """Files and bytes that Jira accepted in each of the last hours, as bars with their heights in percent."""
    bars = sums.of("hours", lambda: _bars(runtime))
    files, total = sum(bar["files"] for bar in bars), size(sum(bar["bytes"] for bar in bars))
    title = f"{text.files(files)}, {total} attached in the last {HOURS} hours"
    if files:
        most, heaviest = max(bar["files"] for bar in bars), max(bar["bytes"] for bar in bars)
        title += f"; at most {text.files(most)} and {size(heaviest)} in an hour"
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
    """The failed file of this id; None where there is none (any more)."""
    number = ident.removeprefix("F")
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        return None
    row = lookup.by_id(runtime.reader, int(number))
    return row if row is not None and row.state is State.FAILED and row.target is not None else None
