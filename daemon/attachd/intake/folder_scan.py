"""One folder of the inbox: gone by where nothing changed, else listed and brought into the journal."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from attachd import heartbeat
from attachd.clock import Clock
from attachd.config import Rulebook
from attachd.fs import folders, recognition
from attachd.intake import examine, listing_cache, missing_files, mounts, router
from attachd.intake import files as intake_files
from attachd.intake.context import Context, IssueFolder
from attachd.intake.examine import log
from attachd.intake.files import Entry, Seen
from attachd.intake.identity import is_sent
from attachd.intake.ignore import Hiding
from attachd.intake.listing_cache import Listing, Listings
from attachd.intake.matching import Matcher
from attachd.intake.mounts import Nested
from attachd.intake.stray_notes import LeftAlone
from attachd.journal import admission, identity
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.model import State, printable

# How long scanning takes, as far as it is work and not a wait for a file system that does not answer.

#: A step that takes longer counts as this much. The steps are single folders and files: only a file system that does not
#: answer, or the content of a large file, takes longer.
_LONGEST_STEP = 1.0

_T = TypeVar("_T")


class Effort:
    """Counts the seconds of scanning, step by step.

    After a scan the inbox is left alone for a multiple of what it took. One that hung until a share's server came back
    took minutes; what was put there since would wait for hours.
    """

    def __init__(self, clock: Clock) -> None:
        """Nothing was done yet."""
        self._clock, self._last, self._spent = clock, clock.boot(), 0.0

    def step(self) -> None:
        """Something was done."""
        now = self._clock.boot()
        self._spent += min(now - self._last, _LONGEST_STEP)
        self._last = now

    def each(self, things: Iterable[_T]) -> Iterator[_T]:
        """The same *things*, each a step."""
        for thing in things:
            self.step()
            yield thing

    def spent(self) -> float:
        """The seconds until now; only the difference of two answers means anything."""
        self.step()
        return self._spent


#: Files that are looked at and written down in one transaction.
CHUNK = 250

#: Scanning takes at most one part in so many of the time: 5 %. Waiting for a file system is not scanning.
SHARE = 20


@dataclass(slots=True)
class Report:
    """What a scan found. ``settles`` tells when (CLOCK_BOOTTIME) a folder, or a single file of a large one, is looked at again:
    its next file will have settled then, or no event tells of it. ``found`` counts new files by folder. ``missing``: a file with
    a verdict was not found; it is closed once everything was looked through again.
    """

    there: bool = True
    files: int = 0
    new: int = 0
    troubles: list[tuple[bytes, str]] = field(default_factory=list)
    settles: dict[bytes, float] = field(default_factory=dict)
    found: dict[bytes, int] = field(default_factory=dict)
    missing: bool = False

    def again(self, path: bytes, boot: float) -> None:
        """Ask for a look at *path* at *boot* or before."""
        self.settles[path] = min(boot, self.settles.get(path, boot))


class FolderScan:
    """Looks at folders of the inbox, one after the other, for the scanner."""

    def __init__(self, context: Context, effort: Effort) -> None:
        """*effort* counts what the work takes."""
        self._context, self._coverage, self.effort = context, context.coverage, effort
        self._router = router.of(context.config)
        self._left_alone = LeftAlone()
        self._nested = Nested(context.journal)
        self._sums: missing_files.Sums = {}
        #: The folders with so many files that new ones are looked at one by one, with their device and inode.
        self._large: dict[bytes, tuple[int, int]] = {}
        self._device, self._known, self._lost = 0, frozenset[bytes](), False
        self.hiding = Hiding(context.config, Rulebook(context.config), self._router, context.network)
        self.listings = Listings()

    def begin(self, device: int, *, lost: bool) -> None:
        """A scan begins, of an inbox on *device*; *lost*: a journal was."""
        self._nested.begin(self._context.guard.inbox)
        self._device, self._lost = device, lost

    def know(self, known: frozenset[bytes]) -> None:
        """Take note of the folders in which unfinished rows lie."""
        self._known = known

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
        self._context.checkpoint()
        began = self._context.clock.wall()
        try:
            with folders.subfolder(inbox, name) as folder:
                status = examine.status_of(folder)
                if status.st_dev != self._device:
                    return None
                if self._coverage:
                    self._coverage.enter(folder, status, name)
                with heartbeat.on_share(), os.scandir(folder) as listing:
                    if next(iter(listing), None) is not None:
                        return None
        except OSError:
            return None
        found = Listing(began, (listing_cache.Folder.of(name, status),), 0)
        self.listings.put(name, found)
        return found

    def _list(self, inbox: int, name: bytes, report: Report) -> Listing:
        self._context.checkpoint()
        began = self._context.clock.wall()
        seen: list[listing_cache.Folder] = []
        routed = self._router.route(name)
        walk = self._walk(seen, heed=isinstance(routed, router.Routed))
        if isinstance(routed, router.Unrouted):
            files, reason = sum(1 for _ in walk.below(inbox, name)), routed.reason
            files += sum(walk.deep.values())
            settled = self.absent(name, 0, served=False)
        else:
            (files, known), reason = self._settle(inbox, name, routed.key, walk, report), ""
            settled = walk.complete and self.absent(name, known) and known == files
        report.troubles += walk.troubles
        listing = Listing(began, tuple(seen), files, reason, walk.deep, walk.ignored)
        self._large.pop(name, None)
        if files > CHUNK and walk.complete and not reason:
            self._large[name] = seen[0].identity
        # Of a folder that is not looked into no mtime tells, so it is looked at again with each scan.
        if settled and walk.complete and not walk.deep:
            self.listings.put(name, listing)
        else:
            self.listings.drop(name)
        return listing

    def _walk(self, seen: list[listing_cache.Folder], *, heed: bool) -> intake_files.Walk:
        """A walk that notes the folders that it has *seen*, has them watched, and heeds their ignore files."""

        devices = {b"": self._device}

        def enter(path: bytes, folder: int, status: os.stat_result) -> str | None:
            self._context.checkpoint()
            devices[path] = status.st_dev
            self._nested.entered(devices[path.rpartition(b"/")[0]], path, status.st_dev)
            seen.append(listing_cache.Folder.of(path, status))
            if self._coverage:
                self._coverage.enter(folder, status, path)
            return self.hiding.enter(folder, path) if heed else None

        return intake_files.Walk(self.hiding.why, self._context.config.folders.nested == "flatten", enter)

    def _settle(self, inbox: int, name: bytes, key: str, walk: intake_files.Walk, report: Report) -> tuple[int, int]:
        """Bring what lies in an issue's folder into the journal. Returns how many files there are, and have a row."""
        matcher, files, known, single = self._matcher(name, key), 0, 0, 0
        for entries in _chunks(self.effort.each(walk.below(inbox, name))):
            seen = self._take(name, matcher, entries, report)
            files += seen.known
            known += seen.rows - seen.undecided
            single += len(seen.settles)
            self._again(name, seen.settles, report, single=single <= CHUNK)
        for below, reason in self.hiding.broken.items():
            hold_back(self._context.journal, below, reason, self._context.moment())
        return files, known

    def _again(self, name: bytes, settles: Mapping[bytes, float], report: Report, *, single: bool) -> None:
        """Ask for another look at what settles: file by file if they are *single* ones of a large folder, else at the folder."""
        if single and name in self._large and all(path.count(b"/") == 1 for path in settles):
            for path, boot in settles.items():
                report.again(path, boot)
        elif settles:
            report.again(name, min(settles.values()))

    def _matcher(self, name: bytes, key: str) -> Matcher:
        folder = IssueFolder(key, self.hiding.rules(name), suspect=self._lost)
        return Matcher(self._context, folder, self._left_alone)

    def _take(self, name: bytes, matcher: Matcher, entries: Sequence[Entry], report: Report) -> Seen:
        """Bring some files of an issue's folder into the journal."""
        self._context.checkpoint()
        seen = matcher.settle(matcher.recognise(entries))
        report.new += seen.new
        if seen.new:
            report.found[name] = report.found.get(name, 0) + seen.new
        return seen

    # --- Single files of a large folder -----------------------------------------------------------------------------

    def visit_files(self, inbox: int, name: bytes, paths: Collection[bytes], report: Report) -> bool:
        """Look at these files, directly in a folder whose last listing was long. Return False if it is to be listed instead.

        What went from there is found by the next listing, as ever.
        """
        routed = self._router.route(name)
        if not isinstance(routed, router.Routed) or not self._told_singly(name) or len(paths) > CHUNK:
            return False
        if self._nested.absent(inbox, name) is not None:
            return False
        entries = self._entries(inbox, name, paths)
        if entries is None:
            return False
        self.listings.drop(name)
        seen = self._take(name, self._matcher(name, routed.key), entries, report)
        self._again(name, seen.settles, report, single=True)
        return True

    def _told_singly(self, name: bytes) -> bool:
        """Whether an event of one file says all that is new in this folder, and to list it instead would take long."""
        told = self._coverage is not None and not self._coverage.blind(name)
        return told and name in self._large and not self.hiding.rules(name).ready_suffix

    def _entries(self, inbox: int, name: bytes, paths: Collection[bytes]) -> list[Entry] | None:
        """Those of the files that lie there; None where another folder does, or what only a listing can judge."""
        found = list[Entry]()
        try:
            with folders.subfolder(inbox, name) as folder:
                status = examine.status_of(folder)
                if (status.st_dev, status.st_ino) != self._large[name] or self.hiding.enter(folder, name):
                    return None
                for path in paths:
                    there = recognition.status_of(folder, path.partition(b"/")[2])
                    if there is None or self.hiding.why(path, False):
                        continue
                    if not stat.S_ISREG(there.st_mode):
                        return None
                    found.append(Entry(path, intake_files.fingerprint(there)))
        except OSError:
            return None
        return sorted(found, key=_age)

    def _poll(self, name: bytes, spent: float, report: Report) -> None:
        """Where events do not tell, look again soon; where that holds for the whole inbox, full scans are as frequent.

        *spent* was the effort before this folder was visited.
        """
        coverage = self._coverage
        if coverage and coverage.blind(name) and not coverage.blind(b""):
            took = self.effort.spent() - spent
            report.again(name, self._context.clock.boot() + max(mounts.POLL_SECONDS, SHARE * took))

    # --- What is not there any more -----------------------------------------------------------------------------------

    def absent(self, folder: bytes, present: int, *, served: bool = True) -> bool:
        """Look for rows of a completely listed folder whose file was not in it, or is not to be taken any more.

        True if there are none, and the *present* ones, which have a row each, have settled.
        """
        if not present and folder not in self._known:
            return True
        with self._context.journal.transaction_for_reading() as connection:
            count, unsettled = admission.standing(connection, folder)
        if count == present:
            return not unsettled
        after = b""
        while True:
            self._context.checkpoint()
            with self._context.journal.transaction_for_reading() as connection:
                rows = admission.under(connection, folder, after, CHUNK)
            gone = [row for row in rows if examine.lies_there(self._context.guard.inbox, row.path) is False]
            left = [row for row in rows if row not in gone and not (served and self._is_taken(row.path))]
            leave_alone(self._context.journal, [row.id for row in left], self._context.moment())
            if gone and self._context.guard.look().there:
                count_missing(
                    self._context.journal,
                    [row.id for row in gone],
                    self._context.moment(),
                    self._context.config.settle.rescan_seconds,
                )
            if len(rows) < CHUNK:
                return False
            after = rows[-1].path

    def _is_taken(self, path: bytes) -> bool:
        nested = path.count(b"/") > 1 and self._context.config.folders.nested == "ignore"
        return not nested and not self.hiding.why(path, False)

    def sighted(self, missing: Sequence[Row]) -> set[int]:
        """Whose files still lie anywhere in the inbox (``missing_files.sighted``)."""
        return missing_files.sighted(self._context, missing, self._sums)

    def key_of(self, path: bytes) -> str | None:
        """The issue of a folder of the inbox; None for one that is no issue's."""
        routed = self._router.route(path.partition(b"/")[0])
        return routed.key if isinstance(routed, router.Routed) else None


def _chunks(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while chunk := list(itertools.islice(entries, CHUNK)):
        yield sorted(chunk, key=_age)


def _age(entry: Entry) -> tuple[int, bytes]:
    """The order in which files are sent: as they came, and not as the file system happens to list them."""
    return entry.print.mtime_ns, entry.path


#: Rows that are looked at in one transaction.
_AT_ONCE = 1000


def count_missing(journal: Journal, row_ids: Sequence[int], moment: admission.Moment, apart: float) -> None:
    """Count complete listings, *apart* seconds from each other, that did not show these rows' files.

    Two make it certain: what was never sent is withdrawn then. Of what was sent the second one is counted in ``confirm_missing``.
    """
    with journal.transaction(durable=False) as connection:
        for row_id in row_ids:
            row = identity.still_at_path(connection, row_id)
            if row is None:
                continue
            if row.state is State.SEEN:
                admission.withdraw(connection, row, moment, "")
            elif row.missing and is_sent(row):
                continue  # It may have been carried elsewhere: what is so is concluded when everything was looked through.
            elif missing_files.may_count(row, moment, apart):
                missing = admission.count_missing(connection, row, moment)
                if missing >= 2 and row.state is State.READY:
                    admission.withdraw(connection, row, moment, "it was taken out of the inbox before it was sent")
                    log.info("file.withdrawn", id=row.ident, issue=row.issue, file=printable(row.path))


def leave_alone(journal: Journal, row_ids: Sequence[int], moment: admission.Moment) -> None:
    """Withdraw rows whose files are not to be taken any more (ignored now, or in a folder that is no issue's).

    Only what was never sent; what was has its verdict to come.
    """
    if not row_ids:
        return
    with journal.transaction(durable=False) as connection:
        for row_id in row_ids:
            row = identity.still_at_path(connection, row_id)
            if row is not None and row.state in (State.SEEN, State.READY) and not is_sent(row):
                admission.withdraw(
                    connection, row, moment, "it is not to be taken any more (ignored, or no issue's folder)"
                )


def hold_back(journal: Journal, folder: bytes, reason: str, moment: admission.Moment) -> None:
    """Let nothing go that lies below a folder of which nothing may be taken; what was sent has its verdict to come."""
    held, after = admission.Hold(blocked=reason), b""
    while True:
        with journal.transaction(durable=False) as connection:
            found = admission.under(connection, folder, after, _AT_ONCE)
            for row in found:
                if row.state in (State.SEEN, State.READY) and not is_sent(row) and row.blocked != reason:
                    admission.set_back(connection, row, held, moment)
        if len(found) < _AT_ONCE:
            return
        after = found[-1].path
