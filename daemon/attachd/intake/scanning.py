"""The scan: the truth about the inbox, of which events are only hints. What it finds, it writes into the journal.

One folder at a time, a thousand files a transaction: a million waiting files cost disk, not memory.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

import structlog

from attachd.clock import Clock
from attachd.config import Config, Rulebook
from attachd.filing.guard import Guard
from attachd.intake import reading, routing, walking
from attachd.intake.endings import Endings
from attachd.intake.hiding import Hiding
from attachd.intake.settling import Settling
from attachd.journal import admission, database
from attachd.journal.database import Journal
from attachd.model import printable

log = structlog.get_logger()

#: Files that are looked at and written down in one transaction.
CHUNK = 1000


@dataclass(slots=True)
class Report:
    """What a scan found. ``settles`` tells for each folder when (CLOCK_BOOTTIME) its next file will have settled."""

    there: bool = True
    files: int = 0
    new: int = 0
    troubles: list[tuple[bytes, str]] = field(default_factory=list)
    settles: dict[bytes, float] = field(default_factory=dict)


class Scanner:
    """Looks at the inbox. One thread uses it."""

    def __init__(self, journal: Journal, config: Config, clock: Clock, guard: Guard) -> None:
        """Make one for the life of the process."""
        folders = config.folders
        self._journal, self._config, self._clock, self._guard = journal, config, clock, guard
        self._router = routing.Router(folders.key_pattern, folders.projects, folders.numeric_ids, config.aliases)
        self._hiding = Hiding(config, Rulebook(config), self._router)
        self._endings = Endings()
        self._mount: tuple[int, int, int] | None = None
        self._strays: dict[bytes, tuple[str, int]] | None = None
        self._troubled: dict[bytes, str] = {}

    def remounted(self) -> bool:
        """Look at the mount guard; True if another mount lies there than at the last look, so that a new epoch began."""
        sight = self._guard.look()
        if not sight.there or sight.mount == self._mount:
            return False
        if self._mount is not None:
            with self._journal.transaction() as connection:
                self._guard.epoch = database.increment(connection, "epoch")
        self._mount = sight.mount
        return True

    def elsewhere(self) -> bool:
        """Whether another mount lies at the path than at the last ``remounted``; that one is to be asked next."""
        sight = self._guard.look()
        return sight.there and sight.mount != self._mount

    def scan(self, only: Collection[bytes] | None = None) -> Report:
        """Look at the folders named in *only*, or at all. Nothing is concluded while the inbox is not there."""
        if not self._guard.sight.there:
            return Report(there=False)
        report = Report()
        try:
            inbox = os.open(self._guard.inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            report.troubles.append((b"", error.strerror or str(error)))
            return report
        try:
            self._scan(inbox, only, report)
        finally:
            os.close(inbox)
        self._tell_troubles(report, everything=only is None)
        return report

    def _scan(self, inbox: int, only: Collection[bytes] | None, report: Report) -> None:
        folders, loose = self._top(inbox, report)
        strays: dict[bytes, tuple[str, int]] = {}
        if loose:
            strays[b""] = ("it lies in no issue's folder; move it into a folder such as TEST-123", loose)
        for name in folders if only is None else [name for name in folders if name in only]:
            routed = self._router.route(name)
            if isinstance(routed, routing.Unrouted):
                count = self._count(inbox, name, report)
                if count:
                    strays[name] = (routed.reason, count)
                self._absent(name, 0, served=False)
            else:
                self._folder(inbox, name, routed.key, report)
        vanished = self._known_folders(only) - set(folders)
        for name in vanished if not any(path == b"" for path, _ in report.troubles) else ():
            self._absent(name, 0)
        self._note_strays(strays, only)
        if only is None:
            self._end_of_all(complete=not report.troubles)

    def _end_of_all(self, *, complete: bool) -> None:
        """Everything was seen: what lost its path is gone, and after a lost journal the rest is new."""
        with self._journal.transaction() as connection:
            admission.withdraw_detached(connection, self._moment())
            if complete and self._suspect(connection):
                database.put(connection, "lost", 0)

    @staticmethod
    def _suspect(connection: sqlite3.Connection) -> bool:
        return bool(database.get(connection, "lost"))

    def _top(self, inbox: int, report: Report) -> tuple[list[bytes], int]:
        """The folders of the inbox, and how many files lie loose in it."""
        folders, loose = [], 0
        try:
            with os.scandir(inbox) as listing:
                for item in listing:
                    name = os.fsencode(item.name)
                    if item.is_dir(follow_symlinks=False):
                        if not self._hiding.why(name, True):
                            folders.append(name)
                    elif item.is_file(follow_symlinks=False) and not self._hiding.why(name, False):
                        loose += 1
        except OSError as error:
            report.troubles.append((b"", error.strerror or str(error)))
        return sorted(folders), loose

    def _walk(self) -> walking.Walk:
        return walking.Walk(self._hiding.why, self._config.folders.nested == "flatten")

    def _count(self, inbox: int, name: bytes, report: Report) -> int:
        walk = self._walk()
        count = sum(1 for _ in walk.below(inbox, name))
        report.troubles += walk.troubles
        return count

    def _folder(self, inbox: int, name: bytes, key: str, report: Report) -> None:
        walk = replace(self._walk(), enter=self._hiding.enter)
        with self._journal.transaction() as connection:
            suspect = self._suspect(connection)
        rules, endings = self._hiding.rules(name), self._endings
        settling = Settling(
            *(self._journal, self._config, self._clock, self._guard, key), suspect=suspect, endings=endings, rules=rules
        )
        files = 0
        for entries in _chunks(walk.below(inbox, name)):
            seen = settling.look(entries)
            files += seen.known
            report.new += seen.new
            if seen.settles is not None:
                report.settles[name] = min(seen.settles, report.settles.get(name, seen.settles))
        report.files += files
        report.troubles += walk.troubles
        for below, reason in self._hiding.broken.items():
            reading.hold_back(self._journal, below, reason, self._moment())
        if walk.complete:
            self._absent(name, files)

    def _known_folders(self, only: Collection[bytes] | None) -> set[bytes]:
        with self._journal.transaction() as connection:
            known = set(admission.folders(connection))
        return known if only is None else known & set(only)

    def _absent(self, folder: bytes, present: int, *, served: bool = True) -> None:
        """Look for rows of a completely listed folder whose file was not in it, or is not to be taken any more."""
        with self._journal.transaction() as connection:
            if admission.count_under(connection, folder) == present:
                return
        after = b""
        while True:
            with self._journal.transaction() as connection:
                rows = admission.under(connection, folder, after, CHUNK)
            gone = [row for row in rows if reading.lies_there(self._guard.inbox, row.path) is False]
            left = [row for row in rows if row not in gone and not (served and self._is_taken(row.path))]
            reading.leave_alone(self._journal, [row.id for row in left], self._moment())
            if gone and self._guard.look().there:
                reading.count_missing(
                    self._journal, [row.id for row in gone], self._moment(), self._config.settle.rescan_seconds
                )
            if len(rows) < CHUNK:
                return
            after = rows[-1].path

    def _is_taken(self, path: bytes) -> bool:
        nested = path.count(b"/") > 1 and self._config.folders.nested == "ignore"
        return not nested and not self._hiding.why(path, False)

    def _moment(self) -> admission.Moment:
        return admission.Moment(self._clock.now(), self._clock.boot(), self._guard.epoch)

    def _note_strays(self, strays: dict[bytes, tuple[str, int]], only: Collection[bytes] | None) -> None:
        if only is not None:
            if self._strays is None:
                return
            kept = {name: stray for name, stray in self._strays.items() if name and name not in only}
            strays = kept | strays
        if strays == self._strays:
            return
        with self._journal.transaction() as connection:
            admission.set_strays(connection, strays, self._clock.now())
        for name in strays.keys() - (self._strays or {}).keys():
            log.warning(
                "folder.not_routed", folder=printable(name) or ".", files=strays[name][1], reason=strays[name][0]
            )
        self._strays = strays

    def _tell_troubles(self, report: Report, *, everything: bool) -> None:
        """Say once which folder cannot be listed, and once that it can be again."""
        found = dict(report.troubles)
        for path in found.keys() - self._troubled.keys():
            log.warning("folder.not_listed", folder=printable(path) or ".", reason=found[path])
        self._troubled = found if everything else self._troubled | found


def _chunks(entries: Iterator[walking.Entry]) -> Iterator[list[walking.Entry]]:
    while chunk := list(itertools.islice(entries, CHUNK)):
        yield chunk
