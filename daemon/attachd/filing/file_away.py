"""Moves files to where their verdict sends them: target journalled, file moved, folders synced, row closed.

Each step is repeatable. A process that dies in between leaves a row with a target, and the same steps find the file at
its source or at its target.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

from attachd import errors
from attachd.delivery import backoff, pause
from attachd.delivery.runtime import Runtime
from attachd.errors import Reach
from attachd.filing import targets
from attachd.fs import free_names, move, permissions, recognition, sides
from attachd.fs.sides import Side
from attachd.journal import queue, rows
from attachd.journal.rows import Row
from attachd.logger import get_logger
from attachd.model import Fault, Scope, State, printable
from attachd.share import notes, ready_markers, trial

log = get_logger()

#: How often another target is chosen when another program keeps taking it.
_CHOICES = 20
_CHANGED = "its content changed after the upload, so the file in the inbox is a new one"
_TAKEN_OUT = "the file was taken out of the inbox meanwhile"
_REPLACED = "its content was replaced or moved to another issue since, so there is nothing to move"


@dataclass(frozen=True, slots=True)
class Closed:
    """The row can be closed; *values* are columns that change with it."""

    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Postponed:
    """The file could not be moved yet; the sentence says why."""

    reason: str
    blocked: bool = False
    away: bool = False  #: because the file system of its folder does not answer
    passes: bool = False  #: by itself, and soon
    expected: bool = False  #: nothing to tell people of
    folder_broken: bool = False  #: done, or failed, takes no file at all: a pause says so, once for all of them


#: Why ``done`` or ``failed`` takes no file at all, by its name.
Reasons = dict[str, str]


class Trials:
    """Finds out if done and failed take any file at all: once for a group, and only when a move has failed.

    *broken* remembers for many groups which of them does not.
    """

    def __init__(self, broken: Reasons) -> None:
        self._tried: dict[Path, OSError | None] = {}
        self._broken = broken

    def known(self, row: Row) -> Postponed | None:
        """Return what becomes of a file if its folder is known to take none; the other folder may take its files."""
        reason = self._broken.get(targets.root_name(row))
        return Postponed(reason, folder_broken=True) if reason else None

    def find_out(self, root: Path, row: Row) -> Postponed | None:
        """As ``known``, after a trial: then the trouble is that of all files of this folder, and no single file's."""
        if root not in self._tried:
            self._tried[root] = trial.fails(root)
        error, name = self._tried[root], targets.root_name(row)
        if error is not None and error.errno not in permissions.PERSONAL:
            what = "Attached files" if name == "done" else "Failed files"
            self._broken[name] = permissions.explain_folder(error, root, what)
        return self.known(row)


#: A row as it is after its move was tried, and what came of that.
Carried = tuple[Row, Closed | Postponed]


def carry(runtime: Runtime, row_ids: Sequence[int]) -> int:
    """Move the files of these rows; one transaction for all names, one sync for all moves. Returns how many were closed."""
    with runtime.filed_by_us(row_ids) as ours:
        runtime.guard.look()
        broken: Reasons = {}
        results = _carry_durably(runtime, ours, broken)
        if broken:
            _disk_trouble(runtime, [row.id for row, result in results if _is_everybodys(result)], broken)
        return _write(runtime, [carried for carried in results if not _is_everybodys(carried[1])])


def _is_everybodys(result: Closed | Postponed) -> bool:
    return isinstance(result, Postponed) and result.folder_broken


def _carry_durably(runtime: Runtime, row_ids: Collection[int], broken: Reasons) -> list[Carried]:
    """Move them as a group. If the group cannot be synchronised, each is moved alone: then it is one file's trouble."""
    try:
        # Its folders are closed before the journal is written: a person who sees a file in done may unmount where it came from.
        with move.Group() as group:
            results = _carry_all(runtime, row_ids, group, Trials(broken))
            group.sync()
            return results
    except OSError as error:
        if len(row_ids) > 1:
            return [each for row_id in sorted(row_ids) for each in _carry_durably(runtime, [row_id], broken)]
        with runtime.journal.transaction_for_reading() as connection:
            found = rows.many(connection, row_ids)
        return [(row, _postponed(runtime, row, error, Trials(broken))) for row in found]


def _carry_all(runtime: Runtime, row_ids: Collection[int], group: move.Group, trials: Trials) -> list[Carried]:
    results: list[Carried] = []
    away: dict[bytes, Postponed] = {}
    for row in targets.aimed(runtime, row_ids, group):
        runtime.beats.beat()
        top = row.path.partition(b"/")[0]
        known = away.get(top) or trials.known(row)
        carried = (row, known) if known else _carry_or_explain(runtime, row, group, trials)
        if isinstance(carried[1], Postponed) and carried[1].away:
            away[top] = carried[1]
        results.append(carried)
    return results


def _write(runtime: Runtime, results: Sequence[Carried]) -> int:
    now = runtime.clock.now()
    changes: dict[int, dict[str, Any]] = {}
    for row, result in results:
        if isinstance(result, Closed):
            changes[row.id] = queue.finished(row, now, result.values)
        else:
            lasting = result.blocked and not (result.away or result.passes)
            wait = backoff.move_wait(row.wait) if lasting else backoff.file_wait(1)
            # What blocked it before does so no more: it may have been taken away since.
            blocked = result.reason if result.blocked else None
            changes[row.id] = {"due": now + wait, "wait": wait, "blocked": blocked}
    # Lost, it is found out again: an attached file that lies at its target is closed at the next start (``close_moved``).
    durable = not all(isinstance(result, Closed) and row.root == "done" for row, result in results)
    with runtime.journal.transaction(durable=durable) as connection:
        rows.change_many(connection, changes)
    about = log.bind()
    for row, result in results:
        # What was said is not said again with each try.
        if not (isinstance(result, Postponed) and result.blocked and result.reason == row.blocked):
            _tell(about, rows.changed(row, changes[row.id]), result)
    return sum(isinstance(result, Closed) for _, result in results)


def _tell(about: Any, row: Row, result: Closed | Postponed) -> None:
    file = {"id": row.ident, "issue": row.issue, "file": printable(row.path)}
    if isinstance(result, Postponed) and result.expected:
        about.debug("file.move_postponed", **file, reason=result.reason)
    elif isinstance(result, Postponed):
        about.warning("file.move_postponed", **file, reason=result.reason)
    elif row.target is None:
        about.warning("file.closed_without_move", **file, reason=row.reason)
    elif row.state is State.DONE and row.target == targets.wanted(row):
        # The log has said that it is attached; that it lies where all attached files go is nothing new.
        about.debug("file.filed", **file, root=row.root, target=printable(row.target))
    else:
        about.info("file.filed", **file, root=row.root, target=printable(row.target))


DISK = errors.DISK


def _disk_trouble(runtime: Runtime, row_ids: Iterable[int], broken: Reasons) -> None:
    """The disk of done or failed is full or broken: nothing is sent that could not be filed, and a move is tried again before
    the pause is over.
    """
    pause.pause(runtime, Fault(Scope.SITE, DISK, " ".join(broken.values())))
    now, wait = runtime.clock.now(), max(1.0, pause.left(runtime, Scope.SITE) - 1.0)
    with runtime.journal.transaction() as connection:
        for row_id in row_ids:
            rows.change(connection, row_id, {"due": now + wait, "wait": wait})


def _carry_or_explain(runtime: Runtime, row: Row, group: move.Group, trials: Trials) -> Carried:
    """Move one file. Where none can be moved, the trouble is that of all; every other one is this file's, or its folder's."""
    try:
        return _carry(runtime, row, group, trials)
    except OSError as error:
        return row, _postponed(runtime, row, error, trials)


def _postponed(runtime: Runtime, row: Row, error: OSError, trials: Trials) -> Postponed:
    """Say why one file waits. A share that is away is asked once for all files of its folder."""
    root = targets.root(runtime, row)
    if sides.of(error) is not Side.SOURCE and errors.reach(error) is not Reach.FILE:
        everybodys = trials.find_out(root, row)
        if everybodys:
            return everybodys
    reason = permissions.explain(error, runtime.guard.inbox, row.path, root, row.target or targets.wanted(row))
    return Postponed(reason, blocked=True, away=error.errno in errors.AWAY)


def _carry(runtime: Runtime, row: Row, group: move.Group, trials: Trials) -> Carried:
    if row.target is None and row.missing >= 2:
        return row, Closed({"reason": _with(row, _TAKEN_OUT if row.at_path else f"{_as_it_was(row)}; {_REPLACED}")})
    if not row.at_path and row.target is None:
        # It may have been carried to a folder that the scan comes to later, and is closed when that has looked everywhere.
        return row, Postponed("another file is at its path; the next scan looks for it", expected=True)
    if not runtime.guard.sure(runtime.sure_seconds):
        return row, Postponed("the inbox is not there")
    path, forms = targets.wanted(row), free_names.fitting(targets.wanted(row), row.ident)
    moved: move.Outcome | move.Stuck | None = None
    for _ in range(_CHOICES):
        if moved is not None:
            group.fresh.discard(row.id)
        row, moved = _aim_and_move(runtime, row, group, trials, path if moved else None)
        if isinstance(moved, move.Stuck) and moved.refuses_name and (fitting := next(forms, None)):
            path = fitting
        elif moved is not move.Outcome.TAKEN:
            return _after_move(runtime, row, moved)
    return row, Postponed("other programs take each name at its target; attachd tries again", blocked=True)


def _aim_and_move(
    runtime: Runtime, row: Row, group: move.Group, trials: Trials, path: bytes | None
) -> tuple[Row, move.Outcome | move.Stuck]:
    """Move it to the target that it has, or has to get; to *path*, or a number of that, where it was tried before."""
    try:
        if path is not None:
            row = targets.aim_at(runtime, row, path)
        elif row.id not in group.fresh:
            row = targets.targeted(runtime, row)
        _drop_marker(runtime, row, group)
        return row, _move(runtime, row, group)
    except OSError as error:
        root = targets.root(runtime, row)
        if errors.reach(error) is not Reach.NAME or sides.of(error) is Side.SOURCE or trials.find_out(root, row):
            raise
        target = row.target or path or targets.wanted(row)
        return row, move.Stuck(
            permissions.explain(error, runtime.guard.inbox, row.path, root, target), refuses_name=True
        )


def _drop_marker(runtime: Runtime, row: Row, group: move.Group) -> None:
    """Take away what released the file, while it is still there: left behind, it would release the next one of this name.

    An empty one is removed; one that holds something goes where its file goes.

    One that cannot be removed only makes that one wait less, so the file is moved all the same. After a death in between
    the file is moved without a marker.
    """
    suffix = runtime.rulebook.of(row.path.partition(b"/")[0], row.folder_key).ready_suffix
    if not suffix or not row.at_path:
        return
    with sides.on(Side.SOURCE):
        if recognition.look(runtime.guard.inbox, row.path, identity(runtime, row)) is not recognition.Found.OURS:
            return
    try:
        if not ready_markers.remove(runtime.guard.inbox, row.path, suffix) and row.target is not None:
            ready_markers.take_along(
                *(runtime.guard.inbox, row.path, suffix, targets.root(runtime, row), row.target, group)
            )
    except OSError as error:
        file = printable(row.path) + suffix
        log.warning("marker.not_removed", id=row.ident, issue=row.issue, file=file, reason=str(error))


def _as_it_was(row: Row) -> str:
    """Say what the verdict is about, where the file holds other content by now."""
    when = datetime.datetime.fromtimestamp(row.verdict_at or row.since).astimezone().strftime("%H:%M")
    return f"{'attached' if row.state is State.ATTACHED else 'refused'} as it was at {when}"


def _with(row: Row, remark: str) -> str:
    return f"{row.reason}; {remark}" if row.reason else remark


def identity(runtime: Runtime, row: Row) -> recognition.Identity:
    """What makes a file this row's: its inode within one epoch, else its content. That is read where ctime proves nothing."""
    inode = (row.dev, row.ino) if row.epoch == runtime.guard.epoch else None
    ctime_ns = recognition.UNREAD if row.sent_ctime_ns is None else row.sent_ctime_ns
    return recognition.Identity(row.size, row.mtime_ns, inode, row.sha256, ctime_ns)


@dataclass(slots=True)
class _Stuck:
    """Rows whose last move by this process found a program at their file, and left nothing of another one at their target."""

    targets: dict[int, bytes] = field(default_factory=dict)


def _move(runtime: Runtime, row: Row, group: move.Group) -> move.Outcome | move.Stuck:
    assert row.target is not None
    ends = runtime.guard.inbox, row.path, targets.root(runtime, row), row.target, identity(runtime, row)

    def reserved(dev: int, ino: int) -> None:
        targets.change(runtime, row, {"reserved_dev": dev, "reserved_ino": ino})

    reservation = (
        (row.reserved_dev, row.reserved_ino) if row.reserved_dev is not None and row.reserved_ino is not None else None
    )
    stuck = runtime.memory(_Stuck).targets
    resumed = stuck.pop(row.id, None) != row.target
    fresh = row.id in group.fresh
    moved = move.move(*ends, group, fresh=fresh, reserved=reserved, reservation=reservation, resumed=resumed)
    if isinstance(moved, move.Stuck) and moved.passes:
        stuck[row.id] = row.target
    return moved


def _after_move(runtime: Runtime, row: Row, moved: move.Outcome | move.Stuck) -> Carried:
    match moved:
        case move.Stuck(reason):
            return row, Postponed(reason, blocked=True, passes=moved.passes)
        case move.Outcome.MOVED:
            with sides.on(Side.TARGET):
                return row, Closed({"blocked": None} | _leave_note(runtime, row))
        case move.Outcome.CHANGED:
            row = targets.change(runtime, row, {"root": None, "target": None})
            return row, Closed({"blocked": None, "reason": _with(row, f"{_as_it_was(row)}; {_CHANGED}")})
        case move.Outcome.GONE | move.Outcome.SWAPPED | move.Outcome.TAKEN:
            row = targets.change(runtime, row, {"root": None, "target": None})
            if row.missing >= 2:
                return row, Closed({"reason": _with(row, _TAKEN_OUT)})
            return row, Postponed("the file is no longer where it was dropped; the next scan finds out why")
        case _:
            assert_never(moved)


def _leave_note(runtime: Runtime, row: Row) -> dict[str, Any]:
    """Put a note beside the file; repeatable, because one that is there already is recognised by its id."""
    if row.target is None:
        return {}
    if row.state is State.ATTACHED:
        return _leave_link(runtime, row) if runtime.config.folders.link_notes else {}
    content = notes.render(
        ident=row.ident,
        file=printable(row.path.rpartition(b"/")[2]),
        issue=row.folder_key,
        when=_when(runtime, row),
        reason=row.reason or "",
        words="",
        remedy="Fix what the reason says. If you cannot, show this note to your administrator.",
        unsettled=notes.Unsettled(row.size, row.sha256, row.name) if row.may_be_attached and row.sha256 else None,
    )
    note = notes.write(targets.root(runtime, row), row.target, content, row.ident)
    return {"note": note, "note_sha256": hashlib.sha256(content).digest()}


def _when(runtime: Runtime, row: Row) -> str:
    decided = runtime.journal.timeline().shown(row.verdict_at or runtime.clock.now())
    return datetime.datetime.fromtimestamp(decided).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def _leave_link(runtime: Runtime, row: Row) -> dict[str, Any]:
    """Put the issue's address beside an attached file. It is attached also where the address cannot be written."""
    assert row.target is not None
    content = notes.render_link(
        ident=row.ident,
        file=printable(row.path.rpartition(b"/")[2]),
        issue=row.folder_key if row.issue == row.folder_key else f"{row.folder_key} (now {row.issue})",
        when=_when(runtime, row),
        attachment=row.attachment or "",
        stored_as=row.stored_as or row.name,
        address=runtime.site.page(row.issue),
    )
    try:
        notes.write(targets.root(runtime, row), row.target, content, row.ident, notes.LINK)
    except OSError as error:
        log.warning("note.not_written", id=row.ident, issue=row.issue, file=printable(row.target), reason=str(error))
        return {}
    return {"note_sha256": hashlib.sha256(content).digest()}


def close_moved(runtime: Runtime) -> None:
    """After a restart or a remount: close every row whose file already lies at its target, before any file is matched.

    Otherwise a file that was moved would be missing from the inbox, and one dropped under its name taken for it.
    """
    with runtime.journal.transaction_for_reading() as connection:
        moved = queue.targeted(connection)
    ours = []
    for row in moved:
        runtime.beats.beat()
        if _is_at_target(runtime, row):
            ours.append(row.id)
    if ours:
        carry(runtime, ours)


def _is_at_target(runtime: Runtime, row: Row) -> bool:
    try:
        return (
            row.target is not None
            and recognition.look(targets.root(runtime, row), row.target, identity(runtime, row))
            is recognition.Found.OURS
        )
    except OSError:
        # Not mounted now, or not to be read: the row keeps its target, and is carried when that is there again.
        return False
