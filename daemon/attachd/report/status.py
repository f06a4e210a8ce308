"""The state of the service as data, for ``status`` and others that show it, with the daemon up or down."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attachd.config import Config
from attachd.journal import counts as journal_counts
from attachd.journal import lookup, terms
from attachd.journal.database import Journal
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.model import Cure, State, Word, printable, word
from attachd.report import health
from attachd.report import pauses as report_pauses
from attachd.report import progress as report_progress
from attachd.report.health import Condition
from attachd.share import locks, paths
from attachd.share.inbox_marker import Sight

#: How long to wait for the file systems of the inbox and of shares in it, in seconds.
ANSWER_SECONDS = 5.0
#: At most so many issues with waiting files are named.
MOST_QUEUES = 50


def collect(
    settings: Config, state: Path, journal: Journal, now: float, *, look: bool = True, trial: bool = True
) -> dict[str, Any]:
    """Return everything that ``status`` knows, as ``--json`` prints it; times are seconds since the epoch.

    Without *trial* nothing is written to test the disk. Without *look* the inbox is not opened, and ``inbox_there`` is
    None, as it is when its file system does not answer.
    """
    summary, events, inbox = journal_counts.summary(journal), journal_counts.events(journal), settings.folders.inbox
    shares = [mount for mount in events.blind if mount.startswith(f"{inbox}/")]
    looks = [
        partial(paths.sight, settings, state, terms.known(journal)),
        *(partial(_opens, m) for m in shares),
    ]
    sight, *answering = _soon(looks) if look else [None] * len(looks)
    held = report_pauses.suspects(journal, settings.jira.url)
    pauses = [*journal_counts.active_pauses(journal, now), *report_pauses.fuse(held)]
    suspected = {each.issue for each in held}
    silent = [mount for mount, answers in zip(shares, answering, strict=True) if answers is None and look]
    holder = locks.holder(state / "lock")
    absent = "" if not look else _absent(sight)
    found = health.of_journal(
        settings, state, journal, now, absent=absent, pid=holder.pid if holder else 0, trial=trial
    )
    return {
        "config": str(settings.file),
        "state": str(state),
        "inbox": str(inbox),
        "inbox_there": sight.there if sight else None,
        "inbox_reason": sight.reason or None if sight else None,
        "site": settings.jira.url,
        "token_expires": str(settings.jira.auth.token_expires) if settings.jira.auth.token_expires else None,
        "running": {"pid": holder.pid, "host": holder.host} if holder else None,
        "files": {
            str(name): count for name, count in (summary.counts if holder else _orphaned(summary.counts)).items()
        },
        "contested": summary.contested,
        "oldest_waiting": summary.oldest,
        "oldest_waiting_seconds": max(0.0, now - summary.oldest) if summary.oldest is not None else None,
        "events": _events(events),
        "sending": _sending(lookup.sending(journal), report_progress.read(state)) if holder else [],
        "queue": [
            {"issue": each.issue, "files": each.files, "oldest": each.oldest}
            for each in lookup.queues(journal, MOST_QUEUES)
        ],
        "conditions": [condition(each) for each in found],
        "pauses": [pause(each) for each in pauses],
        "not_listed": journal_counts.troubles(journal)
        | {mount.removeprefix(f"{inbox}/"): "its file system does not answer" for mount in silent},
        "ignored": journal_counts.ignored(journal),
        "unrouted": [_unrouted(each) for each in journal_counts.unrouted(journal)],
        "waiting_for": [
            # A held refusal is not tried again, so it has no next time.
            _file(row) | ({"next": None} if row.contested and row.issue in suspected else {})
            for row in lookup.troubled(journal)
        ]
        + ([] if holder else [_orphan(row) for row in lookup.sending(journal)]),
        "last": [_file(row) for row in journal_counts.last_verdicts(journal)],
    }


def _soon(looks: Sequence[Callable[[], Sight]]) -> list[Sight | None]:
    """Return what each look finds; None if its file system does not answer, as that of a lost share may not for minutes."""
    found: dict[int, Sight] = {}

    def look(number: int) -> None:
        found[number] = looks[number]()

    threads = [threading.Thread(target=look, args=(number,), daemon=True) for number in range(len(looks))]
    until = time.monotonic() + ANSWER_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [found.get(number) for number in range(len(looks))]


def _opens(folder: str) -> Sight:
    try:
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError:
        return Sight(False)
    return Sight(True)


def _events(events: journal_counts.Events) -> dict[str, Any]:
    return {"blind": events.blind, "overflows": events.overflows, "found_by_scan": events.found}


def _file(row: Row) -> dict[str, Any]:
    return {
        "id": row.ident,
        "file": printable(row.path),
        "folder_key": row.folder_key,
        "issue": row.issue,
        "word": str(word(row.state, row.blocked)),
        "bytes": row.size,
        "since": row.since,
        "tries": row.tries,
        "attachment": row.attachment,
        "reason": row.blocked or _unmoved(row) or row.said,
        "next": row.due or None,
        "target": f"{row.root}/{printable(row.target)}" if row.target else None,
    }


def _orphaned(counts: Mapping[Word, int]) -> dict[Word, int]:
    """Return the counts while nothing runs: files that were uploading when the service died are in doubt."""
    moved = {Word.SENDING: 0, Word.IN_DOUBT: counts.get(Word.IN_DOUBT, 0) + counts.get(Word.SENDING, 0)}
    return {**counts, **moved}


def _orphan(row: Row) -> dict[str, Any]:
    reason = "it was uploading when attachd ended. attachd looks at the issue before it sends anything again"
    return _file(row) | {"word": str(Word.IN_DOUBT), "reason": reason, "next": None}


def _sending(rows: Sequence[Row], progress: Mapping[str, int]) -> list[dict[str, Any]]:
    """Add how many bytes were sent, if that is known; files in one request share the figure."""
    return [
        _file(row) | {"sent": min(row.size, progress[row.ident]) if row.ident in progress else None} for row in rows
    ]


def _unmoved(row: Row) -> str | None:
    """Return the reason of a file that has its verdict and still lies in the inbox."""
    root = {State.ATTACHED: "done", State.REFUSED: "failed"}.get(row.state)
    return f"it has its verdict, and could not be moved to {root} yet" if root else None


def pause(held: Pause) -> dict[str, Any]:
    """Return one pause as ``--json`` prints it."""
    return {
        "scope": str(held.scope),
        "subject": held.subject,
        "kind": held.kind,
        "reason": held.reason,
        "since": held.since,
        "until": None if held.cure is Cure.HAND else held.until,
        "ends_by": str(held.cure),
    }


def condition(found: Condition) -> dict[str, Any]:
    """Return one condition as ``--json`` prints it."""
    return {
        "kind": str(found.kind),
        "severity": str(found.severity),
        "scope": found.scope,
        "subject": found.subject,
        "sentence": found.sentence,
        "remedy": found.remedy or None,
        "since": found.since,
    }


def _absent(sight: Sight | None) -> str:
    if sight is None:
        return "the file system of the inbox does not answer"
    return "" if sight.there else sight.reason or "the inbox is not there"


def _unrouted(unrouted: journal_counts.UnroutedFolder) -> dict[str, Any]:
    return {
        "folder": printable(unrouted.folder) or ".",
        "files": unrouted.files,
        "reason": unrouted.reason,
        "since": unrouted.since,
    }
