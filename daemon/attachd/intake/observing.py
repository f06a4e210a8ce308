"""What a look at a file means for its row: pure decisions, given the row, what is there now, and evidence.

Identity is path, size and mtime. Device and inode count only within one epoch (one process, one mount). A row that was
sent is matched by SHA-256 wherever the inode cannot be trusted: build machines give all files the same mtime.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    whose file does not lie at their path any more.
    """

    sums: dict[bytes, bytes | None] = field(default_factory=dict)
    lost: dict[int, Row] = field(default_factory=dict)


def is_sent(row: Row) -> bool:
    """Whether its bytes may have left this machine, so that its content must not be exchanged unnoticed."""
    return row.state in SENT or row.ever_doubtful


def judge(row: Row, now: Fingerprint, epoch: int, sums: Mapping[bytes, bytes | None]) -> Look:
    """Compare a row with what lies at its path."""
    if row.epoch == epoch and row.fingerprint == now:
        return Look.ADOPT if row.missing else Look.NOTHING
    return _judge_sent(row, now, epoch, sums) if is_sent(row) else _judge_unsent(row, now, epoch)


def _judge_unsent(row: Row, now: Fingerprint, epoch: int) -> Look:
    same = (row.size, row.mtime_ns, row.ctime_ns) == (now.size, now.mtime_ns, now.ctime_ns)
    if same and row.epoch != epoch and row.state is State.READY:
        return Look.ADOPT
    return Look.SETTLE_ANEW


def _judge_sent(row: Row, now: Fingerprint, epoch: int, sums: Mapping[bytes, bytes | None]) -> Look:
    if row.size != now.size:
        return Look.REPLACED
    if row.epoch == epoch and row.mtime_ns != now.mtime_ns:
        return Look.REPLACED
    if row.sha256 is None:
        # Nothing of it was ever complete on the wire: refused before that, or being sent at this moment.
        return Look.ADOPT if row.mtime_ns == now.mtime_ns else Look.REPLACED
    if row.path not in sums:
        # In flight nothing is hashed: the worker holds the descriptor, and checks it before the last bytes leave.
        return Look.NOTHING if row.state is State.SENDING else Look.READ
    if sums[row.path] is None:
        return Look.NOTHING
    return Look.ADOPT if sums[row.path] == row.sha256 else Look.REPLACED
