"""Logs that the token's last day comes, once for each of the days that ``token_expiry`` names."""

from __future__ import annotations

import sqlite3

from attachd import errors
from attachd.delivery.runtime import Runtime
from attachd.journal import database
from attachd.logger import get_logger
from attachd.report import token_expiry

log = get_logger()

_KEY = "token.reminded"


def remind(runtime: Runtime) -> None:
    """Log a reminder that is due, once, also across restarts.

    It is recorded first, so that a full disk does not repeat it every few seconds. If the process dies right after that,
    the log lacks this reminder; ``status`` and ``check`` show it all the same.
    """
    expires = runtime.config.jira.auth.token_expires
    if expires is None:
        return
    day = token_expiry.today(runtime.clock.wall())
    before = runtime.journal.value("SELECT value FROM meta WHERE key = ?", (_KEY,))
    fresh = token_expiry.due(expires, day, before)
    if fresh is None:
        return
    try:
        with runtime.journal.transaction() as connection:
            database.put(connection, _KEY, fresh)
    except sqlite3.OperationalError as error:
        if not errors.disk_fails(error):
            raise
        return
    event = "token.expired" if expires < day else "token.expiring"
    log.warning(event, reason=token_expiry.words(expires, day), remedy=token_expiry.REMEDY)
