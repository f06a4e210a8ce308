"""``history``: what became of every file, the newest first."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from attachd.cli import common
from attachd.cli.showing import open_existing
from attachd.journal import lookup
from attachd.journal.rows import Row
from attachd.model import Word, printable, word
from attachd.service import phrasing

#: A checksum is cut off in the table; ``--json`` has all of it.
_DIGITS = 12
_HEADINGS = ("seen", "state", "issue", "file", "attachment", "size", "sha256", "verdict", "filed", "tried", "reason")


def history(
    issue: common.Issue = None,
    state: Annotated[Word | None, typer.Option("--state", help="Only files in this state.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 50,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """List files and what became of them, the newest first."""
    with common.mistakes_told():
        settings, folder = common.prepared(config, instance, check_token=False)
        key = common.issue_key(settings, issue) if issue is not None else ""
        journal = open_existing(folder)
        try:
            found = lookup.history(journal, key, state, limit)
        finally:
            journal.close()
    if as_json:
        common.print_json([described(row) for row in found])
    else:
        for line in table(found, time.time()):
            print(line)


def described(row: Row) -> dict[str, Any]:
    """One file as it is printed with ``--json``; times are seconds since the epoch."""
    return {
        "id": row.ident,
        "file": printable(row.path),
        "word": str(word(row.state, row.blocked)),
        "issue": row.asked,
        "resolved": row.lane,
        "attachment": row.attachment,
        "stored_as": row.stored_as,
        "bytes": row.size,
        "sha256": row.sha256.hex() if row.sha256 else None,
        "seen": row.seen_at,
        "verdict": row.verdict_at,
        "filed": row.finished_at,
        "tries": row.tries,
        "reason": row.said,
        "target": f"{row.root}/{printable(row.target)}" if row.target else None,
    }


def table(found: Sequence[Row], now: float) -> Iterator[str]:
    """Aligned columns without colour; what nobody has is left out. Nothing but the last column may be long."""
    if not found:
        yield "No files."
        return
    cells = [_HEADINGS, *(_cells(row, now) for row in found)]
    shown = [column for column in range(len(_HEADINGS)) if any(line[column] for line in cells[1:])]
    widths = {column: max(len(line[column]) for line in cells) for column in shown}
    for line in cells:
        yield "  ".join(line[column].ljust(widths[column]) for column in shown).rstrip()


def _cells(row: Row, now: float) -> tuple[str, ...]:
    return (
        phrasing.clock(row.seen_at, now),
        str(word(row.state, row.blocked)),
        row.asked if row.lane == row.asked else f"{row.asked} ({row.lane})",
        printable(row.path),
        row.attachment or "",
        phrasing.size(row.size),
        row.sha256.hex()[:_DIGITS] if row.sha256 else "",
        phrasing.clock(row.verdict_at, now) if row.verdict_at else "",
        phrasing.clock(row.finished_at, now) if row.finished_at else "",
        str(row.tries),
        row.said or "",
    )
