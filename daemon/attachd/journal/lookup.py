"""What people ask of one file: where it stands, what is before it, and what became of what lay there. Reads only.

Times are the wall clock's, for people: what is read here is not written back, nor compared with the journal's ``now``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attachd.journal import database, operating, pauses, queue, rows
from attachd.journal.database import Journal
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.model import WORDS, State, Word

#: Each half has an index of its own; asked together, neither would be used.
FILED = (
    "SELECT id FROM file WHERE root = ? AND target = ? AND finished_at IS NOT NULL"
    " UNION ALL SELECT id FROM file WHERE root = ? AND target = ? AND finished_at IS NULL"
)


def at_path(journal: Journal, path: bytes) -> Row | None:
    """The unfinished row of what lies at a path below the inbox."""
    return _first(journal, "WHERE path = ? AND generation = 0 AND finished_at IS NULL", path)


def last_at_path(journal: Journal, path: bytes) -> Row | None:
    """The newest row of what has ever lain at a path below the inbox."""
    return _first(journal, "WHERE path = ? ORDER BY id DESC LIMIT 1", path)


def filed(journal: Journal, root: str, target: bytes) -> Row | None:
    """The newest row that was filed, or is on its way, under this path below done or failed."""
    return _first(journal, f"WHERE id = (SELECT max(id) FROM ({FILED}))", root, target, root, target)


def noted(journal: Journal, note: bytes) -> Row | None:
    """The row whose note lies under this path below failed."""
    return _first(journal, "WHERE note = ? ORDER BY id DESC LIMIT 1", note)


def ahead(journal: Journal, row: Row) -> int:
    """How many files of the same issue come before this one."""
    before = "SELECT count(*) FROM file WHERE state = 'READY' AND lane = ? AND id < ?"
    return int(journal.value(before, (row.lane, row.id)))


def contested_in(journal: Journal, lane: str) -> Row | None:
    """A file of this issue that Jira refused, without a verdict yet: the others wait for that."""
    return _first(journal, "WHERE contested IS NOT NULL AND state = 'READY' AND lane = ? ORDER BY id LIMIT 1", lane)


def twin_in_doubt(journal: Journal, row: Row) -> Row | None:
    """A file in doubt of the same issue, stored name and size: the two could not be told apart."""
    twins = "WHERE state = 'DOUBTFUL' AND lane = ? AND name = ? AND size = ? AND id <> ? LIMIT 1"
    return _first(journal, twins, row.lane, row.name, row.size, row.id)


def has_accepted(journal: Journal, row: Row) -> bool:
    """Whether the issue of this row has ever accepted a file."""
    with journal.transaction_for_reading() as connection:
        return queue.accepted_before(connection, row.site or "", row.lane)


def every_pause(journal: Journal) -> list[Pause]:
    """All that are remembered, also those that hold nothing any more."""
    line = journal.timeline()
    with journal.transaction_for_reading() as connection:
        return [line.pause(each) for each in pauses.read(connection)]


def lane_of(journal: Journal, key: str) -> str:
    """The key under which an issue is known to be reached."""
    with journal.transaction_for_reading() as connection:
        return operating.lane_of(connection, key)


def fact(journal: Journal, key: str) -> object:
    """One of the journal's own facts; None where it is not known."""
    with journal.transaction_for_reading() as connection:
        return database.get(connection, key)


def failed(journal: Journal, below: bytes = b"") -> list[Row]:
    """Failed rows that were filed below a folder of failed, the newest for each path, in the order of the paths."""
    prefix = below + b"/" if below else b""
    return select(
        journal,
        "WHERE id IN (SELECT max(id) FROM file WHERE root = 'failed' AND state = :state"
        " AND substr(target, 1, :length) = :prefix GROUP BY target) ORDER BY target",
        {"state": State.FAILED, "length": len(prefix), "prefix": prefix},
    )


def history(journal: Journal, key: str, only: Word | None, limit: int, *, since: float | None = None) -> list[Row]:
    """All files, the newest first; or those of one issue under any of its keys, in one state, dropped or decided *since*."""
    conditions, parameters = ["1"], list[object]()
    if key:
        conditions.append("(asked IN (?, ?) OR lane IN (?, ?))")
        parameters += [key, lane_of(journal, key)] * 2
    if only is not None:
        states = [state for state in State if WORDS[state] is only]
        waiting = "(blocked IS NULL OR finished_at IS NOT NULL)"
        blocked = "blocked IS NOT NULL AND finished_at IS NULL"
        named = f"state IN ({','.join('?' * len(states))}) AND {waiting}"
        conditions.append(blocked if only is Word.BLOCKED else named)
        parameters += states
    if since is not None:
        conditions.append("(seen_at >= ? OR verdict_at >= ?)")
        moment = journal.timeline().kept(since)
        parameters += [moment, moment]
    where = " AND ".join(conditions)
    return select(journal, f"WHERE {where} ORDER BY id DESC LIMIT ?", [*parameters, limit])


def lanes_accepted(journal: Journal, key: str) -> list[str]:
    """The issues that have accepted files, or (*key*) this one, under whichever of its keys."""
    found = [
        row[0] for row in journal.rows("SELECT DISTINCT lane FROM file WHERE attachment IS NOT NULL ORDER BY lane")
    ]
    if not key:
        return found
    asked = journal.rows("SELECT DISTINCT lane FROM file WHERE attachment IS NOT NULL AND asked = ?", (key,))
    wanted = {key, lane_of(journal, key), *(row[0] for row in asked)}
    return [lane for lane in found if lane in wanted]


def accepted(journal: Journal, lane: str) -> list[Row]:
    """The files that an issue has accepted, in the order in which they were."""
    return select(journal, "WHERE attachment IS NOT NULL AND lane = ? ORDER BY verdict_at, id", (lane,))


def by_id(journal: Journal, row_id: int) -> Row | None:
    """One row; None where it was forgotten."""
    return _first(journal, "WHERE id = ?", row_id)


def search(journal: Journal, wanted: str, limit: int) -> list[Row]:
    """Files whose path, issue, attachment or id contains *wanted*, capital or not, the newest first. Reads the whole history."""
    ident = wanted[1:] if wanted[:1] in "Ff" and wanted[1:].isdigit() else ""
    return select(
        journal,
        "WHERE instr(lower(CAST(path AS TEXT)), lower(:text)) OR instr(lower(asked), lower(:text))"
        " OR instr(lower(lane), lower(:text)) OR attachment = :text OR CAST(id AS TEXT) = :ident ORDER BY id DESC LIMIT :limit",
        {"text": wanted, "ident": ident, "limit": limit},
    )


def select(journal: Journal, rest: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[Row]:
    """The rows that *rest*, the end of a SELECT, chooses."""
    line = journal.timeline()
    return [line.row(rows.from_sql(record)) for record in journal.rows(rows.SELECT + rest, parameters)]


def _first(journal: Journal, rest: str, *parameters: object) -> Row | None:
    found = select(journal, rest, parameters)
    return found[0] if found else None
