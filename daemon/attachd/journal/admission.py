"""What intake writes: files seen, settled, changed, moved, missing; unrouted folders.

Every function takes an open transaction, so that thousands of files are admitted in one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attachd.clock import Clock
from attachd.journal import contested, rows
from attachd.journal import identity as journal_identity
from attachd.journal.identity import _EVER_DOUBTFUL
from attachd.model import SENT, Fingerprint, State


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies and where it is to go: the path below inbox, the folder's key, the name that is sent."""

    path: bytes
    folder_key: str
    name: str


@dataclass(frozen=True, slots=True)
class Moment:
    """When: the journal's time, CLOCK_BOOTTIME, the epoch; and how far the wall clock, which dates files, is ahead of ``now``."""

    now: float
    boot: float
    epoch: int
    ahead: float = 0.0

    @classmethod
    def of(cls, clock: Clock, epoch: int) -> Moment:
        """Return this moment."""
        now = clock.now()
        return cls(now, clock.boot(), epoch, clock.wall() - now)


def confirm_missing(connection: sqlite3.Connection, row: rows.Row, moment: Moment) -> None:
    """Everything was looked through, and the file of a sent row lies nowhere: what has a verdict may be closed."""
    if row.state is State.READY:
        withdraw(connection, row, moment, row.reason or "it was taken out of the inbox before it was attached")
        return
    due = {} if row.state is State.DOUBTFUL else {"due": 0, "wait": 0}
    rows.change(connection, row.id, {"missing": max(2, row.missing + 1), "missing_boot": moment.boot} | due)


@dataclass(frozen=True, slots=True)
class New:
    """A file that no row knows."""

    place: Place
    print: Fingerprint


def add(connection: sqlite3.Connection, files: Sequence[New], moment: Moment, *, suspect: bool = False) -> list[int]:
    """Note files that no row knows; they are SEEN, and settle. Returns the rows' ids, in order.

    *suspect*: a journal was lost or restored, so that they may be attached already.
    """
    ids = list[int]()
    for start in range(0, len(files), rows.AT_ONCE):
        ids += _add(connection, files[start : start + rows.AT_ONCE], moment, suspect=suspect)
    return ids


def _add(connection: sqlite3.Connection, files: Sequence[New], moment: Moment, *, suspect: bool) -> range:
    since = _suspect_at(suspect)
    marks = (
        "(?, ?, coalesce((SELECT issue FROM moved WHERE folder_key = ?), ?), ?, ?, ?, ?, ?, ?, ?, 'SEEN', ?, ?, ?, ?)"
    )
    bound: list[object] = []
    for file in files:
        place, now = file.place, file.print
        bound += (place.path, place.folder_key, place.folder_key, place.folder_key, place.name)
        bound += (now.size, now.mtime_ns, now.ctime_ns, now.dev, now.ino, moment.epoch)
        bound += (moment.now, moment.now, moment.boot, since)
    added = connection.execute(
        "INSERT INTO file (path, folder_key, issue, name, size, mtime_ns, ctime_ns, dev, ino, epoch, state, since, seen_at,"
        f" quiet_boot, suspect_at) VALUES {','.join([marks] * len(files))}",
        bound,
    )
    # AUTOINCREMENT counts on from the largest id ever (sqlite.org/autoinc.html); RETURNING is younger than some systems' SQLite.
    last = int(added.lastrowid or 0)
    return range(last - len(files) + 1, last + 1)


def identity(print_: Fingerprint, epoch: int) -> dict[str, object]:
    """The columns that tie a row to what lies on disk now."""
    return {
        "size": print_.size,
        "mtime_ns": print_.mtime_ns,
        "ctime_ns": print_.ctime_ns,
        "dev": print_.dev,
        "ino": print_.ino,
        "epoch": epoch,
        "missing": 0,
        "missing_boot": None,
    }


def _suspect_at(suspect: bool) -> float | None:
    """Since when a file may have been attached by an attempt that this journal does not know: 0, unknown; None if it cannot be.

    Neither its ctime nor its mtime tells: it may have come back from failed, or out of a backup, a moment ago.
    """
    return 0.0 if suspect else None


def settle_anew(
    connection: sqlite3.Connection, row: rows.Row, print_: Fingerprint, moment: Moment, *, suspect: bool = False
) -> None:
    """The content of an unsent row may have changed: it is SEEN as of now, and nothing is remembered of it.

    Except that it may be attached: its content was never read, and a touch looks like new content. *suspect*: as ``add``.
    """
    fresh = {
        "sha256": None,
        **contested.CLEARED,
        "site_faults": 0,
        "share": 60,
        "suspect_at": _suspect_at(suspect) if row.suspect_at is None else row.suspect_at,
    }
    values = identity(print_, moment.epoch) | fresh | Hold().columns | {"quiet_boot": moment.boot}
    if row.state != State.SEEN:
        values |= {"state": State.SEEN, "since": moment.now}
    rows.change(connection, row.id, values)


def detach(connection: sqlite3.Connection, row: rows.Row, moment: Moment, why: str) -> None:
    """The path holds other content now: the row keeps its verdict and loses the path.

    What was never sent, or is to be sent again, can no longer be sent: unless the scan finds the content under another
    name, it is withdrawn.
    """
    if row.state is State.SEEN:
        withdraw(connection, row, moment, why)
        return
    due = {"due": 0, "wait": 0} if row.state in (State.ATTACHED, State.REFUSED) else {}
    reason = {"reason": why} if row.state is State.READY else {}
    rows.change(connection, row.id, {"generation": row.id} | due | reason)


def withdraw_detached(connection: sqlite3.Connection, moment: Moment) -> None:
    """At the end of a scan: what lost its path before it was sent, and was not found under another, is gone.

    What may have left is waited for (``identity.missing``).
    """
    found = connection.execute(rows.SELECT + "WHERE generation <> 0 AND state = 'READY'").fetchall()
    for row in (row for row in map(rows.from_sql, found) if not row.ever_doubtful):
        withdraw(connection, row, moment, row.reason or "its content was replaced before it was attached")


def withdraw(connection: sqlite3.Connection, row: rows.Row, moment: Moment, why: str) -> None:
    """The file was taken away before it was sent; one that was only SEEN leaves no trace.

    But for its size, where it may have been attached: it may come back.
    """
    if row.state == State.SEEN:
        if row.suspect_at is not None:
            journal_identity.remember_size(connection, row.size, moment.now)
        connection.execute("DELETE FROM file WHERE id = ?", (row.id,))
        return
    values = {"state": State.WITHDRAWN, "since": moment.now, "finished_at": moment.now, "reason": why}
    rows.change(connection, row.id, values)


def follow(connection: sqlite3.Connection, row: rows.Row, place: Place, print_: Fingerprint, moment: Moment) -> None:
    """The file was renamed: its row goes with it. Only for the same issue, or for a row that was never sent."""
    issue = connection.execute("SELECT issue FROM moved WHERE folder_key = ?", (place.folder_key,)).fetchone()
    where = {
        "path": place.path,
        "generation": 0,
        "folder_key": place.folder_key,
        "issue": issue[0] if issue else place.folder_key,
    }
    if row.folder_key != place.folder_key:
        where |= {
            **contested.CLEARED,
            "site_faults": 0,
            "due": 0,
            "wait": 0,
            "blocked": None,
        }
    name = {} if row.state in SENT or row.ever_doubtful else {"name": place.name}
    rows.change(connection, row.id, identity(print_, moment.epoch) | where | name)


def set_back(connection: sqlite3.Connection, row: rows.Row, held: Hold, moment: Moment) -> None:
    """Let an unsent row settle again, and record what blocks it."""
    fresh = {
        "state": State.SEEN,
        "since": moment.now,
        "quiet_boot": moment.boot,
        "contested": None,
        "contested_at": None,
    }
    rows.change(connection, row.id, held.columns | ({} if row.state is State.SEEN else fresh))


def ready(connection: sqlite3.Connection, settled: Mapping[int, str | None], now: float) -> None:
    """These rows are settled and routed: they may be sent, even without the end that each lacks, if it does."""
    fresh = {"state": State.READY, "since": now}
    rows.change_many(connection, {row_id: fresh | Hold(lacks=lacks).columns for row_id, lacks in settled.items()})


def adopt(connection: sqlite3.Connection, row: rows.Row, print_: Fingerprint, moment: Moment) -> None:
    """The same content: the row takes over how it looks now. One that had been missing, or could not be moved as it looked,
    goes on where it was.
    """
    waits = row.state in ("ATTACHED", "REFUSED") or (row.missing and row.state == "READY" and row.contested is None)
    rows.change(connection, row.id, identity(print_, moment.epoch) | ({"due": 0, "wait": 0} if waits else {}))


@dataclass(frozen=True, slots=True)
class Hold:
    """What a SEEN row says of itself: *reason* where it waits, *blocked* where a person has to do something.

    *lacks* is the end that it waits for. *due* (seconds since the epoch, *wait* long) is when it goes all the same.
    """

    reason: str | None = None
    blocked: str | None = None
    lacks: str | None = None
    due: float = 0.0
    wait: float = 0.0

    @property
    def columns(self) -> dict[str, object]:
        """What it is in the journal."""
        return {
            "reason": self.reason,
            "blocked": self.blocked,
            "lacks": self.lacks,
            "due": self.due,
            "wait": self.wait,
        }


def says(row: rows.Row, held: Hold) -> bool:
    """Return True if the row says so already, apart from small differences in time."""
    same = (row.reason, row.blocked, row.lacks) == (held.reason, held.blocked, held.lacks)
    return same and abs(row.due - held.due) < 1.0


def hold(connection: sqlite3.Connection, row: rows.Row, held: Hold) -> None:
    """Write down what holds a SEEN row."""
    rows.change(connection, row.id, held.columns)


#: The ``doubt_attempt`` of an attempt that a note, or a journal that was restored, tells of: after it Jira may have stored the
#: content, under another name too. 0 is that of an attempt of which nothing tells.
TOLD = -1


@dataclass(frozen=True, slots=True)
class Claim:
    """What is known of the attempt by which a file may be attached already.

    *attempt* is its number, 0 or ``TOLD``. *at* is the server's time then (0: unknown), *slack* how far that may be off (None:
    unknown). *author* is "" where it may have been anybody's. *heirs* are the failed rows whose doubt this file takes over,
    *judged* the attachments that a person looked at, as ``schema.sql`` says.
    """

    at: float
    attempt: int
    author: str
    slack: float | None = None
    name: str | None = None
    brief: bool = False
    judged: str | None = None
    judged_at: float | None = None
    heirs: tuple[int, ...] = ()


def doubtful(
    connection: sqlite3.Connection,
    row: rows.Row,
    sha256: bytes,
    now: float,
    claim: Claim,
    site: str,
    lacks: str | None = None,
) -> None:
    """Its content may be attached already: the issue is looked at before it is sent."""
    values = {
        "state": State.DOUBTFUL,
        "since": now,
        "sha256": sha256,
        "doubt_attempt": claim.attempt,
        "doubt_at": claim.at,
        "doubt_slack": claim.slack,
        "author": claim.author,
        "site": site,
        "reason": "its content may be attached already; the issue is looked at first",
        "blocked": None,
        "due": 0,
        "wait": 0,
        "looks": 0,
        "brief": int(claim.brief),
        "share": 1,
        "lacks": lacks,
        "judged": claim.judged,
        "judged_at": claim.judged_at,
    }
    if claim.name is not None:
        values["name"] = claim.name
    rows.change(connection, row.id, values)
    rows.change_many(connection, {row_id: {"heir": row.id} for row_id in claim.heirs})


def count_missing(connection: sqlite3.Connection, row: rows.Row, moment: Moment) -> int:
    """Count one complete listing that did not show the row's file; from the second on delivery may close it at once."""
    missing = row.missing + 1
    due = {"due": 0, "wait": 0} if missing >= 2 and row.state in ("ATTACHED", "REFUSED") else {}
    rows.change(connection, row.id, {"missing": missing, "missing_boot": moment.boot} | due)
    return missing


def folders(connection: sqlite3.Connection) -> list[bytes]:
    """The folders of the inbox in which unfinished rows lie; one index look-up each."""
    found: list[bytes] = []
    after = b""
    while True:
        path = connection.execute(
            "SELECT min(path) FROM file INDEXED BY file_at_path WHERE path > ? AND generation = 0 AND finished_at IS NULL",
            (after,),
        ).fetchone()[0]
        if path is None:
            return found
        found.append(path.partition(b"/")[0])
        after = found[-1] + b"0"


def under(connection: sqlite3.Connection, folder: bytes, after: bytes, limit: int) -> list[rows.Row]:
    """Unfinished rows that lie below *folder* of the inbox, in the order of their paths, beginning behind *after*."""
    found = connection.execute(
        rows.SELECT
        + "INDEXED BY file_at_path WHERE path > ? AND path < ? AND generation = 0 AND finished_at IS NULL ORDER BY path LIMIT ?",
        (max(after, folder + b"/"), folder + b"0", limit),  # "0" is the byte behind "/"
    )
    return [rows.from_sql(record) for record in found]


def unsettled(connection: sqlite3.Connection, most: int) -> list[bytes]:
    """The paths of files that have not settled, or are blocked, and of those in whose place something else was found when they
    were to be moved or sent again; not more than *most* of each.
    """
    found = connection.execute("SELECT path FROM file WHERE state = 'SEEN' LIMIT ?", (most,)).fetchall()
    found += connection.execute(
        "SELECT path FROM file WHERE state IN ('ATTACHED', 'REFUSED') AND due > 0 LIMIT ?", (most,)
    ).fetchall()
    found += connection.execute(f"SELECT path FROM file {_EVER_DOUBTFUL} LIMIT ?", (most,)).fetchall()
    return [record[0] for record in found]


def standing(connection: sqlite3.Connection, folder: bytes) -> tuple[int, int]:
    """How many unfinished rows lie below *folder* of the inbox, and how many of them have not settled, or are blocked."""
    counted = connection.execute(
        "SELECT count(*), coalesce(sum(state = 'SEEN'), 0) FROM file INDEXED BY file_at_path"
        " WHERE path > ? AND path < ? AND generation = 0 AND finished_at IS NULL",
        (folder + b"/", folder + b"0"),
    )
    return tuple(counted.fetchone())


def set_unrouted(connection: sqlite3.Connection, unrouted: dict[bytes, tuple[str, int]], now: float) -> None:
    """Remember the unrouted folders (``b""`` is the inbox itself): folder to reason and number of files."""
    known = {row[0]: (row[1], row[2]) for row in connection.execute("SELECT folder, reason, files FROM unrouted")}
    for folder in known.keys() - unrouted.keys():
        connection.execute("DELETE FROM unrouted WHERE folder = ?", (folder,))
    for folder, (reason, files) in unrouted.items():
        if known.get(folder) != (reason, files):
            connection.execute(
                "INSERT INTO unrouted VALUES (?, ?, ?, ?) ON CONFLICT (folder)"
                " DO UPDATE SET reason = excluded.reason, files = excluded.files",
                (folder, reason, files, now),
            )
