"""From a valid configuration to a runtime that is ready: folders, locks, journal, marker, site, credentials.

Nothing is created or changed before everything that can be wrong with the configuration was found right.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from attachd import errors
from attachd.clock import Clock
from attachd.config import Config
from attachd.delivery import batch_size
from attachd.delivery.runtime import Runtime
from attachd.delivery.site import Site
from attachd.errors import Mistake, Problem
from attachd.jira import oauth
from attachd.jira.connection import NOBODY, asking_client
from attachd.journal import database, sites, timeline
from attachd.journal.database import Journal
from attachd.service import credentials as service_credentials
from attachd.share import inbox_marker as guard_
from attachd.share import locks, paths
from attachd.share.inbox_marker import Guard
from attachd.share.tenure import Tenure

log = structlog.get_logger()


@dataclass(slots=True)
class Held:
    """What a running service holds until it ends."""

    runtime: Runtime
    state: Path
    state_lock: locks.Lock
    tenure: Tenure

    def release(self) -> None:
        """Give everything back."""
        self.runtime.reader.close()
        self.runtime.journal.close()
        self.tenure.release()
        self.state_lock.release()


def start(
    config: Config, *, clock: Clock, environ: Mapping[str, str], adopt_inbox: bool = False, adopt_site: bool = False
) -> Held:
    """Take hold of everything. Raises ``errors.Mistake``: 78 for what the user has to change, 75 for who holds it, and for
    a disk that fails.
    """
    state = paths.state_folder(config, environ)
    problems = missing_folders(config, state)
    if problems:
        raise Mistake(*problems)
    if other := paths.other_holder(config.folders.inbox, state):
        # Another state folder would be made for nothing; with the same one, its own lock tells.
        raise _held(f"the inbox {config.folders.inbox}", other)
    # The journal's own folder is made by opening it; a lock in it comes first, so that nobody opens it twice.
    database.make_folder(state)
    state_lock = take_state(state)
    journal = database.open_journal(state)
    journal.clock = clock
    tenure = Tenure(journal, config.folders.inbox, state, clock)
    try:
        with journal.transaction() as connection:
            timeline.begin(connection, clock)
        _settle_site(journal, config, clock.now(), adopt=adopt_site)
        _take_inbox(tenure, config.folders.inbox, adopt=adopt_inbox)
        guard = Guard(config.folders.inbox, tenure.inbox_id, _begin_epoch(journal), clock.boot)
        _remember(journal, config)
    except BaseException:
        journal.close()
        tenure.release()
        state_lock.release()
        raise
    held = Held(_runtime(config, journal, guard, clock, environ, state), state, state_lock, tenure)
    tenure.busy = lambda: bool(held.runtime.busy())
    # What is mounted there after this, or was while the lock was taken, is claimed by the first look.
    guard.claim_with(tenure)
    return held


def _take_inbox(tenure: Tenure, inbox: Path, *, adopt: bool) -> None:
    """Take the inbox, unless the mount guard says that it is not there (then it is taken later). Raises ``errors.Mistake``."""
    try:
        forbidden = tenure.begin(adopt=adopt)
    except OSError as error:
        raise _no_folder(inbox, error) from error
    if forbidden is not None:
        raise _not_taken(f"the inbox {inbox}", forbidden)


def _begin_epoch(journal: Journal) -> int:
    with journal.transaction() as connection:
        return database.increment(connection, "epoch")


def tell_copies(config: Config) -> None:
    """Say which moves are copies: between two mounts nothing can be renamed, be they of one file system (rename(2), EXDEV)."""
    folders = config.folders
    with suppress(OSError):
        device, _, mount = guard_.mount_of(folders.inbox)
        for name, folder in (("done", folders.done), ("failed", folders.failed)):
            with suppress(OSError):
                there, _, through = guard_.mount_of(folder)
                if (there, through) != (device, mount):
                    remedy = f"put folders.{name} on the file system of the inbox, where a move is one rename"
                    log.warning(
                        "folder.elsewhere", key=f"folders.{name}", folder=str(folder), reason=_COPIED, remedy=remedy
                    )


_COPIED = (
    "it is on another file system or mount than the inbox: each move there is copied, compared, and only then removed"
)


def missing_folders(config: Config, state: Path) -> list[Problem]:
    """Folders that are not there and that no journal knows. One that is known and absent is waited for."""
    known = known_folders(state)
    problems = []
    for name in ("inbox", "done", "failed"):
        path: Path = getattr(config.folders, name)
        if not path.is_dir() and known.get(name) != str(path):
            what = f"names {path}, which {'is not a folder' if path.exists() else 'does not exist'}."
            problems.append(Problem(f"folders.{name}", what, f"Create it (mkdir {path}), or correct the path."))
    return problems


def known_folders(state: Path) -> dict[str, str]:
    """The folders that the journal has worked with. Raises ``errors.Mistake`` where it cannot be read."""
    journal = database.open_for_reading(state, older=True)
    if journal is None:
        return {}
    try:
        found = journal.rows("SELECT key, value FROM meta WHERE key LIKE 'folder.%'")
        return {row["key"].partition(".")[2]: row["value"] for row in found}
    except sqlite3.DatabaseError as error:
        raise database.unusable(journal.path, error) from error
    finally:
        journal.close()


def _remember(journal: Journal, config: Config) -> None:
    with journal.transaction() as connection:
        for name in ("inbox", "done", "failed"):
            database.put(connection, f"folder.{name}", str(getattr(config.folders, name)))


def take_state(state: Path) -> locks.Lock:
    """Take the lock of the state folder. Raises ``errors.Mistake`` (75) that says who holds it."""
    path = state / "lock"
    try:
        taken = locks.take(path, state)
    except OSError as error:
        remedy = "Check the folder's owner, its mode and the free space."
        problem = Problem(str(path), f"cannot be opened: {error.strerror}.", remedy)
        raise Mistake(problem, exit_code=errors.exit_code(error, path.parent)) from error
    if not isinstance(taken, locks.Lock):
        raise _not_taken(f"the state folder {state}", taken)
    return taken


def _not_taken(what: str, forbidden: locks.Holder | locks.NoLocks) -> Mistake:
    if isinstance(forbidden, locks.Holder):
        return _held(what, forbidden)
    return Mistake(
        Problem("", f"{forbidden.reason}, so two daemons could not be kept apart.", "Use another file system.")
    )


def _held(what: str, holder: locks.Holder) -> Mistake:
    remedy = "Stop that one first." if what.endswith(holder.state) else "Stop that one first, or use another inbox."
    return Mistake(Problem("", f"{what} is held by {holder}.", remedy), exit_code=errors.TEMPORARY)


def _no_folder(inbox: Path, error: OSError) -> Mistake:
    what = f"cannot be made, entered or written: {error.strerror}."
    problem = Problem(str(inbox / guard_.FOLDER), what, "attachd has to create, rename and delete files in the inbox.")
    return Mistake(problem, exit_code=errors.exit_code(error, inbox))


def _settle_site(journal: Journal, config: Config, now: float, *, adopt: bool) -> None:
    """The journal knows its site: what may have arrived there cannot be looked up at another, and waits for a person."""
    url = config.jira.url
    with journal.transaction() as connection:
        if adopt:
            sites.adopt(connection, url)
        elif database.get(connection, "site") not in (None, url):
            batch_size.forget(connection)
        sites.change(connection, url, now)


# --- The runtime ---------------------------------------------------------------------------------------------------


def _runtime(
    config: Config, journal: Journal, guard: Guard, clock: Clock, environ: Mapping[str, str], state: Path
) -> Runtime:
    skew = float(journal.value("SELECT value FROM meta WHERE key = 'site.skew'") or 0.0)
    site = Site(config.jira.url, config.jira.deployment, clock, skew=skew)
    site.pages = journal.value("SELECT value FROM meta WHERE key = 'site.pages'") or site.url
    credentials = make_credentials(config, environ, state, clock)
    reader = database.open_for_reading(state) or journal
    reader.clock = clock
    return Runtime(
        journal, reader, config, clock, site, guard, credentials, secret_changed=service_credentials.watch(config)
    )


def make_credentials(config: Config, environ: Mapping[str, str], state: Path, clock: Clock) -> oauth.Identity:
    """The credentials that the configuration names."""
    return service_credentials.credentials(
        config, environ, state, clock, lambda url: asking_client(config, url, NOBODY)
    )
