"""What a look at a file means for its row: pure decisions, given the row, what is there now, and evidence.

A file that was never sent is known by path, size and mtime; device and inode count only within one epoch (one process,
one mount). Once its bytes may have left this machine a file is its content: its SHA-256 decides wherever anything else
about it differs, because files are touched, copied over themselves and carried about.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from attachd.journal.rows import Row
from attachd.model import SENT, Fingerprint, State


class Look(Enum):
    """What is to be done about the row that lies at a path."""

    NOTHING = auto()
    ADOPT = auto()  #: the same content: take over how it looks now
    SETTLE_ANEW = auto()  #: unsent, and changed
    REPLACED = auto()  #: sent, and the path holds other content now: the row loses the path
    READ = auto()  #: only its SHA-256 can tell


@dataclass(slots=True)
class Evidence:
    """What was found out by I/O before deciding: checksums of files by path (None: unreadable), and the rows, by id,
    whose file does not lie at their path any more. ``keys`` are all of the issue's (``admission.keys``).
    """

    sums: dict[bytes, bytes | None] = field(default_factory=dict)
    lost: dict[int, Row] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()


def is_sent(row: Row) -> bool:
    """Whether its bytes may have left this machine, so that its content must not be exchanged unnoticed."""
    return row.state in SENT or row.ever_doubtful


def judge(row: Row, now: Fingerprint, epoch: int, sums: Mapping[bytes, bytes | None]) -> Look:
    """Compare a row with what lies at its path."""
    if row.epoch == epoch and row.fingerprint == now:
        return Look.ADOPT if row.missing else Look.NOTHING
    return _judge_sent(row, now, sums) if is_sent(row) else _judge_unsent(row, now, epoch, sums)


def _judge_unsent(row: Row, now: Fingerprint, epoch: int, sums: Mapping[bytes, bytes | None]) -> Look:
    same = (row.size, row.mtime_ns, row.ctime_ns) == (now.size, now.mtime_ns, now.ctime_ns)
    if same and row.epoch != epoch and row.state is State.READY:
        return Look.ADOPT
    if row.epoch == epoch and row.fingerprint._replace(ctime_ns=now.ctime_ns) == now:
        return _judge_by_content(row, sums)
    return Look.SETTLE_ANEW


def _judge_by_content(row: Row, sums: Mapping[bytes, bytes | None]) -> Look:
    """Only ctime differs: a new mode or owner, or other content of the same size whose time was set back.

    A job may set the modes of the whole inbox each minute. An empty file is then still empty, and a file that Jira refused still
    waits for the proof of that, if it is read and proves the same. What else settles has to be left alone for its time.
    """
    if not row.size:
        return Look.ADOPT
    if row.contested is None or row.sha256 is None:
        return Look.SETTLE_ANEW
    if row.path not in sums:
        return Look.READ
    return Look.ADOPT if sums[row.path] == row.sha256 else Look.SETTLE_ANEW


def _judge_sent(row: Row, now: Fingerprint, sums: Mapping[bytes, bytes | None]) -> Look:
    if row.size != now.size:
        return Look.REPLACED
    if row.state is State.SENDING:
        # The worker holds the descriptor, and checks it before the last bytes leave; what lies here shows when that is over.
        return Look.NOTHING
    if row.sha256 is None:
        # Refused before anything of it was complete on the wire.
        return Look.ADOPT if row.mtime_ns == now.mtime_ns else Look.REPLACED
    if row.path not in sums:
        return Look.READ
    if sums[row.path] is None:
        return Look.NOTHING
    return Look.ADOPT if sums[row.path] == row.sha256 else Look.REPLACED


def spelling(path: bytes) -> str:
    """Return what all spellings of a path have in common that a file system may take for one: case, composed letters."""
    return unicodedata.normalize("NFC", path.decode("utf-8", "surrogateescape").casefold())


# --- A new file beside rows that were sent ------------------------------------------------------------------------------


class Where(Enum):
    """Whether the file of a row that was sent still lies at the row's path."""

    HERE = auto()  #: it does, unreplaced; also where it was moved out by its verdict: then it is no other file's
    AWAY = auto()  #: nothing does, or no regular file, or other content
    MOVING = auto()  #: it has a name in done or failed, and may lie there already


@dataclass(frozen=True, slots=True)
class Rival:
    """A row that was sent to the issue of a new file, with as many bytes, and where its own file is."""

    row: Row
    where: Where


@dataclass(frozen=True, slots=True)
class Its:
    """The file is that row's: it came to lie here."""

    row: Row


@dataclass(frozen=True, slots=True)
class Unclear:
    """Only the end of what is under way shows whether it is that row's."""

    row: Row


@dataclass(frozen=True, slots=True)
class Another:
    """It is a file of its own, be its content the same: both lie there."""


def content_tells(row: Row, now: Fingerprint, epoch: int) -> bool:
    """Whether equal content makes a file at another path a row's. All empty files have one content: only what a rename keeps
    shows whose one is.
    """
    renamed = row.epoch != epoch or (row.dev, row.ino) == (now.dev, now.ino)
    return row.size > 0 or (renamed and row.mtime_ns == now.mtime_ns)


def is_unknown(row: Row) -> bool:
    """Whether the content of a sent row will be known only when what is under way ends."""
    return row.sha256 is None and row.state is State.SENDING


def whose(sha256: bytes, rivals: Sequence[Rival]) -> Its | Unclear | Another:
    """Say whose file it is that has this content. Of two files that both exist, each is one of its own."""
    away = [rival for rival in rivals if rival.where is not Where.HERE]
    alike = [rival for rival in away if rival.row.sha256 == sha256]
    for rival in alike:
        if rival.where is Where.AWAY:
            return Its(rival.row)
    unknown = [rival for rival in away if is_unknown(rival.row)]
    return Unclear((alike + unknown)[0].row) if alike or unknown else Another()


def where(row: Row, now: Fingerprint | None, epoch: int, sha256: Callable[[], bytes | None]) -> Where:
    """Say where the file of a sent row is, given what lies at its path *now* (None: no regular file).

    *sha256* reads that, where only its content tells; None where it cannot be read.
    """
    if row.at_path and now is not None and now.size == row.size:
        if row.epoch == epoch and row.fingerprint._replace(ctime_ns=now.ctime_ns) == now:
            return Where.HERE
        if row.sha256 is not None and sha256() == row.sha256:
            return Where.HERE
    return Where.MOVING if row.target is not None else Where.AWAY
