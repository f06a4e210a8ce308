"""Carrying files to where their verdict sends them: target journalled, file moved, folders synced, row closed.

Each step is repeatable. A process that dies in between leaves a row with a target, and the same steps find the file at
its source or at its target.
"""

from __future__ import annotations

import datetime
import errno
import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import structlog

from attachd.delivery import pausing, policy
from attachd.delivery.desk import Desk
from attachd.filing import markers, moving, notes, places, recognising, refusing
from attachd.journal import queue, rows
from attachd.journal.rows import Row
from attachd.model import Fault, Scope, State, printable

log = structlog.get_logger()

#: How often another target is chosen when somebody else keeps taking it.
_CHOICES = 20


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


def carry(desk: Desk, verdicts: Sequence[Row]) -> int:
    """Move the files of these rows, one sync for all. Returns how many rows were closed."""
    with desk.filed_by_us([row.id for row in verdicts]) as ours:
        dirty = moving.Dirty()
        desk.guard.look()
        results: list[tuple[Row, Closed | Postponed]] = []
        away: dict[bytes, Postponed] = {}
        try:
            for row_id in sorted(ours):
                desk.beats.beat()
                with desk.journal.transaction() as connection:
                    current = rows.one(connection, row_id)
                if current.state in (State.ATTACHED, State.REFUSED):
                    top = current.path.partition(b"/")[0]
                    result = away.get(top) or _carry_or_explain(desk, current, dirty)
                    if isinstance(result, Postponed) and result.away:
                        away[top] = result
                    results.append((current, result))
            dirty.sync()
        except OSError as error:
            _disk_trouble(desk, ours, error)
            return 0
        return _write(desk, results)


def _write(desk: Desk, results: Sequence[tuple[Row, Closed | Postponed]]) -> int:
    now = desk.clock.now()
    with desk.journal.transaction() as connection:
        for row, result in results:
            if isinstance(result, Closed):
                queue.finish(connection, row, now, result.values)
            else:
                wait = policy.file_wait(1)
                blocked = result.reason if result.blocked else row.blocked
                rows.change(connection, row.id, {"due": now + wait, "wait": wait, "blocked": blocked})
        written = [rows.one(connection, row.id) for row, _ in results]
    for row, (_, result) in zip(written, results, strict=True):
        _tell(row, result)
    return sum(isinstance(result, Closed) for _, result in results)


def _tell(row: Row, result: Closed | Postponed) -> None:
    about = log.bind(id=row.ident, issue=row.asked, file=printable(row.path))
    if isinstance(result, Postponed):
        about.warning("file.move_postponed", reason=result.reason)
    elif row.target is None:
        about.warning("file.closed_without_move", reason=row.reason)
    else:
        about.info("file.filed", root=row.root, target=printable(row.target))


def _disk_trouble(desk: Desk, row_ids: Iterable[int], error: OSError) -> None:
    """The disk of done or failed is full or broken: everything waits, nothing is sent that could not be filed."""
    now, wait = desk.clock.now(), policy.file_wait(1)
    with desk.journal.transaction() as connection:
        for row_id in row_ids:
            rows.change(connection, row_id, {"due": now + wait, "wait": wait})
    reason = f"files cannot be moved out of the inbox: {error}"
    pausing.pause(desk, Fault(Scope.SITE, "disk", reason))


def _carry_or_explain(desk: Desk, row: Row, dirty: moving.Dirty) -> Closed | Postponed:
    """One folder that cannot be entered concerns the files that go there; the disk's own errors are raised.

    A share that is away, too: unless it is that of done or failed, where nothing can be filed.
    """
    try:
        return _carry(desk, row, dirty)
    except OSError as error:
        if error.errno == errno.EIO:
            return Postponed(f"it cannot be read from the disk ({error.strerror})", blocked=True)
        if error.errno in refusing.AWAY and _answers(_root(desk, row)):
            return Postponed(
                f"the file system of its folder does not answer ({error.strerror})", blocked=True, away=True
            )
        if error.errno not in refusing.PERSONAL:
            raise
        reason = refusing.explain(error, desk.guard.inbox, row.path, _root(desk, row), row.target or wanted(row))
        return Postponed(reason, blocked=True)


def _answers(root: Path) -> bool:
    try:
        with places.folder(root, b""):
            return True
    except OSError:
        return False


def _carry(desk: Desk, row: Row, dirty: moving.Dirty) -> Closed | Postponed:
    if not row.at_path and row.target is None:
        return Closed(
            {"reason": _with(row, "its content was replaced in the inbox meanwhile, so there is nothing to move")}
        )
    if row.target is None and row.missing >= 2:
        return Closed({"reason": _with(row, "file gone: it was taken out of the inbox meanwhile")})
    if not desk.guard.sight.there:
        return Postponed("the inbox is not there")
    for _ in range(_CHOICES):
        row = _targeted(desk, row)
        _drop_marker(desk, row)
        moved = _move(desk, row, dirty)
        if moved is not moving.Outcome.TAKEN:
            return _after_move(desk, row, moved)
        row = _retarget(desk, row)
    return Postponed("the names at its target are taken as fast as they are chosen")


def _drop_marker(desk: Desk, row: Row) -> None:
    """Remove what released the file, while it is still there: left behind, it would release the next one of this name.

    One that cannot be removed only makes that one wait less, so the file is moved all the same. After a death in between
    the file is moved without a marker.
    """
    suffix = desk.rulebook.of(row.path.partition(b"/")[0], row.asked).ready_suffix
    if not suffix or not row.at_path:
        return
    if moving.look(desk.guard.inbox, row.path, identity(desk, row)) is not moving.Found.OURS:
        return
    try:
        markers.remove(desk.guard.inbox, row.path, suffix)
    except OSError as error:
        file = printable(row.path) + suffix
        log.warning("marker.not_removed", id=row.ident, issue=row.asked, file=file, reason=str(error))


def _with(row: Row, remark: str) -> str:
    return f"{row.reason}; {remark}" if row.reason else remark


def _root_name(row: Row) -> str:
    return "done" if row.state is State.ATTACHED else "failed"


def _root(desk: Desk, row: Row) -> Path:
    return desk.config.folders.done if row.state is State.ATTACHED else desk.config.folders.failed


def wanted(row: Row) -> bytes:
    """Where its verdict puts a file: under the bare canonical key, the tree below the folder kept."""
    return row.asked.encode() + b"/" + row.path.partition(b"/")[2]


def _targeted(desk: Desk, row: Row) -> Row:
    """Choose the name, and make it durable before the file moves.

    A name that was chosen before a crash, and has since been given to a file that is filed there, is chosen anew.
    """
    if row.target is not None:
        with desk.journal.transaction() as connection:
            if not queue.belongs_to_another(connection, _root_name(row), row.target, row.id):
                return row
    return _retarget(desk, row)


def _retarget(desk: Desk, row: Row) -> Row:
    root = _root_name(row)

    def promised(target: bytes) -> bool:
        with desk.journal.transaction() as connection:
            return queue.promised(connection, root, target, row.id)

    while True:
        target = moving.choose(_root(desk, row), wanted(row), promised)
        try:
            return _change(desk, row, {"root": root, "target": target, "reserved_dev": None, "reserved_ino": None})
        except sqlite3.IntegrityError:
            # Another worker promised the name to its file since it was chosen.
            continue


def _change(desk: Desk, row: Row, values: dict[str, Any]) -> Row:
    with desk.journal.transaction() as connection:
        rows.change(connection, row.id, values)
        return rows.one(connection, row.id)


def identity(desk: Desk, row: Row) -> moving.Identity:
    """What makes a file this row's: its inode within one epoch, else its content."""
    inode = (row.dev, row.ino) if row.epoch == desk.guard.epoch else None
    return moving.Identity(row.size, row.mtime_ns, inode, row.sha256)


def _move(desk: Desk, row: Row, dirty: moving.Dirty) -> moving.Outcome | moving.Stuck:
    assert row.target is not None

    def reserved(dev: int, ino: int) -> None:
        _change(desk, row, {"reserved_dev": dev, "reserved_ino": ino})

    reservation = (
        (row.reserved_dev, row.reserved_ino) if row.reserved_dev is not None and row.reserved_ino is not None else None
    )
    return moving.move(
        desk.guard.inbox,
        row.path,
        _root(desk, row),
        row.target,
        identity(desk, row),
        dirty,
        reserved=reserved,
        reservation=reservation,
    )


def _after_move(desk: Desk, row: Row, moved: moving.Outcome | moving.Stuck) -> Closed | Postponed:
    match moved:
        case moving.Stuck(reason):
            return Postponed(reason, blocked=True)
        case moving.Outcome.MOVED:
            return Closed({"blocked": None} | _note(desk, row))
        case moving.Outcome.GONE | moving.Outcome.SWAPPED | moving.Outcome.TAKEN:
            if row.missing >= 2:
                _change(desk, row, {"root": None, "target": None})
                return Closed({"reason": _with(row, "file gone: it was taken out of the inbox meanwhile")})
            _change(desk, row, {"root": None, "target": None})
            return Postponed("it is not at its place any more; the next scan finds out why")
        case _:
            assert_never(moved)


def _note(desk: Desk, row: Row) -> dict[str, Any]:
    """Put the reason beside a failed file; repeatable, because a note that is there already is recognised by its id."""
    if row.state is not State.REFUSED or row.target is None:
        return {}
    when = datetime.datetime.fromtimestamp(row.verdict_at or desk.clock.now()).astimezone()
    content = notes.render(
        ident=row.ident,
        file=printable(row.path.rpartition(b"/")[2]),
        issue=row.asked,
        when=when.strftime("%Y-%m-%d %H:%M:%S %z"),
        reason=row.reason or "",
        words="",
        remedy="Put right what the reason says; if you cannot, show this note to whoever runs attachd.",
    )
    return {"note": notes.write(_root(desk, row), row.target, content, row.ident)}


def close_moved(desk: Desk) -> None:
    """After a restart or a remount: close every row whose file already lies at its target, before any file is matched.

    Otherwise a file that was moved would be missing from the inbox, and one dropped under its name taken for it.
    """
    with desk.journal.transaction() as connection:
        moved = queue.targeted(connection)
    ours = []
    for row in moved:
        desk.beats.beat()
        if _is_at_target(desk, row):
            ours.append(row)
    if ours:
        carry(desk, ours)


def _is_at_target(desk: Desk, row: Row) -> bool:
    try:
        return (
            row.target is not None
            and moving.look(_root(desk, row), row.target, identity(desk, row)) is moving.Found.OURS
        )
    except OSError:
        # Not mounted now, or not to be read: the row keeps its target, and is carried when that is there again.
        return False


def drop_notes(desk: Desk) -> None:
    """Remove the notes of failed files that have been taken away: whoever moved the file back has read it.

    A note goes only when the very file that it describes has left ``failed``, and only if it is still ours.
    """
    root = desk.config.folders.failed
    try:
        with os.scandir(root) as listing:
            names = [item.name for item in listing if item.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for name in names:
        changes = _changes(root, name)
        if changes is not None and desk.note_folders.get(name) != changes:
            _drop_notes_in(desk, name)
            desk.note_folders[name] = changes


def _changes(root: Path, name: str) -> tuple[int, ...] | None:
    """The mtimes of a tree's folders: they change when a file is taken out of one. None for what cannot be listed."""
    try:
        return tuple(places.mtimes(root, os.fsencode(name)))
    except OSError:
        return None


def _has_left(root: Path, target: bytes) -> bool:
    """Whether nothing lies at a path any more; not where something bars the way: what is behind it comes back."""
    above, name = places.divide(target)
    try:
        with places.folder(root, above) as folder:
            return recognising.status_of(folder, name) is None
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _drop_notes_in(desk: Desk, folder: str) -> None:
    root = desk.config.folders.failed
    with desk.journal.transaction() as connection:
        noted = queue.noted(connection, folder)
    for row in noted:
        if row.target is None or row.note is None or not _has_left(root, row.target):
            continue
        try:
            notes.remove(root, row.note, row.ident)
        except OSError as error:
            log.warning("note.not_removed", id=row.ident, file=printable(row.note), reason=str(error))
            continue
        with desk.journal.transaction() as connection:
            rows.change(connection, row.id, {"note": None})
        log.info("note.removed", id=row.ident, issue=row.asked, file=printable(row.target))
