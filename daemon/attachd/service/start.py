"""From a valid configuration to a runtime that is ready: folders, locks, journal, marker, site, credentials.

Nothing is created or changed before the whole configuration was found valid.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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
from attachd.logger import get_logger
from attachd.service import credentials as service_credentials
from attachd.share import inbox_marker as guard_
from attachd.share import locks, paths
from attachd.share.inbox_marker import Guard
from attachd.share.tenure import Tenure

log = get_logger()


@dataclass(slots=True)
class Held:
    """The runtime and locks that a running service holds until it ends."""

    runtime: Runtime
    state: Path
    state_lock: locks.Lock
    tenure: Tenure

    def release(self) -> None:
        """Release everything."""
        self.runtime.reader.close()
        self.runtime.journal.close()
        self.tenure.release()
        self.state_lock.release()


def start(
    config: Config, *, clock: Clock, environ: Mapping[str, str], adopt_inbox: bool = False, adopt_site: bool = False
) -> Held:
    """Take the locks and open the journal. Raises ``errors.Mistake``: 78 if the user has to change something, 75 if another
    process holds a lock or a disk fails.
    """
    state = paths.state_folder(config, environ)
    problems = missing_folders(config, state)
    if problems:
        raise Mistake(*problems)
    if other := paths.other_holder(config.folders.inbox, state):
        # This state folder would be made for nothing. If both have the same one, its lock tells.
        raise _held(f"the inbox {config.folders.inbox}", other)
    # Opening the journal makes its folder. The lock in it comes first, so that no two processes open the journal.
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
    # The first look claims an inbox that is mounted later, or was mounted while the lock was taken.
    guard.claim_with(tenure)
    return held


def _take_inbox(tenure: Tenure, inbox: Path, *, adopt: bool) -> None:
    """Take the inbox, or leave it for later if the mount guard does not see it. Raises ``errors.Mistake``."""
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
    """Log which moves are copies: no rename works between two mounts, even of one file system (rename(2), EXDEV)."""
    folders = config.folders
    with suppress(OSError):
        device, _, mount = guard_.mount_of(folders.inbox)
        for name, folder in (("done", folders.done), ("failed", folders.failed)):
            with suppress(OSError):
                there, _, through = guard_.mount_of(folder)
                if (there, through) != (device, mount):
                    remedy = f"put folders.{name} on the file system of the inbox; a move there is one rename"
                    log.warning(
                        "folder.elsewhere", key=f"folders.{name}", folder=str(folder), reason=_COPIED, remedy=remedy
                    )


_COPIED = "it is on another mount than the inbox: attachd copies and compares each file before it removes the original"


def missing_folders(config: Config, state: Path) -> list[Problem]:
    """Return a problem for each missing folder that the journal does not know. The service waits for a known one."""
    known = known_folders(state)
    problems = []
    for name in ("inbox", "done", "failed"):
        path: Path = getattr(config.folders, name)
        if not path.is_dir() and known.get(name) != str(path):
            what = f"names {path}, which {'is not a folder' if path.exists() else 'does not exist'}."
            problems.append(Problem(f"folders.{name}", what, f"Create it (mkdir {path}), or correct the path."))
    return problems


def known_folders(state: Path) -> dict[str, str]:
    """Return the folders that the journal knows. Raises ``errors.Mistake`` if it cannot be read."""
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
    """Take the lock of the state folder. Raises ``errors.Mistake`` (75) that names its holder."""
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
    return Mistake(Problem("", f"{forbidden.reason}, so two daemons could start at once.", "Use another file system."))


def _held(what: str, holder: locks.Holder) -> Mistake:
    same = what.endswith(holder.state)
    remedy = "Stop it first." if same else "Stop it first, or use another inbox."
    return Mistake(
        Problem("", f"another attachd ({holder.process if same else holder}) uses {what}.", remedy),
        exit_code=errors.TEMPORARY,
    )


def _no_folder(inbox: Path, error: OSError) -> Mistake:
    what = f"cannot be made, entered or written: {error.strerror}."
    problem = Problem(str(inbox / guard_.FOLDER), what, "attachd has to create, rename and delete files in the inbox.")
    return Mistake(problem, exit_code=errors.exit_code(error, inbox))


def _settle_site(journal: Journal, config: Config, now: float, *, adopt: bool) -> None:
    """Tell the journal the site. Files that may have arrived at another site wait for a person."""
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
    """Return the credentials that the configuration names."""
    return service_credentials.credentials(
        config, environ, state, clock, lambda url: asking_client(config, url, NOBODY)
    )
