"""Looking whether what is in doubt has arrived: one listing of an issue serves all its files."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    given_again,
    in_words,
    reconcile,
)
from attachd.delivery.runtime import Runtime
from attachd.jira import attachments, rate_limits
from attachd.jira.attachments import Attachment
from attachd.jira.client import Client
from attachd.jira.contents import Content, Digest, NotYet, Unreadable
from attachd.jira.reply import Exchange, Reply
from attachd.journal import database, doubt, queue, rows
from attachd.journal.rows import Row
from attachd.logger import get_logger
from attachd.model import State, Stored, printable

log = get_logger()

#: For so long what failed because it may be attached is still expected in the issue: its attachment is no other file's. The same
#: holds for what was sent again and attached: the first attempt may still be stored.
LATE_SECONDS = 86_400.0
#: Bytes of a content that a slow network brings in a second. From it follows how long the watchdog waits.
_SLOW_BYTES = 1_000_000
#: If a listing leaves out at most so many attachments, attachd asks Jira whether they were deleted. If it leaves out more, and
#: nothing shows that it is new, attachd believes it once such listings have come for so many seconds.
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


def look(runtime: Runtime, client: Client, issue: str) -> None:
    """Look at an issue for all its files in doubt, and write down what that says of them."""
    seen = ask(runtime, client, issue)
    with runtime.journal.transaction() as connection:
        doubted = doubt.in_doubt(connection, issue, runtime.site.url)
    if not isinstance(seen, Seen):
        _unusable(runtime, client, doubted, seen)
    else:
        _conclude(runtime, doubted, seen, find(runtime, client, issue, seen))


def ask(runtime: Runtime, client: Client, issue: str) -> Seen | Unsure | Exchange:
    """Ask Jira for an issue's attachments; the raw outcome where it is not usable."""
    attempt = _last_attempt(runtime)
    outcome_ = runtime.site.hear(runtime.ask(lambda: client.listing(runtime.site.version, issue)))
    if isinstance(outcome_, Reply):
        runtime.pacer.heed("", rate_limits.pace(outcome_), runtime.clock.boot())
    if not isinstance(outcome_, Reply) or outcome_.status != 200:
        return outcome_
    parsed = attachments.parse_listing(outcome_.json)
    if parsed is not None and parsed.key not in ("", issue):
        return Unsure(moved_issues.heard(runtime, client, issue, moved_issues.Named(parsed.key, parsed.issue_id)))
    if isinstance(outcome_.json, dict):
        runtime.site.saw(issue, len(parsed.attachments) if parsed else None)
    if parsed is None:
        return outcome_
    if _is_old(runtime, client, issue, parsed):
        return Unsure("the list of attachments is older than an earlier one")
    return Seen(parsed, attempt)


def _last_attempt(runtime: Runtime) -> int:
    with runtime.journal.transaction() as connection:
        return int(database.get(connection, "attempt") or 0)


def _is_old(runtime: Runtime, client: Client, issue: str, shown: attachments.Listing) -> bool:
    """Return True if a listing leaves out what Jira had shown before, or had told us to be stored, and still has."""
    with runtime.journal.transaction_for_reading() as connection:
        known = doubt.to_be_shown(connection, issue, runtime.site.url, runtime.clock.now() - LATE_SECONDS)
    there, boot = {a.id for a in shown.attachments}, runtime.clock.boot()
    missing = [a for a in known if a not in there and a not in runtime.site.deleted]
    if not missing:
        runtime.site.old_since.pop(issue, None)
        return False
    for attachment in missing[:_ASKED_ABOUT]:
        number = attachment
        answer = runtime.site.hear(runtime.ask(lambda: client.attachment(runtime.site.version, number)))  # noqa: B023
        if blame.unseen(answer) is not None:
            runtime.site.deleted.add(attachment)
        else:
            return boot - runtime.site.old(issue, boot, _OLD_SECONDS) < _OLD_SECONDS
    runtime.site.old_since.pop(issue, None)
    return False


def find(runtime: Runtime, client: Client, issue: str, seen: Seen) -> dict[int, Finding]:
    """Hold all rows of an issue that are or were in doubt against a listing: an attachment may be any of theirs."""
    with runtime.journal.transaction() as connection:
        doubted = doubt.may_own(connection, issue, runtime.clock.now() - LATE_SECONDS, runtime.site.url)
        ids = [a.id for a in seen.listing.attachments]
        owners = doubt.owners(connection, runtime.site.url, ids)
        before = doubt.listed_before(connection, issue)
        doubt.remember_listing(connection, issue, ids, seen.attempt)
    credited = {attachment: owner.id for attachment, owner in owners.items()}
    reused = given_again(seen.listing.attachments, {attachment: owner.size for attachment, owner in owners.items()})
    view = View(seen.listing.attachments, credited, before, runtime.site.author, reused)
    findings = reconcile(doubted, view, _contents(runtime, client, candidates(doubted, view)))
    return {row.id: _checked(runtime, client, row, findings[row.id]) for row in doubted}


def _contents(runtime: Runtime, client: Client, wanted: Sequence[Attachment]) -> dict[str, Content]:
    """Read what these attachments contain, as far as that is possible. One that takes its time holds nobody up."""
    found: dict[str, Content] = {}
    for attachment in wanted:
        content = read(runtime, client, attachment)
        if content is not None:
            found[attachment.id] = content
        failures = sum(isinstance(each, NotYet) for each in found.values())
        if isinstance(content, NotYet) and failures >= _FAILURES:
            return found | {a.id: content for a in wanted if a.id not in found}
    return found


def read(runtime: Runtime, client: Client, attachment: Attachment, *, again: bool = False) -> Content | None:
    """Read what an attachment contains, *again* or at most once; None where the site is known not to hand that out to us."""
    known = None if again else runtime.site.digests.get(attachment.id)
    if known is not None:
        return Digest(known)
    generation = runtime.credentials.generation
    if not runtime.site.opens_contents(generation):
        return None
    seconds = runtime.reply_seconds(attachment.size)
    with runtime.beats.busy(60 + seconds + attachment.size / _SLOW_BYTES, lambda: 0):
        content = client.content(runtime.site.version, attachment, seconds, runtime.stopping)
    if isinstance(content, Digest):
        runtime.site.remember_digest(attachment.id, content.sha256)
    if isinstance(content, Unreadable) and content.everywhere:
        runtime.site.close_contents(generation)
        log.warning("content.unreadable", site=runtime.site.url, reason=content.reason)
    return content


def _checked(runtime: Runtime, client: Client, row: Row, finding: Finding) -> Finding:
    """Credit nothing unread while an issue with a file like this one may be the same issue under another key."""
    if not isinstance(finding, Arrived) or finding.ground != BY_METADATA:
        return finding
    with runtime.journal.transaction_for_reading() as connection:
        elsewhere = doubt.in_doubt_elsewhere(connection, row)
    for issue in elsewhere:
        answer = runtime.site.hear(runtime.ask(lambda: client.issue(runtime.site.version, issue)))  # noqa: B023
        if isinstance(answer, Reply) and answer.status in (403, 404):
            continue
        said = moved_issues.named(answer)
        if said is None:
            return Pending((finding.attachment,), f"attachd cannot find out whether {issue} is the same issue")
        if said.key != issue:
            moved_issues.heard(runtime, client, issue, said)
        if said.key == row.issue:
            return Pending((finding.attachment,), f"{issue} seems to be the same issue, and has a file like this one")
    return finding


def _conclude(runtime: Runtime, doubted: Sequence[Row], seen: Seen, findings: Mapping[int, Finding]) -> None:
    now = runtime.clock.now()
    changed: list[Row] = []
    with runtime.journal.transaction() as connection:
        ids = [a.id for a in seen.listing.attachments]
        sent = doubt.sent_by(connection, runtime.site.url, ids)
        for row in (rows.find(connection, each.id) for each in doubted):
            if row is None or row.state is not State.DOUBTFUL or row.id not in findings:
                continue
            finding = findings[row.id]
            if isinstance(finding, Arrived) and is_anothers(connection, runtime, row, finding.attachment):
                continue
            values = _after(runtime, connection, row, finding, now, fresh=_is_fresh(row, sent))
            if values:
                record.apply(connection, [row], {row.id: values}, now)
                if values.get("state") not in (None, State.DOUBTFUL):
                    changed.append(rows.one(connection, row.id))
    record.tell(changed)


def is_anothers(connection: sqlite3.Connection, runtime: Runtime, row: Row, attachment: Attachment) -> bool:
    """Return True if another worker credited the attachment to another file meanwhile, as with two keys of one issue."""
    return doubt.credited(connection, runtime.site.url, [attachment.id]).get(attachment.id, row.id) != row.id


def _is_fresh(row: Row, sent: Mapping[str, int]) -> bool:
    """Return True if a listing is proven to be newer than the row's last attempt: it shows what a later attempt has stored.

    *sent*: id to the first attempt that can have stored it.
    """
    return row.attempt is None or any(attempt > row.attempt for attempt in sent.values())


def _after(
    runtime: Runtime, connection: sqlite3.Connection, row: Row, finding: Finding, now: float, *, fresh: bool
) -> outcome.Values:
    match finding:
        case Arrived(attachment, ground):
            said = f"found in the issue after a doubtful answer, {in_words(ground)}"
            stored = Stored(attachment.id, attachment.name, said)
            return outcome.attached(stored, now, ground=ground)
        case Pending(_, reason):
            if row.due > now:
                return {}
            said = f"{ids_of(finding)} may be this file, but cannot be read now: {reason}"
            return outcome.unusable(row, said, now, runtime.doubts) | outcome.told([a.id for a in finding.candidates])
        case Unclear(several):
            return outcome.ask_a_person(row, [a.id for a in several], now)
        case Absent():
            if row.due > now:
                return {}
            longest = runtime.reply_seconds(row.size)
            if row.missing >= 2 and outcome.is_last_look(row, runtime.doubts, fresh=fresh):
                reason = "the file was not attached, and is no longer in the inbox"
                return {"state": State.WITHDRAWN, "since": now, "finished_at": now, "reason": reason}
            others = queue.accepted_since(connection, row.attempt or 0, row.id)
            return outcome.not_found(row, now, runtime.doubts, others_accepted=others, longest=longest, fresh=fresh)


def ids_of(finding: Pending) -> str:
    """Name the attachments in question."""
    return "attachment " + ", ".join(a.id for a in finding.candidates)


def _unusable(runtime: Runtime, client: Client, doubted: Sequence[Row], answer: Exchange | Unsure) -> None:
    """The listing proves nothing. Whose fault that is may pause more than this issue; the files stay in doubt."""
    now = runtime.clock.now()
    if isinstance(answer, Unsure):
        _look_again(runtime, doubted, answer.reason, now)
        return
    unseen = blame.unseen(answer)
    # Whose fault that is will be asked for these together: they are known not to have been stored.
    declined = {row.id for row in doubted if unseen and outcome.settled_doubt(row)}
    reason, fault = "", None
    if len(declined) < len(doubted):
        reason, fault = blame.of_listing(runtime, client, doubted[0].issue, answer)
    changed: list[Row] = []
    with runtime.journal.transaction() as connection:
        for row in (rows.one(connection, each.id) for each in doubted):
            if row.due > now or row.state is not State.DOUBTFUL:
                continue
            if unseen and row.id in declined:
                asked_at_once = {"due": 0, "wait": 0}
                values = outcome.after(row, unseen, now, runtime.doubts) | outcome.settled_doubt(row) | asked_at_once
            else:
                values = outcome.unusable(row, reason, now, runtime.doubts, world=fault)
            record.apply(connection, [row], {row.id: values}, now)
            if values.get("state") is State.REFUSED:
                changed.append(rows.one(connection, row.id))
    record.tell(changed)
    if fault is not None:
        pause.pause(runtime, fault)


def _look_again(runtime: Runtime, doubted: Sequence[Row], reason: str, now: float) -> None:
    with runtime.journal.transaction() as connection:
        for row in (rows.find(connection, each.id) for each in doubted):
            if row is not None and row.due <= now and row.state is State.DOUBTFUL:
                values = outcome.unusable(row, reason, now, runtime.doubts, soon=True)
                record.apply(connection, [row], {row.id: values}, now)


def report_extra(runtime: Runtime, client: Client, row: Row) -> None:
    """After a repeated attempt succeeded: say so if an earlier one came to light too. Nothing is ever deleted."""
    seen = ask(runtime, client, row.issue)
    if not isinstance(seen, Seen):
        return
    with runtime.journal.transaction() as connection:
        ids = [a.id for a in seen.listing.attachments]
        credited = doubt.credited(connection, runtime.site.url, ids)
        before = doubt.listed_before(connection, row.issue)
        rivals = doubt.may_own(connection, row.issue, runtime.clock.now() - LATE_SECONDS, runtime.site.url)
        doubt.remember_listing(connection, row.issue, ids, seen.attempt)
    left = [a for a in seen.listing.attachments if a.id != row.attachment]
    view = View(left, credited, before, runtime.site.author)
    # As if it still waited, so that contents are compared.
    own = rows.changed(row, {"state": State.READY})
    several = [own, *(other for other in rivals if other.id != row.id)]
    finding = reconcile(several, view, _contents(runtime, client, candidates([own], view)))[row.id]
    if isinstance(finding, Arrived):
        log.warning(
            "file.extra_copy_found",
            id=row.ident,
            issue=row.issue,
            file=printable(row.path),
            attachment=row.attachment,
            extra=finding.attachment.id,
        )
