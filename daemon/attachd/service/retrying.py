"""Failed files go back into the inbox under their own names: chosen, moved, made durable, and only then their notes go.

If the process dies after a move, the file is in the inbox, where intake finds it, and its note is removed as that of any
file that somebody moved back by hand (``delivery/carrying.py``).
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attachd.config import Config
from attachd.filing import moving, notes, numbering, places, recognising
from attachd.filing.moving import Dirty, Outcome, Stuck
from attachd.intake import routing
from attachd.journal import database, lookup, operating
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.model import State, printable
from attachd.service import placing

#: How many files are moved for one sync of their folders.
AT_ONCE = 100
#: How many names are tried before whatever is free is taken.
_NAMES = 20


@dataclass(frozen=True, slots=True)
class Returned:
    """It lies in the inbox again, durably; *wanted* is its own path there, where something else may have lain."""

    row: Row
    path: bytes
    wanted: bytes


@dataclass(frozen=True, slots=True)
class Left:
    """It could not be taken back; *name* is what people call it."""

    name: bytes
    reason: str


# --- Which files ------------------------------------------------------------------------------------------------


def named(config: Config, journal: Journal, given: Sequence[bytes], cwd: bytes) -> list[Row | Left]:
    """The failed files that these paths name: a file, its note, a folder of them, or the path that it had in the inbox.

    Each once, because a shell's pattern names notes and files alike.
    """
    found = itertools.chain.from_iterable(_named(config, journal, path, cwd) for path in given)
    seen: dict[int | bytes, Row | Left] = {}
    for each in found:
        seen.setdefault(each.id if isinstance(each, Row) else each.name, each)
    return list(seen.values())


def _named(config: Config, journal: Journal, given: bytes, cwd: bytes) -> list[Row | Left]:
    roots = placing.roots(config)
    root, path = placing.place(given, cwd, roots) or ("failed", placing.below(given))
    row: Row | None = None
    if path is not None and root == "failed":
        folder = os.path.join(bytes(roots["failed"]), path)
        if os.path.isdir(folder) and not os.path.islink(folder):
            return [*lying_there(config, lookup.failed(journal, path))]
        row = lookup.filed(journal, "failed", path) or lookup.noted(journal, path)
    elif path is not None and root == "inbox":
        row = lookup.last_at_path(journal, path)
    if row is None or row.state is not State.FAILED or row.target is None:
        return [Left(given, "attachd knows no failed file of this name")]
    return [row]


def of_issue(config: Config, journal: Journal, key: str) -> list[Row]:
    """The failed files of one issue, or ("") all of them, that still lie in failed."""
    keys = {key, lookup.lane_of(journal, key)}
    return [row for row in lying_there(config, lookup.failed(journal)) if not key or keys & {row.asked, row.lane}]


def lying_there(config: Config, found: Iterable[Row]) -> Iterator[Row]:
    """Those that nobody has taken out of failed since."""
    root = bytes(config.folders.failed)
    return (row for row in found if row.target is not None and os.path.lexists(os.path.join(root, row.target)))


# --- Back into the inbox ----------------------------------------------------------------------------------------


def retry(config: Config, state: Path, chosen: Sequence[Row]) -> Iterator[Returned | Left]:
    """Take these files back, a group at a time; yields what became of each once that is durable."""
    router = routing.of(config)
    for start in range(0, len(chosen), AT_ONCE):
        yield from _group(config, state, router, chosen[start : start + AT_ONCE])


def _group(config: Config, state: Path, router: routing.Router, chosen: Sequence[Row]) -> list[Returned | Left]:
    dirty = Dirty()
    results = [_take_back(config, router, row, dirty) for row in chosen]
    try:
        dirty.sync()
    except OSError as error:
        reason = f"it is back in the inbox, but the disk does not confirm that ({error.strerror})"
        return [Left(each.row.target or b"", reason) if isinstance(each, Returned) else each for each in results]
    _remove_notes(config, state, [each.row for each in results if isinstance(each, Returned)])
    return results


def _remove_notes(config: Config, state: Path, returned: Sequence[Row]) -> None:
    """Remove the notes of files that are durably back. One that cannot be removed now is left to the service."""
    gone = []
    for row in returned:
        try:
            if row.note is not None:
                notes.remove(config.folders.failed, row.note, row.ident)
        except OSError:
            continue
        gone.append(row.id)
    with database.changing(state) as connection:
        if connection is not None:
            operating.forget_notes(connection, gone)


def wanted(row: Row, router: routing.Router) -> bytes | routing.Unrouted:
    """The path that the file had in the inbox; below the bare key where its folder means another issue by now, or none."""
    folder, _, rest = row.path.partition(b"/")
    if router.route(folder) == routing.Routed(row.asked):
        return row.path
    bare = row.asked.encode()
    routed = router.route(bare)
    return routed if isinstance(routed, routing.Unrouted) else bare + b"/" + rest


def _take_back(config: Config, router: routing.Router, row: Row, dirty: Dirty) -> Returned | Left:
    assert row.target is not None
    goal = wanted(row, router)
    if isinstance(goal, routing.Unrouted):
        return Left(row.target, goal.reason)
    try:
        identity = _identity(config.folders.failed, row.target)
        if isinstance(identity, str):
            return Left(row.target, identity)
        return _move(config, row, goal, identity, dirty)
    except OSError as error:
        return Left(row.target, f"it could not be moved ({error.strerror or error})")


def _identity(failed: Path, target: bytes) -> moving.Identity | str:
    """What lies there now, whatever somebody has done to it since it failed: that is what is to be tried again."""
    above, name = places.divide(target)
    with places.folder_if_there(failed, above) as folder:
        status = recognising.status_of(folder, name) if folder is not None else None
    if status is None:
        return "it is not there any more"
    if not stat.S_ISREG(status.st_mode):
        return "what lies there is no regular file"
    pin = recognising.Pin.of(status)
    return moving.Identity(pin.size, pin.mtime_ns, pin.inode, None)


def _move(config: Config, row: Row, goal: bytes, identity: moving.Identity, dirty: Dirty) -> Returned | Left:
    """Move it to its own name, or the first that is free. A copy that an earlier run left is recognised by its content."""
    assert row.target is not None
    inbox, failed = config.folders.inbox, config.folders.failed
    for name in _names(inbox, goal):
        match moving.move(failed, row.target, inbox, name, identity, dirty):
            case Outcome.MOVED:
                return Returned(row, name, goal)
            case Outcome.TAKEN:
                continue
            case Stuck(reason):
                return Left(row.target, reason)
            case Outcome.GONE:
                return Left(row.target, "it is not there any more")
            case Outcome.SWAPPED | Outcome.CHANGED:
                return Left(row.target, "it was replaced while it was being moved; try once more")
    return Left(row.target, "its name in the inbox is taken as fast as another one is chosen")


def _names(inbox: Path, goal: bytes) -> Iterator[bytes]:
    above, name = places.divide(goal)
    yield from (above + b"/" + each for each in itertools.islice(numbering.numbered(name), _NAMES))
    yield from (moving.choose(inbox, goal) for _ in range(_NAMES))


def in_words(result: Returned | Left) -> str:
    """Say what became of one file."""
    if isinstance(result, Left):
        return f"{printable(result.name)}: left where it is: {result.reason}."
    said = f"{printable(result.row.target or b'')}: back in the inbox as {printable(result.path)}"
    if result.path != result.wanted:
        said += f", because something else lies at {printable(result.wanted)}"
    if result.row.may_be_attached:
        said += "; it may be attached already, so the issue is looked at before it is sent"
    return f"{said}."
