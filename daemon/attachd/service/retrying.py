"""Failed files go back into the inbox under their own names: journalled, moved, made durable, and only then their notes go.

Each step can be repeated. Whoever comes next ends what a process that died has begun: the same verb, another one, or the service
before it scans. One process at a time does so.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import sqlite3
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

import structlog

from attachd.clock import Clock
from attachd.config import Config
from attachd.delivery.server_clock import ASSUMED_SLACK_SECONDS, Kept
from attachd.fs import folders, free_names, move, recognition, relocation, rename
from attachd.fs.folders import Dirty
from attachd.intake import files
from attachd.intake import router as intake_router
from attachd.journal import database, lookup, retries, rows
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.model import State, printable
from attachd.share import inbox_marker, locks, notes, paths

log = structlog.get_logger()

#: Its lock in the state folder: only one process at a time takes files back.
LOCK = "retry.lock"
_POLL_SECONDS = 0.02
#: How many files are moved for one sync of their folders.
AT_ONCE = 100
#: How many names are tried before whatever is free is taken.
_NAMES = 20


#: After a journal was lost, say.
_NOT_IN_JOURNAL = "the journal does not know this file; move it back into its issue's folder in the inbox by hand"


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
    roots = paths.roots(config)
    root, path = paths.place(given, cwd, roots) or ("failed", paths.below(given))
    row: Row | None = None
    if path is not None and root == "failed":
        folder = os.path.join(bytes(roots["failed"]), path)
        if os.path.isdir(folder) and not os.path.islink(folder):
            return [*lying_there(config, lookup.failed(journal, path))]
        row = lookup.filed(journal, "failed", path) or lookup.noted(journal, path)
    elif path is not None and root == "inbox":
        row = lookup.last_at_path(journal, path)
    if row is None or row.state is not State.FAILED or row.target is None:
        lies_there = path and root == "failed" and os.path.lexists(os.path.join(bytes(roots["failed"]), path))
        return [Left(given, _NOT_IN_JOURNAL if lies_there else "attachd knows no failed file of this name")]
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


def retry(
    config: Config, state: Path, chosen: Sequence[Row], *, not_attached: bool = False, clock: Clock | None = None
) -> Iterator[Returned | Left]:
    """Take these files back, a group at a time; yields what became of each once that is durable.

    Begins with what an earlier process left half done. *not_attached*: a person has looked, and says that they are not in
    their issues.
    """
    router = intake_router.of(config)
    ended: dict[int, Returned | Left] = {}
    with _alone(state) as alone:
        if alone:
            ended = {result.row.id: result for result in _end_all(config, state) if isinstance(result, Returned)}
    yield from ended.values()
    left = [row for row in chosen if row.id not in ended]
    for start in range(0, len(left), AT_ONCE):
        group = left[start : start + AT_ONCE]
        with _alone(state) as alone:
            if alone:
                results = _group(config, state, router, group, (clock or Clock()) if not_attached else None)
            else:
                busy = "another process takes files back at this moment, and has not ended for a minute; try once more"
                results = [Left(row.target or b"", busy) for row in group]
        yield from results


def end_what_was_begun(config: Config, journal: Journal) -> None:
    """End what a ``retry`` that died has begun; nothing where one is at work. For the service, before it scans."""
    with journal.transaction_for_reading() as connection:
        begun = retries.unfinished(connection)
    if not begun:
        return
    state = journal.path.parent
    with _alone(state, seconds=0.0) as alone:
        for result in _end_all(config, state) if alone else ():
            if isinstance(result, Returned):
                log.info("file.taken_back", id=result.row.ident, issue=result.row.asked, file=printable(result.path))
            else:
                log.warning("file.not_taken_back", file=printable(result.name), reason=result.reason)


@contextmanager
def _alone(state: Path, seconds: float = 60.0) -> Iterator[bool]:
    """Keep other processes, and threads, out; False where one does not come to an end."""
    until = time.monotonic() + seconds
    taken = _take(state)
    while isinstance(taken, locks.Holder) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        taken = _take(state)
    try:
        yield not isinstance(taken, locks.Holder)
    finally:
        if isinstance(taken, locks.Lock):
            taken.release()


def _take(state: Path) -> locks.Lock | locks.Holder | locks.NoLocks:
    try:
        return locks.take(state / LOCK, state)
    except OSError as error:
        raise database.unusable(state / LOCK, error) from error


def _end_all(config: Config, state: Path) -> list[Returned | Left]:
    with database.changing(state) as connection:
        begun = retries.unfinished(connection) if connection is not None else []
        known = (
            {row.id: row for row in rows.many(connection, [i.file for i in begun])} if connection is not None else {}
        )
    if not begun:
        return []
    with database.changing(state) as connection:
        if connection is not None:
            retries.end(connection, [intent.file for intent in begun if intent.file not in known])
    return _carry_out(config, state, [(known[intent.file], intent) for intent in begun if intent.file in known])


def _group(
    config: Config, state: Path, router: intake_router.Router, chosen: Sequence[Row], judged: Clock | None
) -> list[Returned | Left]:
    """Write down what is to be moved where, all at once, and move it. What an earlier run could not end goes on from there.

    *judged*: by this clock a person says now that none of them is in its issue.
    """
    with database.changing(state) as connection:
        begun = retries.unfinished(connection) if connection is not None else []
    by_id, promised = {row.id: row for row in chosen}, {intent.target for intent in begun}
    results: dict[int, Returned | Left] = {}
    intents = [intent for intent in begun if intent.file in by_id]
    fresh: list[retries.Intent] = []
    under_way = {intent.file for intent in intents}
    for row in (row for row in chosen if row.id not in under_way):
        intended = _intend(config, router, row, promised)
        if isinstance(intended, Left):
            results[row.id] = intended
        else:
            fresh.append(intended)
            promised.add(intended.target)
    with database.changing(state) as connection:
        if connection is None:
            return [Left(row.target or b"", "there is no journal any more") for row in chosen]
        intents += retries.begin(connection, fresh)
        judged_at = _latest_at_jira(connection, judged) if judged else None
        retries.taken_back(connection, [i.file for i in intents], judged_at)
    carried = _carry_out(config, state, [(by_id[intent.file], intent) for intent in intents])
    results |= dict(zip((intent.file for intent in intents), carried, strict=True))
    return [results[row.id] for row in chosen]


def _latest_at_jira(connection: sqlite3.Connection, clock: Clock) -> float:
    """The latest that it may be now by Jira's clock: as the service measured that in this boot, or by our own."""
    text = database.get(connection, "site.time")
    measured = Kept(*json.loads(text)).latest(clock.boot_id(), clock.boot()) if text else None
    return clock.wall() + ASSUMED_SLACK_SECONDS if measured is None else measured


def wanted(row: Row, router: intake_router.Router) -> bytes | intake_router.Unrouted:
    """The path that the file had in the inbox; below the bare key where its folder means another issue by now, or none."""
    folder, _, rest = row.path.partition(b"/")
    if router.route(folder) == intake_router.Routed(row.asked):
        return row.path
    bare = row.asked.encode()
    routed = router.route(bare)
    return routed if isinstance(routed, intake_router.Unrouted) else bare + b"/" + rest


def _intend(
    config: Config, router: intake_router.Router, row: Row, promised: Collection[bytes]
) -> retries.Intent | Left:
    """Choose the name, and see what is to be moved."""
    assert row.target is not None
    goal = wanted(row, router)
    if isinstance(goal, intake_router.Unrouted):
        return Left(row.target, goal.reason)
    try:
        identity = _identity(config.folders.failed, row.target)
        if isinstance(identity, str):
            return Left(row.target, identity)
        target = _free(config, row.target, goal, identity, promised)
    except OSError as error:
        return Left(row.target, f"it could not be moved ({error.strerror or error})")
    return retries.Intent(
        row.id, row.target, goal, target, identity.size, identity.mtime_ns, None, None, None, time.time(), 0
    )


def _identity(failed: Path, target: bytes) -> recognition.Identity | str:
    """What lies there now, whatever somebody has done to it since it failed: that is what is to be tried again."""
    above, name = folders.divide(target)
    with folders.folder_if_there(failed, above) as folder:
        status = recognition.status_of(folder, name) if folder is not None else None
    if status is None:
        return "it is not there any more"
    if not stat.S_ISREG(status.st_mode):
        return "what lies there is no regular file"
    pin = recognition.Pin.of(status)
    return recognition.Identity(pin.size, pin.mtime_ns, pin.inode, None)


def _free(
    config: Config, source: bytes, goal: bytes, identity: recognition.Identity, promised: Collection[bytes]
) -> bytes:
    """Choose its own name, or the first that is free: or that of a copy of it, of the same time, that an earlier run left."""
    inbox = config.folders.inbox
    for name in _names(inbox, goal, promised):
        if name in promised:
            continue  # Another file of this group goes there.
        found = recognition.look(inbox, name, replace(identity, inode=None))
        if found is recognition.Found.NOTHING and not os.path.lexists(os.path.join(bytes(inbox), name)):
            return name
        if found is recognition.Found.OURS and _reads_alike(config, source, name):
            return name
    raise OSError(errno.EEXIST, "its name in the inbox is taken as fast as another one is chosen")


def _reads_alike(config: Config, source: bytes, name: bytes) -> bool:
    sums = [_sum(config.folders.failed, source), _sum(config.folders.inbox, name)]
    return None not in sums and sums[0] == sums[1]


def _sum(root: Path, path: bytes) -> bytes | None:
    above, name = folders.divide(path)
    with folders.folder_if_there(root, above) as folder:
        status = recognition.status_of(folder, name) if folder is not None else None
        if folder is None or status is None:
            return None
        return recognition.digest_of(folder, name, recognition.Pin.of(status))


def _names(inbox: Path, goal: bytes, promised: Collection[bytes]) -> Iterator[bytes]:
    above, name = folders.divide(goal)
    yield from (above + b"/" + each for each in itertools.islice(free_names.numbered(name), _NAMES))
    yield free_names.choose(inbox, goal, lambda name: name in promised)


# --- Each of them -----------------------------------------------------------------------------------------------


def _carry_out(config: Config, state: Path, begun: Sequence[tuple[Row, retries.Intent]]) -> list[Returned | Left]:
    """Move what was written down, make it durable, and write down that it is done. What cannot be concluded stays written."""
    dirty = Dirty()
    results: list[Returned | Left] = []
    for row, intent in begun:
        try:
            results.append(_Taking(config, state, row, dirty).take(intent))
        except OSError as error:
            results.append(Left(intent.source, f"it could not be moved ({error.strerror or error})"))
    try:
        dirty.sync()
    except OSError as error:
        reason = f"it is back in the inbox, but the disk does not confirm that ({error.strerror})"
        return [Left(each.row.target or b"", reason) if isinstance(each, Returned) else each for each in results]
    _conclude(config, state, begun, results)
    return results


def _conclude(
    config: Config, state: Path, begun: Sequence[tuple[Row, retries.Intent]], results: Sequence[Returned | Left]
) -> None:
    """Remove the notes of files that are durably back, and end the intents. A note that cannot be removed now is left to the
    service; an intent whose original is set aside is left to the next.
    """
    gone, over = [], []
    for (row, intent), result in zip(begun, results, strict=True):
        if isinstance(result, Returned):
            try:
                if row.note is not None:
                    notes.remove(config.folders.failed, row.note, row.ident, row.note_sha256)
                gone.append(row.id)
            except OSError:
                pass
            over.append(row.id)
        elif not _is_half_done(config, intent):
            over.append(row.id)
    with database.changing(state) as connection:
        if connection is not None:
            retries.end(connection, over)
            retries.forget_notes(connection, gone)


def _is_half_done(config: Config, intent: retries.Intent) -> bool:
    """Whether the file stands at both ends, or is set aside; also where that cannot be known."""
    identity = recognition.Identity(intent.size, intent.mtime_ns, None, intent.sha256)
    inbox, failed = config.folders.inbox, config.folders.failed
    try:
        if relocation.begun(failed, intent.source):
            return True
        if recognition.look(failed, intent.source, identity) is not recognition.Found.OURS:
            return False
        return recognition.look(inbox, intent.target, identity) is recognition.Found.OURS
    except OSError:
        return True


class _Taking:
    """One file on its way back."""

    def __init__(self, config: Config, state: Path, row: Row, dirty: Dirty) -> None:
        self._failed, self._inbox = config.folders.failed, config.folders.inbox
        self._state, self._row, self._dirty = state, row, dirty

    def take(self, intent: retries.Intent) -> Returned | Left:
        """Move it to the name that was chosen, or to another that is free by now. Raises OSError."""
        for _ in range(_NAMES):
            outcome = self._move(intent)
            if outcome is not move.Outcome.TAKEN:
                return self._said(intent, outcome)
            target = free_names.choose(self._inbox, intent.wanted, self._promised)
            intent = intent._replace(target=target, reserved_dev=None, reserved_ino=None)
            self._write(intent)
        return Left(intent.source, "its name in the inbox is taken as fast as another one is chosen")

    def _said(self, intent: retries.Intent, outcome: move.Outcome | move.Stuck) -> Returned | Left:
        match outcome:
            case move.Outcome.MOVED:
                return Returned(self._row, intent.target, intent.wanted)
            case move.Stuck(reason):
                return Left(intent.source, reason)
            case move.Outcome.GONE:
                return Left(intent.source, "it is not there any more")
            case _:
                return Left(intent.source, "it was replaced while it was being moved; try once more")

    def _promised(self, target: bytes) -> bool:
        with database.changing(self._state) as connection:
            return connection is not None and bool(retries.aimed_at(connection, [target]))

    def _move(self, intent: retries.Intent) -> move.Outcome | move.Stuck:
        try:
            return self._move_or_raise(intent)
        except OSError as error:
            if error.errno not in rename.IN_THE_WAY:
                raise
            return move.Outcome.TAKEN  # Something that is no folder bars the way to the name.

    def _move_or_raise(self, intent: retries.Intent) -> move.Outcome | move.Stuck:
        identity = recognition.Identity(intent.size, intent.mtime_ns, None, intent.sha256)
        set_aside = relocation.begun(self._failed, intent.source)
        lies = recognition.look(self._failed, intent.source, identity)
        if not set_aside and lies is not recognition.Found.OURS:
            return self._without_original(intent, identity, lies)
        # A copy that stands under its name already is compared, and the original removed.
        copied = not set_aside and recognition.look(self._inbox, intent.target, identity) is recognition.Found.OURS
        if set_aside or (not copied and self._far(intent)):
            return self._relocate(intent)
        ends = self._failed, intent.source, self._inbox, intent.target

        def reserved(device: int, inode: int) -> None:
            self._write(intent._replace(reserved_dev=device, reserved_ino=inode))

        return move.move(
            *ends, self._inode(intent, identity), self._dirty, reserved=reserved, reservation=intent.reservation
        )

    def _inode(self, intent: retries.Intent, identity: recognition.Identity) -> recognition.Identity:
        """As it is now: between the look and the rename it is known by its inode."""
        now = _identity(self._failed, intent.source)
        return (
            now
            if isinstance(now, recognition.Identity) and (now.size, now.mtime_ns) == (identity.size, identity.mtime_ns)
            else identity
        )

    def _without_original(
        self, intent: retries.Intent, identity: recognition.Identity, lies: recognition.Found
    ) -> move.Outcome:
        """It has left failed: by an earlier run of ours, if it lies at its target, or was seen there since."""
        if recognition.look(self._inbox, intent.target, identity) is recognition.Found.OURS or self._arrived(intent):
            return move.Outcome.MOVED
        return move.Outcome.GONE if lies is recognition.Found.NOTHING else move.Outcome.SWAPPED

    def _far(self, intent: retries.Intent) -> bool:
        """Whether it has to be copied: between two mounts nothing can be renamed (rename(2), EXDEV)."""
        with (
            folders.folder(self._failed, folders.divide(intent.source)[0]) as here,
            folders.folder(self._inbox, folders.divide(intent.target)[0], create=True) as there,
        ):
            return inbox_marker.mount_of_descriptor(here)[::2] != inbox_marker.mount_of_descriptor(there)[::2]

    def _relocate(self, intent: retries.Intent) -> move.Outcome:
        current = intent

        def read(sha256: bytes) -> None:
            nonlocal current
            current = current._replace(sha256=sha256)
            self._write(current)

        def reserved(device: int, inode: int) -> None:
            nonlocal current
            current = current._replace(reserved_dev=device, reserved_ino=inode)
            self._write(current)

        outcome = relocation.relocate(
            relocation.Job(
                *(self._failed, intent.source, self._inbox, intent.target, intent.sha256, read),
                lambda: self._arrived(current),
                rename.Reserving(reserved, intent.reservation),
            )
        )
        match outcome:
            case relocation.Outcome.MOVED:
                return move.Outcome.MOVED
            case relocation.Outcome.TAKEN:
                return move.Outcome.TAKEN
            case relocation.Outcome.GONE:
                return move.Outcome.GONE
            case relocation.Outcome.KEPT:
                self._doubt()
                return move.Outcome.SWAPPED
            case _:
                assert_never(outcome)

    def _arrived(self, intent: retries.Intent) -> bool:
        """Whether the copy was seen since: intake has taken it up, or a person has moved it within the inbox."""
        # What is moved to done between the first two is in the journal by the third.
        return self._taken_up(intent) or self._lies_elsewhere(intent) or self._taken_up(intent)

    def _taken_up(self, intent: retries.Intent) -> bool:
        with database.changing(self._state) as connection:
            return connection is not None and retries.taken_up(connection, intent)

    def _lies_elsewhere(self, intent: retries.Intent) -> bool:
        """Whether a file of this content and time, as a copy has, lies anywhere in the inbox. Walks through all of it."""
        if intent.sha256 is None:
            return False
        alike = (
            entry.path
            for entry in files.everything(self._inbox, lambda: None)
            if (entry.print.size, entry.print.mtime_ns) == (intent.size, intent.mtime_ns)
        )
        return any(_sum(self._inbox, path) == intent.sha256 for path in alike)

    def _doubt(self) -> None:
        """Its copy is nowhere to be found: somebody may have moved it on, and it may be attached by now."""
        with database.changing(self._state) as connection:
            if connection is not None:
                retries.doubt(connection, self._row.id)

    def _write(self, intent: retries.Intent) -> None:
        with database.changing(self._state) as connection:
            if connection is not None:
                retries.change(connection, intent)


def in_words(result: Returned | Left) -> str:
    """Say what became of one file."""
    if isinstance(result, Left):
        return f"{printable(result.name)}: left where it is: {result.reason}."
    said = f"{printable(result.row.target or b'')}: back in the inbox as {printable(result.path)}"
    if result.path != result.wanted:
        said += f", because something else lies at {printable(result.wanted)}"
    if result.row.may_be_attached and result.row.judged != rows.EVERY:
        said += "; it may be attached already, so the issue is looked at before it is sent"
    return f"{said}."
