"""From seen to ready: which files of a listing are finished, which wait and for what, and which cannot be taken.

What is decided is in ``gating``; here it is asked, file by file, and written down.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from attachd.clock import Clock
from attachd.config import Config, Settle
from attachd.fs import folders, leases
from attachd.intake import gating, observing, reading
from attachd.intake.endings import Endings
from attachd.intake.gating import Marker
from attachd.intake.observing import Rival
from attachd.intake.walking import Entry
from attachd.journal import admission, identity, rows
from attachd.journal.admission import Moment
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.model import State, printable
from attachd.share import ready_markers
from attachd.share.inbox_marker import Guard

log = structlog.get_logger()

#: What a look at an open file came to.
Examined = reading.Free | reading.Bar | reading.Moving | gating.Wait


@dataclass(slots=True)
class Seen:
    """What a chunk of a listing came to: how many files, how many of them have a row, how many are new.

    Those that are *undecided* look otherwise than their row says.
    """

    known: int = 0
    rows: int = 0
    new: int = 0
    undecided: int = 0
    settles: float | None = None

    def look_again(self, at: float) -> None:
        """Remember the earliest time (CLOCK_BOOTTIME) at which a file is worth another look."""
        self.settles = at if self.settles is None else min(at, self.settles)


@dataclass(frozen=True, slots=True)
class Found:
    """One file of a listing, with the row at its path if there is one."""

    entry: Entry
    row: Row | None


class Admitting:
    """Works through the files of one folder, which go to the issue *key*."""

    def __init__(
        self,
        journal: Journal,
        config: Config,
        clock: Clock,
        guard: Guard,
        key: str,
        *,
        network: Callable[[bytes], bool],
        endings: Endings,
        rules: Settle,
        beat: Callable[[], None],
    ) -> None:
        """Make one for one folder of one scan; the arguments are those of ``settling.Settling``."""
        self._journal, self._config, self._clock, self._guard, self._key = journal, config, clock, guard, key
        self._network, self._endings, self._rules, self._beat = network, endings, rules, beat

    def _moment(self) -> Moment:
        return Moment.of(self._clock, self._guard.epoch)

    def settle(self, files: Sequence[Found], seen: Seen) -> None:
        """Let those go that nothing holds; *seen* is told when the others are worth another look."""
        moment = self._moment()
        ripe: list[Found] = []
        held: list[tuple[Row, gating.Wait | gating.Blocked]] = []
        for found in files:
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
        if ready_markers.lies_beside(self._guard.inbox, row.path, suffix):
            return Marker.THERE
        return Marker.NOT_ASKED if returned else Marker.MISSING

    def _returned(self, row: Row) -> bool:
        """Whether it came back from failed: a move keeps size and time, and it does not lie there any more."""
        with self._journal.transaction_for_reading() as connection:
            targets = identity.failed_alike(connection, row)
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
        with self._journal.transaction(durable=False) as connection:
            for row, hold in new:
                if rows.find(connection, row.id) == row:
                    _write_down(connection, row, hold)

    def _admit(self, ripe: Sequence[Found], seen: Seen) -> None:
        doubts = reading.doubts(self._journal, ripe)
        sizes = {found.entry.print.size for found in ripe}
        rivals = reading.rivals(self._journal, self._guard, self._key, sizes, self._network)
        with folders.Held() as held:
            results = [(f, self._compare(f, held, f.entry.path in doubts, rivals)) for f in ripe]
        later = self._admit_all(ripe, results, doubts, rivals)
        self._hold([(f.row, result) for f, result in results if f.row and isinstance(result, gating.Wait)], seen)
        self._hold([(row, self._later()) for row in later], seen)

    def _compare(
        self, found: Found, held: folders.Held, suspicious: bool, rivals: Mapping[int, Sequence[Rival]]
    ) -> Examined:
        """Look at a file, and read it where its content decides; but not again and again while it is not known with what it is
        to be compared.
        """
        sent = rivals.get(found.entry.print.size, ())
        if any(observing.is_unknown(rival.row) for rival in sent):
            return self._later()
        return self._examine(found, held, checksum=suspicious or bool(sent))

    def _later(self) -> gating.Wait:
        return gating.Wait(self._clock.boot() + gating.COMPARED_SECONDS, gating.COMPARED_LATER)

    def _admit_all(
        self,
        ripe: Sequence[Found],
        results: Sequence[tuple[Found, Examined]],
        doubts: Mapping[bytes, reading.Doubt],
        rivals: Mapping[int, Sequence[Rival]],
    ) -> list[Row]:
        """Write down what was found out. Returns the rows of which it cannot be told yet whether they are another's file."""
        now, later = self._clock.now(), list[Row]()
        with self._journal.transaction(durable=False) as connection:
            current = identity.at_paths(connection, [found.entry.path for found in ripe])
            settled: dict[int, str | None] = {}
            for found, result in results:
                row = found.row
                if row is None or current.get(found.entry.path) != row:
                    continue
                match self._whose(result, rivals.get(row.size, ())):
                    case observing.Its(former):
                        self._follow(connection, former, row)
                    case observing.Unclear():
                        later.append(row)
                    case observing.Another():
                        self._admit_one(connection, row, result, doubts.get(found.entry.path), now, settled)
            admission.ready(connection, settled, now)
        return later

    def _whose(
        self, result: Examined, rivals: Sequence[Rival]
    ) -> observing.Its | observing.Unclear | observing.Another:
        if not isinstance(result, reading.Free) or result.sha256 is None:
            return observing.Another()
        return observing.whose(result.sha256, rivals)

    def _follow(self, connection: sqlite3.Connection, former: Row, row: Row) -> None:
        """The file that was taken for a new one is one that was sent: its row goes with it, and the new one is forgotten.

        Where that row has changed meanwhile, the next look knows more.
        """
        if rows.find(connection, former.id) != former:
            return
        log.info("file.moved", id=former.ident, issue=self._key, file=printable(row.path), was=printable(former.path))
        moment = self._moment()
        admission.withdraw(connection, row, moment, "")
        place = admission.Place(row.path, self._key, row.name)
        admission.follow(connection, former, place, row.fingerprint, moment)

    def _examine(self, found: Found, held: folders.Held, *, checksum: bool) -> Examined:
        self._beat()

        def gate(descriptor: int) -> gating.Go | gating.Wait:
            assert found.row is not None
            moment = self._moment()
            writer = leases.writer(descriptor, network=self._network(found.entry.path))
            marker = self._marker(found.row, returned=True)
            passed = gating.of_writer(found.row, self._rules, moment, writer, marker)
            return passed if isinstance(passed, gating.Wait) else self._of_ending(found.row, descriptor, moment)

        return reading.examine(
            self._guard.inbox, found.entry.path, found.entry.print, held, checksum=checksum, gate=gate
        )

    def _of_ending(self, row: Row, descriptor: int, moment: Moment) -> gating.Go | gating.Wait:
        if not self._rules.incomplete_seconds:
            return gating.Go()
        lacks = self._endings.lacks(descriptor, row.path, row.fingerprint)
        return gating.of_ending(row, self._rules, moment, lacks)

    def _admit_one(
        self,
        connection: sqlite3.Connection,
        row: Row,
        result: Examined,
        doubt: reading.Doubt | None,
        now: float,
        settled: dict[int, str | None],
    ) -> None:
        """Write down what was found out about one file; one that may be sent is added to those that have *settled*."""
        match result:
            case reading.Moving() | gating.Wait():
                return
            case reading.Bar(reason):
                held = admission.Hold(blocked=reason)
                if not admission.says(row, held):
                    _write_down(connection, row, held)
            case reading.Free(sha256, lacks):
                if lacks:
                    about = log.bind(id=row.ident, issue=row.asked, file=printable(row.path))
                    about.warning("file.incomplete", reason=f"{rows.end_missing(lacks)}; it is sent as it is")
                claim = self._claim(connection, doubt, sha256) if doubt and sha256 else None
                if claim is not None and sha256 is not None:
                    admission.doubtful(connection, row, sha256, now, claim, self._config.jira.url, lacks)
                else:
                    settled[row.id] = lacks

    def _claim(self, connection: sqlite3.Connection, doubt: reading.Doubt, sha256: bytes) -> admission.Claim | None:
        keys = identity.keys_of(connection, self._key)
        return reading.claim(doubt, sha256, keys, self._has_left)

    def _has_left(self, failed: Row) -> bool:
        root = bytes(self._config.folders.failed)
        return failed.target is not None and not os.path.lexists(os.path.join(root, failed.target))


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
