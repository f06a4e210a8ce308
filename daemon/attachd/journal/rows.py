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

    A tuple, because rows are made and compared several times for each file: that takes a fifth of what a dataclass takes.
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
    resolved: str | None
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
        """The one id of this file in logs, notes and history."""
        return f"F{self.id}"

    @property
    def remark(self) -> str | None:
        """What is to be known about it besides where it stands."""
        said = [end_missing(self.lacks) if self.lacks else "", judgement(self.judged)]
        return "; ".join(filter(None, said)) or None

    @property
    def said(self) -> str | None:
        """Why it stands as it does, and the remark, in one sentence; None where there is nothing to say."""
        return "; ".join(filter(None, (self.blocked or self.reason, self.remark))) or None

    @property
    def fingerprint(self) -> Fingerprint:
        """What the file looked like when it was last observed."""
        return Fingerprint(self.size, self.mtime_ns, self.ctime_ns, self.dev, self.ino)

    @property
    def at_path(self) -> bool:
        """Whether this row is what lies at its path (and not a content that was there before)."""
        return self.generation == 0

    @property
    def ever_doubtful(self) -> bool:
        """Whether an earlier attempt may still come to light: it is looked for before each further one."""
        return self.doubt_attempt is not None


#: What ``judged`` says of all attachments that a person may have looked at.
EVERY = "*"


def judgement(judged: str | None) -> str:
    """Say what a person found out about the attachments that might have been this file; "" where nobody has."""
    ids = (judged or "").split()
    if EVERY in ids:
        return "a person found that it was not attached (retry --not-attached)"
    many = "attachments" if len(ids) > 1 else "attachment"
    return f"a person looked at {many} {', '.join(ids)} and moved the file back to send it" if ids else ""


def end_missing(lacks: str) -> str:
    """Say that the file has no end, in the words for what it *lacks*."""
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
    """The row with these columns; what ``_replace`` does, at a third of its price for so many columns."""
    now = list(row)
    for name, value in values.items():
        now[_POSITIONS[name]] = value
    return _made(Row, now)


def find(connection: sqlite3.Connection, row_id: int) -> Row | None:
    """Read one row as it is now; None where it was forgotten (a file that was only SEEN)."""
    record = connection.execute(SELECT + "WHERE id = ?", (row_id,)).fetchone()
    return from_sql(record) if record else None


def one(connection: sqlite3.Connection, row_id: int) -> Row:
    """Read one row as it is now. Raises ``LookupError`` where there is none."""
    row = find(connection, row_id)
    if row is None:
        raise LookupError(f"no file F{row_id} in the journal")
    return row


#: Rows that one statement reads or changes: older SQLite binds 999 values at the most (sqlite.org/limits.html), and with CASE a
#: row costs more the more of them there are.
AT_ONCE = 60


#: For so many values statements are made; fewer are filled up with NULL, which nothing equals. A statement that was prepared
#: before costs a third of one that was not, and a connection remembers 128 of them.
_LENGTHS = (1, 4, 16, AT_ONCE, 250)


def filled(values: Collection[Any]) -> list[Any]:
    """These values, and as many NULLs as make the list one of a usual length."""
    return [*values, *[None] * (next((most for most in _LENGTHS if len(values) <= most), len(values)) - len(values))]


def marks(bound: Sequence[Any]) -> str:
    """A question mark for each of the values that are bound within ``IN (...)``."""
    return ",".join("?" * len(bound))


def many(connection: sqlite3.Connection, row_ids: Iterable[int]) -> list[Row]:
    """Read rows as they are now, in the order of their ids; those that were forgotten are left out."""
    ids, found = sorted(row_ids), list[Row]()
    for start in range(0, len(ids), AT_ONCE):
        some = filled(ids[start : start + AT_ONCE])
        found += map(from_sql, connection.execute(f"{SELECT} WHERE id IN ({marks(some)}) ORDER BY id", some))
    return found


def change(connection: sqlite3.Connection, row_id: int, values: Mapping[str, Any]) -> None:
    """Set columns of one row. The triggers and CHECKs of the schema refuse what must not be."""
    change_many(connection, {row_id: values})


def change_many(connection: sqlite3.Connection, changes: Mapping[int, Mapping[str, Any]]) -> None:
    """Set columns of rows, by their ids; rows that get the same columns share a statement.

    Each statement opens all the indexes that it may concern, which costs more than changing one row. Raises ``LookupError``
    where a row is not there, and ``sqlite3.IntegrityError`` as ``change`` does: then nothing of that statement is done.
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
    """One statement for all: columns that are the same in all rows are bound once, the others by each row's id.

    With CASE: UPDATE FROM is younger than the SQLite of some systems.
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


def change_if_same(connection: sqlite3.Connection, row: Row, values: Mapping[str, Any]) -> bool:
    """Change a row only if nobody has since it was read; False if somebody has, and then nothing is written."""
    if find(connection, row.id) != row:
        return False
    change(connection, row.id, values)
    return True
