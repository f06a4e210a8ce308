"""Looking whether what is in doubt has arrived: one listing of an issue serves all its files."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from attachd.delivery import blame, moved_issues, outcome, pause, record
from attachd.delivery.attribution import (
    BY_METADATA,
    Absent,
    Arrived,
    Finding,
    Pending,
    Unclear,
    View,
    candidates,
    in_words,
    reconcile,
)
from attachd.delivery.runtime import Desk
from attachd.jira import attachments, rate_limits
from attachd.jira.attachments import Attachment
from attachd.jira.client import Client
from attachd.jira.contents import Content, Digest, NotYet, Unreadable
from attachd.jira.reply import Exchange, Reply
from attachd.journal import database, doubt, queue, rows
from attachd.journal.rows import Row
from attachd.model import State, Stored, printable

log = structlog.get_logger()

#: For so long what failed because it may be attached is still expected in the issue: its attachment is no other file's. The same
#: holds for what was sent again and attached: the first attempt may still be stored.
LATE_SECONDS = 86_400.0
#: A slow network brings so many bytes of a content in a second; the watchdog is told how long that may take.
_SLOW_BYTES = 1_000_000
#: Of so many attachments that a listing leaves out Jira is asked whether they were deleted; a listing that leaves out more and
#: cannot be told to be new is believed after so many seconds all the same.
_ASKED_ABOUT, _OLD_SECONDS = 3, 600.0


#: After so many contents that could not be read it is an outage: of the others nothing would be found out either.
_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """A usable listing, and what the journal knew when it was asked for."""

    listing: attachments.Listing
    attempt: int


@dataclass(frozen=True, slots=True)
class Unsure:
    """An answer that is whole and cannot be relied on: it is older than an earlier one, or about another issue."""

    reason: str


def look(desk: Desk, client: Client, lane: str) -> None:
    """Look at an issue for all its files in doubt, and write down what that says of them."""
    seen = ask(desk, client, lane)
    with desk.journal.transaction() as connection:
        doubted = doubt.in_doubt(connection, lane, desk.site.url)
    if not isinstance(seen, Seen):
        _unusable(desk, client, doubted, seen)
    else:
        _conclude(desk, doubted, seen, find(desk, client, lane, seen))


def ask(desk: Desk, client: Client, lane: str) -> Seen | Unsure | Exchange:
    """Ask Jira for an issue's attachments; the raw outcome where it is not usable."""
    attempt = _last_attempt(desk)
    outcome_ = desk.site.hear(desk.asked(lambda: client.listing(desk.site.version, lane)))
    if isinstance(outcome_, Reply):
        desk.pacer.heed("", rate_limits.pace(outcome_), desk.clock.boot())
    if not isinstance(outcome_, Reply) or outcome_.status != 200:
        return outcome_
    parsed = attachments.parse_listing(outcome_.json)
    if parsed is not None and parsed.key not in ("", lane):
        return Unsure(moved_issues.heard(desk, client, lane, moved_issues.Named(parsed.key, parsed.issue)))
    if isinstance(outcome_.json, dict):
        desk.site.saw(lane, len(parsed.attachments) if parsed else None)
    if parsed is None:
        return outcome_
    if _is_old(desk, client, lane, parsed):
        return Unsure("the listing is older than an earlier one: attachments that are there are missing in it")
    return Seen(parsed, attempt)


def _last_attempt(desk: Desk) -> int:
    with desk.journal.transaction() as connection:
        return int(database.get(connection, "attempt") or 0)


def _is_old(desk: Desk, client: Client, lane: str, shown: attachments.Listing) -> bool:
    """Whether a listing leaves out what Jira had shown before, or had told us to be stored, and still has."""
    with desk.journal.transaction_for_reading() as connection:
        known = doubt.to_be_shown(connection, lane, desk.site.url, desk.clock.now() - LATE_SECONDS)
    there, boot = {a.id for a in shown.attachments}, desk.clock.boot()
    missing = [a for a in known if a not in there and a not in desk.site.deleted]
    if not missing:
        desk.site.old_since.pop(lane, None)
        return False
    for attachment in missing[:_ASKED_ABOUT]:
        number = attachment
        answer = desk.site.hear(desk.asked(lambda: client.attachment(desk.site.version, number)))  # noqa: B023
        if isinstance(answer, Reply) and answer.status in (403, 404):
            desk.site.deleted.add(attachment)
        else:
            return boot - desk.site.old_since.setdefault(lane, boot) < _OLD_SECONDS
    desk.site.old_since.pop(lane, None)
    return False


def find(desk: Desk, client: Client, lane: str, seen: Seen) -> dict[int, Finding]:
    """Hold all rows of an issue that are or were in doubt against a listing: an attachment may be any of theirs."""
    with desk.journal.transaction() as connection:
        doubted = doubt.may_own(connection, lane, desk.clock.now() - LATE_SECONDS, desk.site.url)
        ids = [a.id for a in seen.listing.attachments]
        credited = doubt.credited(connection, desk.site.url, ids)
        before = doubt.listed_before(connection, lane)
        doubt.remember_listing(connection, lane, ids, seen.attempt)
    view = View(seen.listing.attachments, credited, before, desk.site.author)
    findings = reconcile(doubted, view, _contents(desk, client, candidates(doubted, view)))
    return {row.id: _checked(desk, client, row, findings[row.id]) for row in doubted}


def _contents(desk: Desk, client: Client, wanted: Sequence[Attachment]) -> dict[str, Content]:
    """Read what these attachments contain, as far as that is possible. One that takes its time holds nobody up."""
    found: dict[str, Content] = {}
    for attachment in wanted:
        content = read(desk, client, attachment)
        if content is not None:
            found[attachment.id] = content
        failures = sum(isinstance(each, NotYet) for each in found.values())
        if isinstance(content, NotYet) and failures >= _FAILURES:
            return found | {a.id: content for a in wanted if a.id not in found}
    return found


def read(desk: Desk, client: Client, attachment: Attachment, *, anew: bool = False) -> Content | None:
    """Read what an attachment contains, *anew* or at most once; None where the site is known not to hand that out to us."""
    known = None if anew else desk.site.digests.get(attachment.id)
    if known is not None:
        return Digest(known)
    generation = desk.credentials.generation
    if not desk.site.opens_contents(generation):
        return None
    seconds = desk.reply_seconds(attachment.size)
    with desk.turns.left(), desk.beats.busy(60 + seconds + attachment.size / _SLOW_BYTES, lambda: 0):
        content = client.content(desk.site.version, attachment, seconds, desk.stopping)
    if isinstance(content, Digest):
        desk.site.remember_digest(attachment.id, content.sha256)
    if isinstance(content, Unreadable) and content.everywhere:
        desk.site.close_contents(generation)
        log.warning("content.unreadable", site=desk.site.url, reason=content.reason)
    return content


def _checked(desk: Desk, client: Client, row: Row, finding: Finding) -> Finding:
    """Credit nothing unread while an issue with a file like this one may be the same issue under another key."""
    if not isinstance(finding, Arrived) or finding.ground != BY_METADATA:
        return finding
    with desk.journal.transaction_for_reading() as connection:
        elsewhere = doubt.in_doubt_elsewhere(connection, row)
    for lane in elsewhere:
        answer = desk.site.hear(desk.asked(lambda: client.issue(desk.site.version, lane)))  # noqa: B023
        if isinstance(answer, Reply) and answer.status in (403, 404):
            continue
        said = moved_issues.named(answer)
        if said is None:
            return Pending((finding.attachment,), f"whether {lane} is the same issue cannot be found out")
        if said.key != lane:
            moved_issues.heard(desk, client, lane, said)
        if said.key == row.lane:
            return Pending((finding.attachment,), f"{lane} seems to be the same issue, and has a file like this one")
    return finding


def _conclude(desk: Desk, doubted: Sequence[Row], seen: Seen, findings: Mapping[int, Finding]) -> None:
    now = desk.clock.now()
    changed: list[Row] = []
    with desk.journal.transaction() as connection:
        ids = [a.id for a in seen.listing.attachments]
        sent = doubt.sent_by(connection, desk.site.url, ids)
        for row in (rows.find(connection, each.id) for each in doubted):
            if row is None or row.state is not State.DOUBTFUL or row.id not in findings:
                continue
            finding = findings[row.id]
            if isinstance(finding, Arrived) and is_anothers(connection, desk, row, finding.attachment):
                continue
            values = _after(desk, connection, row, finding, now, fresh=_is_fresh(row, sent))
            if values:
                record.apply(connection, [row], {row.id: values}, now)
                if values.get("state") not in (None, State.DOUBTFUL):
                    changed.append(rows.one(connection, row.id))
    record.tell(changed)


def is_anothers(connection: sqlite3.Connection, desk: Desk, row: Row, attachment: Attachment) -> bool:
    """Whether another worker credited the attachment to another file meanwhile, as with two keys of one issue."""
    return doubt.credited(connection, desk.site.url, [attachment.id]).get(attachment.id, row.id) != row.id


def _is_fresh(row: Row, sent: Mapping[str, int]) -> bool:
    """Whether a listing is proven to be newer than the row's last attempt: it shows what a later attempt has stored.

    *sent*: id to the first attempt that can have stored it.
    """
    return row.attempt is None or any(attempt > row.attempt for attempt in sent.values())


def _after(
    desk: Desk, connection: sqlite3.Connection, row: Row, finding: Finding, now: float, *, fresh: bool
) -> outcome.Values:
    match finding:
        case Arrived(attachment, ground):
            said = f"found in the issue after a doubtful answer, {in_words(ground)}"
            stored = Stored(attachment.id, attachment.name, said)
            return outcome.attached(stored, now, ground=ground)
        case Pending(_, reason):
            if row.due > now:
                return {}
            said = f"{ids_of(finding)} may be this file, and cannot be read now: {reason}"
            return outcome.unusable(row, said, now, desk.doubts) | outcome.told([a.id for a in finding.candidates])
        case Unclear(several):
            return outcome.ask_a_person([a.id for a in several], now)
        case Absent():
            if row.due > now:
                return {}
            longest = desk.reply_seconds(row.size)
            if row.missing >= 2 and outcome.is_last_look(row, desk.doubts, fresh=fresh):
                reason = "it was not attached, and is gone from the inbox"
                return {"state": State.WITHDRAWN, "since": now, "finished_at": now, "reason": reason}
            others = queue.accepted_since(connection, row.doubt_attempt or 0, row.id)
            return outcome.not_found(row, now, desk.doubts, others_accepted=others, longest=longest, fresh=fresh)


def ids_of(finding: Pending) -> str:
    """Name the attachments in question."""
    return "attachment " + ", ".join(a.id for a in finding.candidates)


def _unusable(desk: Desk, client: Client, doubted: Sequence[Row], answer: Exchange | Unsure) -> None:
    """The listing proves nothing. Whose fault that is may pause more than this issue; the files stay in doubt."""
    now = desk.clock.now()
    if isinstance(answer, Unsure):
        _look_again(desk, doubted, answer.reason, now)
        return
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
            record.apply(connection, [row], {row.id: values}, now)
            if values.get("state") is State.REFUSED:
                changed.append(rows.one(connection, row.id))
    record.tell(changed)
    if fault is not None:
        pause.pause(desk, fault)


def _look_again(desk: Desk, doubted: Sequence[Row], reason: str, now: float) -> None:
    with desk.journal.transaction() as connection:
        for row in (rows.find(connection, each.id) for each in doubted):
            if row is not None and row.due <= now and row.state is State.DOUBTFUL:
                values = outcome.unusable(row, reason, now, desk.doubts, soon=True)
                record.apply(connection, [row], {row.id: values}, now)


def report_extra(desk: Desk, client: Client, row: Row) -> None:
    """After a repeated attempt succeeded: say so if an earlier one came to light too. Nothing is ever deleted."""
    seen = ask(desk, client, row.lane)
    if not isinstance(seen, Seen):
        return
    with desk.journal.transaction() as connection:
        ids = [a.id for a in seen.listing.attachments]
        credited = doubt.credited(connection, desk.site.url, ids)
        before = doubt.listed_before(connection, row.lane)
        rivals = doubt.may_own(connection, row.lane, desk.clock.now() - LATE_SECONDS, desk.site.url)
        doubt.remember_listing(connection, row.lane, ids, seen.attempt)
    left = [a for a in seen.listing.attachments if a.id != row.attachment]
    view = View(left, credited, before, desk.site.author)
    # As if it still waited, so that contents are compared.
    own = rows.changed(row, {"state": State.READY})
    several = [own, *(other for other in rivals if other.id != row.id)]
    finding = reconcile(several, view, _contents(desk, client, candidates([own], view)))[row.id]
    if isinstance(finding, Arrived):
        log.warning(
            "file.extra_copy_found",
            id=row.ident,
            issue=row.lane,
            file=printable(row.path),
            attachment=row.attachment,
            extra=finding.attachment.id,
        )
