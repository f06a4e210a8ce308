"""Which Jira the journal works with, and what was begun at another one: after ``jira.url`` was changed.

What was never stored anywhere goes along to the new address. What may have been can only be looked up where it was sent.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from attachd.journal import database, pauses
from attachd.model import Scope


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Files that may have arrived at another *site* than the one that is configured now, since then."""

    site: str
    files: int
    since: float


def elsewhere(connection: sqlite3.Connection, site: str) -> list[Elsewhere]:
    """What waits for another site than *site*, the longest first; reads the index of what is in doubt."""
    found = connection.execute(
        "SELECT site, count(*), min(since) AS first FROM file WHERE state = 'DOUBTFUL' AND site <> ? GROUP BY site"
        " ORDER BY first, site",
        (site,),
    )
    return [Elsewhere(*record) for record in found]


def change(connection: sqlite3.Connection, site: str, now: float) -> None:
    """Work with *site* from now on: ids, keys, pauses and refusals of the earlier one mean nothing here."""
    known = database.get(connection, "site")
    database.put(connection, "site", site)
    if known in (None, site):
        return
    for table in ("listed", "moved", "struck"):
        connection.execute(f"DELETE FROM {table}")
    connection.execute("DELETE FROM meta WHERE key IN ('site.pages', 'site.skew', 'site.time', 'retention.closed')")
    for each in pauses.read(connection):
        if each.scope is not Scope.OPERATOR:
            pauses.drop(connection, each.scope, each.subject, now)
    # What was looked for in vain is looked for here once more before it is sent again: both may be one Jira. By whose account
    # it was sent says nothing here.
    connection.execute(
        "UPDATE file SET issue = folder_key, resolved = NULL, contested = NULL, contested_at = NULL, proof = 'none',"
        " due = 0, wait = 0, rounds = 0, nonsense = 0, site = :site,"
        " author = CASE WHEN doubt_attempt IS NULL THEN author ELSE '' END"
        " WHERE state = 'READY'",
        {"site": site},
    )


def adopt(connection: sqlite3.Connection, site: str) -> int:
    """Both addresses are those of the same Jira: what was begun at the other one is looked up at *site*. Returns how many.

    Its history goes along, so that no attachment is credited twice; where both have one of the same id they were two sites.
    """
    others = {each.site for each in elsewhere(connection, site)}
    others |= {database.get(connection, "site") or site} - {site}
    files = sum(each.files for each in elsewhere(connection, site))
    for other in others:
        connection.execute("UPDATE OR IGNORE file SET site = ? WHERE site = ?", (site, other))
    database.put(connection, "site", site)
    return files


def adopt_site(connection: sqlite3.Connection, site: str) -> int:
    """What was begun under another address is looked up at *site* at once: both are the same Jira. Returns how many files."""
    files = adopt(connection, site)
    connection.execute("UPDATE file SET due = 0, wait = 0 WHERE state = 'DOUBTFUL'")
    return files
