"""Reload the configuration while the service runs: all of it, except what is fixed at the start, or nothing."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any

from attachd import config, errors
from attachd.config import Config
from attachd.config.table import Table
from attachd.errors import Mistake
from attachd.journal import database
from attachd.journal.database import Journal
from attachd.logger import get_logger
from attachd.logs import setup
from attachd.service.engine import Engine

log = get_logger()

#: Keys that a running service cannot change: its locks, journal, connections and threads were made from them.
FIXED = (
    *("folders.inbox", "folders.done", "folders.failed", "folders.state"),
    *("jira.url", "jira.deployment", "jira.ca_file", "jira.client_cert_file", "jira.client_key_file", "jira.proxy"),
    *("jira.allow_http", "jira.auth.kind", "jira.auth.user", "jira.auth.token", "jira.auth.client_id"),
    *("jira.auth.client_secret", "jira.auth.token_url", "jira.auth.scope"),
    *("upload.parallel", "upload.connect_seconds", "upload.stall_seconds", "upload.reply_seconds"),
    *("log.format", "log.file_names", "web", "metrics", "hooks"),
)
_KEY, _BY = "reload", "reload.by"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a reload. ``problems``: why nothing changed. Otherwise the changed keys, and those that need a restart."""

    number: int
    problems: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


def reload(engine: Engine) -> None:
    """Read the configuration file again, and keep the old configuration if the new one is wrong.

    The result goes into the log, and into the journal for the verb ``reload``, which may be waiting for it.
    """
    runtime, number = engine.runtime, last(engine.runtime.journal).number + 1
    try:
        wanted = config.load(runtime.config.file)
    except Mistake as mistake:
        problems = tuple(map(str, mistake.problems))
        log.error(
            "config.refused",
            file=str(runtime.config.file),
            problems=list(problems),
            remedy="correct the file; the old configuration stays in force",
        )
        _write(runtime.journal, Outcome(number, problems=problems))
        return
    changes = dict(differences(runtime.config, wanted))
    restart = tuple(key for key in changes if _is_fixed(key))
    changed = tuple(key for key in changes if key not in restart)
    for key in changed:
        log.info("config.changed", key=key, was=changes[key][0], now=changes[key][1])
    if restart:
        log.warning("config.needs_restart", keys=list(restart), remedy="restart attachd to apply these")
    setup.set_level(wanted.log.level)
    engine.reconfigure(merged(runtime.config, wanted, restart))
    log.info("config.reloaded", file=str(runtime.config.file), changed=len(changed))
    _write(runtime.journal, Outcome(number, changed=changed, restart=restart))


def differences(old: Table, new: Table, above: str = "") -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the keys whose values differ, with both values as text. No value holds a secret."""
    for name in type(new).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Table) and isinstance(after, Table) and type(before) is type(after):
            yield from differences(before, after, f"{above}{name}.")
        elif before != after:
            yield f"{above}{name}", (_shown(before), _shown(after))


def merged(old: Config, new: Config, kept: tuple[str, ...]) -> Config:
    """Return the *new* configuration, with the *kept* keys as they are in the *old* one."""
    result: Any = new
    for key in kept:
        result = _with(result, old, key.split("."))
    checked: Config = result
    return checked


def _with(new: Any, old: Any, path: list[str]) -> Any:
    name, *rest = path
    value = _with(getattr(new, name), getattr(old, name), rest) if rest else getattr(old, name)
    return new.model_copy(update={name: value})


def _is_fixed(key: str) -> bool:
    return any(key == fixed or key.startswith(f"{fixed}.") for fixed in FIXED)


def _shown(value: Any) -> str:
    if isinstance(value, Table):
        return str(value.model_dump(mode="json", exclude_none=True))
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


# --- For the verb -------------------------------------------------------------------------------------------------


def announce(journal: Journal) -> None:
    """Record that this process reloads on SIGHUP; others that hold the lock, such as ``once``, do not."""
    with journal.transaction(durable=False) as connection:
        database.put(connection, _BY, os.getpid())


def is_by(journal: Journal, process: int) -> bool:
    """Return True if *process* has announced that."""
    return bool(journal.value("SELECT value FROM meta WHERE key = ?", (_BY,)) == process)


def last(journal: Journal) -> Outcome:
    """Return the result of the last reload."""
    text = journal.value("SELECT value FROM meta WHERE key = ?", (_KEY,))
    if not text:
        return Outcome(0)
    number, *keys = json.loads(text)
    return Outcome(number, *map(tuple, keys))


def _write(journal: Journal, outcome: Outcome) -> None:
    try:
        with journal.transaction(durable=False) as connection:
            database.put(connection, _KEY, json.dumps(astuple(outcome)))
    except sqlite3.OperationalError as error:
        if not errors.disk_fails(error):
            raise
        log.error("journal.full", reason=str(error), remedy=errors.JOURNAL_DISK_REMEDY)
