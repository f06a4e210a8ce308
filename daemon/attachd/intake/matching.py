"""From a listing to the journal: known files are recognised, new ones noted, settled ones made ready.

Reading (checksums, whether a file can be taken) is done first, outside any transaction; what is then written is written
only if the row is still as it was when it was judged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from attachd.intake import admit, examine, gates, router
from attachd.intake import evidence as intake_evidence
from attachd.intake import identity as intake_identity
from attachd.intake.context import Context, IssueFolder
from attachd.intake.files import Entry, Found, Seen
from attachd.intake.identity import Look
from attachd.intake.stray_notes import Dragged, LeftAlone
from attachd.jira import filenames
from attachd.journal import admission, identity, retries, rows
from attachd.journal.admission import Moment, Place
from attachd.journal.rows import Row
from attachd.logger import get_logger
from attachd.model import State, printable

log = get_logger()


#: How soon is looked again at what is on its way back from failed.
_COMING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Recognised:
    """Files with their rows, and what was found out on the way."""

    files: Sequence[Found]
    seen: Seen


class Matcher:
    """Works through the listing of one folder."""

    def __init__(self, context: Context, folder: IssueFolder, left_alone: LeftAlone | None = None) -> None:
        """*left_alone* remembers from scan to scan which notes were."""
        self._context, self._folder = context, folder
        self._failed = context.config.folders.failed
        place = context.journal, context.guard.inbox, self._failed, folder.key
        self._dragged = Dragged(*place, left_alone or LeftAlone())
        self._admission = admit.Admission(context, folder)

    def recognise(self, entries: Sequence[Entry]) -> Recognised:
        """Find out which row is whose, and note what has none."""
        # A folder that changes while it is listed may show a name twice (readdir(3) promises nothing then, NFS least of all).
        entries = list({entry.path: entry for entry in entries}.values())
        coming = self._coming_back(entries)
        entries, left = self._dragged.sort([entry for entry in entries if entry.path not in coming])
        entries = self._anew(entries)
        # What is passed over this time is counted, so that the folder is listed again even if nothing in it changes.
        seen = Seen(known=len(entries) + len(coming) + left)
        for path in coming:
            seen.look_again(path, self._context.clock.boot() + _COMING_SECONDS)
        files = self._rows(entries)
        open_ = [found for found in files if self._is_open(found)]
        if open_:
            self._recognise(open_, seen)
            files = self._rows(entries)
        for undecided in (f.entry for f in files if f.row is not None and f.row.fingerprint != f.entry.print):
            # Being sent just now, or being written to: whether it is still the same shows later, and no event tells when.
            seen.undecided += 1
            seen.look_again(undecided.path, self._context.clock.boot() + gates.COMPARED_SECONDS)
        return Recognised(files, seen)

    def settle(self, recognised: Recognised) -> Seen:
        """Make ready what has settled."""
        files, seen = recognised.files, recognised.seen
        seen.rows = sum(found.row is not None for found in files)
        self._admission.settle(files, seen)
        return seen

    def _coming_back(self, entries: Sequence[Entry]) -> set[bytes]:
        """What ``retry`` is bringing back at this moment: its original may still lie in failed."""
        with self._context.journal.transaction_for_reading() as connection:
            intents = retries.aimed_at(connection, [entry.path for entry in entries])
        return {each.target for each in intents if examine.still_in_failed(self._failed, each.source)}

    def _rows(self, entries: Sequence[Entry]) -> list[Found]:
        with self._context.journal.transaction_for_reading() as connection:
            at = identity.at_paths(connection, [entry.path for entry in entries])
        return [Found(entry, at.get(entry.path)) for entry in entries]

    def _anew(self, entries: list[Entry]) -> list[Entry]:
        """Open what settles on a network file system, so that its size and times are those that the server knows."""
        if not any(self._context.network(entry.path) for entry in entries):
            return entries
        settling = {f.entry.path for f in self._rows(entries) if f.row is None or f.row.state is State.SEEN}
        return [self._opened(entry) if entry.path in settling else entry for entry in entries]

    def _opened(self, entry: Entry) -> Entry:
        self._context.checkpoint()
        return examine.opened_once(self._context.guard.inbox, entry) if self._context.network(entry.path) else entry

    # --- Which row is whose -------------------------------------------------------------------------------------

    def _recognise(self, open_: Sequence[Found], seen: Seen) -> None:
        evidence = intake_evidence.gather(self._context, self._folder.key, open_)
        moment = self._context.moment()
        with self._context.journal.transaction(durable=False) as connection:
            current = identity.at_paths(connection, [found.entry.path for found in open_])
            new = [
                found.entry
                for found in open_
                if rows.is_unchanged(current.get(found.entry.path), found.row)
                and self._is_new(connection, _as_it_is_now(connection, found), evidence, moment)
            ]
            seen.new += len(new)
            self._add(connection, new, moment)

    def _is_open(self, found: Found) -> bool:
        """Whether the journal does not say already what this file is."""
        if found.row is None or found.row.folder_key != self._folder.key:
            return True
        return intake_identity.judge(found.row, found.entry.print, self._context.guard.epoch, {}) is not Look.NOTHING

    def _is_new(
        self, connection: sqlite3.Connection, found: Found, evidence: intake_identity.Evidence, moment: Moment
    ) -> bool:
        """Write down what one file means for the rows that there are. True if it is to have one of its own."""
        row, now = found.row, found.entry.print
        if row is None:
            return self._is_nobodys(connection, found.entry, evidence, moment)
        if row.folder_key != self._folder.key and not (
            intake_identity.is_sent(row) and row.folder_key in evidence.keys
        ):
            return self._reroute(connection, row, found.entry, evidence, moment)
        match intake_identity.judge(row, now, moment.epoch, evidence.sums):
            case Look.ADOPT:
                admission.adopt(connection, row, now, moment)
            case Look.SETTLE_ANEW if not intake_evidence.former(connection, found.entry, moment.epoch, evidence):
                admission.settle_anew(connection, row, now, moment, suspect=self._folder.suspect)
            case Look.SETTLE_ANEW | Look.REPLACED:
                log.info("file.replaced", id=row.ident, issue=row.issue, file=printable(row.path))
                _detach(connection, row, moment, "its content was replaced before it was attached", evidence)
                return self._is_nobodys(connection, found.entry, evidence, moment)
            case Look.READ | Look.NOTHING:
                pass
        return False

    def _reroute(
        self, connection: sqlite3.Connection, row: Row, entry: Entry, evidence: intake_identity.Evidence, moment: Moment
    ) -> bool:
        """Its folder means another issue now (an alias was corrected): as if it had been moved there."""
        if not intake_identity.is_sent(row):
            self._go_along(connection, row, entry, moment)
            return False
        _detach(connection, row, moment, "its folder means another issue now", evidence)
        return self._is_nobodys(connection, entry, evidence, moment)

    def _is_nobodys(
        self, connection: sqlite3.Connection, entry: Entry, evidence: intake_identity.Evidence, moment: Moment
    ) -> bool:
        # One that could not be read may be a sent file under a new name. That is found out before it is admitted.
        return not self._follow(connection, entry, evidence, moment)

    def _add(self, connection: sqlite3.Connection, entries: Sequence[Entry], moment: Moment) -> None:
        new, about = [admission.New(self._place(entry), entry.print) for entry in entries], log.bind()
        for row_id, entry in zip(
            admission.add(connection, new, moment, suspect=self._folder.suspect), entries, strict=True
        ):
            about.debug(
                "file.seen", id=f"F{row_id}", issue=self._folder.key, file=printable(entry.path), bytes=entry.print.size
            )

    def _place(self, entry: Entry) -> Place:
        parts = entry.path.split(b"/")[1:]
        return Place(entry.path, self._folder.key, filenames.stored_path(parts, router.flatten(parts)))

    def _follow(
        self, connection: sqlite3.Connection, entry: Entry, evidence: intake_identity.Evidence, moment: Moment
    ) -> bool:
        """Let a row go with its file that was renamed. True if the file has a row now.

        Within the issue the row follows. To another issue an unsent row follows; a sent one keeps its verdict and loses
        the path, and the file is a new job there.
        """
        for row in intake_evidence.former(connection, entry, moment.epoch, evidence):
            if row.folder_key in evidence.keys or not intake_identity.is_sent(row):
                log.info(
                    "file.moved",
                    id=row.ident,
                    issue=self._folder.key,
                    file=printable(entry.path),
                    was=printable(row.path),
                )
                self._go_along(connection, row, entry, moment)
                return True
            admission.detach(connection, row, moment, "it was moved to another issue's folder")
        return False

    def _go_along(self, connection: sqlite3.Connection, row: Row, entry: Entry, moment: Moment) -> None:
        """Let a row follow its file. An unsent one settles again where the rules may be others: in another folder of the inbox,
        or in one that means another issue now.
        """
        ruled_alike = (row.path.partition(b"/")[0], row.folder_key) == (entry.path.partition(b"/")[0], self._folder.key)
        admission.follow(connection, row, self._place(entry), entry.print, moment)
        if not ruled_alike and not intake_identity.is_sent(row):
            admission.settle_anew(connection, row, entry.print, moment, suspect=self._folder.suspect)


def _as_it_is_now(connection: sqlite3.Connection, found: Found) -> Found:
    """Without its row, if that has gone to another name with its file meanwhile: an earlier file of the same listing."""
    row = found.row and rows.find(connection, found.row.id)
    return found if rows.is_unchanged(row, found.row) else Found(found.entry, None)


def _detach(
    connection: sqlite3.Connection, row: Row, moment: Moment, why: str, evidence: intake_identity.Evidence
) -> None:
    """Let a row lose its path. A later file of the same listing may still be its own: it is known as it is now."""
    admission.detach(connection, row, moment, why)
    fresh = rows.find(connection, row.id)
    if fresh is not None and rows.is_unchanged(row, evidence.lost.get(row.id)):
        evidence.lost[row.id] = fresh
