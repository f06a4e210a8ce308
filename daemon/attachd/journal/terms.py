"""The term in which a journal works with its inbox. Journal and marker both name it; a journal with another term is old.

A term begins in three durable steps: the journal says which one begins (``announce``), the marker says it, the journal says
that it has begun (``begin``). After a crash in between the marker names one of the two terms, and both are ours.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from attachd.journal import database
from attachd.journal.database import Journal

_BEGUN, _ANNOUNCED, _PLACE = "term", "term.announced", "inbox.place"


@dataclass(frozen=True, slots=True)
class Known:
    """What a journal knows about its inbox: its id, the term that has begun, the announced term, the last attempt, and the
    folder and file system (``inbox_marker.place_of``).
    """

    inbox: str | None = None
    begun: str = ""
    announced: str = ""
    attempt: int = 0
    place: str = ""

    def knows(self, term: str) -> bool:
        """Return True if no other journal has worked with the inbox while its marker says *term*."""
        return term in (self.begun, self.announced) if term else not (self.begun or self.announced)


def known(journal: Journal) -> Known:
    """Read what the journal knows; all fields are empty in a new one."""
    with journal.transaction_for_reading() as connection:
        facts = {key: database.get(connection, key) for key in ("inbox", _BEGUN, _ANNOUNCED, "attempt", _PLACE)}
    inbox = facts["inbox"]
    return Known(
        None if inbox is None else str(inbox),
        str(facts[_BEGUN] or ""),
        str(facts[_ANNOUNCED] or ""),
        int(facts["attempt"] or 0),
        str(facts[_PLACE] or ""),
    )


def announce(connection: sqlite3.Connection, term: str) -> None:
    """Write down the term that begins next, before the marker says it."""
    database.put(connection, _ANNOUNCED, term)


def begin(connection: sqlite3.Connection, term: str, place: str) -> None:
    """Write down that the marker names the new term, in the folder that *place* identifies."""
    database.put(connection, _PLACE, place)
    database.put(connection, _BEGUN, term)
    database.put(connection, _ANNOUNCED, "")


def forget(connection: sqlite3.Connection) -> None:
    """Forget the term: whatever the marker says, another journal may have worked since."""
    connection.execute("DELETE FROM meta WHERE key IN (?, ?)", (_BEGUN, _ANNOUNCED))
