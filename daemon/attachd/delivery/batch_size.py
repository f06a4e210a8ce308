"""How much a request may hold at this site: learned from what it declined, remembered in the journal.

Nobody knows whether Jira counts files or requests, nor what a proxy in front of it lets through. So a request that was
too much halves what is sent together from then on, and a long run of good ones doubles it again. An issue's write limit
that is met although requests keep below it shows that files are counted: then they are paced, until that is long ago.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from attachd.delivery import pacer
from attachd.jira.reply import Exchange, Reply
from attachd.journal import database
from attachd.model import Fate, Fault, Scope, Stored

#: Data Center may count each file against a bucket of 50 (Tomcat against 50 parts): it starts well below.
DATA_CENTER_FILES = 20
#: After so many full requests in a row that were stored whole, twice as many files are tried.
GROW_AFTER = 20
#: After so many attachd finds out again whether files are counted: another program may have written to the issue.
COUNT_REQUESTS_AFTER = 200
#: As many files as an issue takes at once, where they are counted.
COUNTED_FILES = min(most for _, most in pacer.WINDOWS)


#: What ``meta`` calls the time at which a request was last declined for what it held.
LEARNED = "batch.learned_at"


@dataclass(frozen=True, slots=True)
class Most:
    """What one request may hold. ``bytes`` is None while nothing is known against ``batch.max_bytes``.

    ``run`` counts the full requests in a row that were stored whole; ``counted`` tells that each file counts as a write.
    """

    files: int
    bytes: int | None = None
    run: int = 0
    counted: bool = False

    @property
    def writes(self) -> int:
        """As how many writes to its issue a full request counts."""
        return self.files if self.counted else 1


def most(connection: sqlite3.Connection, configured: int, *, cloud: bool) -> Most:
    """What the site has taught so far, within what is *configured* (``batch.max_files``)."""
    start = configured if cloud else min(configured, DATA_CENTER_FILES)
    kept = dict(connection.execute("SELECT key, value FROM meta WHERE key LIKE 'batch.%'").fetchall())
    files = min(kept.get("batch.files", start), configured)
    return Most(files, kept.get("batch.bytes"), kept.get("batch.run", 0), bool(kept.get("batch.counted", 0)))


def forget(connection: sqlite3.Connection) -> None:
    """Another site has other limits."""
    connection.execute("DELETE FROM meta WHERE key LIKE 'batch.%'")


def learn(
    connection: sqlite3.Connection, known: Most, configured: int, answer: Exchange, fates: Sequence[Fate],
    fault: Fault | None, size: int, now: float,
) -> None:  # fmt: skip
    """Remember what the *answer* to a request of *size* bytes teaches; nothing is written where it is nothing new."""
    fresh = taught(known, configured, answer, fates, fault, size)
    if fresh == known:
        return
    database.put(connection, "batch.files", fresh.files)
    database.put(connection, "batch.run", fresh.run)
    database.put(connection, "batch.counted", int(fresh.counted))
    if fresh.files < known.files or fresh.bytes != known.bytes or fresh.counted > known.counted:
        database.put(connection, LEARNED, now)
    if fresh.bytes is None:
        connection.execute("DELETE FROM meta WHERE key = 'batch.bytes'")
    else:
        database.put(connection, "batch.bytes", fresh.bytes)


def taught(
    known: Most, configured: int, answer: Exchange, fates: Sequence[Fate], fault: Fault | None, size: int
) -> Most:
    """What is known after a request of ``len(fates)`` files and *size* bytes. Pure."""
    files = len(fates)
    if all(isinstance(fate, Stored) for fate in fates):
        return _grown(known, configured, files, size)
    if not isinstance(answer, Reply) or not answer.whole:
        return known
    if answer.status == 413 and not answer.is_jira:
        # A request of one byte less is not known to pass; half of one that held several files most likely does.
        limit = max(1, size // 2 if files > 1 else size - 1)
        return replace(known, bytes=min(limit, known.bytes or limit))
    if files == 1 or not (_halved(answer) or _per_issue(fault)):
        return known
    halved = max(1, min(known.files, files // 2))
    if _per_issue(fault):
        return replace(known, files=min(halved, COUNTED_FILES), run=0, counted=True)
    return replace(known, files=halved, run=0)


def _grown(known: Most, configured: int, files: int, size: int) -> Most:
    if known.bytes is not None and size > known.bytes:
        known = replace(known, bytes=None)
    ceiling = min(configured, COUNTED_FILES) if known.counted else configured
    if files < known.files or (known.files >= ceiling and not known.counted):
        return known
    run = known.run + 1
    if known.files < ceiling and run >= GROW_AFTER:
        return replace(known, files=min(ceiling, known.files * 2), run=0)
    if run >= COUNT_REQUESTS_AFTER:
        return replace(known, run=0, counted=False)
    return replace(known, run=run)


def _halved(answer: Reply) -> bool:
    """Return True if Jira declined a whole request in a way that may be about how much it held."""
    return 400 <= answer.status < 500 and answer.is_jira and answer.status not in (401, 403, 404, 408, 429)


def _per_issue(fault: Fault | None) -> bool:
    return fault is not None and fault.scope is Scope.ISSUE and fault.kind == "rate-limit"
