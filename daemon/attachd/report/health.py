"""How it stands with the service: all that holds files up or wants a person, found from one snapshot.

Whoever shows how it stands shows these conditions: ``status``, ``check``, ``why``, the page, ``/readyz``, metrics,
``_STATUS.txt`` and the service manager's line. A new kind is added here, and so appears everywhere.
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
from attachd.text import clock

if TYPE_CHECKING:
    from attachd.delivery.runtime import Runtime

#: How long a hook may be behind before somebody should know, in seconds.
LATE_SECONDS = 600.0
_LIVE = "live"


class Severity(StrEnum):
    """How far it goes."""

    STOPPED = "stopped"  #: nothing is attached meanwhile
    DEGRADED = "degraded"  #: some of it is held up, or late
    WARNING = "warning"  #: everything goes on, and a person should know


class Kind(StrEnum):
    """What there is besides pauses, whose kinds are their own."""

    DISK = "journal-disk"
    INBOX = "inbox"
    HANG = "hang"
    ELSEWHERE = "other-site"
    UNLISTED = "not-listed"
    UNROUTED = "no-issue"
    BLIND = "blind"
    TOKEN = "token"  # noqa: S105 - a word, and no secret
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
    """One thing that is not as it should be. *sentence* is a clause without a full stop; *pause* is set where it is one.

    Only *kind*, *scope* and *severity* name no file, no folder and no issue, and may be shown to anybody.
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
        """One or two words in front of the sentence."""
        return "paused" if self.pause else LABELS[self.kind]

    @property
    def brief(self) -> str:
        """The kind alone, for who may not read names."""
        if self.pause:
            return f"paused: {self.pause.scope}, {self.kind}"
        return _BRIEF.get(self.kind, f"{self.severity}: {self.kind}")

    def __str__(self) -> str:
        """With what is to be done."""
        return f"{self.sentence}; {self.remedy}" if self.remedy else self.sentence


_BRIEF: Mapping[str, str] = {
    Kind.DISK: "paused: site, journal-disk",
    Kind.INBOX: "the inbox is not there",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that conditions are found from; *disk* and *absent* are clauses, "" where all is well.

    *pauses* are those that people are told of, refusals that wait for a person among them. *writable*: the journal takes
    what is written at this moment all the same.
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
    """All that is not as it should be, the most pressing first."""
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
        said = f"the web page is not served at {page.listen}: {page.reason}"
        yield Condition(Kind.PAGE, Severity.WARNING, "service", said, page.remedy, page.listen, page.since)


def _of_pauses(seen: Snapshot) -> Iterator[Condition]:
    for each in seen.pauses:
        said = f"{report_pauses.what(each, seen.now)}; {report_pauses.end(each, seen.now)}"
        wide = not each.subject and each.kind != report_pauses.FUSE
        severity = Severity.STOPPED if wide else Severity.DEGRADED
        yield Condition(each.kind, severity, str(each.scope), said, subject=each.subject, since=each.since, pause=each)


def _of_the_journal(seen: Snapshot) -> Iterator[Condition]:
    for other in seen.elsewhere:
        files = "1 file" if other.files == 1 else f"{other.files} files"
        said = f"{files} may have arrived at {other.site}, and jira.url is {seen.site} now"
        remedy = (
            "if both are the same Jira, `attachd resume --adopt-site` looks them up; otherwise set jira.url back until they "
            "are decided, or they fail with a note after doubt.give_up_hours"
        )
        yield Condition(Kind.ELSEWHERE, Severity.DEGRADED, "site", said, remedy, other.site, other.since)
    for folder, reason in seen.unlisted.items():
        yield Condition(Kind.UNLISTED, Severity.DEGRADED, "folder", f"{folder}: {reason}", subject=folder)
    for unrouted in seen.unrouted:
        where = printable(unrouted.folder) or "the inbox itself"
        said = f"{where} ({unrouted.files} file{'s' * (unrouted.files != 1)}): {unrouted.reason}"
        yield Condition(Kind.UNROUTED, Severity.WARNING, "folder", said, subject=where, since=unrouted.since)
    for mount, reason in seen.blind.items():
        said = f"{mount}: {reason}; it is looked through every {mounts.POLL_SECONDS:g} s"
        yield Condition(Kind.BLIND, Severity.WARNING, "folder", said, subject=mount)
    today = token_expiry.today(seen.now)
    if seen.expires is not None and token_expiry.nears(seen.expires, today):
        ended = seen.expires < today
        severity = Severity.DEGRADED if ended else Severity.WARNING
        yield Condition(Kind.TOKEN, severity, "account", token_expiry.words(seen.expires, today), token_expiry.REMEDY)
    for each in seen.behind:
        if seen.now - each.since >= LATE_SECONDS:
            said = f"the hook {each.target} was not told what happened since {clock(each.since, seen.now)}"
            remedy = "the log says why (hook.failed); it is tried again for a day"
            yield Condition(Kind.HOOK, Severity.WARNING, "service", said, remedy, each.target, each.since)


def stopping(found: Sequence[Condition]) -> list[str]:
    """What holds every file up and is neither a pause nor the inbox, of which ``why`` speaks by itself."""
    return [
        each.sentence
        for each in found
        if each.severity is Severity.STOPPED and each.pause is None and each.kind not in (Kind.INBOX, Kind.HANG)
    ]


# --- Snapshots --------------------------------------------------------------------------------------------------------


def of_runtime(runtime: Runtime) -> list[Condition]:
    """The conditions as the running service knows them: also where its journal cannot be written, or not even read."""
    now, folder, sight = runtime.clock.wall(), runtime.journal.path.parent, runtime.guard.sight
    failing = runtime.journal.failing
    full = disk.low(folder)
    if failing and not full:
        full = disk.words(folder, f"does not take what is written ({failing[0]})")
    live = Snapshot(
        now=now,
        site=runtime.config.jira.url,
        expires=runtime.config.jira.auth.token_expires,
        disk=full,
        disk_since=failing[1] if failing else None,
        writable=failing is None,
        absent="" if sight.there else sight.reason or "the inbox is not there",
        hangs=_told(runtime.beats.hangs(), now),
        page=runtime.page_trouble,
    )
    return conditions(_with_journal(live, runtime.reader, running=True))


def of_journal(
    config: Config, state: Path, journal: Journal, now: float, *, absent: str, pid: int, trial: bool = True
) -> list[Condition]:
    """The conditions as another process finds them out; *absent*: why the inbox is not there. *pid*: of the running service,
    0 where none runs. Without *trial* nothing is written to the disk to find out about it.
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
            pauses=report_pauses.told(journal, seen.site, seen.now),
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


def _told(hangs: Sequence[Hang], now: float) -> list[tuple[str, bool, float]]:
    return [(hang.words, hang.degraded, now - hang.seconds) for hang in hangs]


def note_live(journal: Journal, hangs: Sequence[Hang], page: Unserved | None, now: float) -> None:
    """Write down for other processes what only this one knows; called where that has changed."""
    told = json.dumps([os.getpid(), _told(hangs, now), page])
    with journal.transaction(durable=False) as connection:
        database.put(connection, _LIVE, told)


def _live(journal: Journal, pid: int) -> tuple[list[tuple[str, bool, float]], Unserved | None]:
    text = journal.value("SELECT value FROM meta WHERE key = ?", (_LIVE,))
    by, hangs, page = json.loads(text) if text else (0, [], None)
    if not pid or by != pid:
        return [], None
    return [(said, degraded, since) for said, degraded, since in hangs], Unserved(*page) if page else None
