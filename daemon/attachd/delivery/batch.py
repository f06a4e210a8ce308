"""Whose turn it is, and which of its files go in one request."""

from __future__ import annotations

from collections.abc import Sequence

from attachd.delivery import batch_size, pause
from attachd.delivery.runtime import Runtime
from attachd.journal import queue
from attachd.journal.rows import Row
from attachd.model import Fault, Scope

#: Files up to this size share a request.
SMALL_BYTES = 1024 * 1024


def claim(runtime: Runtime, gate: pause.Gate) -> tuple[str, list[Row]] | None:
    """Reserve the issue whose turn it is, and choose what goes in one request; None if nothing may be sent now.

    It counts as an upload under way (``runtime.parallel``) until ``release``.
    """
    if not gate.uploads or not runtime.may_begin() or not runtime.parallel.enter():
        return None
    claimed: tuple[str, list[Row]] | None = None
    try:
        claimed, used_up = _choose(runtime, gate)
    finally:
        if claimed is None:
            runtime.parallel.leave()
    for issue, frees_at in used_up:
        pause.pause(runtime, _too_many(runtime, issue, frees_at))
    return claimed


def _choose(runtime: Runtime, gate: pause.Gate) -> tuple[tuple[str, list[Row]] | None, list[tuple[str, float]]]:
    """Return the first issue that may be served with its batch, and the issues that have used up their hour with its end."""
    now, boot = runtime.clock.now(), runtime.clock.boot()
    busy, used_up, batch = runtime.busy(), list[tuple[str, float]](), runtime.config.batch
    with runtime.journal.transaction_for_reading() as connection:
        known = batch_size.most(connection, batch.max_files, cloud=runtime.site.cloud)
        most_bytes = min(batch.max_bytes, known.bytes or batch.max_bytes)
        for issue in queue.issues(connection, runtime.guard.epoch):
            if issue in busy or not gate.lets(issue) or runtime.pacer.wait(issue, boot, known.writes):
                continue
            left, frees_at = queue.left_of_hour(connection, issue, now, runtime.config.limits.issue_files_per_hour)
            if left <= 0:
                used_up.append((issue, frees_at))
                continue
            most = min(known.files, left, runtime.site.free_slots(issue) or known.files)
            chosen = together(queue.sendable(connection, issue, now, runtime.guard.epoch, most), most, most_bytes)
            if chosen and runtime.take(issue):
                return (issue, chosen), used_up
    return None, used_up


def _too_many(runtime: Runtime, issue: str, frees_at: float) -> Fault:
    """Pause an issue that gets too many files: a wrong folder is the likelier reason. The rest waits for the hour or a person."""
    most = runtime.config.limits.issue_files_per_hour
    reason = (
        f"{issue} got as many files within an hour as it may ({most}, limits.issue_files_per_hour), and more wait: a wrong "
        f"folder may have been dragged in; if it is meant, `attachd resume --issue {issue}` lets as many follow"
    )
    return Fault(Scope.ISSUE, "too-many-files", reason, issue, max(1.0, frees_at - runtime.clock.now()))


def release(runtime: Runtime, issue: str) -> None:
    """Give back what ``claim`` reserved."""
    runtime.parallel.leave()
    runtime.give_back(issue)


def together(candidates: Sequence[Row], max_files: int, max_bytes: int) -> list[Row]:
    """Choose what shares a request: the first file, and if it is small the small ones behind it. Pure.

    Never two of one stored name, never one that was ever in doubt, never more than each file's own share allows.
    """
    if not candidates:
        return []
    chosen, names, size, most = [candidates[0]], {candidates[0].name}, candidates[0].size, max_files
    if not _shares(candidates[0]):
        return chosen
    most = min(most, candidates[0].share)
    for row in candidates[1:]:
        most_with = min(most, row.share)
        fits = len(chosen) < most_with and size + row.size <= max_bytes
        if _shares(row) and row.name not in names and fits:
            chosen.append(row)
            names.add(row.name)
            size, most = size + row.size, most_with
    return chosen


def _shares(row: Row) -> bool:
    return row.size <= SMALL_BYTES and row.share > 1 and not row.ever_doubtful
