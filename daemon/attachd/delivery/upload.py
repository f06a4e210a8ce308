"""One request: the files opened and held, the intent durable, the bytes sent, the answer judged and recorded."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

import structlog

from attachd.delivery import batch_size, outcome, pacer, preflight, probe, record
from attachd.delivery.preflight import (
    LARGE_BYTES,
    Loaded,
    aside,
    is_still_missing,
    is_visible,
    load,
    set_aside,
    within_limits,
)
from attachd.delivery.runtime import Desk
from attachd.fs import folders as fs_folders
from attachd.fs import leases
from attachd.jira import attachments, multipart, rate_limits, verdict
from attachd.jira import connection as jira_connection
from attachd.jira.client import Client
from attachd.jira.reply import Broken, Exchange, Reply
from attachd.journal import queue, rows
from attachd.journal.rows import Row
from attachd.model import Fate, Fault, InDoubt, NotDelivered, Scope, State, Stored, printable

log = structlog.get_logger()


def send(desk: Desk, client: Client, batch: Sequence[Row]) -> list[Row]:
    """Send what can be sent of *batch* in one request. Returns the rows as they are afterwards."""
    if not _paid(desk, batch):
        return record.current(desk, batch)
    with contextlib.ExitStack() as stack:
        with fs_folders.Held() as folders:
            loaded = [file for row in batch if (file := load(desk, stack, row, folders))]
        loaded = within_limits(desk, client, loaded)
        if not loaded:
            return record.current(desk, batch)
        first = loaded[0].row
        if first.ever_doubtful and not is_still_missing(desk, client, first):
            return record.current(desk, batch)
        if first.size > LARGE_BYTES and not desk.site.has_seen(first.lane) and not is_visible(desk, client, first):
            return record.current(desk, batch)
        return _send(desk, client, loaded)


def _is_streamed(batch: Sequence[Row]) -> bool:
    """Whether its files are paid for as they are read. One buffer leaves at once, and is paid for before all else."""
    return sum(row.size for row in batch) > multipart.BUFFERED_BYTES


def _paid(desk: Desk, batch: Sequence[Row]) -> bool:
    """Wait until a body of one buffer may be sent, before it is read: False if the service is stopping meanwhile."""
    upload = desk.config.upload
    if not upload.max_bytes_per_second or _is_streamed(batch):
        return True
    for size in pacer.pieces(sum(row.size for row in batch), _piece_bytes(desk)):
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
    return pacer.piece_bytes(upload.max_bytes_per_second, upload.parallel, multipart.READ_BYTES)


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
        return record.current(desk, batch)
    desk.pacer.count(batch[0].lane, desk.clock.boot(), _writes(desk, batch))
    answer = _exchange(desk, client, batch, body)
    if isinstance(answer, Broken) and answer.ours is not None:
        return _unreadable(desk, batch, answer.ours)
    # The limit may have been lowered since it was asked.
    stale = isinstance(answer, Reply) and answer.status == 413 and not desk.stopping.is_set()
    known = probe.limits(desk, client, fresh=stale)
    largest = known.largest if known else None
    sent = [verdict.Sent(row.name, row.size) for row in batch]
    judged = verdict.judge(answer, sent, batch[0].lane, largest=largest)
    _heed(desk, batch[0].lane, answer, judged)
    return record.record(desk, batch, _with_checksums(desk, loaded, judged.fates), judged.fault, answer)


def _is_ours(desk: Desk) -> bool:
    with desk.turns.left():
        return desk.guard.look().there


def _set_aside_written(desk: Desk, loaded: Sequence[Loaded]) -> bool:
    """Ask directly before the intent whether somebody has opened one of these files for writing meanwhile: since they were
    opened Jira may have been asked things. Those settle anew, and nothing is sent of this request; the others are chosen again.
    """
    written = [file for file in loaded if _is_written(desk, file)]
    for file in written:
        set_aside(desk, file.row, preflight.Written())
    return bool(written)


def _is_written(desk: Desk, file: Loaded) -> bool:
    return leases.writer(file.part.descriptor, network=desk.network(file.row.path)) is leases.Writer.SOMEBODY


def _writes(desk: Desk, batch: Sequence[Row]) -> int:
    """As how many writes to its issue Jira counts a request, as far as is known."""
    with desk.journal.transaction_for_reading() as connection:
        known = batch_size.most(connection, desk.config.batch.max_files, cloud=desk.site.cloud)
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
            record.apply(connection, [row], {row.id: values}, now)
    log.warning("file.changed_while_sent", ids=[row.ident for row in batch], issue=batch[0].lane, reason=reason)
    return record.current(desk, batch)


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
