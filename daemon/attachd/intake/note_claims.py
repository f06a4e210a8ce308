"""Files that may be attached although no row says so, gathered once after a journal was lost or restored."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from attachd import heartbeat
from attachd.fs import folders
from attachd.intake import files
from attachd.intake.context import Checkpoint
from attachd.journal import identity
from attachd.journal.database import Journal
from attachd.logger import get_logger
from attachd.share import notes

log = get_logger()

#: The most notes to read: a person who may write in failed could make it take hours.
MOST = 200_000
_AT_ONCE = 1000


def gather(journal: Journal, failed: Path, checkpoint: Checkpoint) -> bool:
    """Remember what the notes in failed say; False where failed cannot be read now, so that it is to be tried again."""
    said: set[tuple[int, bytes]] = set()
    count = 0
    try:
        with heartbeat.on_share():
            os.listdir(failed)
        for path in _notes(failed):
            checkpoint()
            count += 1
            if count > MOST:
                log.warning("notes.too_many", folder=str(failed), reason=f"only {MOST} of its notes were read")
                break
            with suppress(OSError):  # One that may not be read says nothing.
                found = notes.remembered(failed, path)
                if found is not None:
                    said.add(found)
    except OSError:
        return False
    with journal.transaction() as connection:
        identity.hear(connection, said)
    return True


def remember_passed_over(journal: Journal, inbox: Path, checkpoint: Checkpoint, now: float) -> None:
    """Remember the size of each file that the scan passed over: it is ignored, too deep, or in no issue's folder.

    It has no row that would say so, and may yet be attached: its folder had an issue's key when another journal sent it.
    """
    found = files.everything(inbox, checkpoint)
    while some := list(itertools.islice(found, _AT_ONCE)):
        with journal.transaction(durable=False) as connection:
            known = identity.at_paths(connection, [entry.path for entry in some])
            for size in {entry.print.size for entry in some if entry.path not in known}:
                identity.remember_size(connection, size, now)


def _notes(failed: Path) -> Iterator[bytes]:
    """The paths of what may be notes. Folders that cannot be listed, or are deeper than any of ours, are left out."""
    root = bytes(failed)
    for folder, below, names in heartbeat.on_share().each(os.walk(root)):
        within = os.path.relpath(folder, root)
        within = b"" if within == b"." else within + b"/"
        if within.count(b"/") >= folders.DEPTH:
            below.clear()
        yield from (within + name for name in names if notes.may_be_named(name))
