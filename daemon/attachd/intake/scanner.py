"""The scan: the truth about the inbox, of which events are only hints. What it finds, it writes into the journal.

One folder at a time, some hundred files a transaction, so that delivery never waits for long: a million waiting files cost disk,
not memory. Folders that show that nothing was added or taken away since everything in them had settled are gone by, for ten
minutes at most.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import replace

from attachd import heartbeat
from attachd.fs import folders as fs_folders
from attachd.intake import examine, missing_files, note_claims
from attachd.intake import files as intake_files
from attachd.intake.context import Context
from attachd.intake.folder_scan import Effort, FolderScan, Report
from attachd.intake.inotify import INBOX, folder_of
from attachd.intake.listing_cache import Folder, Listing
from attachd.journal import admission, database, identity, moved_issues, rows
from attachd.journal.rows import Row
from attachd.logger import get_logger
from attachd.model import printable
from attachd.share.inbox_marker import Mount, Sight

log = get_logger()

#: With more unsettled files than this, it is not asked in which folders they lie: everything is listed.
_MOST_UNSETTLED = 10_000


class Scanner:
    """Looks at the inbox. One thread uses it."""

    def __init__(self, context: Context) -> None:
        """Make one for each configuration."""
        self.effort, self._checkpoint = Effort(context.clock), context.checkpoint
        self._context = replace(context, checkpoint=self._step)
        self._coverage = context.coverage
        self._folder_scan = FolderScan(self._context, self.effort)
        self._listings, self._hiding = self._folder_scan.listings, self._folder_scan.hiding
        # Nothing that was found on another mount or in another term counts.
        self._mount: Mount | None = None
        self._term = ""
        self._there = False
        self._lost, self._heard = False, False
        self._unrouted: dict[bytes, tuple[str, int]] | None = None
        self._troubled: dict[bytes, str] = {}
        #: What the journal says of it; unknown at first: a process that was here before may have written it.
        self._troubles_noted: dict[str, str] | None = None
        #: How many names are left alone in each folder of an issue, where any are.
        self._ignored: dict[bytes, int] | None = None
        self._tops: list[bytes] = []

    def _step(self) -> None:
        self.effort.step()
        self._checkpoint()

    def begin_epoch(self) -> None:
        """Nothing that was found before counts for delivery until it is found again."""
        with self._context.journal.transaction(durable=False) as connection:
            self._context.guard.epoch = database.increment(connection, "epoch")

    def succeed(self, earlier: Scanner) -> None:
        """Go on where *earlier* was: on the same mount, if it still lies there."""
        self._mount, self._term, self._there = earlier._mount, earlier._term, earlier._there

    def remounted(self) -> bool:
        """Look at the mount guard; True if another mount lies there than at the last look, or another journal worked with it
        meanwhile, so that a new epoch began. Between two scans: an inbox that is not ours any more is taken again, if it may be.
        """
        sight = self._context.guard.recover()
        self._there = sight.there
        if not sight.there or not self._is_another(sight):
            return False
        if self._mount is not None:
            self.begin_epoch()
        self._mount, self._term = sight.mount, sight.term
        self._listings.clear()
        return True

    def came_or_went(self) -> bool:
        """Whether the inbox is there now and was not at the last ``remounted``, or the other way round, or is another one."""
        sight = self._context.guard.look()
        return sight.there != self._there or (sight.there and self._is_another(sight))

    def _is_another(self, sight: Sight) -> bool:
        return (sight.mount, sight.term) != (self._mount, self._term)

    def scan(self, only: Collection[bytes] | None = None, *, fully: bool = False) -> Report:
        """Look at the paths in *only*, or at all; *fully*: also at folders in which nothing seems to have changed.

        Those are folders of the inbox, and files directly in one, of which nothing else has changed. ``inotify.INBOX`` stands for
        the files in the inbox itself, which are counted and never taken.
        Nothing is concluded while the inbox is not there.
        """
        if fully:
            self._listings.clear()
        if not self._context.guard.sight.there:
            return Report(there=False)
        report = Report()
        try:
            with heartbeat.on_share():
                inbox = os.open(self._context.guard.inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            report.troubles.append((b"", intake_files.why(error)))
            return report
        try:
            listed = self._scan(inbox, only, report, fully=fully)
        finally:
            fs_folders.close(inbox)
        self._tell_troubles(report, listed)
        return report

    def _scan(
        self, inbox: int, paths: Collection[bytes] | None, report: Report, *, fully: bool
    ) -> Collection[bytes] | None:
        """Return the folders that were listed; None: all."""
        everything = paths is None
        missing = self._missing() if everything else []
        self._begin(inbox, fully=fully)
        only = None if paths is None else self._beyond_files(inbox, paths, report)
        known = self._know(only)
        folders, loose = self._top(inbox, report) if only is None else self._some(inbox, only, report)
        unrouted: dict[bytes, tuple[str, int]] = {}
        if loose:
            unrouted[INBOX] = ("it lies in no issue's folder; move it into a folder such as TEST-123", loose)
        due = self._folder_scan.due() if everything else None
        ignored = {
            name: count for name, count in (self._ignored or {}).items() if only is not None and name not in only
        }
        for name in folders:
            believed = None if due is None or name in due else self._listings.get(name)
            listing = believed or self._folder_scan.visit(inbox, name, report, listed=not everything)
            if listing and listing.reason and listing.files:
                unrouted[name] = (listing.reason, listing.files)
            elif listing and not listing.reason:
                report.files += listing.files
                ignored |= {name: listing.ignored} if listing.ignored else {}
                unrouted |= {path: (intake_files.TOO_DEEP, files) for path, files in listing.deep.items()}
        listed = not any(path == b"" for path, _ in report.troubles)
        for name in known - set(folders) if listed else ():
            if not self._folder_scan.gone(inbox, name, report):
                self._folder_scan.absent(name, 0)
        self._note_unrouted(unrouted, only)
        self._note_ignored(ignored)
        if everything:
            self._confirm_missing(missing, [path for path, _ in report.troubles])
            self._end_of_all(set(folders), fully=fully, listed=listed, complete=not report.troubles)
            with self._context.journal.transaction_for_reading() as connection:
                left = identity.missing(connection)
            before = {row.id: row for row in missing}
            fresh = [row for row in left if not rows.is_unchanged(row, before.get(row.id))]
            report.missing = any(not row.at_path and row.missing < 2 for row in fresh)
        return only

    def _beyond_files(self, inbox: int, paths: Collection[bytes], report: Report) -> set[bytes]:
        """Look at single files where that is enough. Return the folders that have to be listed."""
        only, files = {path for path in paths if b"/" not in path}, dict[bytes, list[bytes]]()
        for path in sorted(paths):
            if (name := folder_of(path)) not in only:
                files.setdefault(name, []).append(path)
        for name, some in files.items():
            if not self._folder_scan.visit_files(inbox, name, some, report):
                only.add(name)
        return only

    def _missing(self) -> list[Row]:
        """The rows whose file had left its path before this scan."""
        with self._context.journal.transaction_for_reading() as connection:
            return identity.missing(connection)

    def _confirm_missing(self, missing: Sequence[Row], troubles: Sequence[bytes]) -> None:
        """Everything was looked through: what had left its path before that and was found nowhere is gone.

        But not while a folder of its own issue cannot be listed, where it may be.
        """
        if not missing or b"" in troubles or not self._context.guard.look().there:
            return
        blind = {key for path in troubles if (key := self._folder_scan.key_of(path))}
        moment = self._context.moment()
        gone = missing_files.still_missing(self._context, missing, moment)
        sighted = self._folder_scan.sighted(gone) if gone else set[int]()
        with self._context.journal.transaction(durable=False) as connection:
            for row in gone:
                if row.id in sighted or blind & moved_issues.keys_of(connection, row.folder_key):
                    continue
                if rows.is_unchanged(rows.find(connection, row.id), row):
                    admission.confirm_missing(connection, row, moment)

    def _begin(self, inbox: int, *, fully: bool) -> None:
        """Have the inbox itself watched."""
        status = examine.status_of(inbox)
        self._lost = bool(self._context.journal.value("SELECT value FROM meta WHERE key = 'lost'"))
        if self._lost and not self._heard:
            self._heard = note_claims.gather(
                self._context.journal, self._context.config.folders.failed, self._checkpoint
            )
        self._folder_scan.begin(status.st_dev, lost=self._lost)
        if self._coverage:
            if fully:
                self._coverage.listing()
            self._coverage.enter(inbox, status, b"")

    def _know(self, only: Collection[bytes] | None) -> frozenset[bytes]:
        """Return the folders, of all or of those in *only*, in which unfinished rows lie."""
        with self._context.journal.transaction_for_reading() as connection:
            if only is None:
                known = frozenset(admission.folders(connection))
            else:
                known = frozenset(name for name in only if admission.standing(connection, name) != (0, 0))
        self._folder_scan.know(known)
        if only is None:
            self._forget_unsettled()
        return known

    def _forget_unsettled(self) -> None:
        """List the folders again in which a file settles again: delivery found it changed, which no folder's mtime shows."""
        with self._context.journal.transaction_for_reading() as connection:
            unsettled = admission.unsettled(connection, _MOST_UNSETTLED)
        if len(unsettled) >= _MOST_UNSETTLED:
            self._listings.clear()
        for path in unsettled:
            self._listings.drop(folder_of(path))

    # --- All of them --------------------------------------------------------------------------------------------

    def _end_of_all(self, folders: set[bytes], *, fully: bool, listed: bool, complete: bool) -> None:
        """Everything was seen: what lost its path is gone, and after a lost journal the rest is new."""
        found_again = complete and self._lost and self._heard
        if found_again:
            inbox, now = self._context.guard.inbox, self._context.moment().now
            note_claims.remember_passed_over(self._context.journal, inbox, self._checkpoint, now)
        with self._context.journal.transaction(durable=False) as connection:
            admission.withdraw_detached(connection, self._context.moment())
            if found_again:
                database.put(connection, "lost", 0)
        if listed:
            self._listings.keep(folders | {b""})
        if self._coverage:
            self._coverage.listed(everything=fully and complete)

    def _top(self, inbox: int, report: Report) -> tuple[list[bytes], int]:
        """The folders of the inbox, and how many files lie loose in it."""
        coverage = self._coverage
        if coverage and coverage.mtimes(b"") and (known := self._listings.unchanged(inbox, b"", coverage.watched())):
            return self._tops, known.files
        began, itself = self._context.clock.wall(), Folder.of(b".", examine.status_of(inbox))
        self._tops, loose = self._list_top(inbox, report)
        if report.troubles:
            self._listings.drop(b"")
        else:
            self._listings.put(b"", Listing(began, (itself,), loose))
        return self._tops, loose

    def _list_top(self, inbox: int, report: Report) -> tuple[list[bytes], int]:
        folders, loose, looked_at = [], 0, frozenset(self._tops)
        try:
            for item, kind in intake_files.listed(inbox):
                name = os.fsencode(item.name)
                if kind is intake_files.Kind.FOLDER:
                    if name in looked_at or not self._hiding.why(name, True):
                        folders.append(name)
                elif kind is intake_files.Kind.FILE and not self._hiding.why(name, False):
                    loose += 1
        except OSError as error:
            report.troubles.append((b"", intake_files.why(error)))
        return sorted(folders), loose

    def _some(self, inbox: int, only: Collection[bytes], report: Report) -> tuple[list[bytes], int]:
        """Those of the folders *only* that are there and looked at, and how many files lie loose if that is asked too."""
        loose = self._top(inbox, report)[1] if INBOX in only else 0
        folders = [
            name
            for name in sorted(only)
            if _may_be_folder(inbox, name) and (self._listings.known(name) or not self._hiding.why(name, True))
        ]
        return folders, loose

    def _note_unrouted(self, unrouted: dict[bytes, tuple[str, int]], only: Collection[bytes] | None) -> None:
        if only is not None:
            if self._unrouted is None:
                return
            kept = {name: each for name, each in self._unrouted.items() if folder_of(name) not in only}
            unrouted = kept | unrouted
        if unrouted == self._unrouted:
            return
        with self._context.journal.transaction(durable=False) as connection:
            admission.set_unrouted(connection, unrouted, self._context.clock.now())
        for name in unrouted.keys() - (self._unrouted or {}).keys():
            log.warning(
                "folder.not_routed", folder=printable(name) or ".", files=unrouted[name][1], reason=unrouted[name][0]
            )
        self._unrouted = unrouted

    def _note_ignored(self, ignored: dict[bytes, int]) -> None:
        if ignored != self._ignored:
            with self._context.journal.transaction(durable=False) as connection:
                database.put(connection, "ignored", sum(ignored.values()))
            self._ignored = ignored

    def _tell_troubles(self, report: Report, only: Collection[bytes] | None) -> None:
        """Say once which folder cannot be listed, and once that it can be again."""
        found = dict(report.troubles)
        for path in found.keys() - self._troubled.keys():
            log.warning("folder.not_listed", folder=printable(path) or ".", reason=found[path])
        looked_at = self._troubled if only is None else [p for p in self._troubled if folder_of(p) in only]
        troubled = {path: self._troubled[path] for path in self._troubled.keys() - set(looked_at)} | found
        for path in self._troubled.keys() - troubled.keys():
            log.info("folder.listed_again", folder=printable(path) or ".")
        self._troubled = troubled
        noted = {printable(path) or ".": reason for path, reason in troubled.items()}
        if noted != self._troubles_noted:
            with self._context.journal.transaction(durable=False) as connection:
                database.put(connection, "troubles", json.dumps(noted))
            self._troubles_noted = noted


@heartbeat.on_share()
def _may_be_folder(inbox: int, name: bytes) -> bool:
    """Whether it is a folder, also where that cannot be known: the visit finds out why, as of a share that does not answer."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=inbox, follow_symlinks=False).st_mode)
    except OSError as error:
        return error.errno not in fs_folders.NOWHERE
