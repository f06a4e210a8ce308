"""What ``holding`` needs to explain a row that is not finished: what holds for all files, and what of other files holds it."""

from __future__ import annotations

from collections.abc import Sequence

from attachd.clock import Clock
from attachd.config import Config, Rulebook
from attachd.journal import lookup
from attachd.journal.database import Journal
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.service import paused
from attachd.service.holding import Circumstances, Waiting
from attachd.share.inbox_marker import Sight


def circumstances(
    config: Config,
    clock: Clock,
    sight: Sight,
    pauses: Sequence[Pause],
    epoch: int,
    *,
    running: bool,
    stopped: Sequence[str],
) -> Circumstances:
    """What holds for all files at this moment; *sight* is the last look at the inbox, *epoch* the journal's, *stopped* from
    ``health.stopping``.
    """
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
    """What holds *row*; *ahead*: how many files of its issue come before it, where that is known: a long queue is counted
    one by one.
    """
    barred_by = lookup.contested_in(journal, row.lane)
    return Waiting(
        row,
        ahead=lookup.ahead(journal, row) if ahead is None else ahead,
        barred_by=barred_by if barred_by and barred_by.id != row.id else None,
        twin=lookup.twin_in_doubt(journal, row),
        # These two are asked only of a refused one: what was never sent has no site yet, and no index would know the answer.
        held_issues=len(paused.suspects(journal, row.site or "")) if row.contested is not None else 0,
        by_day=row.contested is not None and (row.contested == 403 or lookup.has_accepted(journal, row)),
        gone=gone,
        rules=rulebook.of(row.path.partition(b"/")[0], row.asked),
    )
