"""What ``check`` tests, each thing for real, as the service would do it."""

from __future__ import annotations

import datetime
import errno
import os
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from attachd.clock import Clock
from attachd.config import Config
from attachd.errors import Mistake
from attachd.fs import rename
from attachd.jira import connection
from attachd.journal import database, terms
from attachd.report import disk, health, token_expiry
from attachd.report.health import Kind
from attachd.service import reload, start
from attachd.setup import check_disk, check_filesystem, check_inbox, check_page
from attachd.setup.check_jira import jira
from attachd.setup.finding import Finding
from attachd.share import inbox_marker, locks, paths


def inspect(config: Config, state: Path, environ: Mapping[str, str], *, offline: bool) -> list[Finding]:
    """Test everything. The configuration itself is already valid."""
    findings = [Finding("configuration", "ok", str(config.file))]
    findings += _scope(config)
    findings += _state(state)
    findings += _folders(config, state)
    findings += _daemon(config, state)
    tried = [each.detail for each in findings if each.what == "events"]
    findings += _conditions(config, state, tried)
    findings += check_disk.find(config, state, Clock())
    findings += _token_expires(config, token_expiry.today(Clock().wall()))
    if offline:
        findings += _tls(config)
    else:
        try:
            findings += jira(config, state, environ)
        except Mistake as mistake:
            findings += [Finding(p.where or "credentials", "failed", p.what, p.remedy) for p in mistake.problems]
    return findings


def _scope(config: Config) -> Iterator[Finding]:
    if not config.folders.projects:
        yield Finding(
            "folders.projects",
            "warning",
            "attachd accepts files for every project",
            'list the allowed projects, for example projects = ["TEST"]',
        )
    if config.jira.auth.kind == "anonymous":
        yield Finding(
            "jira.auth", "warning", "attachd attaches files anonymously", "use the token of a service account"
        )


def _state(state: Path) -> Iterator[Finding]:
    """Check what a start creates, opens and locks in the state folder, without creating anything."""
    there = next(each for each in (state, *state.parents) if each.exists())
    remedy = f"let user {os.geteuid()} read and write there (owner, mode, mount), or set another folders.state"
    if not there.is_dir():
        yield Finding(
            "folders.state", "failed", f"{there} is not a folder", "set another folders.state, or move it away"
        )
    elif not os.access(there, os.W_OK | os.X_OK) and not disk.trouble(there):
        yield Finding("folders.state", "failed", f"{there} is not writable", remedy)
    elif there == state:
        for name in ("lock", database.FILE_NAME):
            file = state / name
            if os.path.lexists(file) and not (
                file.is_file() and not file.is_symlink() and os.access(file, os.R_OK | os.W_OK)
            ):
                yield Finding("folders.state", "failed", f"{file} is not a writable file", remedy)


def _tls(config: Config) -> Iterator[Finding]:
    """Check the certificate files of the configuration, without connecting to Jira."""
    try:
        connection.tls_context(config)
    except Mistake as mistake:
        yield from (Finding(p.where, "failed", p.what, p.remedy) for p in mistake.problems)


def _folders(config: Config, state: Path) -> Iterator[Finding]:
    missing = {problem.where: problem for problem in start.missing_folders(config, state)}
    usable = dict.fromkeys(("inbox", "done", "failed"), False)
    for name in usable:
        path: Path = getattr(config.folders, name)
        where = f"folders.{name}"
        if where in missing:
            yield Finding(where, "failed", missing[where].what, missing[where].remedy)
        elif not path.is_dir():
            yield Finding(where, "warning", f"{path} is missing now", "mount it; files wait until then")
        else:
            tried = _try_folder(where, path)
            usable[name] = tried.result == "ok"
            yield tried
    if "folders.inbox" not in missing and config.folders.inbox.is_dir():
        yield from _markers_folder(config.folders.inbox)
        yield from _marker(config, state)
    if not missing and usable["inbox"] and usable["done"]:
        yield _try_rename(config)
        yield from check_inbox.events(config)
        yield check_inbox.leases(config)
        yield check_inbox.locked(config, state)
        yield check_inbox.droppers(config)
        yield from check_inbox.loose(config)


def _marker(config: Config, state: Path) -> Iterator[Finding]:
    """Check that the journal belongs to this inbox; with another journal every file would wait."""
    journal = database.open_for_reading(state, older=True)
    if journal is None:
        return
    try:
        known = terms.known(journal)
    finally:
        journal.close()
    if known.inbox is None:
        return
    sight = paths.sight(config, state, known)
    if not sight.there:
        remedy = f"mount it, or set another folders.state if the journal in {state} belongs to another inbox"
        yield Finding("inbox marker", "failed", sight.reason, remedy)
    elif not known.knows(sight.term):
        reason = paths.worked_since(config.folders.inbox, inbox_marker.read_marker(config.folders.inbox))
        remedy = "nothing to do: the next start looks up every file in Jira before it sends it"
        yield Finding("inbox marker", "warning", reason, remedy)


def _try_folder(where: str, path: Path) -> Finding:
    """List the folder, and create, rename and delete a file in it, as the service will."""
    trial = check_filesystem.fresh(path)
    renamed = trial.with_name(trial.name + "-renamed")
    try:
        with os.scandir(path) as entries:
            next(entries, None)
        trial.write_bytes(b"")
        trial.rename(renamed)
        renamed.unlink()
    except OSError as error:
        trial.unlink(missing_ok=True)
        return Finding(
            where,
            "failed",
            f"{path}: {error.strerror}",
            f"let user {os.geteuid()} read and write there (owner, mode, mount)",
        )
    return Finding(where, "ok", str(path))


def _markers_folder(inbox: Path) -> Iterator[Finding]:
    """Check that the folder of the inbox's marker is usable. A start moves away what blocks its lock."""
    folder = inbox / inbox_marker.FOLDER
    if not os.path.lexists(folder):
        return
    try:
        with inbox_marker.opened(inbox) as opened:
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=opened):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(os.stat(inbox_marker.MARKER, dir_fd=opened, follow_symlinks=False).st_mode):
                    raise OSError(errno.EINVAL, f"{inbox_marker.MARKER} is not a file")
    except OSError as error:
        what = f"{folder} cannot be opened or written: {error.strerror}"
        yield Finding("folders.inbox", "failed", what, "let the service create, rename and delete files in the inbox")


def _try_rename(config: Config) -> Finding:
    """Check that a move is one rename, and that it refuses to replace a file."""
    name = os.fsencode(check_filesystem.fresh(config.folders.inbox).name)
    inbox, done = config.folders.inbox, config.folders.done
    source, target = os.path.join(bytes(inbox), name), os.path.join(bytes(done), name)
    descriptors = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (inbox, done)]
    try:
        os.close(os.open(source, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        rename.rename_noreplace(descriptors[0], name, descriptors[1], name)
    except OSError as error:
        detail = (
            f"inbox and done are not on one file system ({error.strerror}), so each move copies, compares and deletes"
        )
        return Finding("move", "warning", detail, "put done and failed on the inbox's file system")
    finally:
        for path in (source, target):
            if os.path.lexists(path):
                os.unlink(path)
        for descriptor in descriptors:
            os.close(descriptor)
    return Finding("move", "ok", "one rename that never replaces a file")


def _daemon(config: Config, state: Path) -> Iterator[Finding]:
    holder = locks.holder(state / "lock") if state.is_dir() else None
    yield Finding("daemon", "ok", f"running as {holder}" if holder else "not running")
    if holder is None or _is_service(holder, state):
        yield from check_page.page(config, running=holder is not None)


#: Conditions that ``check`` tests for real.
_TRIED = {Kind.INBOX, Kind.TOKEN}


def _conditions(config: Config, state: Path, events: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with the service, whether it runs or not. *events*: what is already said of mounts."""
    journal = database.open_for_reading(state, older=True)
    if journal is None:
        if state.is_dir() and (said := disk.trouble(state)):
            yield Finding(Kind.DISK, "failed", said, disk.REMEDY)
        return
    try:
        if journal.value("PRAGMA user_version") != database.VERSION:
            return
        holder = locks.holder(state / "lock")
        pid = holder.pid if holder else 0
        found = health.of_journal(config, state, journal, Clock().now(), absent="", pid=pid)
    finally:
        journal.close()
    for each in found:
        known = each.kind == Kind.BLIND and any(detail.startswith(f"{each.subject}:") for detail in events)
        if each.kind not in _TRIED and not known:
            result: Literal["warning", "failed"] = "failed" if each.kind == Kind.DISK else "warning"
            what = f"paused {each.subject or each.scope}" if each.pause else str(each.kind)
            yield Finding(what, result, each.sentence, each.remedy)


def _is_service(holder: locks.Holder, state: Path) -> bool:
    """Return True if `attachd run` on this machine holds the state folder, because only that serves the page."""
    journal = database.open_for_reading(state, older=True) if holder.host == socket.gethostname() else None
    if journal is None:
        return False
    try:
        return reload.is_by(journal, holder.pid)
    finally:
        journal.close()


def _token_expires(config: Config, day: datetime.date) -> Iterator[Finding]:
    expires = config.jira.auth.token_expires
    if expires is None:
        return
    nears = token_expiry.nears(expires, day)
    result: Literal["ok", "warning"] = "warning" if nears else "ok"
    yield Finding(
        "jira.auth.token_expires", result, token_expiry.words(expires, day), token_expiry.REMEDY if nears else ""
    )
