"""Looking whether what is in doubt has arrived: one listing of an issue serves all its files."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from attachd.delivery import blame, outcome, pausing, recording
from attachd.delivery.desk import Desk
from attachd.delivery.reconciling import Absent, Arrived, Finding, Unclear, as_judged, reconcile, to_be_compared
from attachd.jira import listing, waits
from attachd.jira.client import Client
from attachd.jira.exchange import Exchange, Reply
from attachd.journal import database, queue, rows
from attachd.journal.rows import Row
from attachd.model import State, Stored, printable

log = structlog.get_logger()

#: For so long what failed because it may be attached is still expected in the issue: its attachment is no other file's.
LATE_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A usable listing, and what the journal knew when it was asked for."""

    listing: listing.Listing
    attempt: int


def look(desk: Desk, client: Client, lane: str) -> None:
    """Look at an issue for all its files in doubt, and write down what that says of them."""
    seen = ask(desk, client, lane)
    with desk.journal.transaction() as connection:
        doubted = queue.in_doubt(connection, lane)
    if not isinstance(seen, Seen):
        _unusable(desk, client, doubted, seen)
    else:
        _conclude(desk, doubted, find(desk, client, lane, seen))


def ask(desk: Desk, client: Client, lane: str) -> Seen | Exchange:
    """Ask Jira for an issue's attachments and remember which there were; the raw outcome where it is not usable."""
    attempt = _last_attempt(desk)
    outcome_ = desk.site.hear(desk.asked(lambda: client.listing(desk.site.version, lane)))
    if isinstance(outcome_, Reply):
        desk.pacer.heed("", waits.pace(outcome_), desk.clock.boot())
    if not isinstance(outcome_, Reply) or outcome_.status != 200:
        return outcome_
    parsed = listing.parse_listing(outcome_.json)
    if isinstance(outcome_.json, dict):
        desk.site.saw(lane, len(parsed.attachments) if parsed else None)
    return Seen(parsed, attempt) if parsed else outcome_


def _last_attempt(desk: Desk) -> int:
    with desk.journal.transaction() as connection:
        return int(database.get(connection, "attempt") or 0)


def find(desk: Desk, client: Client, lane: str, seen: Seen) -> dict[int, Finding]:
    """Hold all rows of an issue that are or were in doubt against a listing: an attachment may be any of theirs.

    Where only the content tells, it is compared (Cloud hands it out, Data Center does not).
    """
    with desk.journal.transaction() as connection:
        if seen.listing.key and seen.listing.key != lane:
            queue.merge_lane(connection, lane, seen.listing.key)
            log.info("issue.moved", issue=lane, now=seen.listing.key)
            lane = seen.listing.key
        doubted = queue.may_own(connection, lane, desk.clock.now() - LATE_SECONDS)
        credited = queue.credited(connection, desk.site.url, [a.id for a in seen.listing.attachments])
        before = queue.listed_before(connection, lane)
        queue.remember_listing(connection, lane, [a.id for a in seen.listing.attachments], seen.attempt)
    findings = reconcile(doubted, seen.listing, credited, before, desk.site.author)
    findings |= {row.id: to_be_compared(row, findings[row.id]) for row in doubted}
    if desk.site.cloud:
        _compare_contents(desk, client, doubted, findings)
    return findings | {row.id: as_judged(row, findings[row.id]) for row in doubted}


def _compare_contents(desk: Desk, client: Client, doubted: Sequence[Row], findings: dict[int, Finding]) -> None:
    sums: dict[str, bytes | None] = {}
    taken: set[str] = set()
    for row in doubted:
        finding = findings[row.id]
        if not isinstance(finding, Unclear):
            continue
        for candidate in finding.candidates:
            if candidate.id not in sums:
                with desk.turns.left():
                    sums[candidate.id] = client.content_sha256(
                        desk.site.version, candidate.id, row.size, desk.reply_seconds(row.size)
                    )
        findings[row.id] = _by_content(row, finding, sums, taken)


def _by_content(row: Row, finding: Unclear, sums: Mapping[str, bytes | None], taken: set[str]) -> Finding:
    for candidate in finding.candidates:
        if row.sha256 is not None and sums[candidate.id] == row.sha256 and candidate.id not in taken:
            taken.add(candidate.id)
            return Arrived(candidate)
    unknown = tuple(c for c in finding.candidates if sums[c.id] is None)
    return Unclear(unknown) if unknown else Absent()


def _conclude(desk: Desk, doubted: Sequence[Row], findings: Mapping[int, Finding]) -> None:
    now = desk.clock.now()
    changed: list[Row] = []
    with desk.journal.transaction() as connection:
        for row in (rows.one(connection, each.id) for each in doubted):
            if row.state is not State.DOUBTFUL or row.id not in findings:
                continue
            values = _after(desk, connection, row, findings[row.id], now)
            if values:
                recording.apply(connection, [row], {row.id: values}, now)
                if values.get("state") not in (None, State.DOUBTFUL):
                    changed.append(rows.one(connection, row.id))
    recording.tell(changed)


def _after(desk: Desk, connection: sqlite3.Connection, row: Row, finding: Finding, now: float) -> outcome.Values:
    match finding:
        case Arrived(attachment):
            return outcome.attached(
                Stored(attachment.id, attachment.name, "found in the issue after a doubtful answer"), now
            )
        case Unclear(candidates):
            ids = [a.id for a in candidates]
            if desk.site.cloud:
                reason = f"the content of attachment {', '.join(ids)} cannot be read"
                return outcome.unusable(row, reason, now, desk.doubts) | outcome.told(ids)
            return outcome.ask_a_person(ids, now)
        case Absent():
            if row.due > now:
                return {}
            if row.missing >= 2 and row.looks + 1 >= len(desk.doubts.looks_seconds):
                reason = "it was not attached, and is gone from the inbox"
                return {"state": State.WITHDRAWN, "since": now, "finished_at": now, "reason": reason}
            others = queue.accepted_since(connection, row.doubt_attempt or 0, row.id)
            longest = desk.reply_seconds(row.size)
            return outcome.not_found(row, now, desk.doubts, others_accepted=others, longest=longest)


def _unusable(desk: Desk, client: Client, doubted: Sequence[Row], answer: Exchange) -> None:
    """The listing proves nothing. Whose fault that is may pause more than this issue; the files stay in doubt."""
    now = desk.clock.now()
    unseen = blame.unseen(answer)
    # Whose fault that is will be asked for these together: they are known not to have been stored.
    declined = {row.id for row in doubted if unseen and outcome.settled_doubt(row)}
    reason, fault = ("", None) if len(declined) == len(doubted) else blame.of_listing(desk, client, answer)
    changed: list[Row] = []
    with desk.journal.transaction() as connection:
        for row in (rows.one(connection, each.id) for each in doubted):
            if row.due > now or row.state is not State.DOUBTFUL:
                continue
            if unseen and row.id in declined:
                asked_at_once = {"due": 0, "wait": 0}
                values = outcome.after(row, unseen, now, desk.doubts) | outcome.settled_doubt(row) | asked_at_once
            else:
                values = outcome.unusable(row, reason, now, desk.doubts, world=fault is not None)
            recording.apply(connection, [row], {row.id: values}, now)
            if values.get("state") is State.REFUSED:
                changed.append(rows.one(connection, row.id))
    recording.tell(changed)
    if fault is not None:
        pausing.pause(desk, fault)


def report_extra(desk: Desk, client: Client, row: Row) -> None:
    """After a repeated attempt succeeded: say so if an earlier one came to light too. Nothing is ever deleted."""
    seen = ask(desk, client, row.lane)
    if not isinstance(seen, Seen):
        return
    with desk.journal.transaction() as connection:
        credited = queue.credited(connection, desk.site.url, [a.id for a in seen.listing.attachments])
        before = queue.listed_before(connection, row.lane)
        rivals = queue.may_own(connection, row.lane, desk.clock.now() - LATE_SECONDS)
        others = [other for other in rivals if other.id != row.id]
    left = tuple(a for a in seen.listing.attachments if a.id != row.attachment)
    rest = listing.Listing(seen.listing.key, left)
    finding = reconcile([row, *others], rest, credited, before, desk.site.author)[row.id]
    if isinstance(to_be_compared(row, finding), Arrived):
        assert isinstance(finding, Arrived)
        log.warning(
            "file.extra_copy_found",
            id=row.ident,
            issue=row.lane,
            file=printable(row.path),
            attachment=row.attachment,
            extra=finding.attachment.id,
        )
