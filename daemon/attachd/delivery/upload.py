"""One request: the files opened and held, the intent durable, the bytes sent, the answer judged and recorded."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

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
from attachd.delivery.runtime import Runtime
from attachd.fs import folders as fs_folders
from attachd.fs import leases
from attachd.jira import attachments, multipart, rate_limits, verdict
from attachd.jira import connection as jira_connection
from attachd.jira.client import Client
from attachd.jira.reply import Broken, Exchange, Reply
from attachd.journal import queue, rows
from attachd.journal.rows import Row
from attachd.logger import get_logger
from attachd.model import Fate, Fault, InDoubt, NotDelivered, Scope, State, Stored, printable

log = get_logger()


def send(runtime: Runtime, client: Client, batch: Sequence[Row]) -> list[Row]:
    """Send what can be sent of *batch* in one request. Returns the rows as they are afterwards."""
    if not _paid(runtime, batch):
        return record.current(runtime, batch)
    with contextlib.ExitStack() as stack:
        with fs_folders.Held() as folders:
            loaded = [file for row in batch if (file := load(runtime, stack, row, folders))]
        loaded = within_limits(runtime, client, loaded)
        if not loaded:
            return record.current(runtime, batch)
        first = loaded[0].row
        if first.ever_doubtful and not is_still_missing(runtime, client, first):
            return record.current(runtime, batch)
        if (
            first.size > LARGE_BYTES
            and not runtime.site.has_seen(first.issue)
            and not is_visible(runtime, client, first)
        ):
            return record.current(runtime, batch)
        return _send(runtime, client, loaded)


def _is_streamed(batch: Sequence[Row]) -> bool:
    """Return True if its files are paid for as they are read. One buffer leaves at once, and is paid for before all else."""
    return sum(row.size for row in batch) > multipart.BUFFERED_BYTES


def _paid(runtime: Runtime, batch: Sequence[Row]) -> bool:
    """Wait until a body of one buffer may be sent, before it is read: False if the service is stopping meanwhile."""
    upload = runtime.config.upload
    if not upload.max_bytes_per_second or _is_streamed(batch):
        return True
    for size in pacer.pieces(sum(row.size for row in batch), _piece_bytes(runtime)):
        _pay(runtime, size, runtime.stopping)
        runtime.beats.beat()
    return not runtime.stopping.is_set()


def _pay(runtime: Runtime, size: int, ended: threading.Event) -> None:
    """Wait until *size* bytes more may be sent, or until the service *ended*."""
    if wait := runtime.bandwidth.charge(size, runtime.config.upload.max_bytes_per_second, runtime.clock.boot()):
        ended.wait(wait)


def _piece_bytes(runtime: Runtime) -> int:
    upload = runtime.config.upload
    return pacer.piece_bytes(upload.max_bytes_per_second, upload.parallel, multipart.READ_BYTES)


def _send(runtime: Runtime, client: Client, loaded: Sequence[Loaded]) -> list[Row]:
    batch = [file.row for file in loaded]

    def permit() -> None:
        if not runtime.guard.sure(runtime.sure_seconds):
            raise multipart.Cut(runtime.guard.sight.reason)

    def before_end(sums: Sequence[bytes]) -> None:
        runtime.guard.look()
        if any(_is_written(runtime, file) for file in loaded):
            raise multipart.Changed("a program opened the file for writing during the upload")
        with runtime.journal.transaction() as connection:
            queue.checksums(connection, batch, sums)

    def pay(size: int) -> None:
        if _is_streamed(batch):
            _pay(runtime, size, runtime.cutting)

    parts = [file.part for file in loaded]
    try:
        body = multipart.Body(
            *(parts, before_end, runtime.cutting.is_set), pay=pay, permit=permit, read_bytes=_piece_bytes(runtime)
        )
    except (multipart.Changed, OSError) as error:
        # Which of them it was shows when each is opened again; nothing was sent of any.
        return _unreadable(runtime, batch, error)
    # After the batch was chosen: what another host may have sent meanwhile was in the inbox before it said so in the marker.
    if _set_aside_written(runtime, loaded) or not _is_ours(runtime) or not _intend(runtime, batch, body):
        return record.current(runtime, batch)
    runtime.pacer.count(batch[0].issue, runtime.clock.boot(), _writes(runtime, batch))
    answer = _exchange(runtime, client, batch, body)
    if isinstance(answer, Broken) and answer.ours is not None:
        return _unreadable(runtime, batch, answer.ours)
    # The limit may have been lowered since it was asked.
    stale = isinstance(answer, Reply) and answer.status == 413 and not runtime.stopping.is_set()
    known = probe.limits(runtime, client, fresh=stale)
    largest = known.largest if known else None
    sent = [verdict.Sent(row.name, row.size) for row in batch]
    judged = verdict.judge(answer, sent, batch[0].issue, largest=largest)
    _heed(runtime, batch[0].issue, answer, judged)
    return record.record(runtime, batch, _with_checksums(runtime, loaded, judged.fates), judged.fault, answer)


def _is_ours(runtime: Runtime) -> bool:
    return runtime.guard.look().there


def _set_aside_written(runtime: Runtime, loaded: Sequence[Loaded]) -> bool:
    """Ask directly before the intent whether a program has opened one of these files for writing meanwhile.

    Since they were opened, Jira may have been asked things. Those settle again, and nothing of this request is sent. The others
    are chosen again.
    """
    written = [file for file in loaded if _is_written(runtime, file)]
    for file in written:
        set_aside(runtime, file.row, preflight.Written())
    return bool(written)


def _is_written(runtime: Runtime, file: Loaded) -> bool:
    return leases.writer(file.part.descriptor, network=runtime.network(file.row.path)) is leases.Writer.SOMEBODY


def _writes(runtime: Runtime, batch: Sequence[Row]) -> int:
    """As how many writes to its issue Jira counts a request, as far as is known."""
    with runtime.journal.transaction_for_reading() as connection:
        known = batch_size.most(connection, runtime.config.batch.max_files, cloud=runtime.site.cloud)
    return len(batch) if known.counted else 1


def _heed(runtime: Runtime, issue: str, answer: Exchange, judged: verdict.Judgement) -> None:
    """Take from the answer how fast, how many at once, and what is known of the issue."""
    if isinstance(answer, Reply):
        runtime.pacer.heed(issue, rate_limits.pace(answer), runtime.clock.boot())
    stored = sum(isinstance(fate, Stored) for fate in judged.fates)
    if stored == len(judged.fates):
        if runtime.parallel.accepted():
            runtime.wakeup.notify()
        runtime.site.accepted(issue, stored)
        return
    if isinstance(answer, Reply) and answer.status in (403, 404):
        runtime.site.lost_sight(issue)
    if overloaded(answer, judged.fault):
        runtime.parallel.overloaded()


def overloaded(answer: Exchange, fault: Fault | None) -> bool:
    """Return True if fewer uploads at once would help: not against the limit of one issue, which never has two."""
    if isinstance(answer, Broken):
        return answer.timed_out
    return answer.status == 503 or (answer.status == 429 and (fault is None or fault.scope is not Scope.ISSUE))


def _intend(runtime: Runtime, batch: Sequence[Row], body: multipart.Body) -> bool:
    """Make the intent durable; False if intake has changed one of the rows since it was claimed: nothing is sent then."""
    with runtime.journal.transaction() as connection:
        if rows.many(connection, [row.id for row in batch]) != sorted(batch):
            return False
        queue.intend(
            connection,
            batch,
            author=runtime.site.author,
            site=runtime.site.url,
            sent_at=runtime.site.now(),
            sent_slack=runtime.site.slack,
            now=runtime.clock.now(),
            wall=runtime.clock.wall(),
            checksums=body.checksums if body.buffered else None,
        )
    about = log.bind()
    for row in batch:
        about.debug(
            "file.sending", id=row.ident, issue=row.issue, file=printable(row.path), bytes=row.size, tries=row.tries + 1
        )
    return True


def _exchange(runtime: Runtime, client: Client, batch: Sequence[Row], body: multipart.Body) -> Exchange:
    reply_seconds = runtime.reply_seconds(body.length)
    begun = runtime.clock.boot()

    def upload() -> Exchange:
        nonlocal begun
        begun = runtime.clock.boot()
        return client.upload(runtime.site.version, batch[0].issue, body, reply_seconds)

    for row in batch:
        runtime.progress[row.id] = lambda: body.sent
    try:
        patient = runtime.beats.busy(reply_seconds, lambda: body.sent)
        with runtime.timings.timed("upload"), patient:
            answer = runtime.site.hear(jira_connection.send(upload, runtime.stopping))
    finally:
        for row in batch:
            runtime.progress.pop(row.id, None)
    _learn(runtime, answer, begun, runtime.clock.boot())
    return answer


def _learn(runtime: Runtime, answer: Exchange, begun: float, ended: float) -> None:
    """What Jira has just stored tells its own clock, and who we are to it."""
    stored = attachments.parse_attachments(answer.json) if isinstance(answer, Reply) and answer.status == 200 else None
    created = [a.created for a in stored or () if a.created is not None]
    if created:
        runtime.site.stored(max(created), begun, ended)
    for author in {a.author for a in stored or () if a.author is not None}:
        runtime.site.signed_by(author)


def _unreadable(runtime: Runtime, batch: Sequence[Row], error: Exception) -> list[Row]:
    """This machine could not read a file while it was being sent: nothing of the request was delivered.

    Which file it was shows when each is opened again, alone if the disk failed.
    """
    now = runtime.clock.now()
    failing = isinstance(error, OSError)
    reason = f"attachd cannot read the file: {error}" if failing else str(error)
    with runtime.journal.transaction() as connection:
        for row in (rows.one(connection, each.id) for each in batch):
            values = outcome.back(row, now) | {"reason": reason, "share": 1 if failing else row.share}
            if failing and len(batch) == 1 and row.at_path:
                values = aside(runtime, row, reason, blocked=True)
                values.setdefault("state", State.READY)
            record.apply(connection, [row], {row.id: values}, now)
    log.warning("file.changed_while_sent", ids=[row.ident for row in batch], issue=batch[0].issue, reason=reason)
    return record.current(runtime, batch)


def _with_checksums(runtime: Runtime, loaded: Sequence[Loaded], fates: Sequence[Fate]) -> list[Fate]:
    """A row in doubt needs a checksum, and an answer may come before a streamed body has reached its end.

    Where the file can no longer be read, the body never was whole: it was not delivered.
    """
    return [_with_checksum(runtime, file, fate) for file, fate in zip(loaded, fates, strict=True)]


def _with_checksum(runtime: Runtime, file: Loaded, fate: Fate) -> Fate:
    if not isinstance(fate, InDoubt):
        return fate
    with runtime.journal.transaction_for_reading() as connection:
        if rows.one(connection, file.row.id).sha256 is not None:
            return fate
    try:
        sha256 = multipart.checksum(file.part)
    except (multipart.Changed, OSError) as error:
        return NotDelivered(str(error))
    with runtime.journal.transaction() as connection:
        rows.change(connection, file.row.id, {"sha256": sha256})
    return fate
