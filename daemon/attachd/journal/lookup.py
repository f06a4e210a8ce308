"""Answer what people ask about files: where one stands, what is before it, and what became of it. Reads only.

Times are the wall clock's, for people: write nothing of this back, and compare nothing with the journal's ``now``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attachd.journal import contested, database, identity, moved_issues, pauses, rows
from attachd.journal.database import Journal
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.model import WORDS, Fingerprint, State, Word

#: Each half has an index of its own; asked together, neither would be used.
FILED = (
    "SELECT id FROM file WHERE root = ? AND target = ? AND finished_at IS NOT NULL"
    " UNION ALL SELECT id FROM file WHERE root = ? AND target = ? AND finished_at IS NULL"
)


def at_path(journal: Journal, path: bytes) -> Row | None:
    """Return the unfinished row of what lies at a path below the inbox."""
    return _first(journal, "WHERE path = ? AND generation = 0 AND finished_at IS NULL", path)


def last_at_path(journal: Journal, path: bytes) -> Row | None:
    """Return the newest row of anything that ever lay at a path below the inbox."""
    return _first(journal, "INDEXED BY file_path WHERE path = ? ORDER BY id DESC LIMIT 1", path)


def of_inode(journal: Journal, print_: Fingerprint) -> list[Row]:
    """Return the unfinished rows whose file had this inode, size and time when it was last observed."""
    found = select(journal, "WHERE ino = ? AND dev = ? AND finished_at IS NULL ORDER BY id", (print_.ino, print_.dev))
    return [row for row in found if identity.content(row.fingerprint) == identity.content(print_)]


def filed(journal: Journal, root: str, target: bytes) -> Row | None:
    """Return the newest row that was filed, or is on its way, to this path below done or failed."""
    return _first(journal, f"WHERE id = (SELECT max(id) FROM ({FILED}))", root, target, root, target)


def noted(journal: Journal, note: bytes) -> Row | None:
    """Return the row whose note lies at this path below failed."""
    return _first(journal, "WHERE note = ? ORDER BY id DESC LIMIT 1", note)


def ahead(journal: Journal, row: Row) -> int:
    """Return how many files of the same issue come before this one."""
    before = "SELECT count(*) FROM file WHERE state = 'READY' AND issue = ? AND id < ?"
    return int(journal.value(before, (row.issue, row.id)))


def contested_in(journal: Journal, issue: str) -> Row | None:
    """Return a file of this issue with a contested refusal: the other files wait for its verdict."""
    return _first(journal, "WHERE contested IS NOT NULL AND state = 'READY' AND issue = ? ORDER BY id LIMIT 1", issue)


def twin_in_doubt(journal: Journal, row: Row) -> Row | None:
    """Return a file in doubt with the same issue, stored name and size: attachd could not tell the two apart."""
    twins = "WHERE state = 'DOUBTFUL' AND issue = ? AND name = ? AND size = ? AND id <> ? LIMIT 1"
    return _first(journal, twins, row.issue, row.name, row.size, row.id)


def has_accepted(journal: Journal, row: Row) -> bool:
    """Return True if the issue of this row has ever accepted a file."""
    with journal.transaction_for_reading() as connection:
        return contested.accepted_before(connection, row.site or "", row.issue)


def every_pause(journal: Journal) -> list[Pause]:
    """Return all pauses that the journal holds, those that have ended included."""
    line = journal.timeline()
    with journal.transaction_for_reading() as connection:
        return [line.pause(each) for each in pauses.read(connection)]


def issue_of(journal: Journal, key: str) -> str:
    """Return the key under which an issue is reached, as far as the journal knows."""
    with journal.transaction_for_reading() as connection:
        return moved_issues.issue_of(connection, key)


def fact(journal: Journal, key: str) -> object:
    """Return one of the journal's own facts, or None."""
    with journal.transaction_for_reading() as connection:
        return database.get(connection, key)


def failed_below(journal: Journal, folder: bytes) -> list[Row]:
    """Return the failed rows below a folder of failed, the newest for each path, in the order of the paths."""
    return select(
        journal,
        "WHERE id IN (SELECT max(id) FROM file INDEXED BY file_filed WHERE target > ? AND target < ? AND root = 'failed'"
        " AND state = 'FAILED' AND finished_at IS NOT NULL GROUP BY target) ORDER BY target",
        (folder + b"/", folder + b"0"),  # "0" is the byte behind "/"
    )


def failed_of(journal: Journal, key: str) -> list[Row]:
    """Return the failed rows of one issue, under any of its keys, the newest for each path, in the order of the paths."""
    sources, parameters = _of_issue(journal, key)
    ids = " UNION ".join(f"SELECT id FROM file WHERE {each}" for each in sources)
    failed = f"WHERE id IN ({ids}) AND state = 'FAILED' AND target IS NOT NULL ORDER BY target, id"
    return list({row.target: row for row in select(journal, failed, parameters)}.values())


def _of_issue(journal: Journal, key: str) -> tuple[list[str], list[object]]:
    """Conditions that find the files of an issue under any of its keys, each by an index of its own, and their parameters."""
    keys = sorted({key, issue_of(journal, key)})
    sources = ["folder_key = ?"] * len(keys) + ["issue = ? AND issue <> folder_key"] * len(keys)
    return sources, [*keys, *keys]


def history(journal: Journal, key: str, only: Word | None, limit: int, *, since: float | None = None) -> list[Row]:
    """Return files, the newest first: all, or those of one issue under any key, in one state, dropped or decided *since*.

    As fast with five million files as with few, whatever is asked.
    """
    moment = None if since is None else journal.timeline().kept(since)
    wanted, also = _wanted(only, moment)
    sources, found_by = _sources(journal, key, only, moment)
    if not sources:
        return select(journal, f"WHERE {' AND '.join(wanted)} ORDER BY id DESC LIMIT ?", [*also, limit])
    newest = f"{' AND '.join(wanted)} ORDER BY id DESC LIMIT ?"
    ids = " UNION ".join(f"SELECT id FROM (SELECT id FROM file {each} AND {newest})" for each in sources)
    parameters = [value for by in found_by for value in (*by, *also, limit)]
    return select(journal, f"WHERE id IN ({ids}) ORDER BY id DESC LIMIT ?", [*parameters, limit])


def _wanted(only: Word | None, moment: float | None) -> tuple[list[str], list[object]]:
    """Conditions on what is shown, and their parameters."""
    conditions, parameters = ["1"], list[object]()
    if only is not None:
        states = [state for state in State if WORDS[state] is only]
        waiting = "(blocked IS NULL OR finished_at IS NOT NULL)"
        blocked = "blocked IS NOT NULL AND finished_at IS NULL"
        named = f"state IN ({','.join('?' * len(states))}) AND {waiting}"
        conditions.append(blocked if only is Word.BLOCKED else named)
        parameters += states
    if moment is not None:
        conditions.append("(seen_at >= ? OR verdict_at >= ?)")
        parameters += [moment, moment]
    return conditions, parameters


_UNFINISHED = "INDEXED BY file_inode WHERE finished_at IS NULL"


def _sources(
    journal: Journal, key: str, only: Word | None, moment: float | None
) -> tuple[list[str], list[tuple[object, ...]]]:
    """Where to look: parts of the history that an index finds and that together hold all that is wanted; and the parameters of
    each. No part: everywhere, from the newest backwards.
    """
    if key:
        conditions, keys = _of_issue(journal, key)
        return [f"WHERE {each}" for each in conditions], [(each,) for each in keys]
    if only not in (None, Word.ATTACHED, Word.FAILED, Word.WITHDRAWN):
        return [_UNFINISHED], [()]
    if moment is not None:
        finished = "INDEXED BY file_finished WHERE finished_at IS NOT NULL AND finished_at >= ?"
        return [finished, _UNFINISHED], [(moment,), ()]
    if only in (Word.FAILED, Word.WITHDRAWN):
        finished = "INDEXED BY file_unattached WHERE state IN ('FAILED', 'WITHDRAWN') AND state = ?"
        to_be_moved = "INDEXED BY file_verdict WHERE state IN ('ATTACHED', 'REFUSED')"
        return [finished, to_be_moved], [(State.FAILED if only is Word.FAILED else State.WITHDRAWN,), ()]
    return [], []


def issues_accepted(journal: Journal, key: str) -> list[str]:
    """Return the issues that have accepted files; with *key* only this issue, under any of its keys."""
    if key:
        conditions, keys = _of_issue(journal, key)
        ids = " UNION ".join(f"SELECT issue FROM file WHERE attachment IS NOT NULL AND {each}" for each in conditions)
        return [row[0] for row in journal.rows(f"SELECT issue FROM ({ids}) ORDER BY issue", keys)]
    # From one issue to the next: as many steps as there are issues, not files.
    following = "SELECT min(issue) FROM file INDEXED BY file_accepted_issue WHERE attachment IS NOT NULL"
    found = journal.rows(
        f"WITH RECURSIVE accepted (issue) AS ({following} UNION ALL SELECT ({following} AND issue > accepted.issue)"
        " FROM accepted WHERE accepted.issue IS NOT NULL) SELECT issue FROM accepted WHERE issue IS NOT NULL"
    )
    return [row[0] for row in found]


def accepted(journal: Journal, issue: str) -> list[Row]:
    """Return the files that an issue has accepted, in that order."""
    return select(journal, "WHERE attachment IS NOT NULL AND issue = ? ORDER BY verdict_at, id", (issue,))


def by_id(journal: Journal, row_id: int) -> Row | None:
    """Return one row, or None if it was forgotten."""
    return _first(journal, "WHERE id = ?", row_id)


@dataclass(frozen=True, slots=True)
class Matches:
    """Files that a search has found, the newest first. *back_to*: older ones than of that time were not all looked at."""

    files: Sequence[Row]
    back_to: float | None = None


#: Files that a search looks at in one go, and after how many seconds it ends: a page waits for it, and so does a small journal's
#: reader.
_SEARCHED_AT_ONCE, SEARCH_SECONDS = 20_000, 0.1


def search(journal: Journal, wanted: str, limit: int, *, seconds: float = SEARCH_SECONDS) -> Matches:
    """Return the newest files whose path, issue, attachment or id contains *wanted* in any case.

    What is exactly an issue, an attachment, an id or a path is found however old it is. Parts of names are looked for from the
    newest file backwards, for so many *seconds*.
    """
    found = {row.id: row for row in _exactly(journal, wanted, limit)}
    until = journal.clock.boot() + seconds
    newest = int(journal.value("SELECT max(id) FROM file") or 0)
    while newest > 0 and len(found) < limit:
        oldest = max(0, newest - _SEARCHED_AT_ONCE)
        found |= {row.id: row for row in _containing(journal, wanted, limit, oldest, newest)}
        newest = oldest
        if journal.clock.boot() >= until:
            break
    files = [found[row_id] for row_id in sorted(found, reverse=True)[:limit]]
    oldest_seen = _first(journal, "WHERE id > ? ORDER BY id LIMIT 1", newest)
    return Matches(files, oldest_seen.seen_at if newest > 0 and len(files) < limit and oldest_seen else None)


def _exactly(journal: Journal, wanted: str, limit: int) -> list[Row]:
    ident = wanted[1:] if wanted[:1] in "Ff" else wanted
    itself = by_id(journal, int(ident)) if ident.isascii() and ident.isdigit() and len(ident) < 19 else None
    by_attachment = select(journal, "WHERE attachment IS NOT NULL AND attachment = ?", (wanted,))
    at = last_at_path(journal, wanted.encode("utf-8", "surrogateescape"))
    of_issue = history(journal, wanted.upper(), None, limit)
    return [row for row in (itself, *by_attachment, at, *of_issue) if row is not None]


def _containing(journal: Journal, wanted: str, limit: int, after: int, until: int) -> list[Row]:
    return select(
        journal,
        "WHERE id > :after AND id <= :until AND (instr(lower(CAST(path AS TEXT)), lower(:text))"
        " OR instr(lower(folder_key), lower(:text)) OR instr(lower(issue), lower(:text))) ORDER BY id DESC LIMIT :limit",
        {"text": wanted, "after": after, "until": until, "limit": limit},
    )


def select(journal: Journal, rest: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[Row]:
    """Return the rows that *rest*, the end of a SELECT, chooses."""
    line = journal.timeline()
    return [line.row(rows.from_sql(record)) for record in journal.rows(rows.SELECT + rest, parameters)]


def _first(journal: Journal, rest: str, *parameters: object) -> Row | None:
    found = select(journal, rest, parameters)
    return found[0] if found else None


# What waits, which of it for more than its turn, and in which order. Reads only; works beside a running daemon.
# What is asked of a ``Journal`` is answered in the wall clock's time, for people; what is asked of a connection in
# the journal's.


def waiting_in(journal: Journal, issues: Sequence[str]) -> int:
    """Return how many files of these issues wait for their turn."""
    marks = rows.marks(issues)
    return int(journal.value(f"SELECT count(*) FROM file WHERE state = 'READY' AND issue IN ({marks})", issues))


def sending(journal: Journal) -> list[Row]:
    """Return the files that are being sent."""
    return select(journal, "WHERE state = 'SENDING' ORDER BY attempt LIMIT 100")


#: Which files wait for more than their turn, each kind by the index that knows it: a million others may wait for theirs. What
#: settles is looked through, which is over in moments.
_TROUBLED = (
    ("file_blocked", "blocked IS NOT NULL AND finished_at IS NULL"),
    ("file_contested", "contested IS NOT NULL AND state = 'READY'"),
    ("file_doubtful", "state = 'DOUBTFUL'"),
    ("file_seen", "state = 'SEEN' AND (reason IS NOT NULL OR lacks IS NOT NULL)"),
    ("file_verdict", "state IN ('ATTACHED', 'REFUSED') AND due > 0"),
)


def troubled(journal: Journal, limit: int = 20) -> list[Row]:
    """Files that wait for more than their turn: blocked, contested, in doubt, or with a verdict and not moved yet.

    And those that settle but for which something has to happen, or a longer time to pass, than that nobody changes them.
    """
    found = {
        row.id: row
        for index, which in _TROUBLED
        for row in select(journal, f"INDEXED BY {index} WHERE {which} ORDER BY since LIMIT ?", (limit,))
    }
    return sorted(found.values(), key=lambda row: (row.since, row.id))[:limit]


def waiting_since(connection: sqlite3.Connection, moment: float) -> tuple[int, Row | None]:
    """Return how many files have waited since before *moment*, and the one that was seen first."""
    unfinished = "FROM file WHERE finished_at IS NULL AND seen_at <= ?"
    count = connection.execute(f"SELECT count(*) {unfinished}", (moment,)).fetchone()[0]
    if not count:
        return 0, None
    first = connection.execute(
        rows.SELECT + "WHERE finished_at IS NULL AND seen_at <= ? ORDER BY seen_at, id LIMIT 1", (moment,)
    ).fetchone()
    return count, rows.from_sql(first)


def blocked_before(journal: Journal, moment: float, limit: int) -> list[Row]:
    """Return the files that have been blocked since before *moment*, the longest first."""
    which, moment = "blocked IS NOT NULL AND finished_at IS NULL AND since <= ?", journal.timeline().kept(moment)
    return select(journal, f"INDEXED BY file_blocked WHERE {which} ORDER BY since LIMIT ?", (moment, limit))


def oldest_waiting(journal: Journal) -> float | None:
    """Return when the file was seen that has waited longest, or None. Fast, however long the history is."""
    first = "SELECT min(id) FROM file INDEXED BY file_inode WHERE finished_at IS NULL"
    oldest: float | None = journal.value(f"SELECT seen_at FROM file WHERE id = ({first})")
    return None if oldest is None else journal.timeline().shown(oldest)


@dataclass(frozen=True, slots=True)
class Queue:
    """The files that wait for their turn to be sent to one issue, the first of them seen at ``oldest``."""

    issue: str
    files: int
    oldest: float


def queues(journal: Journal, limit: int) -> list[Queue]:
    """Return the issues with waiting files, the longest queue first."""
    first = "WHERE state = 'READY' AND issue = queued.issue ORDER BY epoch, id LIMIT 1"
    oldest = f"SELECT seen_at FROM file INDEXED BY file_ready {first}"
    found = journal.rows(
        f"SELECT issue, ready, ({oldest}) FROM"
        " (SELECT issue, ready FROM issue_queue WHERE ready > 0 ORDER BY ready DESC LIMIT ?) AS queued",
        (limit,),
    )
    line = journal.timeline()
    return [Queue(issue, files, line.shown(seen)) for issue, files, seen in found if seen is not None]


def settling(journal: Journal, limit: int) -> list[Row]:
    """Return the files that only have to stay unchanged for a while, the next one first."""
    which = "INDEXED BY file_seen WHERE state = 'SEEN' AND reason IS NULL AND lacks IS NULL AND blocked IS NULL"
    return select(journal, f"{which} ORDER BY quiet_boot, id LIMIT ?", (limit,))


def first_in(journal: Journal, issue: str, limit: int) -> list[Row]:
    """Return the files of one issue whose turn comes next."""
    which = "INDEXED BY file_ready WHERE state = 'READY' AND issue = ?"
    return select(journal, f"{which} ORDER BY epoch, id LIMIT ?", (issue, limit))
