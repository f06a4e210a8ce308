"""Where files with a verdict go: names that nothing has, promised in the journal before any file moves."""

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
    """The rows as they are now, with the names that they are to have: chosen one by one, and written down all at once.

    A row that gets none here, because it cannot be chosen or another worker was faster, gets it when its turn comes.
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
    """Write down these names, without those that are promised to another by now. Returns whose were written."""
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
    """By its verdict: ``done`` or ``failed``."""
    return "done" if row.state is State.ATTACHED else "failed"


def root(runtime: Runtime, row: Row) -> Path:
    """The folder of that name."""
    return _roots(runtime)[root_name(row)]


def wanted(row: Row) -> bytes:
    """Where its verdict puts a file: under the bare canonical key, the tree below the folder kept."""
    return row.folder_key.encode() + b"/" + row.path.partition(b"/")[2]


def targeted(runtime: Runtime, row: Row) -> Row:
    """Choose the name, and make it durable before the file moves.

    A name that was chosen before a crash, and has since been given to a file that is filed there, is chosen again.
    """
    if row.target is not None:
        with runtime.journal.transaction_for_reading() as connection:
            if not queue.belongs_to_another(connection, root_name(row), row.target, row.id):
                return row
    return retarget(runtime, row)


def retarget(runtime: Runtime, row: Row) -> Row:
    """Choose another name, as durably: another file has the one that it had."""
    return aim_at(runtime, row, wanted(row))


def aim_at(runtime: Runtime, row: Row, path: bytes) -> Row:
    """Choose *path*, or the next number of it that is free, as durably. Raises OSError where it cannot be looked for."""
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
    """Set columns of one row, durably; returns it as it is then."""
    with runtime.journal.transaction() as connection:
        rows.change(connection, row.id, values)
        return rows.one(connection, row.id)
