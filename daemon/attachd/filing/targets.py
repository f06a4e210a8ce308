"""Choose where files with a verdict go: free names, which the journal promises before any file moves."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attachd.delivery.runtime import Runtime
from attachd.fs import free_names, move
from attachd.journal import queue, rows
from attachd.journal.rows import Row
from attachd.model import State


def aimed(runtime: Runtime, row_ids: Collection[int], group: move.Group) -> list[Row]:
    """Choose names for these rows one by one, write them down all at once, and return the rows as they are then.

    A row may get none here, because none can be chosen or another worker was faster. It gets one when its turn comes.
    """
    with runtime.journal.transaction_for_reading() as connection:
        current = [row for row in rows.many(connection, row_ids) if row.state in (State.ATTACHED, State.REFUSED)]
    chosen: dict[int, tuple[str, bytes]] = {}
    taken: set[tuple[str, bytes]] = set()
    choosers = {root: free_names.Chooser(path, group) for root, path in _roots(runtime).items()}
    for row in current:
        if row.target is None and row.at_path and row.missing < 2 and runtime.guard.sight.there:
            runtime.beats.beat()
            name = root_name(row)
            with suppress(OSError):
                # What the journal promises to others it refuses itself.
                target = choosers[name].choose(wanted(row), lambda target: (name, target) in taken)  # noqa: B023
                chosen[row.id] = name, target
                taken.add(chosen[row.id])
    if not chosen:
        return current
    aims = {row_id: _aim(*aim) for row_id, aim in chosen.items()}
    with runtime.journal.transaction() as connection:
        group.fresh |= _named(connection, aims)
    return [rows.changed(row, aims[row.id]) if row.id in group.fresh else row for row in current]


def _named(connection: sqlite3.Connection, aims: Mapping[int, dict[str, Any]]) -> set[int]:
    """Write down these names, except those that another row was promised meanwhile. Return the rows whose names were written."""
    with suppress(sqlite3.IntegrityError):
        rows.change_many(connection, aims)
        return set(aims)
    named = set()
    for row_id, aim in aims.items():
        with suppress(sqlite3.IntegrityError):
            rows.change(connection, row_id, aim)
            named.add(row_id)
    return named


def _roots(runtime: Runtime) -> dict[str, Path]:
    return {"done": runtime.config.folders.done, "failed": runtime.config.folders.failed}


def root_name(row: Row) -> str:
    """Return ``done`` or ``failed``, as the verdict says."""
    return "done" if row.state is State.ATTACHED else "failed"


def root(runtime: Runtime, row: Row) -> Path:
    """Return the path of the folder to which the row's verdict sends its file."""
    return _roots(runtime)[root_name(row)]


def wanted(row: Row) -> bytes:
    """Return where the verdict puts a file: below the key alone, with the tree below the folder as it was."""
    return row.folder_key.encode() + b"/" + row.path.partition(b"/")[2]


def targeted(runtime: Runtime, row: Row) -> Row:
    """Choose the name, and make it durable before the file moves.

    If the name was chosen before a crash, and another file has been filed under it since, choose again.
    """
    if row.target is not None:
        with runtime.journal.transaction_for_reading() as connection:
            if not queue.belongs_to_another(connection, root_name(row), row.target, row.id):
                return row
    return retarget(runtime, row)


def retarget(runtime: Runtime, row: Row) -> Row:
    """Choose another name durably, because something else has the first one."""
    return aim_at(runtime, row, wanted(row))


def aim_at(runtime: Runtime, row: Row, path: bytes) -> Row:
    """Choose *path*, or the next number of it that is free, durably. Raises OSError if a folder cannot be read."""
    name = root_name(row)

    def promised(target: bytes) -> bool:
        with runtime.journal.transaction_for_reading() as connection:
            return queue.promised(connection, name, target, row.id)

    while True:
        target = free_names.choose(root(runtime, row), path, promised)
        try:
            return change(runtime, row, _aim(name, target))
        except sqlite3.IntegrityError:
            # Another worker promised the name to its file since it was chosen.
            continue


def _aim(root: str, target: bytes) -> dict[str, Any]:
    return {"root": root, "target": target, "reserved_dev": None, "reserved_ino": None}


def change(runtime: Runtime, row: Row, values: dict[str, Any]) -> Row:
    """Set columns of one row durably, and return the row as it is then."""
    with runtime.journal.transaction() as connection:
        rows.change(connection, row.id, values)
        return rows.one(connection, row.id)
