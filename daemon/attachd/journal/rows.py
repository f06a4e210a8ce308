"""One file as the journal knows it, and the one way in which its row is changed."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from attachd.model import Fingerprint, State


class Proof(StrEnum):
    """What speaks for believing a contested refusal."""

    NONE = "none"  #: nobody was asked yet
    ACCOUNT = "account"  #: the account is alive; wait for a witness
    OPERATOR = "operator"  #: `attachd resume` confirmed it


class Row(NamedTuple):
    """A row of the table ``file``; ``schema.sql`` explains each column.

    A tuple, because attachd makes and compares rows several times for each file: a dataclass takes five times as long.
    """

    id: int
    path: bytes
    generation: int
    size: int
    mtime_ns: int
    ctime_ns: int
    dev: int
    ino: int
    epoch: int
    missing: int
    missing_boot: float | None
    folder_key: str
    issue: str
    name: str
    state: State
    since: float
    seen_at: float
    quiet_boot: float
    blocked: str | None
    due: float
    wait: float
    share: int
    suspect_at: float | None
    reason: str | None
    tries: int
    attempt: int | None
    sha256: bytes | None
    author: str | None
    site: str | None
    sent_at: float | None
    sent_ctime_ns: int | None
    doubt_attempt: int | None
    doubt_at: float | None
    looks: int
    brief: int
    rounds: int
    nonsense: int
    blind_since: float | None
    may_be_attached: int
    contested: int | None
    contested_at: float | None
    proof: Proof
    site_faults: int
    fault_attempt: int | None
    attachment: str | None
    stored_as: str | None
    verdict_at: float | None
    root: str | None
    target: bytes | None
    reserved_dev: int | None
    reserved_ino: int | None
    note: bytes | None
    finished_at: float | None
    lacks: str | None
    note_sha256: bytes | None = None
    candidates: str | None = None
    judged: str | None = None
    judged_at: float | None = None
    returned: str | None = None
    heir: int | None = None
    sent_slack: float | None = None
    doubt_slack: float | None = None
    ground: str | None = None

    @property
    def ident(self) -> str:
        """Return the id of this file in logs, notes and history."""
        return f"F{self.id}"

    @property
    def remark(self) -> str | None:
        """Return what else people should know about the file, or None: a missing end, a person's judgement."""
        said = [end_missing(self.lacks) if self.lacks else "", judgement(self.judged)]
        return "; ".join(filter(None, said)) or None

    @property
    def said(self) -> str | None:
        """Return the reason of its state and the remark in one sentence, or None."""
        return "; ".join(filter(None, (self.blocked or self.reason, self.remark))) or None

    @property
    def fingerprint(self) -> Fingerprint:
        """Return what the file looked like when it was last observed."""
        return Fingerprint(self.size, self.mtime_ns, self.ctime_ns, self.dev, self.ino)

    @property
    def at_path(self) -> bool:
        """Return True if this row describes what lies at its path, and not an earlier content."""
        return self.generation == 0

    @property
    def ever_doubtful(self) -> bool:
        """Return True if an earlier attempt may still come to light: attachd looks for it before each further attempt."""
        return self.doubt_attempt is not None


#: In ``judged``: all attachments of the issue.
EVERY = "*"


def judgement(judged: str | None) -> str:
    """Say what a person found out about the attachments that might be this file, or ""."""
    ids = (judged or "").split()
    if EVERY in ids:
        return "a person found that it was not attached (retry --not-attached)"
    many = "attachments" if len(ids) > 1 else "attachment"
    return f"a person looked at {many} {', '.join(ids)} and moved the file back to send it" if ids else ""


def end_missing(lacks: str) -> str:
    """Say that the file has no end; *lacks* names the missing part."""
    return f"its end is missing ({lacks})"


COLUMNS = Row._fields
_STATE, _PROOF = COLUMNS.index("state"), COLUMNS.index("proof")
_POSITIONS = {name: position for position, name in enumerate(COLUMNS)}
_made = tuple.__new__
_STATES = {str(state): state for state in State}
_PROOFS = {str(proof): proof for proof in Proof}
SELECT = f"SELECT {', '.join(COLUMNS)} FROM file "


def from_sql(record: sqlite3.Row) -> Row:
    """Read a record that ``SELECT`` returned."""
    values = list(record)
    values[_STATE] = _STATES[values[_STATE]]
    values[_PROOF] = _PROOFS[values[_PROOF]]
    return _made(Row, values)


def changed(row: Row, values: Mapping[str, Any]) -> Row:
    """Return the row with these columns: ``_replace`` in a third of its time."""
    now = list(row)
    for name, value in values.items():
        now[_POSITIONS[name]] = value
    return _made(Row, now)


def find(connection: sqlite3.Connection, row_id: int) -> Row | None:
    """Read one row as it is now, or None if it was forgotten (a file that was only SEEN)."""
    record = connection.execute(SELECT + "WHERE id = ?", (row_id,)).fetchone()
    return from_sql(record) if record else None


def one(connection: sqlite3.Connection, row_id: int) -> Row:
    """Read one row as it is now. Raises ``LookupError`` if there is none."""
    row = find(connection, row_id)
    if row is None:
        raise LookupError(f"no file F{row_id} in the journal")
    return row


#: Rows that one statement reads or changes. Older SQLite binds at most 999 values (sqlite.org/limits.html), and the time for a
#: row grows with the number of rows in a CASE.
AT_ONCE = 60


#: Statements are made for these numbers of values; NULL, which equals nothing, fills the rest. A connection remembers 128
#: prepared statements, and running one again takes a third of the time.
_LENGTHS = (1, 4, 16, AT_ONCE, 250)


def filled(values: Collection[Any]) -> list[Any]:
    """Return these values, followed by NULLs up to the next usual length."""
    return [*values, *[None] * (next((most for most in _LENGTHS if len(values) <= most), len(values)) - len(values))]


def marks(bound: Sequence[Any]) -> str:
    """Return a question mark for each value in ``IN (...)``."""
    return ",".join("?" * len(bound))


def many(connection: sqlite3.Connection, row_ids: Iterable[int]) -> list[Row]:
    """Read rows as they are now, in the order of their ids, without those that were forgotten."""
    ids, found = sorted(row_ids), list[Row]()
    for start in range(0, len(ids), AT_ONCE):
        some = filled(ids[start : start + AT_ONCE])
        found += map(from_sql, connection.execute(f"{SELECT} WHERE id IN ({marks(some)}) ORDER BY id", some))
    return found


def change(connection: sqlite3.Connection, row_id: int, values: Mapping[str, Any]) -> None:
    """Set columns of one row. Raises ``sqlite3.IntegrityError`` for what the schema's triggers and CHECKs forbid."""
    change_many(connection, {row_id: values})


def change_many(connection: sqlite3.Connection, changes: Mapping[int, Mapping[str, Any]]) -> None:
    """Set columns of rows, by their ids; rows that get the same columns share a statement.

    Each statement opens all indexes that it may concern, which takes longer than changing one row. Raises ``LookupError`` if a
    row is missing, and ``sqlite3.IntegrityError`` as ``change`` does. Then nothing of that statement is done.
    """
    alike: dict[tuple[str, ...], list[int]] = {}
    for row_id, values in changes.items():
        alike.setdefault(tuple(values), []).append(row_id)
    for names, ids in alike.items():
        for start in range(0, len(ids), AT_ONCE):
            some = {row_id: changes[row_id] for row_id in ids[start : start + AT_ONCE]}
            if connection.execute(*_update(names, some)).rowcount != len(some):
                raise LookupError(f"not all of these files are in the journal: {', '.join(f'F{i}' for i in some)}")


def _update(names: Sequence[str], changes: Mapping[int, Mapping[str, Any]]) -> tuple[str, list[Any]]:
    """Build one statement for all rows: it binds a column once if all rows get the same value, else by each row's id.

    It uses CASE, because the SQLite of some systems has no UPDATE FROM.
    """
    ids, sets, bound = filled(changes), list[str](), list[Any]()
    for name in names:
        column = [values[name] for values in changes.values()]
        if column.count(column[0]) == len(column):
            sets.append(f"{name} = ?")
            bound.append(column[0])
        else:
            sets.append(f"{name} = CASE id {'WHEN ? THEN ? ' * len(ids)}END")
            bound += itertools.chain.from_iterable(itertools.zip_longest(ids, column))
    return f"UPDATE file SET {', '.join(sets)} WHERE id IN ({marks(ids)})", [*bound, *ids]


#: When something is tried again, and what stands in its way: filing writes these every few seconds while it cannot move a file.
_NEXT_TRY = {"due": 0.0, "wait": 0.0, "blocked": None}


def is_unchanged(now: Row | None, known: Row | None) -> bool:
    """Whether a row is what it was when it was read, but for its next try; also where there was none, and is none."""
    if now is None or known is None:
        return now is known
    return now == known or changed(now, _NEXT_TRY) == changed(known, _NEXT_TRY)


def change_if_same(connection: sqlite3.Connection, row: Row, values: Mapping[str, Any]) -> bool:
    """Change a row if it is the same as when it was read. Return False, and write nothing, if it is not."""
    if find(connection, row.id) != row:
        return False
    change(connection, row.id, values)
    return True
