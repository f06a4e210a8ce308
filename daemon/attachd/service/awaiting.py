"""From a row that the journal has not finished with to what ``holding`` can explain: what of other files holds it."""

from __future__ import annotations

from attachd.config import Rulebook
from attachd.journal import lookup
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.service.holding import Waiting


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
        held_issues=lookup.held_issues(journal),
        by_day=row.contested == 403 or lookup.has_accepted(journal, row),
        gone=gone,
        rules=rulebook.of(row.path.partition(b"/")[0], row.asked),
    )
