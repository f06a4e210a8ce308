"""One folder of the inbox: gone by where nothing changed, else listed and brought into the journal."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from attachd.clock import Clock
from attachd.config import Config, Rulebook
from attachd.intake import listings, mounts, reading, routing, walking
from attachd.intake.coverage import Coverage
from attachd.intake.dragged import LeftAlone
from attachd.intake.effort import Effort
from attachd.intake.endings import Endings
from attachd.intake.hiding import Hiding
from attachd.intake.listings import Listing, Listings
from attachd.intake.nested import Nested
from attachd.intake.settling import Settling
from attachd.journal import admission
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.share.inbox_marker import Guard
from attachd.turns import Turns

#: Files that are looked at and written down in one transaction.
CHUNK = 250

#: Scanning takes one part in so many of the time at the most: 5 %. Waiting for a file system is no scanning.
SHARE = 20


@dataclass(slots=True)
class Report:
    """What a scan found. ``settles`` tells for each folder when (CLOCK_BOOTTIME) it is to be looked at again: its next file
    will have settled then, or no event tells of it. ``found`` counts new files by folder. ``departed``: a file with a verdict was
    not found; it is closed once everything was looked through again.
    """

    there: bool = True
    files: int = 0
    new: int = 0
    troubles: list[tuple[bytes, str]] = field(default_factory=list)
    settles: dict[bytes, float] = field(default_factory=dict)
    found: dict[bytes, int] = field(default_factory=dict)
    departed: bool = False

    def again(self, folder: bytes, boot: float) -> None:
        """Ask for a look at *folder* at *boot* or before."""
        self.settles[folder] = min(boot, self.settles.get(folder, boot))


class Visiting:
    """Visits folders of the inbox, one after the other, for the scanner."""

    def __init__(
        self,
        journal: Journal,
        config: Config,
        clock: Clock,
        guard: Guard,
        coverage: Coverage | None,
        beat: Callable[[], None],
        turns: Turns,
    ) -> None:
        """Make one for the life of the process; the arguments are those of ``scanning.Scanner``."""
        self._journal, self._config, self._clock, self._guard = journal, config, clock, guard
        self._coverage, self._beat, self._turns, self.effort = coverage, beat, turns, Effort(clock)
        self._router = routing.of(config)
        self._endings, self._left_alone = Endings(), LeftAlone()
        self._nested = Nested(journal)
        self._device, self._known, self._lost = 0, frozenset[bytes](), 0
        self.hiding = Hiding(config, Rulebook(config), self._router, self._network)
        self.listings = Listings()

    def begin(self, device: int, known: frozenset[bytes], *, lost: int) -> None:
        """A scan begins, of an inbox on *device*. *known*: the folders in which unfinished rows lie; *lost*: a journal was."""
        self._nested.begin(self._guard.inbox)
        self._device, self._known, self._lost = device, known, lost

    def visit(self, inbox: int, name: bytes, report: Report, *, listed: bool) -> Listing | None:
        """Visit one folder; *listed*: in any case. None if a file system that was mounted there is not there now."""
        spent = self.effort.spent()
        if self.gone(inbox, name, report):
            return None
        if not listed and (unchanged := self._unchanged(inbox, name)):
            return unchanged
        listing = self._empty(inbox, name) or self._list(inbox, name, report)
        self._poll(name, spent, report)
        return listing

    def due(self) -> Collection[bytes] | None:
        """Those of the folders with a known listing to which this scan has to look; None: to all."""
        coverage = self._coverage
        return self.listings.due(coverage.watched(), coverage.losses()) if coverage and coverage.proven else None

    def gone(self, inbox: int, name: bytes, report: Report) -> bool:
        """Whether a file system that was mounted in this folder is not there now, so that nothing in it means anything."""
        point = self._nested.absent(inbox, name)
        if point is None:
            return False
        if name not in self._known:
            self._nested.forget(name)
            return False
        reason = "what was mounted there is not there; its files wait (mount it, or remove the folder if it never comes back)"
        report.troubles.append((point, reason))
        self.listings.drop(name)
        return True

    def _unchanged(self, inbox: int, name: bytes) -> Listing | None:
        """What the last listing of a folder showed, if it certainly shows the same now."""
        coverage = self._coverage
        if coverage is None or not coverage.mtimes(name):
            return None
        return self.listings.unchanged(inbox, name, coverage.watched())

    def _empty(self, inbox: int, name: bytes) -> Listing | None:
        """A folder in which nothing is, and of which the journal knows nothing: the most frequent kind, and soon done with.

        None for any other, also for one that another file system lies on, or that cannot be opened.
        """
        if name in self._known:
            return None
        self._beat()
        began = self._clock.wall()
        try:
            folder = os.open(name, walking.FOLDER, dir_fd=inbox)
        except OSError:
            return None
        try:
            status = os.fstat(folder)
            if status.st_dev != self._device:
                return None
            if self._coverage:
                self._coverage.enter(folder, status, name)
            with os.scandir(folder) as listing:
                if next(iter(listing), None) is not None:
                    return None
        except OSError:
            return None
        finally:
            os.close(folder)
        found = Listing(began, (listings.Folder.of(name, status),), 0)
        self.listings.put(name, found)
        return found

    def _list(self, inbox: int, name: bytes, report: Report) -> Listing:
        self._beat()
        began = self._clock.wall()
        seen: list[listings.Folder] = []
        routed = self._router.route(name)
        walk = self._walk(name, seen, heed=isinstance(routed, routing.Routed))
        if isinstance(routed, routing.Unrouted):
            files, reason = sum(1 for _ in walk.below(inbox, name)), routed.reason
            files += sum(walk.deep.values())
            settled = self.absent(name, 0, served=False)
        else:
            (files, known), reason = self._settle(inbox, name, routed.key, walk, report), ""
            settled = walk.complete and self.absent(name, known) and known == files
        report.troubles += walk.troubles
        listing = Listing(began, tuple(seen), files, reason, walk.deep, walk.ignored)
        # Of a folder that is not looked into no mtime tells, so it is looked at again with each scan.
        if settled and walk.complete and not walk.deep:
            self.listings.put(name, listing)
        else:
            self.listings.drop(name)
        return listing

    def _walk(self, name: bytes, seen: list[listings.Folder], *, heed: bool) -> walking.Walk:
        """A walk that notes the folders that it has *seen*, has them watched, and heeds their ignore files."""

        devices = {b"": self._device}

        def enter(path: bytes, folder: int, status: os.stat_result) -> str | None:
            self._beat()
            devices[path] = status.st_dev
            self._nested.entered(devices[path.rpartition(b"/")[0]], path, status.st_dev)
            seen.append(listings.Folder.of(path, status))
            if self._coverage:
                self._coverage.enter(folder, status, name)
            return self.hiding.enter(folder, path) if heed else None

        return walking.Walk(self.hiding.why, self._config.folders.nested == "flatten", enter)

    def _settle(self, inbox: int, name: bytes, key: str, walk: walking.Walk, report: Report) -> tuple[int, int]:
        """Bring what lies in an issue's folder into the journal. Returns how many files there are, and have a row."""
        settling = Settling(
            *(self._journal, self._config, self._clock, self._guard, key),
            suspect=self._lost,
            network=self._network,
            endings=self._endings,
            left_alone=self._left_alone,
            rules=self.hiding.rules(name),
            beat=self._beat,
        )
        files = known = new = 0
        for entries in _chunks(self.effort.each(walk.below(inbox, name))):
            self._beat()
            with self._turn():
                recognised = settling.recognise(entries)
            with self._turn():
                seen = settling.settle(recognised)
            files += seen.known
            known += seen.rows - seen.undecided
            new += seen.new
            if seen.settles is not None:
                report.again(name, seen.settles)
        report.new += new
        if new:
            report.found[name] = new
        for below, reason in self.hiding.broken.items():
            reading.hold_back(self._journal, below, reason, self._moment())
        return files, known

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Work in turn; to wait for it is no effort."""
        self.effort.step()
        with self._turns.taken():
            self.effort.waited()
            yield

    def _network(self, path: bytes) -> bool:
        return self._coverage is not None and self._coverage.shared(path)

    def _poll(self, name: bytes, spent: float, report: Report) -> None:
        """Where events do not tell, look again soon; where that holds for the whole inbox, full scans are as frequent.

        *spent* was the effort before this folder was visited.
        """
        coverage = self._coverage
        if coverage and coverage.blind(name) and not coverage.blind(b""):
            took = self.effort.spent() - spent
            report.again(name, self._clock.boot() + max(mounts.POLL_SECONDS, SHARE * took))

    # --- What is not there any more -----------------------------------------------------------------------------------

    def absent(self, folder: bytes, present: int, *, served: bool = True) -> bool:
        """Look for rows of a completely listed folder whose file was not in it, or is not to be taken any more.

        True if there are none, and the *present* ones, which have a row each, have settled.
        """
        if not present and folder not in self._known:
            return True
        with self._journal.transaction_for_reading() as connection:
            count, unsettled = admission.standing(connection, folder)
        if count == present:
            return not unsettled
        after = b""
        while True:
            self._beat()
            with self._journal.transaction_for_reading() as connection:
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
        return not nested and not self.hiding.why(path, False)

    def sighted(self, departed: Sequence[Row]) -> set[int]:
        """Whose files still lie anywhere in the inbox (``reading.sighted``)."""
        return reading.sighted(self._guard, departed, self._network, self._beat)

    def key_of(self, path: bytes) -> str | None:
        """The issue of a folder of the inbox; None for one that is no issue's."""
        routed = self._router.route(path.partition(b"/")[0])
        return routed.key if isinstance(routed, routing.Routed) else None

    def _moment(self) -> admission.Moment:
        return admission.Moment.of(self._clock, self._guard.epoch)


def _chunks(entries: Iterator[walking.Entry]) -> Iterator[list[walking.Entry]]:
    while chunk := list(itertools.islice(entries, CHUNK)):
        # The order in which they are sent: as they came, and not as the file system happens to list them.
        yield sorted(chunk, key=lambda entry: (entry.print.mtime_ns, entry.path))
