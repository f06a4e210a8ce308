"""From a listing to the journal: known files are recognised, new ones noted, settled ones made ready.

Reading (checksums, whether a file can be taken) is done first, outside any transaction; what is then written is written
only if the row is still as it was when it was judged.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from attachd.clock import Clock
from attachd.config import Config, Settle
from attachd.filing import markers
from attachd.filing.guard import Guard
from attachd.intake import gating, observing, reading, routing
from attachd.intake.endings import Endings
from attachd.intake.gating import Marker
from attachd.intake.observing import Look
from attachd.intake.walking import Entry
from attachd.jira import names
from attachd.journal import admission, database, rows
from attachd.journal.admission import Moment, Place
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.model import State, printable

log = structlog.get_logger()


@dataclass(slots=True)
class Seen:
    """What a chunk of a listing came to."""

    known: int = 0
    new: int = 0
    settles: float | None = None

    def look_again(self, at: float) -> None:
        """Remember the earliest time (CLOCK_BOOTTIME) at which a file is worth another look."""
        self.settles = at if self.settles is None else min(at, self.settles)


@dataclass(frozen=True, slots=True)
class Found:
    """One file of a listing, with the row at its path if there is one."""

    entry: Entry
    row: Row | None


def _local(path: bytes) -> bool:
    del path
    return False


class Settling:
    """Works through the listing of one folder, whose files go to the issue *key*."""

    def __init__(
        self,
        journal: Journal,
        config: Config,
        clock: Clock,
        guard: Guard,
        key: str,
        *,
        suspect: bool = False,
        network: Callable[[bytes], bool] = _local,
        endings: Endings | None = None,
        rules: Settle | None = None,
    ) -> None:
        """Make one for one folder of one scan; *suspect*: what is new may be attached by a journal that was lost.

        *network* says of a path below the inbox whether it lies on a network file system; *endings* remembers from scan to
        scan what was found out about files that wait; *rules* are those of the folder.
        """
        self._endings = endings or Endings()
        self._suspect, self._network, self._rules = suspect, network, rules or config.settle
        self._journal, self._config, self._clock, self._guard, self._key = journal, config, clock, guard, key

    def look(self, entries: Sequence[Entry]) -> Seen:
        """Recognise, note and settle these files."""
        entries = [entry for entry in entries if not reading.remove_note(self._guard.inbox, entry.path)]
        entries = self._anew(entries)
        seen = Seen(known=len(entries))
        self._recognise(entries, seen)
        self._settle(entries, seen)
        return seen

    def _moment(self) -> Moment:
        return Moment(self._clock.now(), self._clock.boot(), self._guard.epoch)

    def _rows(self, entries: Sequence[Entry]) -> list[Found]:
        with self._journal.transaction() as connection:
            at = admission.at_paths(connection, [entry.path for entry in entries])
        return [Found(entry, at.get(entry.path)) for entry in entries]

    def _anew(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Open what settles on a network file system, so that its size and times are those that the server knows."""
        if not any(self._network(entry.path) for entry in entries):
            return entries
        settling = {f.entry.path for f in self._rows(entries) if f.row is None or f.row.state is State.SEEN}
        return [
            reading.anew(self._guard.inbox, entry) if entry.path in settling and self._network(entry.path) else entry
            for entry in entries
        ]

    # --- Which row is whose -------------------------------------------------------------------------------------

    def _recognise(self, entries: Sequence[Entry], seen: Seen) -> None:
        open_ = [found for found in self._rows(entries) if self._is_open(found)]
        if not open_:
            return
        evidence = reading.gather(self._journal, self._guard, self._key, open_)
        moment = self._moment()
        with self._journal.transaction() as connection:
            current = admission.at_paths(connection, [found.entry.path for found in open_])
            for found in open_:
                if current.get(found.entry.path) == found.row:
                    seen.new += self._write(connection, _as_it_is_now(connection, found), evidence, moment)

    def _is_open(self, found: Found) -> bool:
        """Whether the journal does not say already what this file is."""
        if found.row is None or found.row.asked != self._key:
            return True
        return observing.judge(found.row, found.entry.print, self._guard.epoch, {}) is not Look.NOTHING

    def _write(
        self, connection: sqlite3.Connection, found: Found, evidence: observing.Evidence, moment: Moment
    ) -> bool:
        """Write down what one file means. True if it is a new one."""
        row, now = found.row, found.entry.print
        if row is None:
            return self._follow_or_add(connection, found.entry, evidence, moment)
        if row.asked != self._key:
            return self._reroute(connection, row, found.entry, evidence, moment)
        match observing.judge(row, now, moment.epoch, evidence.sums):
            case Look.ADOPT:
                admission.adopt(connection, row, now, moment)
            case Look.SETTLE_ANEW if not reading.former(connection, self._key, found.entry, moment.epoch, evidence):
                admission.settle_anew(connection, row, now, moment)
            case Look.SETTLE_ANEW | Look.REPLACED:
                log.info("file.replaced", id=row.ident, issue=row.asked, file=printable(row.path))
                _detach(connection, row, moment, "its content was replaced before it was attached", evidence)
                return self._follow_or_add(connection, found.entry, evidence, moment)
            case Look.READ | Look.NOTHING:
                pass
        return False

    def _reroute(
        self, connection: sqlite3.Connection, row: Row, entry: Entry, evidence: observing.Evidence, moment: Moment
    ) -> bool:
        """Its folder means another issue now (an alias was corrected): as if it had been moved there."""
        if not observing.is_sent(row):
            admission.follow(connection, row, self._place(entry), entry.print, moment)
            return False
        _detach(connection, row, moment, "its folder means another issue now", evidence)
        return self._follow_or_add(connection, entry, evidence, moment)

    def _follow_or_add(
        self, connection: sqlite3.Connection, entry: Entry, evidence: observing.Evidence, moment: Moment
    ) -> bool:
        if entry.path in evidence.sums and evidence.sums[entry.path] is None:
            # It may be a sent file under a new name, and could not be read: as a new one it would be sent twice.
            return False
        return not self._follow(connection, entry, evidence, moment) and self._add(connection, entry, moment)

    def _add(self, connection: sqlite3.Connection, entry: Entry, moment: Moment) -> bool:
        row_id = admission.add(connection, self._place(entry), entry.print, moment, suspect=self._suspect)
        log.debug("file.seen", id=f"F{row_id}", issue=self._key, file=printable(entry.path), bytes=entry.print.size)
        return True

    def _place(self, entry: Entry) -> Place:
        name = routing.flatten(entry.path.split(b"/")[1:])
        return Place(entry.path, self._key, names.stored_name(name))

    def _follow(
        self, connection: sqlite3.Connection, entry: Entry, evidence: observing.Evidence, moment: Moment
    ) -> bool:
        """Let a row go with its file that was renamed. True if the file has a row now.

        Within the issue the row follows. To another issue an unsent row follows; a sent one keeps its verdict and loses
        the path, and the file is a new job there.
        """
        for row in reading.former(connection, self._key, entry, moment.epoch, evidence):
            if row.asked == self._key or not observing.is_sent(row):
                log.info(
                    "file.moved", id=row.ident, issue=self._key, file=printable(entry.path), was=printable(row.path)
                )
                admission.follow(connection, row, self._place(entry), entry.print, moment)
                return True
            admission.detach(connection, row, moment, "it was moved to another issue's folder")
        return False

    # --- Which are finished -------------------------------------------------------------------------------------

    def _settle(self, entries: Sequence[Entry], seen: Seen) -> None:
        moment = self._moment()
        ripe: list[Found] = []
        held: list[tuple[Row, gating.Wait | gating.Blocked]] = []
        for found in self._rows(entries):
            if found.row is None or found.row.state is not State.SEEN or found.row.fingerprint != found.entry.print:
                continue
            verdict = self._before_opening(found.row, moment)
            if isinstance(verdict, gating.Go):
                ripe.append(found)
            else:
                held.append((found.row, verdict))
        self._hold(held, seen)
        if ripe:
            self._admit(ripe, seen)

    def _before_opening(self, row: Row, moment: Moment) -> gating.Go | gating.Wait | gating.Blocked:
        rules = self._rules
        returned = (bool(rules.ready_suffix) or rules.max_age_seconds is not None) and self._returned(row)
        return gating.before_opening(row, rules, moment, self._marker(row, returned=returned), returned=returned)

    def _marker(self, row: Row, *, returned: bool) -> Marker:
        suffix = self._rules.ready_suffix
        if not suffix:
            return Marker.NOT_ASKED
        if markers.lies_beside(self._guard.inbox, row.path, suffix):
            return Marker.THERE
        return Marker.NOT_ASKED if returned else Marker.MISSING

    def _returned(self, row: Row) -> bool:
        """Whether it came back from failed: a move keeps size and time, and it does not lie there any more."""
        with self._journal.transaction_for_reading() as connection:
            targets = admission.failed_alike(connection, row)
        failed = bytes(self._config.folders.failed)
        return any(not os.path.lexists(os.path.join(failed, target)) for target in targets)

    def _hold(self, held: Sequence[tuple[Row, gating.Wait | gating.Blocked]], seen: Seen) -> None:
        """Remember when to look again, and write down what is new about what holds these files."""
        for _, verdict in held:
            if isinstance(verdict, gating.Wait) and verdict.until is not None:
                seen.look_again(verdict.until)
        moment = self._moment()
        said = [(row, _said(row, verdict, moment)) for row, verdict in held]
        new = [(row, hold) for row, hold in said if not admission.says(row, hold)]
        if not new:
            return
        with self._journal.transaction() as connection:
            for row, hold in new:
                if rows.find(connection, row.id) == row:
                    _write_down(connection, row, hold)

    def _admit(self, ripe: Sequence[Found], seen: Seen) -> None:
        doubts = reading.doubts(self._journal, self._config.jira.url, self._key, ripe)
        results = [(f, self._examine(f, checksum=f.entry.path in doubts)) for f in ripe]
        now = self._clock.now()
        with self._journal.transaction() as connection:
            current = admission.at_paths(connection, [found.entry.path for found in ripe])
            for found, result in results:
                if found.row is not None and current.get(found.entry.path) == found.row:
                    self._admit_one(connection, found.row, result, doubts.get(found.entry.path), now)
        self._hold([(f.row, result) for f, result in results if f.row and isinstance(result, gating.Wait)], seen)

    def _examine(self, found: Found, *, checksum: bool) -> reading.Free | reading.Bar | reading.Moving | gating.Wait:
        def gate(descriptor: int) -> gating.Go | gating.Wait:
            assert found.row is not None
            writer = reading.writer(descriptor, network=self._network(found.entry.path))
            marker = self._marker(found.row, returned=True)
            passed = gating.of_writer(found.row, self._rules, self._moment(), writer, marker)
            return passed if isinstance(passed, gating.Wait) else self._of_ending(found.row, descriptor)

        return reading.examine(self._guard.inbox, found.entry.path, found.entry.print, checksum=checksum, gate=gate)

    def _of_ending(self, row: Row, descriptor: int) -> gating.Go | gating.Wait:
        if not self._rules.incomplete_seconds:
            return gating.Go()
        lacks = self._endings.lacks(descriptor, row.path, row.fingerprint)
        return gating.of_ending(row, self._rules, self._moment(), lacks)

    def _admit_one(
        self,
        connection: sqlite3.Connection,
        row: Row,
        result: reading.Free | reading.Bar | reading.Moving | gating.Wait,
        doubt: reading.Doubt | None,
        now: float,
    ) -> None:
        match result:
            case reading.Moving() | gating.Wait():
                return
            case reading.Bar(reason):
                held = admission.Hold(blocked=reason)
                if not admission.says(row, held):
                    _write_down(connection, row, held)
            case reading.Free(sha256, lacks):
                if lacks:
                    log.warning(
                        "file.incomplete", id=row.ident, issue=row.asked, file=printable(row.path), reason=lacks
                    )
                earlier = next((r for r in doubt.earlier if r.sha256 == sha256), None) if doubt else None
                if doubt and sha256 and (earlier or doubt.since is not None):
                    attempt = int(database.get(connection, "attempt") or 0)
                    since, site = doubt.since or now, self._config.jira.url
                    admission.doubtful(connection, row, sha256, now, earlier, since, attempt, site, lacks)
                else:
                    admission.ready(connection, row.id, now, lacks)


def _said(row: Row, verdict: gating.Wait | gating.Blocked, moment: Moment) -> admission.Hold:
    """What is to be written down; a file that only has to be quiet stays blocked until it is looked at once more."""
    if isinstance(verdict, gating.Blocked):
        return admission.Hold(blocked=verdict.reason)
    blocked = None if verdict.reason or verdict.lacks else row.blocked
    left = verdict.until - moment.boot if verdict.over and verdict.until is not None else 0.0
    due = moment.now + left if verdict.over else 0.0
    return admission.Hold(verdict.reason, blocked, verdict.lacks, due, left)


def _write_down(connection: sqlite3.Connection, row: Row, held: admission.Hold) -> None:
    if held.blocked and held.blocked != row.blocked:
        log.warning("file.blocked", id=row.ident, issue=row.asked, file=printable(row.path), reason=held.blocked)
    admission.hold(connection, row, held)


def _as_it_is_now(connection: sqlite3.Connection, found: Found) -> Found:
    """Without its row, if that has gone to another name with its file meanwhile: an earlier file of the same listing."""
    row = found.row and rows.find(connection, found.row.id)
    return found if row == found.row else Found(found.entry, None)


def _detach(connection: sqlite3.Connection, row: Row, moment: Moment, why: str, evidence: observing.Evidence) -> None:
    """Let a row lose its path. A later file of the same listing may still be its own: it is known as it is now."""
    admission.detach(connection, row, moment, why)
    fresh = rows.find(connection, row.id)
    if fresh is not None and evidence.lost.get(row.id) == row:
        evidence.lost[row.id] = fresh
