"""What ``why`` judges from: the circumstances of all files at one moment, and of one file that waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from attachd.clock import Clock
from attachd.config import Config, Rulebook, Settle
from attachd.intake import gates
from attachd.journal import lookup
from attachd.journal.database import Journal
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.report import pauses as report_pauses
from attachd.share.inbox_marker import Sight


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is the case for all files: the time, the process, the folders, the pauses, the waits of the configuration.

    ``absent`` says why the inbox is not there, "" if it is. ``epoch`` is the journal's last one. ``stopped`` are clauses
    about what else stops everything. ``site`` is jira.url.
    """

    now: float
    boot: float
    epoch: int
    running: bool
    absent: str
    pauses: Sequence[Pause]
    inbox: str
    done: str
    failed: str
    config: str
    rescan: float
    looks: int
    stopped: Sequence[str] = ()
    site: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that the journal has not finished with, and what other files have to do with it.

    *ahead* files of its issue come before it. Jira refused *barred_by*. *twin* is in doubt and has its name and size.
    *by_day*: the refusal is tried hourly for a day, because the issue may accept files again. *gone*: nothing lies at its
    path now. *rules* are those of its folder.
    """

    row: Row
    ahead: int = 0
    barred_by: Row | None = None
    twin: Row | None = None
    held_issues: int = 0
    by_day: bool = False
    gone: bool = False
    rules: Settle = field(default=gates.DEFAULTS, compare=False, repr=False)


def gather(
    config: Config,
    clock: Clock,
    sight: Sight,
    pauses: Sequence[Pause],
    epoch: int,
    *,
    running: bool,
    stopped: Sequence[str],
) -> Circumstances:
    """Return the circumstances of this moment; *sight* is the last look at the inbox, *stopped* is ``health.stopping``."""
    folders = config.folders
    return Circumstances(
        now=clock.wall(),
        boot=clock.boot(),
        epoch=epoch,
        running=running,
        absent="" if sight.there else sight.reason,
        stopped=stopped,
        site=config.jira.url,
        pauses=pauses,
        inbox=str(folders.inbox),
        done=str(folders.done),
        failed=str(folders.failed),
        config=str(config.file),
        rescan=config.settle.rescan_seconds,
        looks=len(config.doubt.looks_seconds),
    )


def waiting(journal: Journal, rulebook: Rulebook, row: Row, *, ahead: int | None = None, gone: bool = False) -> Waiting:
    """Return what has to do with *row*. Pass *ahead* if it is known, because a long queue is counted one by one."""
    barred_by = lookup.contested_in(journal, row.issue)
    return Waiting(
        row,
        ahead=lookup.ahead(journal, row) if ahead is None else ahead,
        barred_by=barred_by if barred_by and barred_by.id != row.id else None,
        twin=lookup.twin_in_doubt(journal, row),
        # These two are asked only of a refused row: a row that was never sent has no site, and no index for the question.
        held_issues=len(report_pauses.suspects(journal, row.site or "")) if row.contested is not None else 0,
        by_day=row.contested is not None and (row.contested == 403 or lookup.has_accepted(journal, row)),
        gone=gone,
        rules=rulebook.of(row.path.partition(b"/")[0], row.folder_key),
    )
