"""Take failed files back into the inbox under their own names. The steps: write the intent, move, sync, remove the notes.

Each step can be repeated. If a process dies, the next one completes what it began: a verb, or the service before it scans. Only
one process at a time does this.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from attachd import heartbeat
from attachd.clock import Clock
from attachd.config import Config
from attachd.delivery.server_clock import ASSUMED_SLACK_SECONDS, Kept
from attachd.filing.take_back import _NAMES, Left, Returned, TakeBack, identity_of, sum_of, wanted
from attachd.fs import folders, free_names, move, recognition, relocation
from attachd.intake import router as intake_router
from attachd.journal import database, lookup, retries, rows
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.logger import get_logger
from attachd.model import State, printable
from attachd.share import locks, notes, paths

log = get_logger()

#: The lock file in the state folder that lets only one process at a time take files back.
LOCK = "retry.lock"
_POLL_SECONDS = 0.02
#: Files that are moved for one sync of their folders.
AT_ONCE = 100


#: For example after a journal was lost.
_NOT_IN_JOURNAL = "the journal does not know this file. Move it back into its issue folder in the inbox by hand"


# --- Which files ------------------------------------------------------------------------------------------------


def named(config: Config, journal: Journal, given: Sequence[bytes | Row], cwd: bytes) -> list[Row | Left]:
    """Return the failed files that these paths name: a file, its note, a folder, or the path that a file had in the inbox.

    A row names its own file alone, whatever lies at its path by now.

    Each file is returned once, although a shell's pattern names both notes and files.
    """
    found = itertools.chain.from_iterable(
        [_itself(journal, each)] if isinstance(each, Row) else _named(config, journal, each, cwd) for each in given
    )
    seen: dict[int | bytes, Row | Left] = {}
    for each in found:
        seen.setdefault(each.id if isinstance(each, Row) else each.name, each)
    return list(seen.values())


def _itself(journal: Journal, row: Row) -> Row | Left:
    if row.state is not State.FAILED or row.target is None:
        return Left(row.ident.encode(), "it is no failed file")
    last = lookup.filed(journal, "failed", row.target)
    if last is None or last.id != row.id:
        return Left(row.ident.encode(), "it was taken back, and another file has failed under its name since")
    return row


def _named(config: Config, journal: Journal, given: bytes, cwd: bytes) -> list[Row | Left]:
    roots = paths.roots(config)
    root, path = paths.place(given, cwd, roots) or ("failed", paths.below(given))
    row: Row | None = None
    if path is not None and root == "failed":
        folder = os.path.join(bytes(roots["failed"]), path)
        if os.path.isdir(folder) and not os.path.islink(folder):
            return [*_below(config, journal, path)]
        row = lookup.filed(journal, "failed", path) or lookup.noted(journal, path)
    elif path is not None and root == "inbox":
        row = lookup.last_at_path(journal, path)
    if row is None or row.state is not State.FAILED or row.target is None:
        there = path and root == "failed" and recognition.lies(config.folders.failed, path)
        return [Left(given, _NOT_IN_JOURNAL if there else "attachd knows no failed file of this name")]
    return [row]


def of_issue(config: Config, journal: Journal, key: str) -> list[Row]:
    """Return the failed files of one issue, or of all for "", that still lie in failed."""
    if key:
        return [*lying_there(config, lookup.failed_of(journal, key))]
    return _below(config, journal, b"")


def _below(config: Config, journal: Journal, folder: bytes) -> list[Row]:
    """Return the failed files that still lie in a folder of failed, or anywhere in it for b""."""
    if folder:
        return [*lying_there(config, lookup.failed_below(journal, folder))]
    # What lies there no more is most of what ever failed: only folders that are there are asked for.
    return [row for each in _listed(config.folders.failed) for row in _below(config, journal, each)]


@heartbeat.on_share()
def _listed(folder: Path) -> list[bytes]:
    """Return what lies in a folder; nothing where it cannot be listed."""
    try:
        return sorted(os.listdir(bytes(folder)))
    except OSError:
        return []


def lying_there(config: Config, found: Iterable[Row]) -> Iterator[Row]:
    """Return those that still lie in failed; also where that cannot be known, which is said of each."""
    failed = config.folders.failed
    return (row for row in found if row.target is not None and recognition.lies(failed, row.target) is not False)


# --- Back into the inbox ----------------------------------------------------------------------------------------


def retry(
    config: Config, state: Path, chosen: Sequence[Row], *, not_attached: bool = False, clock: Clock | None = None
) -> Iterator[Returned | Left]:
    """Take these files back, a group at a time, and yield what became of each once that is durable.

    First complete what an earlier process began. *not_attached*: a person has looked, and says that the files are not in their
    issues.
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
                busy = "another process has been moving files back for more than a minute. Try again later"
                results = [Left(row.target or b"", busy) for row in group]
        yield from results


def end_what_was_begun(config: Config, journal: Journal) -> None:
    """Complete what a ``retry`` that died began, unless one is running. For the service, before it scans."""
    with journal.transaction_for_reading() as connection:
        begun = retries.unfinished(connection)
    if not begun:
        return
    state = journal.path.parent
    with _alone(state, seconds=0.0) as alone:
        for result in _end_all(config, state) if alone else ():
            if isinstance(result, Returned):
                log.info("file.taken_back", id=result.row.ident, issue=result.row.issue, file=printable(result.path))
            else:
                log.warning("file.not_taken_back", file=printable(result.name), reason=result.reason)


@contextmanager
def _alone(state: Path, seconds: float = 60.0) -> Iterator[bool]:
    """Keep other processes and threads out. False if another one does not end in time."""
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
    """Write down all intents at once, and move the files. Intents that an earlier run could not complete continue.

    *judged*: a person says now, by this clock, that none of the files is in its issue.
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
            return [Left(row.target or b"", "the journal is missing") for row in chosen]
        intents += retries.begin(connection, fresh)
        judged_at = _latest_at_jira(connection, judged) if judged else None
        retries.taken_back(connection, [i.file for i in intents], judged_at)
    carried = _carry_out(config, state, [(by_id[intent.file], intent) for intent in intents])
    results |= dict(zip((intent.file for intent in intents), carried, strict=True))
    return [results[row.id] for row in chosen]


def _latest_at_jira(connection: sqlite3.Connection, clock: Clock) -> float:
    """Return the latest time that Jira's clock can show now, as the service measured it in this boot, or by our own clock."""
    text = database.get(connection, "site.time")
    measured = Kept(*json.loads(text)).latest(clock.boot_id(), clock.boot()) if text else None
    return clock.wall() + ASSUMED_SLACK_SECONDS if measured is None else measured


def _intend(
    config: Config, router: intake_router.Router, row: Row, promised: Collection[bytes]
) -> retries.Intent | Left:
    """Choose the name, and look at what lies in failed."""
    assert row.target is not None
    goal = wanted(row, router)
    if isinstance(goal, intake_router.Unrouted):
        return Left(row.target, goal.reason)
    try:
        identity = identity_of(config.folders.failed, row.target)
        if isinstance(identity, str):
            return Left(row.target, identity)
        target = _free(config, row.target, goal, identity, promised)
    except OSError as error:
        return Left(row.target, f"it could not be moved ({error.strerror or error})")
    return retries.Intent(
        row.id, row.target, goal, target, identity.size, identity.mtime_ns, None, None, None, time.time(), 0
    )


def _free(
    config: Config, source: bytes, goal: bytes, identity: recognition.Identity, promised: Collection[bytes]
) -> bytes:
    """Choose its own name, or the first free one, or the name of a copy with the same time that an earlier run left."""
    inbox = config.folders.inbox
    for name in _names(inbox, goal, promised):
        if name in promised:
            continue  # Another file of this group goes there.
        found = recognition.look(inbox, name, replace(identity, inode=None))
        if found is recognition.Found.NOTHING and recognition.lies(inbox, name) is False:
            return name
        if found is recognition.Found.OURS and _reads_alike(config, source, name):
            return name
    raise OSError(errno.EEXIST, "other programs take each name in the inbox; try again")


def _reads_alike(config: Config, source: bytes, name: bytes) -> bool:
    sums = [sum_of(config.folders.failed, source), sum_of(config.folders.inbox, name)]
    return None not in sums and sums[0] == sums[1]


def _names(inbox: Path, goal: bytes, promised: Collection[bytes]) -> Iterator[bytes]:
    above, name = folders.divide(goal)
    yield from (above + b"/" + each for each in itertools.islice(free_names.numbered(name), _NAMES))
    yield free_names.choose(inbox, goal, lambda name: name in promised)


# --- Each of them -----------------------------------------------------------------------------------------------


def _carry_out(config: Config, state: Path, begun: Sequence[tuple[Row, retries.Intent]]) -> list[Returned | Left]:
    """Move the files of the intents, sync, and end the intents. An intent that cannot be completed stays."""
    group = move.Group()
    results: list[Returned | Left] = []
    for row, intent in begun:
        try:
            results.append(TakeBack(config, state, row, group).take(intent))
        except OSError as error:
            results.append(Left(intent.source, f"it could not be moved ({error.strerror or error})"))
    try:
        group.sync()
    except OSError as error:
        reason = f"it is back in the inbox, but the disk did not confirm that ({error.strerror})"
        return [Left(each.row.target or b"", reason) if isinstance(each, Returned) else each for each in results]
    _conclude(config, state, begun, results)
    return results


def _conclude(
    config: Config, state: Path, begun: Sequence[tuple[Row, retries.Intent]], results: Sequence[Returned | Left]
) -> None:
    """Remove the notes of files that are durably back, and end the intents. Of a file that was left nothing was taken back.

    The service removes a note that cannot be removed now. The next run completes an intent whose original is set aside.
    """
    gone, over, left = [], [], []
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
            if not result.replaced:
                left.append(row.id)
    with database.changing(state) as connection:
        if connection is not None:
            retries.end(connection, over)
            retries.forget_notes(connection, gone)
            retries.left_there(connection, left)


def _is_half_done(config: Config, intent: retries.Intent) -> bool:
    """Return True if the file lies at both ends or is set aside, or if that cannot be known."""
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


def in_words(result: Returned | Left) -> str:
    """Return what became of one file, as a sentence."""
    if isinstance(result, Left):
        return f"{printable(result.name)}: not moved: {result.reason}."
    said = f"{printable(result.row.target or b'')}: back in the inbox as {printable(result.path)}"
    if result.path != result.wanted:
        said += f", because something else lies at {printable(result.wanted)}"
    if result.row.may_be_attached and result.row.judged != rows.EVERY:
        said += ". It may be attached already, so attachd looks at the issue before it sends it"
    return f"{said}."
