"""The scan: the truth about the inbox, of which events are only hints. What it finds, it writes into the journal.

One folder at a time, a thousand files a transaction: a million waiting files cost disk, not memory. Folders that show that
nothing was added or taken away since everything in them had settled are gone by, for ten minutes at most.
"""

from __future__ import annotations

import itertools
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from attachd.clock import Clock
from attachd.config import Config
from attachd.filing.guard import Guard
from attachd.intake import coverage as coverage_
from attachd.intake import listings, reading, routing, walking
from attachd.intake.coverage import Coverage
from attachd.intake.ignoring import Ignoring
from attachd.intake.listings import Listing, Listings
from attachd.intake.nested import Nested
from attachd.intake.settling import Settling
from attachd.journal import admission, database
from attachd.journal.database import Journal
from attachd.model import printable

log = structlog.get_logger()

#: Files that are looked at and written down in one transaction.
CHUNK = 1000

#: Scanning takes one part in so many of the time at the most: 5 %.
SHARE = 20


@dataclass(slots=True)
class Report:
    """What a scan found. ``settles`` tells for each folder when (CLOCK_BOOTTIME) it is to be looked at again: its next file
    will have settled then, or no event tells of it. ``found`` counts new files by folder.
    """

    there: bool = True
    files: int = 0
    new: int = 0
    troubles: list[tuple[bytes, str]] = field(default_factory=list)
    settles: dict[bytes, float] = field(default_factory=dict)
    found: dict[bytes, int] = field(default_factory=dict)

    def again(self, folder: bytes, boot: float) -> None:
        """Ask for a look at *folder* at *boot* or before."""
        self.settles[folder] = min(boot, self.settles.get(folder, boot))


class Scanner:
    """Looks at the inbox. One thread uses it."""

    def __init__(
        self,
        journal: Journal,
        config: Config,
        clock: Clock,
        guard: Guard,
        coverage: Coverage | None = None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        """Make one for the life of the process. With *coverage* it has what it lists watched, and goes by what is unchanged.

        *beat* is called whenever it got on.
        """
        self._coverage, self._listings, self._beat = coverage, Listings(), beat
        folders = config.folders
        self._journal, self._config, self._clock, self._guard = journal, config, clock, guard
        self._router = routing.Router(folders.key_pattern, folders.projects, folders.numeric_ids, config.aliases)
        self._ignoring = Ignoring(config.settle.ignore)
        self._mount: tuple[int, int, int] | None = None
        self._nested, self._device = Nested(journal), 0
        self._known: set[bytes] = set()
        self._lost = False
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
        self._listings.clear()
        return True

    def elsewhere(self) -> bool:
        """Whether another mount lies at the path than at the last ``remounted``; that one is to be asked next."""
        sight = self._guard.look()
        return sight.there and sight.mount != self._mount

    def scan(self, only: Collection[bytes] | None = None, *, fully: bool = False) -> Report:
        """Look at the folders named in *only*, or at all; *fully*: also at those in which nothing seems to have changed.

        Nothing is concluded while the inbox is not there.
        """
        if fully:
            self._listings.clear()
        if not self._guard.sight.there:
            return Report(there=False)
        report = Report()
        try:
            inbox = os.open(self._guard.inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            report.troubles.append((b"", error.strerror or str(error)))
            return report
        try:
            self._scan(inbox, only, report, fully=fully)
        finally:
            os.close(inbox)
        self._tell_troubles(report, everything=only is None)
        return report

    def _scan(self, inbox: int, only: Collection[bytes] | None, report: Report, *, fully: bool) -> None:
        everything = only is None
        status = os.fstat(inbox)
        self._device = status.st_dev
        if self._coverage and fully:
            self._coverage.listing()
        if self._coverage:
            self._coverage.enter(inbox, status, b"")
        folders, loose = self._top(inbox, report) if only is None else (self._named(inbox, only), 0)
        self._known = self._known_folders(only)
        self._lost = bool(self._journal.value("SELECT value FROM meta WHERE key = 'lost'"))
        strays: dict[bytes, tuple[str, int]] = {}
        if loose:
            strays[b""] = ("it lies in no issue's folder; move it into a folder such as TEST-123", loose)
        for name in folders:
            if self._gone(inbox, name, report):
                continue
            listing = (self._unchanged(inbox, name) if everything else None) or self._list(inbox, name, report)
            if not listing.reason:
                report.files += listing.files
            elif listing.files:
                strays[name] = (listing.reason, listing.files)
        listed = not any(path == b"" for path, _ in report.troubles)
        for name in self._known - set(folders) if listed else ():
            self._absent(name, 0)
        self._note_strays(strays, only)
        if everything:
            self._end_of_all(set(folders), fully=fully, listed=listed, complete=not report.troubles)

    # --- One folder ---------------------------------------------------------------------------------------------

    def _gone(self, inbox: int, name: bytes, report: Report) -> bool:
        """Whether a file system that was mounted in this folder is not there now, so that nothing in it means anything."""
        point = self._nested.absent(inbox, name)
        if point is None:
            return False
        if name not in self._known:
            self._nested.forget(name)
            return False
        reason = "what was mounted there is not there; its files wait (mount it, or remove the folder if it never comes back)"
        report.troubles.append((point, reason))
        self._listings.drop(name)
        return True

    def _unchanged(self, inbox: int, name: bytes) -> Listing | None:
        """What the last listing of a folder showed, if it certainly shows the same now."""
        coverage = self._coverage
        if coverage is None or not coverage.mtimes(name):
            return None
        return self._listings.unchanged(inbox, name, coverage.watched())

    def _list(self, inbox: int, name: bytes, report: Report) -> Listing:
        self._beat()
        began_boot, began = self._clock.boot(), self._clock.now()
        seen: list[listings.Folder] = []
        walk = self._walk(name, seen)
        routed = self._router.route(name)
        if isinstance(routed, routing.Unrouted):
            files, reason = sum(1 for _ in walk.below(inbox, name)), routed.reason
            settled = self._absent(name, 0, served=False)
        else:
            files, reason = self._settle(inbox, name, routed.key, walk, report), ""
            settled = walk.complete and self._absent(name, files)
        report.troubles += walk.troubles
        listing = Listing(began, tuple(seen), files, reason)
        if settled and walk.complete:
            self._listings.put(name, listing)
        else:
            self._listings.drop(name)
        self._poll(name, self._clock.boot() - began_boot, report)
        return listing

    def _walk(self, name: bytes, seen: list[listings.Folder]) -> walking.Walk:
        def entered(path: bytes, folder: int, status: os.stat_result) -> None:
            parent = next((f.identity[0] for f in reversed(seen) if f.path == path.rpartition(b"/")[0]), self._device)
            self._nested.entered(parent, path, status.st_dev)
            seen.append(listings.Folder.of(path, status))
            if self._coverage:
                self._coverage.enter(folder, status, name)

        return walking.Walk(self._ignoring.why, self._config.folders.nested == "flatten", entered)

    def _settle(self, inbox: int, name: bytes, key: str, walk: walking.Walk, report: Report) -> int:
        """Bring what lies in an issue's folder into the journal. Returns the number of its files."""
        settling = Settling(self._journal, self._config, self._clock, self._guard, key, suspect=self._lost)
        files = new = 0
        for entries in _chunks(walk.below(inbox, name)):
            seen = settling.look(entries)
            self._beat()
            files += seen.known
            new += seen.new
            if seen.settles is not None:
                report.again(name, seen.settles)
        report.new += new
        if new:
            report.found[name] = new
        return files

    def _poll(self, name: bytes, took: float, report: Report) -> None:
        """Where events do not tell, look again soon; where that holds for the whole inbox, full scans are as frequent."""
        coverage = self._coverage
        if coverage and coverage.blind(name) and not coverage.blind(b""):
            report.again(name, self._clock.boot() + max(coverage_.POLL_SECONDS, SHARE * took))

    # --- All of them --------------------------------------------------------------------------------------------

    def _end_of_all(self, folders: set[bytes], *, fully: bool, listed: bool, complete: bool) -> None:
        """Everything was seen: what lost its path is gone, and after a lost journal the rest is new."""
        with self._journal.transaction() as connection:
            admission.withdraw_detached(connection, self._moment())
            if complete and self._lost:
                database.put(connection, "lost", 0)
        if listed:
            self._listings.keep(folders)
        if self._coverage:
            self._coverage.listed(everything=fully and complete)

    def _top(self, inbox: int, report: Report) -> tuple[list[bytes], int]:
        """The folders of the inbox, and how many files lie loose in it."""
        folders, loose = [], 0
        try:
            with os.scandir(inbox) as listing:
                for item in listing:
                    name = os.fsencode(item.name)
                    if item.is_dir(follow_symlinks=False):
                        if self._listings.known(name) or not self._ignoring.why(name, True):
                            folders.append(name)
                    elif item.is_file(follow_symlinks=False) and not self._ignoring.why(name, False):
                        loose += 1
        except OSError as error:
            report.troubles.append((b"", error.strerror or str(error)))
        return sorted(folders), loose

    def _named(self, inbox: int, only: Collection[bytes]) -> list[bytes]:
        """Those of the folders *only* that are there and looked at."""
        found = []
        for name in sorted(only):
            with suppress(OSError):
                folder = stat.S_ISDIR(os.stat(name, dir_fd=inbox, follow_symlinks=False).st_mode)
                if folder and (self._listings.known(name) or not self._ignoring.why(name, True)):
                    found.append(name)
        return found

    def _known_folders(self, only: Collection[bytes] | None) -> set[bytes]:
        """The folders, of all or of those in *only*, in which unfinished rows lie."""
        with self._journal.transaction_for_reading() as connection:
            if only is None:
                return set(admission.folders(connection))
            return {name for name in only if admission.standing(connection, name) != (0, 0)}

    def _absent(self, folder: bytes, present: int, *, served: bool = True) -> bool:
        """Look for rows of a completely listed folder whose file was not in it, or is not to be taken any more.

        True if there are none, and each file that was *present* has its row and has settled.
        """
        if not present and folder not in self._known:
            return True
        with self._journal.transaction_for_reading() as connection:
            count, unsettled = admission.standing(connection, folder)
        if count == present:
            return not unsettled
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
                return False
            after = rows[-1].path

    def _is_taken(self, path: bytes) -> bool:
        nested = path.count(b"/") > 1 and self._config.folders.nested == "ignore"
        return not nested and not self._ignoring.why(path, False)

    def _moment(self) -> admission.Moment:
        return admission.Moment(self._clock.now(), self._clock.boot(), self._guard.epoch)

    def _note_strays(self, strays: dict[bytes, tuple[str, int]], only: Collection[bytes] | None) -> None:
        if only is not None:
            if self._strays is None:
                return
            kept = {name: stray for name, stray in self._strays.items() if name not in only}
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
        troubled = found if everything else self._troubled | found
        if troubled != self._troubled:
            self._troubled = troubled
            told = {printable(path) or ".": reason for path, reason in troubled.items()}
            with self._journal.transaction() as connection:
                database.put(connection, "troubles", json.dumps(told))


def _chunks(entries: Iterator[walking.Entry]) -> Iterator[list[walking.Entry]]:
    while chunk := list(itertools.islice(entries, CHUNK)):
        yield chunk
