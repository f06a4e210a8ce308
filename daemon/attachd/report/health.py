"""The health of the service: everything that holds files or needs a person, found from one snapshot.

``status``, ``check``, ``why``, the page, ``/readyz``, metrics, ``_STATUS.txt`` and systemd's status line all show these
conditions. A new kind is added here, and so appears everywhere.
"""

from __future__ import annotations

import datetime
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from attachd import errors
from attachd.config import Config
from attachd.heartbeat import Hang
from attachd.intake import mounts
from attachd.journal import counts, database, outbox, sites
from attachd.journal.counts import UnroutedFolder
from attachd.journal.database import Journal
from attachd.journal.outbox import Behind
from attachd.journal.pauses import Pause
from attachd.journal.sites import Elsewhere
from attachd.model import Unserved, printable
from attachd.report import disk, token_expiry
from attachd.report import pauses as report_pauses
from attachd.text import capital, clock, files

if TYPE_CHECKING:
    from attachd.delivery.runtime import Runtime

#: How long a hook may be behind before it is a condition, in seconds.
LATE_SECONDS = 600.0
_LIVE = "live"


class Severity(StrEnum):
    """How much of the service a condition affects."""

    STOPPED = "stopped"  #: nothing is attached meanwhile
    DEGRADED = "degraded"  #: some files are held, or late
    WARNING = "warning"  #: everything goes on, and an administrator should know


class Kind(StrEnum):
    """The kinds of conditions, apart from pauses, which have kinds of their own."""

    DISK = "journal-disk"
    INBOX = "inbox"
    HANG = "hang"
    ELSEWHERE = "other-site"
    UNLISTED = "not-listed"
    UNROUTED = "no-issue"
    BLIND = "blind"
    TOKEN = "token"  # noqa: S105 - a word, not a secret
    HOOK = "hook"
    PAGE = "page"
    JOURNAL = "journal"


#: In front of a line of ``status``.
LABELS: Mapping[str, str] = {
    Kind.DISK: "disk",
    Kind.INBOX: "inbox",
    Kind.HANG: "hangs",
    Kind.ELSEWHERE: "other site",
    Kind.UNLISTED: "not listed",
    Kind.UNROUTED: "no issue",
    Kind.BLIND: "events",
    Kind.TOKEN: "token",
    Kind.HOOK: "hook",
    Kind.PAGE: "page",
    Kind.JOURNAL: "journal",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is not as it should be. *sentence* and *remedy* have no full stop; *pause* is set if it is a pause.

    Only *kind*, *scope* and *severity* name no file, folder or issue, so anybody may see them.
    """

    kind: str
    severity: Severity
    scope: str
    sentence: str
    remedy: str = ""
    subject: str = ""
    since: float | None = None
    pause: Pause | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """Return one or two words to put before the sentence."""
        return "paused" if self.pause else LABELS[self.kind]

    @property
    def brief(self) -> str:
        """Return the kind alone, for people who may not read names."""
        if self.pause:
            return f"paused: {self.pause.scope}, {self.kind}"
        return _BRIEF.get(self.kind, f"{self.severity}: {self.kind}")

    def __str__(self) -> str:
        """Return the sentence and the remedy."""
        return f"{self.sentence}. {capital(self.remedy)}" if self.remedy else self.sentence


_BRIEF: Mapping[str, str] = {
    Kind.DISK: "paused: site, journal-disk",
    Kind.INBOX: "the inbox is not there",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that conditions are found from; *disk* and *absent* are clauses, "" if all is well.

    *pauses* are those to show, with refusals that wait for a person. *writable*: the journal can be written all the same.
    """

    now: float
    site: str
    expires: datetime.date | None = None
    disk: str = ""
    disk_since: float | None = None
    writable: bool = False
    absent: str = ""
    unreadable: str = ""
    hangs: Sequence[tuple[str, bool, float]] = ()
    page: Unserved | None = None
    pauses: Sequence[Pause] = ()
    elsewhere: Sequence[Elsewhere] = ()
    unlisted: Mapping[str, str] = field(default_factory=dict)
    unrouted: Sequence[UnroutedFolder] = ()
    blind: Mapping[str, str] = field(default_factory=dict)
    behind: Sequence[Behind] = ()


# --- From a snapshot to conditions: pure ------------------------------------------------------------------------------


def conditions(seen: Snapshot) -> list[Condition]:
    """Return everything that is not as it should be, the most pressing first."""
    found = [*_of_the_process(seen), *_of_pauses(seen), *_of_the_journal(seen)]
    order = list(Severity)
    return sorted(found, key=lambda each: order.index(each.severity))


def _of_the_process(seen: Snapshot) -> Iterator[Condition]:
    if seen.unreadable:
        yield Condition(Kind.JOURNAL, Severity.STOPPED, "site", f"the journal cannot be read: {seen.unreadable}")
    if seen.disk:
        severity = Severity.DEGRADED if seen.writable else Severity.STOPPED
        yield Condition(Kind.DISK, severity, "site", seen.disk, disk.REMEDY, since=seen.disk_since)
    if seen.absent:
        yield Condition(Kind.INBOX, Severity.STOPPED, "inbox", seen.absent)
    for said, degraded, since in seen.hangs:
        severity = Severity.DEGRADED if degraded else Severity.STOPPED
        yield Condition(Kind.HANG, severity, "service", said, subject=said.partition(" ")[0], since=since)
    if page := seen.page:
        said = f"the web page is not available at {page.listen}: {page.reason}"
        yield Condition(Kind.PAGE, Severity.WARNING, "service", said, page.remedy, page.listen, page.since)


def _of_pauses(seen: Snapshot) -> Iterator[Condition]:
    for each in seen.pauses:
        said = f"{report_pauses.what(each, seen.now)}. {report_pauses.end(each, seen.now)}"
        wide = not each.subject and each.kind != report_pauses.FUSE
        severity = Severity.STOPPED if wide else Severity.DEGRADED
        yield Condition(each.kind, severity, str(each.scope), said, subject=each.subject, since=each.since, pause=each)


def _of_the_journal(seen: Snapshot) -> Iterator[Condition]:
    for other in seen.elsewhere:
        said = f"{files(other.files)} may have arrived at {other.site}, and jira.url is now {seen.site}"
        remedy = (
            "if both are the same Jira, run `attachd resume --adopt-site`. Otherwise set jira.url back until they are decided; "
            "if not, they fail after doubt.give_up_hours"
        )
        yield Condition(Kind.ELSEWHERE, Severity.DEGRADED, "site", said, remedy, other.site, other.since)
    for folder, reason in seen.unlisted.items():
        yield Condition(Kind.UNLISTED, Severity.DEGRADED, "folder", f"{folder}: {reason}", subject=folder)
    for unrouted in seen.unrouted:
        where = printable(unrouted.folder) or "the inbox itself"
        said = f"{where} ({files(unrouted.files)}): {unrouted.reason}"
        yield Condition(Kind.UNROUTED, Severity.WARNING, "folder", said, subject=where, since=unrouted.since)
    for mount, reason in seen.blind.items():
        said = f"{mount}: {reason}. attachd scans it every {mounts.POLL_SECONDS:g} s instead"
        yield Condition(Kind.BLIND, Severity.WARNING, "folder", said, subject=mount)
    today = token_expiry.today(seen.now)
    if seen.expires is not None and token_expiry.nears(seen.expires, today):
        ended = seen.expires < today
        severity = Severity.DEGRADED if ended else Severity.WARNING
        yield Condition(Kind.TOKEN, severity, "account", token_expiry.words(seen.expires, today), token_expiry.REMEDY)
    for each in seen.behind:
        if seen.now - each.since >= LATE_SECONDS:
            said = f"the hook {each.target} has received nothing since {clock(each.since, seen.now)}"
            remedy = "the log says why (hook.failed). attachd retries for a day"
            yield Condition(Kind.HOOK, Severity.WARNING, "service", said, remedy, each.target, each.since)


def stopping(found: Sequence[Condition]) -> list[str]:
    """Return what stops every file, except pauses, hangs and the inbox."""
    return [
        each.sentence
        for each in found
        if each.severity is Severity.STOPPED and each.pause is None and each.kind not in (Kind.INBOX, Kind.HANG)
    ]


# --- Snapshots --------------------------------------------------------------------------------------------------------


def of_runtime(runtime: Runtime) -> list[Condition]:
    """Return the conditions as the running service knows them, even if its journal cannot be read or written."""
    now, folder, sight = runtime.clock.wall(), runtime.journal.path.parent, runtime.guard.sight
    failing = runtime.journal.failing
    full = disk.low(folder)
    if failing and not full:
        full = disk.words(folder, f"cannot be written ({failing[0]})")
    live = Snapshot(
        now=now,
        site=runtime.config.jira.url,
        expires=runtime.config.jira.auth.token_expires,
        disk=full,
        disk_since=failing[1] if failing else None,
        writable=failing is None,
        absent="" if sight.there else sight.reason or "the inbox is not there",
        hangs=_lines(runtime.beats.hangs(), now),
        page=runtime.page_trouble,
    )
    return conditions(_with_journal(live, runtime.reader, running=True))


def of_journal(
    config: Config, state: Path, journal: Journal, now: float, *, absent: str, pid: int, trial: bool = True
) -> list[Condition]:
    """Return the conditions as another process finds them. *absent* says why the inbox is not there.

    *pid* is the running service's, or 0. Without *trial* nothing is written to the disk to test it.
    """
    full = disk.trouble(state) if trial else disk.low(state)
    hangs, page = _live(journal, pid)
    live = Snapshot(
        now=now,
        site=config.jira.url,
        expires=config.jira.auth.token_expires,
        disk=full,
        absent=absent,
        hangs=hangs,
        page=page,
    )
    return conditions(_with_journal(live, journal, running=bool(pid)))


def _with_journal(seen: Snapshot, journal: Journal, *, running: bool) -> Snapshot:
    try:
        line = journal.timeline()
        with journal.transaction_for_reading() as connection:
            elsewhere = [replace(each, since=line.shown(each.since)) for each in sites.elsewhere(connection, seen.site)]
            behind = [replace(each, since=line.shown(each.since)) for each in outbox.behind(connection) if running]
        return replace(
            seen,
            pauses=report_pauses.shown(journal, seen.site, seen.now),
            elsewhere=elsewhere,
            unlisted=counts.troubles(journal),
            unrouted=counts.unrouted(journal),
            blind=counts.events(journal).blind,
            behind=behind,
        )
    except sqlite3.OperationalError as error:
        if not errors.disk_fails(error):
            raise
        return replace(seen, unreadable=str(error))


def _lines(hangs: Sequence[Hang], now: float) -> list[tuple[str, bool, float]]:
    return [(hang.words, hang.degraded, now - hang.seconds) for hang in hangs]


def note_live(journal: Journal, hangs: Sequence[Hang], page: Unserved | None, now: float) -> None:
    """Record for other processes what only this one knows; called when that has changed."""
    live = json.dumps([os.getpid(), _lines(hangs, now), page])
    with journal.transaction(durable=False) as connection:
        database.put(connection, _LIVE, live)


def _live(journal: Journal, pid: int) -> tuple[list[tuple[str, bool, float]], Unserved | None]:
    text = journal.value("SELECT value FROM meta WHERE key = ?", (_LIVE,))
    by, hangs, page = json.loads(text) if text else (0, [], None)
    if not pid or by != pid:
        return [], None
    return [(said, degraded, since) for said, degraded, since in hangs], Unserved(*page) if page else None
