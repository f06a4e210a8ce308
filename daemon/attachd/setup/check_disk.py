"""What ``check`` says of disk space: how fast ``done`` grows, how long the space lasts, and what retention will delete."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from attachd import text
from attachd.clock import Clock
from attachd.config import Config
from attachd.errors import Mistake
from attachd.filing import retention as filing_retention
from attachd.journal import database, retention, timeline
from attachd.model import State
from attachd.setup.finding import Finding

_DAY = 86_400.0
#: The growth of so many days is the forecast.
_GROWTH_DAYS = 28.0
#: With space for fewer days than this, ``check`` warns.
_TIGHT_DAYS = 28.0


class Old(NamedTuple):
    """The files in one of the folders that are older than *days*."""

    name: str
    days: int
    files: int
    bytes: int


def find(config: Config, state: Path, clock: Clock) -> Iterator[Finding]:
    """Ask the journal, if there is one, and the disk."""
    try:
        grown, old, closed = _ask(config, state, clock)
    except Mistake as mistake:
        yield from (Finding("journal", "failed", f"{p.where} {p.what}", p.remedy) for p in mistake.problems)
        return
    if grown is not None and config.folders.done.is_dir():
        yield growth(grown, config.folders.done)
    for each in old:
        what = f"{each.files} files ({text.size(each.bytes)}) in {each.name} are older than {each.days} days"
        if closed and each.files:
            yield Finding("retention", "warning", f"{what}. {filing_retention.NOT_COMPARED}", _COMPARE)
        else:
            yield Finding(
                "retention", "ok", f"{what}; attachd deletes each once it finds it in Jira" if each.files else what
            )


#: What an administrator can do if attachd cannot compare contents.
_COMPARE = "use a user name and password if the site lets them open attachments, or delete by hand"


def _ask(config: Config, state: Path, clock: Clock) -> tuple[retention.Growth | None, list[Old], bool]:
    journal = database.open_for_reading(state)
    if journal is None:
        return None, [], False
    kept = config.retention
    ages = (("done", State.DONE, kept.done_days), ("failed", State.FAILED, kept.failed_days))
    try:
        with closing(journal), journal.transaction_for_reading() as connection:
            now = timeline.read(connection, clock).now
            old = [
                Old(name, days, *retention.overdue(connection, filed, now - days * _DAY))
                for name, filed, days in ages
                if days
            ]
            closed = bool(database.get(connection, filing_retention.CLOSED))
            return retention.growth(connection, now, _GROWTH_DAYS), old, closed
    except sqlite3.DatabaseError as error:
        raise database.unusable(journal.path, error) from error


def growth(grown: retention.Growth, done: Path) -> Finding:
    """Compare the forecast with the free space."""
    a_day = grown.bytes / grown.days
    weekly = f"done grows by {grown.files / grown.days * 7:.0f} files ({text.size(a_day * 7)}) a week"
    status = os.statvfs(done)
    free = status.f_bavail * status.f_frsize
    if not a_day or free / a_day > 3650:
        return Finding("growth", "ok", f"{weekly}; {text.size(free)} are free")
    detail = f"{weekly}; {text.size(free)} are free, enough for {free / a_day:.0f} days"
    if free / a_day >= _TIGHT_DAYS:
        return Finding("growth", "ok", detail)
    return Finding("growth", "warning", detail, "make room, or let retention.done_days delete old files that Jira has")
