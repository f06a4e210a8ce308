"""One request: the files opened and held, the intent durable, the bytes sent, the answer judged and recorded."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import structlog

from attachd.delivery import bandwidth, blame, learning, looking, meeting, opening, outcome, pausing, policy, recording
from attachd.delivery.desk import Desk
from attachd.delivery.reconciling import Absent, Arrived, Pending, Unclear, in_words
from attachd.fs import folders as fs_folders
from attachd.fs import leases
from attachd.jira import attachments, multipart, rate_limits, verdict
from attachd.jira import connection as jira_connection
from attachd.jira.client import Client
from attachd.jira.reply import Broken, Exchange, Reply
from attachd.journal import queue, rows
from attachd.journal.rows import Row
from attachd.model import Cure, Fate, Fault, InDoubt, NotDelivered, Scope, State, Stored, printable

log = structlog.get_logger()

#: The issue is looked at before a file larger than this is sent, unless it was seen a short while ago.
LARGE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """A row whose file is open, and the file as a part of a body: as it was when it was opened."""

    row: Row
    part: multipart.Part


def send(desk: Desk, client: Client, batch: Sequence[Row]) -> list[Row]:
    """Send what can be sent of *batch* in one request. Returns the rows as they are afterwards."""
    if not _paid(desk, batch):
        return recording.current(desk, batch)
    with contextlib.ExitStack() as stack:
        with fs_folders.Held() as folders:
            loaded = [file for row in batch if (file := _load(desk, stack, row, folders))]
        loaded = _within_limits(desk, client, loaded)
        if not loaded:
            return recording.current(desk, batch)
        first = loaded[0].row
        if first.ever_doubtful and not _still_missing(desk, client, first):
            return recording.current(desk, batch)
        if first.size > LARGE_BYTES and not desk.site.has_seen(first.lane) and not _visible(desk, client, first):
            return recording.current(desk, batch)
        return _send(desk, client, loaded)


def _is_streamed(batch: Sequence[Row]) -> bool:
    """Whether its files are paid for as they are read. One buffer leaves at once, and is paid for before all else."""
    return sum(row.size for row in batch) > multipart.BUFFERED_BYTES


def _paid(desk: Desk, batch: Sequence[Row]) -> bool:
    """Wait until a body of one buffer may be sent, before it is read: False if the service is stopping meanwhile."""
    upload = desk.config.upload
    if not upload.max_bytes_per_second or _is_streamed(batch):
        return True
    for size in bandwidth.pieces(sum(row.size for row in batch), _piece_bytes(desk)):
        _pay(desk, size, desk.stopping)
        desk.beats.beat()
    return not desk.stopping.is_set()


def _pay(desk: Desk, size: int, ended: threading.Event) -> None:
    """Wait until *size* bytes more may be sent, or until the service *ended*."""
    if wait := desk.bandwidth.charge(size, desk.config.upload.max_bytes_per_second, desk.clock.boot()):
        with desk.turns.left():
            ended.wait(wait)


def _piece_bytes(desk: Desk) -> int:
    upload = desk.config.upload
    return bandwidth.piece_bytes(upload.max_bytes_per_second, upload.parallel, multipart.READ_BYTES)


def _load(desk: Desk, stack: contextlib.ExitStack, row: Row, folders: fs_folders.Held) -> Loaded | None:
    network = desk.network(row.path)
    found = opening.open_same(desk.guard.inbox, row, desk.guard.epoch, folders, network=network)
    if isinstance(found, opening.Opened):
        # As it was when it was opened: until the body is made Jira may be asked things, and what is written meanwhile has
        # not settled.
        stack.callback(opening.close, found)
        return Loaded(row, multipart.Part(found.descriptor, row.name, row.size, found.mtime_ns, found.ctime_ns))
    _set_aside(desk, row, found)
    return None


def _set_aside(
    desk: Desk, row: Row, found: opening.NotThere | opening.NotTheSame | opening.Written | opening.Unreadable
) -> None:
    now = desk.clock.now()
    values: dict[str, Any]
    match found:
        case opening.NotThere():
            wait = desk.config.settle.rescan_seconds
            values = {"due": now + wait, "wait": wait, "reason": "it is not at its place; the next scan finds out why"}
        case opening.NotTheSame():
            values = aside(desk, row, "it changed before it was sent")
        case opening.Written():
            values = aside(desk, row, leases.STILL_OPEN)
        case opening.Unreadable(reason):
            values = aside(desk, row, reason, blocked=True)
        case _:
            assert_never(found)
    with desk.journal.transaction() as connection:
        rows.change_if_same(connection, row, values)


def aside(desk: Desk, row: Row, reason: str, *, blocked: bool = False) -> dict[str, Any]:
    """The columns of a file that cannot be sent as it is: it settles anew.

    But one that may have arrived by an earlier attempt keeps what is known of that attempt: intake finds out by its
    checksum whether it is still the same.
    """
    if row.ever_doubtful:
        wait = desk.config.settle.rescan_seconds if blocked else 1.0
        return {"due": desk.clock.now() + wait, "wait": wait, "reason": reason}
    return {
        "blocked": reason if blocked else None,
        "state": State.SEEN,
        "since": desk.clock.now(),
        "quiet_boot": desk.clock.boot(),
        "reason": reason,
        "sha256": None,
        "contested": None,
    }


def _within_limits(desk: Desk, client: Client, loaded: list[Loaded]) -> list[Loaded]:
    """Refuse before a byte is sent what Jira would refuse; the limit is asked anew before any refusal."""
    known = meeting.limits(desk, client, fresh=False)
    if known and (not known.enabled or any(known.largest and f.row.size > known.largest for f in loaded)):
        known = meeting.limits(desk, client, fresh=True)
    if known and not known.enabled:
        reason = "attachments are disabled in this Jira (attachment/meta says so)"
        pausing.pause(desk, Fault(Scope.SITE, "disabled", reason, cure=Cure.TIME, wait=60))
        return []
    too_large = [f for f in loaded if known and known.largest and f.row.size > known.largest]
    now = desk.clock.now()
    for file in too_large:
        reason = f"it has {file.row.size} bytes, and this Jira allows {known.largest if known else 0}"
        with desk.journal.transaction() as connection:
            rows.change_if_same(connection, file.row, outcome.refused(reason, now))
            written = rows.one(connection, file.row.id)
        recording.tell([written])
    return [f for f in loaded if f not in too_large]


def _still_missing(desk: Desk, client: Client, row: Row) -> bool:
    """The look directly before a repeated attempt; False if it must not be sent now."""
    seen = looking.ask(desk, client, row.lane)
    now = desk.clock.now()
    if not isinstance(seen, looking.Seen):
        _cannot_look(desk, client, row, seen)
        return False
    finding = looking.find(desk, client, row.lane, seen).get(row.id)
    if isinstance(finding, Absent):
        return True
    if finding is None:
        return False  # intake changed it meanwhile
    with desk.journal.transaction() as connection:
        if isinstance(finding, Arrived) and looking.is_anothers(connection, desk, row, finding.attachment):
            return False
        rows.change_if_same(connection, row, _found_before(row, finding, now))
        written = rows.one(connection, row.id)
    recording.tell([written])
    return False


def _visible(desk: Desk, client: Client, row: Row) -> bool:
    """See whether the issue is there before a large file, so that gigabytes are not pushed at a 404."""
    seen = looking.ask(desk, client, row.lane)
    if isinstance(seen, looking.Seen | looking.Unsure):
        return True
    if isinstance(seen, Reply) and seen.status == 200 and seen.json is not None:
        # A listing that is unusable is an issue that is there.
        return True
    _cannot_look(desk, client, row, seen)
    return False


def _found_before(row: Row, finding: Arrived | Unclear | Pending, now: float) -> dict[str, Any]:
    match finding:
        case Arrived(attachment, ground):
            remark = f"an earlier attempt had arrived after all, {in_words(ground)}"
            return outcome.attached(Stored(attachment.id, attachment.name, remark), now, ground=ground)
        case Pending(_, reason):
            wait = policy.file_wait(row.tries)
            said = f"{looking.ids_of(finding)} may be this file, and cannot be read now: {reason}"
            return {"due": now + wait, "wait": wait, "reason": said}
        case Unclear(several):
            return outcome.ask_a_person([a.id for a in several], now)
        case _:
            assert_never(finding)


def _cannot_look(desk: Desk, client: Client, row: Row, answer: Exchange | looking.Unsure) -> None:
    now = desk.clock.now()
    if isinstance(answer, looking.Unsure):
        values = {"due": now + outcome.SOON_SECONDS, "wait": outcome.SOON_SECONDS, "reason": answer.reason}
        with desk.journal.transaction() as connection:
            rows.change_if_same(connection, row, values)
        return
    fate = blame.unseen(answer)
    if fate is not None:
        with desk.journal.transaction() as connection:
            rows.change_if_same(connection, row, outcome.after(row, fate, now, desk.doubts))
        return
    wait = policy.file_wait(row.tries)
    reason = "the issue has to be looked at before it is sent, and cannot be read now"
    with desk.journal.transaction() as connection:
        rows.change_if_same(connection, row, {"due": now + wait, "wait": wait, "reason": reason})
    _, fault = blame.of_listing(desk, client, answer)
    if fault is not None:
        pausing.pause(desk, fault)


def _send(desk: Desk, client: Client, loaded: Sequence[Loaded]) -> list[Row]:
    batch = [file.row for file in loaded]

    def permit() -> None:
        if not desk.guard.sure(desk.sure_seconds):
            raise multipart.Cut(desk.guard.sight.reason)

    def before_end(sums: Sequence[bytes]) -> None:
        desk.guard.look()
        if any(_is_written(desk, file) for file in loaded):
            raise multipart.Changed("a program has opened it for writing while it was being sent")
        with desk.journal.transaction() as connection:
            queue.checksums(connection, batch, sums)

    def pay(size: int) -> None:
        if _is_streamed(batch):
            _pay(desk, size, desk.cutting)

    parts = [file.part for file in loaded]
    try:
        body = multipart.Body(
            *(parts, before_end, desk.cutting.is_set), pay=pay, permit=permit, read_bytes=_piece_bytes(desk)
        )
    except (multipart.Changed, OSError) as error:
        # Which of them it was shows when each is opened again; nothing was sent of any.
        return _unreadable(desk, batch, error)
    # After the batch was chosen: what another host may have sent meanwhile was in the inbox before it said so in the marker.
    if _set_aside_written(desk, loaded) or not _is_ours(desk) or not _intend(desk, batch, body):
        return recording.current(desk, batch)
    desk.pacer.count(batch[0].lane, desk.clock.boot(), _writes(desk, batch))
    answer = _exchange(desk, client, batch, body)
    if isinstance(answer, Broken) and answer.ours is not None:
        return _unreadable(desk, batch, answer.ours)
    # The limit may have been lowered since it was asked.
    stale = isinstance(answer, Reply) and answer.status == 413 and not desk.stopping.is_set()
    known = meeting.limits(desk, client, fresh=stale)
    largest = known.largest if known else None
    sent = [verdict.Sent(row.name, row.size) for row in batch]
    judged = verdict.judge(answer, sent, batch[0].lane, largest=largest)
    _heed(desk, batch[0].lane, answer, judged)
    return recording.record(desk, batch, _with_checksums(desk, loaded, judged.fates), judged.fault, answer)


def _is_ours(desk: Desk) -> bool:
    with desk.turns.left():
        return desk.guard.look().there


def _set_aside_written(desk: Desk, loaded: Sequence[Loaded]) -> bool:
    """Ask directly before the intent whether somebody has opened one of these files for writing meanwhile: since they were
    opened Jira may have been asked things. Those settle anew, and nothing is sent of this request; the others are chosen again.
    """
    written = [file for file in loaded if _is_written(desk, file)]
    for file in written:
        _set_aside(desk, file.row, opening.Written())
    return bool(written)


def _is_written(desk: Desk, file: Loaded) -> bool:
    return leases.writer(file.part.descriptor, network=desk.network(file.row.path)) is leases.Writer.SOMEBODY


def _writes(desk: Desk, batch: Sequence[Row]) -> int:
    """As how many writes to its issue Jira counts a request, as far as is known."""
    with desk.journal.transaction_for_reading() as connection:
        known = learning.most(connection, desk.config.batch.max_files, cloud=desk.site.cloud)
    return len(batch) if known.counted else 1


def _heed(desk: Desk, lane: str, answer: Exchange, judged: verdict.Judgement) -> None:
    """Take from the answer how fast, how many at once, and what is known of the issue."""
    if isinstance(answer, Reply):
        desk.pacer.heed(lane, rate_limits.pace(answer), desk.clock.boot())
    stored = sum(isinstance(fate, Stored) for fate in judged.fates)
    if stored == len(judged.fates):
        if desk.parallel.accepted():
            desk.bell.ring()
        desk.site.accepted(lane, stored)
        return
    if isinstance(answer, Reply) and answer.status in (403, 404):
        desk.site.lost_sight(lane)
    if overloaded(answer, judged.fault):
        desk.parallel.overloaded()


def overloaded(answer: Exchange, fault: Fault | None) -> bool:
    """Whether fewer uploads at once would help: not against the limit of one issue, which never has two."""
    if isinstance(answer, Broken):
        return answer.timed_out
    return answer.status == 503 or (answer.status == 429 and (fault is None or fault.scope is not Scope.ISSUE))


def _intend(desk: Desk, batch: Sequence[Row], body: multipart.Body) -> bool:
    """Make the intent durable; False if intake has changed one of the rows since it was claimed: nothing is sent then."""
    with desk.journal.transaction() as connection:
        if rows.many(connection, [row.id for row in batch]) != sorted(batch):
            return False
        queue.intend(
            connection,
            batch,
            author=desk.site.author,
            site=desk.site.url,
            sent_at=desk.site.now(),
            sent_slack=desk.site.slack,
            now=desk.clock.now(),
            wall=desk.clock.wall(),
            checksums=body.checksums if body.buffered else None,
        )
    about = log.bind()
    for row in batch:
        about.debug(
            "file.sending", id=row.ident, issue=row.lane, file=printable(row.path), bytes=row.size, tries=row.tries + 1
        )
    return True


def _exchange(desk: Desk, client: Client, batch: Sequence[Row], body: multipart.Body) -> Exchange:
    reply_seconds = desk.reply_seconds(body.length)
    begun = desk.clock.boot()

    def upload() -> Exchange:
        nonlocal begun
        begun = desk.clock.boot()
        return client.upload(desk.site.version, batch[0].lane, body, reply_seconds)

    for row in batch:
        desk.progress[row.id] = lambda: body.sent
    try:
        patient = desk.beats.busy(reply_seconds, lambda: body.sent)
        with desk.turns.left(), desk.timings.timed("upload"), patient:
            answer = desk.site.hear(jira_connection.connected(upload, desk.stopping))
    finally:
        for row in batch:
            desk.progress.pop(row.id, None)
    _learn(desk, answer, begun, desk.clock.boot())
    return answer


def _learn(desk: Desk, answer: Exchange, begun: float, ended: float) -> None:
    """What Jira has just stored tells its own clock, and who we are to it."""
    stored = attachments.parse_attachments(answer.json) if isinstance(answer, Reply) and answer.status == 200 else None
    created = [a.created for a in stored or () if a.created is not None]
    if created:
        desk.site.stored(max(created), begun, ended)
    for author in {a.author for a in stored or () if a.author is not None}:
        desk.site.signed_by(author)


def _unreadable(desk: Desk, batch: Sequence[Row], error: Exception) -> list[Row]:
    """This machine could not read a file while it was being sent: nothing of the request was delivered.

    Which file it was shows when each is opened again, alone if the disk failed.
    """
    now = desk.clock.now()
    failing = isinstance(error, OSError)
    reason = f"it cannot be read: {error}" if failing else str(error)
    with desk.journal.transaction() as connection:
        for row in (rows.one(connection, each.id) for each in batch):
            values = outcome.back(row, now) | {"reason": reason, "share": 1 if failing else row.share}
            if failing and len(batch) == 1 and row.at_path:
                values = aside(desk, row, reason, blocked=True)
                values.setdefault("state", State.READY)
            recording.apply(connection, [row], {row.id: values}, now)
    log.warning("file.changed_while_sent", ids=[row.ident for row in batch], issue=batch[0].lane, reason=reason)
    return recording.current(desk, batch)


def _with_checksums(desk: Desk, loaded: Sequence[Loaded], fates: Sequence[Fate]) -> list[Fate]:
    """A row in doubt needs a checksum, and an answer may come before a streamed body has reached its end.

    Where the file cannot be read any more, the body never did: it was not delivered.
    """
    return [_with_checksum(desk, file, fate) for file, fate in zip(loaded, fates, strict=True)]


def _with_checksum(desk: Desk, file: Loaded, fate: Fate) -> Fate:
    if not isinstance(fate, InDoubt):
        return fate
    with desk.journal.transaction_for_reading() as connection:
        if rows.one(connection, file.row.id).sha256 is not None:
            return fate
    try:
        with desk.turns.left():
            sha256 = multipart.checksum(file.part)
    except (multipart.Changed, OSError) as error:
        return NotDelivered(str(error))
    with desk.journal.transaction() as connection:
        rows.change(connection, file.row.id, {"sha256": sha256})
    return fate
