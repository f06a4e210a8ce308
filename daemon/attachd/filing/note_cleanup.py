"""Remove the note of a failed file once a person has taken the file away, and so has read the note."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from attachd import heartbeat
from attachd.delivery.runtime import Runtime
from attachd.fs import folders, recognition
from attachd.journal import queue, rows
from attachd.logger import get_logger
from attachd.model import printable
from attachd.share import notes

log = get_logger()


@dataclass(slots=True)
class Looked:
    """The folders of ``failed`` that were looked through, each with the times at which its tree was last changed then."""

    folders: dict[str, tuple[int, ...]] = field(default_factory=dict)


def drop_notes(runtime: Runtime) -> None:
    """Remove the notes of failed files that have been taken away.

    It removes a note only after the very file that it describes has left ``failed``, and only if nobody has changed the note.
    """
    root = runtime.config.folders.failed
    try:
        with heartbeat.on_share(), os.scandir(root) as listing:
            names = [item.name for item in listing if item.is_dir(follow_symlinks=False)]
    except OSError:
        return
    looked = runtime.memory(Looked)
    for name in names:
        changes = _changes(root, name)
        if changes is not None and looked.folders.get(name) != changes:
            _drop_notes_in(runtime, name)
            looked.folders[name] = changes


def _changes(root: Path, name: str) -> tuple[int, ...] | None:
    """Return the mtimes of a tree's folders, which change when a file is taken out. None if it cannot be listed."""
    try:
        return tuple(folders.mtimes(root, os.fsencode(name)))
    except OSError:
        return None


def _has_left(root: Path, target: bytes) -> bool:
    """Return True if nothing lies at a path. False if the folder cannot be opened, because its files may come back."""
    above, name = folders.divide(target)
    try:
        with folders.folder(root, above) as folder:
            return recognition.status_of(folder, name) is None
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _drop_notes_in(runtime: Runtime, folder: str) -> None:
    root = runtime.config.folders.failed
    with runtime.journal.transaction_for_reading() as connection:
        noted = queue.noted(connection, folder)
    for row in noted:
        if row.target is None or row.note is None or not _has_left(root, row.target):
            continue
        try:
            notes.remove(root, row.note, row.ident, row.note_sha256)
        except OSError as error:
            log.warning("note.not_removed", id=row.ident, file=printable(row.note), reason=str(error))
            continue
        with runtime.journal.transaction() as connection:
            rows.change(connection, row.id, {"note": None})
        log.info("note.removed", id=row.ident, issue=row.issue, file=printable(row.target))
