"""From seen to ready: which files of a listing are finished, which wait and for what, and which cannot be taken.

What is decided is in ``gating``; here it is asked, file by file, and written down.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from attachd.fs import folders, recognition
from attachd.intake import evidence, examine, gates
from attachd.intake import identity as intake_identity
from attachd.intake.context import Context, IssueFolder
from attachd.intake.evidence import Candidate
from attachd.intake.examine import OpenFile
from attachd.intake.files import Found, Seen
from attachd.intake.gates import Blocked, Changed, Marker, Ready, Verdict, Wait
from attachd.intake.identity import Rival
from attachd.journal import admission, identity, moved_issues, rows
from attachd.journal.admission import Moment
from attachd.journal.database import Journal
from attachd.journal.rows import EVERY, Row
from attachd.logger import get_logger
from attachd.model import State, printable
from attachd.share import ready_markers

log = get_logger()


class Admission:
    """Works through the files of one folder."""

    def __init__(self, context: Context, folder: IssueFolder) -> None:
        self._context, self._folder = context, folder

    def settle(self, files: Sequence[Found], seen: Seen) -> None:
        """Admit the files that nothing holds; *seen* records when the others are worth another look."""
        moment = self._context.moment()
        ripe: list[Found] = []
        held: list[tuple[Row, Wait | Blocked]] = []
        for found in files:
            if found.row is None or found.row.state is not State.SEEN or found.row.fingerprint != found.entry.print:
                continue
            verdict = self._before_opening(found.row, moment)
            if isinstance(verdict, Ready):
                ripe.append(found)
            else:
                held.append((found.row, verdict))
        self._hold(held, seen)
        if ripe:
            self._admit(ripe, seen)

    def _before_opening(self, row: Row, moment: Moment) -> Ready | Wait | Blocked:
        rules = self._folder.rules
        returned = (bool(rules.ready_suffix) or rules.max_age_seconds is not None) and self._returned(row)
        return gates.before_opening(row, rules, moment, self._marker(row, returned=returned), returned=returned)

    def _marker(self, row: Row, *, returned: bool) -> Marker:
        suffix = self._folder.rules.ready_suffix
        if not suffix:
            return Marker.NOT_ASKED
        if ready_markers.lies_beside(self._context.guard.inbox, row.path, suffix):
            return Marker.THERE
        return Marker.NOT_ASKED if returned else Marker.MISSING

    def _returned(self, row: Row) -> bool:
        """Whether it came back from failed: a move keeps size and time, and it does not lie there any more."""
        with self._context.journal.transaction_for_reading() as connection:
            targets = identity.failed_alike(connection, row)
        return any(recognition.lies(self._context.config.folders.failed, target) is False for target in targets)

    def _hold(self, held: Sequence[tuple[Row, Wait | Blocked]], seen: Seen) -> None:
        """Remember when to look again, and write down what is new about what holds these files."""
        for row, verdict in held:
            if isinstance(verdict, Wait) and verdict.until is not None:
                seen.look_again(row.path, verdict.until)
        moment = self._context.moment()
        said = [(row, _said(row, verdict, moment)) for row, verdict in held]
        new = [(row, hold) for row, hold in said if not admission.says(row, hold)]
        if not new:
            return
        with self._context.journal.transaction(durable=False) as connection:
            for row, hold in new:
                if rows.find(connection, row.id) == row:
                    _write_down(connection, row, hold)

    def _admit(self, ripe: Sequence[Found], seen: Seen) -> None:
        doubted = doubts(self._context.journal, ripe, self._context.moment().now)
        rivals = evidence.rivals(self._context, self._folder.key, ripe)
        with folders.Held() as held:
            results = [(f, self._compare(f, held, f.entry.path in doubted, rivals)) for f in ripe]
        later = self._admit_all(ripe, results, doubted, rivals)
        self._hold([(f.row, result) for f, result in results if f.row and isinstance(result, Wait)], seen)
        self._hold([(row, self._later()) for row in later], seen)

    def _compare(
        self, found: Found, held: folders.Held, suspicious: bool, rivals: Mapping[int, Sequence[Rival]]
    ) -> Verdict:
        """Look at a file, and read it where its content decides; but not again and again while it is not known with what it is
        to be compared.
        """
        sent = rivals.get(found.entry.print.size, ())
        if any(intake_identity.is_unknown(rival.row) for rival in sent):
            return self._later()
        return self._examine(found, held, checksum=suspicious or bool(sent))

    def _later(self) -> Wait:
        return Wait(self._context.clock.boot() + gates.COMPARED_SECONDS, gates.COMPARED_LATER)

    def _admit_all(
        self,
        ripe: Sequence[Found],
        results: Sequence[tuple[Found, Verdict]],
        doubts: Mapping[bytes, Doubt],
        rivals: Mapping[int, Sequence[Rival]],
    ) -> list[Row]:
        """Record the results. Return the rows that may be another row's file, which is not known yet."""
        now, later = self._context.clock.now(), list[Row]()
        with self._context.journal.transaction(durable=False) as connection:
            current = identity.at_paths(connection, [found.entry.path for found in ripe])
            settled: dict[int, str | None] = {}
            for found, result in results:
                row = found.row
                if row is None or current.get(found.entry.path) != row:
                    continue
                match self._whose(result, row, rivals.get(row.size, ())):
                    case intake_identity.Its(former):
                        self._follow(connection, former, row)
                    case intake_identity.Unclear():
                        later.append(row)
                    case intake_identity.Another():
                        self._admit_one(connection, row, result, doubts.get(found.entry.path), now, settled)
            admission.ready(connection, settled, now)
        return later

    def _whose(
        self, result: Verdict, row: Row, rivals: Sequence[Rival]
    ) -> intake_identity.Its | intake_identity.Unclear | intake_identity.Another:
        if not isinstance(result, Ready) or result.sha256 is None:
            return intake_identity.Another()
        epoch = self._context.guard.epoch
        told = [rival for rival in rivals if intake_identity.content_tells(rival.row, row.fingerprint, epoch)]
        return intake_identity.whose(result.sha256, told)

    def _follow(self, connection: sqlite3.Connection, former: Row, row: Row) -> None:
        """The file that was taken for a new one is one that was sent: its row goes with it, and the new one is forgotten.

        Where that row has changed meanwhile, the next look knows more.
        """
        if not rows.is_unchanged(rows.find(connection, former.id), former):
            return
        log.info(
            "file.moved", id=former.ident, issue=self._folder.key, file=printable(row.path), was=printable(former.path)
        )
        moment = self._context.moment()
        admission.withdraw(connection, row, moment, "")
        place = admission.Place(row.path, self._folder.key, row.name)
        admission.follow(connection, former, place, row.fingerprint, moment)

    def _examine(self, found: Found, held: folders.Held, *, checksum: bool) -> Verdict:
        """Open one file, ask what has to be known of it, and judge it."""
        self._context.checkpoint()
        assert found.row is not None
        file = examine.opened(self._context.guard.inbox, found.entry, held)
        if not isinstance(file, OpenFile):
            return file
        with file:
            try:
                return examine.conclude(file, self._judge(found.row, file), checksum=checksum)
            except OSError as error:
                return examine.unreadable(error)

    def _judge(self, row: Row, file: OpenFile) -> Ready | Wait:
        moment = self._context.moment()
        writer = file.writer(network=self._context.network(row.path))
        verdict = gates.of_writer(row, self._folder.rules, moment, writer, self._marker(row, returned=True))
        if isinstance(verdict, Wait) or not self._folder.rules.incomplete_seconds:
            return verdict
        lacks = self._context.endings.lacks(file.descriptor, row.path, row.fingerprint)
        return gates.of_ending(row, self._folder.rules, moment, lacks)

    def _admit_one(
        self,
        connection: sqlite3.Connection,
        row: Row,
        result: Verdict,
        doubt: Doubt | None,
        now: float,
        settled: dict[int, str | None],
    ) -> None:
        """Write down what was found out about one file; one that may be sent is added to those that have *settled*."""
        match result:
            case Changed() | Wait():
                return
            case Blocked(reason):
                held = admission.Hold(blocked=reason)
                if not admission.says(row, held):
                    _write_down(connection, row, held)
            case Ready(lacks, sha256):
                if lacks:
                    about = log.bind(id=row.ident, issue=row.issue, file=printable(row.path))
                    about.warning("file.incomplete", reason=f"{rows.end_missing(lacks)}; it is sent as it is")
                claim = self._claim(connection, doubt, sha256) if doubt and sha256 else None
                if claim is not None and sha256 is not None:
                    admission.doubtful(connection, row, sha256, now, claim, self._context.config.jira.url, lacks)
                else:
                    settled[row.id] = lacks

    def _claim(self, connection: sqlite3.Connection, doubt: Doubt, sha256: bytes) -> admission.Claim | None:
        keys = moved_issues.keys_of(connection, self._folder.key)
        return claim(doubt, sha256, keys, self._has_left)

    def _has_left(self, failed: Row) -> bool:
        root = self._context.config.folders.failed
        return failed.target is not None and recognition.lies(root, failed.target) is False


def _said(row: Row, verdict: Wait | Blocked, moment: Moment) -> admission.Hold:
    """What is to be written down; a file that only has to be quiet stays blocked until it is looked at once more."""
    if isinstance(verdict, Blocked):
        return admission.Hold(blocked=verdict.reason)
    blocked = None if verdict.reason or verdict.lacks else row.blocked
    left = verdict.until - moment.boot if verdict.over and verdict.until is not None else 0.0
    due = moment.now + left if verdict.over else 0.0
    return admission.Hold(verdict.reason, blocked, verdict.lacks, due, left)


def _write_down(connection: sqlite3.Connection, row: Row, held: admission.Hold) -> None:
    if held.blocked and held.blocked != row.blocked:
        log.warning("file.blocked", id=row.ident, issue=row.issue, file=printable(row.path), reason=held.blocked)
    admission.hold(connection, row, held)


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a new file may be attached already: earlier failures of its size, notes of such, or a journal that was *lost*."""

    earlier: tuple[Row, ...]
    heard: frozenset[bytes]
    lost: bool


def doubts(journal: Journal, found: Sequence[Candidate], now: float) -> dict[bytes, Doubt]:
    """Which settled files have to be read, and perhaps looked up, before they are sent for the first time."""
    suspicious: dict[bytes, Doubt] = {}
    with journal.transaction_for_reading() as connection:
        sizes = {each.entry.print.size for each in found}
        failed = {size: tuple(identity.uncertain(connection, size)) for size in sizes}
        heard = {size: identity.heard(connection, size, now) for size in sizes}
    for each in found:
        size, lost = each.entry.print.size, each.row is not None and each.row.suspect_at is not None
        if failed[size] or heard[size] or lost:
            suspicious[each.entry.path] = Doubt(failed[size], heard[size], lost)
    return suspicious


def claim(doubt: Doubt, sha256: bytes, keys: frozenset[str], left: Callable[[Row], bool]) -> admission.Claim | None:
    """By which attempt a file of this content may be attached; None where nothing speaks for that.

    *keys* are those of its issue, and *left* says whether the file of a failed row lies in failed no more.
    """
    alike = [row for row in doubt.earlier if row.sha256 == sha256]
    unknown = doubt.lost or sha256 in doubt.heard or identity.ANYTHING in doubt.heard
    if not alike:
        told = admission.TOLD if sha256 in doubt.heard else 0
        return admission.Claim(0.0, told, "") if unknown else None
    back = [row for row in alike if left(row)]
    here = [row for row in alike if keys & {row.folder_key, row.issue}]
    newest = next(iter([row for row in back if row in here] or back or here or alike))
    times = [row.doubt_at if row.doubt_at is not None else row.sent_at or 0.0 for row in alike]
    attempts = [row.doubt_attempt if row.doubt_attempt is not None else row.attempt or 0 for row in alike]
    slacks = [row.doubt_slack if row.doubt_at is not None else row.sent_slack for row in alike]
    authors = {row.author for row in alike}
    return admission.Claim(
        at=0.0 if unknown else min(times),
        attempt=admission.TOLD if unknown else min(attempts),
        author=(newest.author or "") if len(authors) == 1 and not unknown else "",
        slack=max((slack for slack in slacks if slack is not None), default=None) if None not in slacks else None,
        name=newest.name if newest in here else None,
        brief=not unknown,
        judged=judged_by_return(newest) if newest in back else None,
        judged_at=newest.judged_at if newest in back else None,
        # One file of this content came back; another that does so later has the next one's doubt.
        heirs=(newest.id,) if newest in back and newest in here else (),
    )


def judged_by_return(row: Row) -> str | None:
    """Which attachments a person has looked at, where the file of a failed row came back.

    Who moves it back by hand does what its note says: look at the attachments that it names, and move the file back to have it
    sent again. ``retry`` alone says nothing about them; with --not-attached it says so of all.
    """
    judged = set((row.judged or "").split())
    if row.returned is None or EVERY in judged:
        judged.update((row.candidates or "").split())
    return " ".join(sorted(judged)) or None
