"""Change the Jira that the journal works with, after ``jira.url`` was changed.

Files that were stored nowhere go to the new address. Files in doubt can only be looked up where they were sent.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from attachd.journal import database, pauses
from attachd.model import Scope


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Files that may have arrived at a *site* other than the configured one, the first of them at *since*."""

    site: str
    files: int
    since: float


def elsewhere(connection: sqlite3.Connection, site: str) -> list[Elsewhere]:
    """Return what waits for a site other than *site*, the longest first."""
    found = connection.execute(
        "SELECT site, count(*), min(since) AS first FROM file WHERE state = 'DOUBTFUL' AND site <> ? GROUP BY site"
        " ORDER BY first, site",
        (site,),
    )
    return [Elsewhere(*record) for record in found]


def change(connection: sqlite3.Connection, site: str, now: float) -> None:
    """Work with *site* from now on. Forget the ids, keys, pauses and refusals of the earlier one, which mean nothing here."""
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
        "UPDATE file SET issue = folder_key, contested = NULL, contested_at = NULL, proof = 'none',"
        " due = 0, wait = 0, rounds = 0, nonsense = 0, site = :site,"
        " author = CASE WHEN doubt_attempt IS NULL THEN author ELSE '' END"
        " WHERE state = 'READY'",
        {"site": site},
    )
    # A suspect that nobody looked for yet: no attempt is known, so nothing says that the earlier address has it.
    connection.execute(
        "UPDATE file SET issue = folder_key, due = 0, wait = 0, looks = 0, site = :site"
        " WHERE state = 'DOUBTFUL' AND attempt IS NULL AND doubt_attempt = 0",
        {"site": site},
    )


def adopt(connection: sqlite3.Connection, site: str) -> int:
    """Look up at *site* what was begun at another address, because both are the same Jira. Return the number of files.

    The history goes along, so that no attachment is credited twice. Attachments with the same id at both addresses stay: they
    show that these were two sites.
    """
    others = {each.site for each in elsewhere(connection, site)}
    others |= {database.get(connection, "site") or site} - {site}
    files = sum(each.files for each in elsewhere(connection, site))
    for other in others:
        connection.execute("UPDATE OR IGNORE file SET site = ? WHERE site = ?", (site, other))
    database.put(connection, "site", site)
    return files


def adopt_site(connection: sqlite3.Connection, site: str) -> int:
    """Do the same as ``adopt``, and let the lookups be due at once."""
    files = adopt(connection, site)
    connection.execute("UPDATE file SET due = 0, wait = 0 WHERE state = 'DOUBTFUL'")
    return files
