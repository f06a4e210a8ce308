"""What ``check`` finds: each thing tried for real, as the service would do it."""

from __future__ import annotations

import datetime
import errno
import os
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

from attachd import text
from attachd.clock import Clock
from attachd.config import Config
from attachd.delivery import site as site_
from attachd.errors import Mistake
from attachd.fs import rename
from attachd.jira import auth, client, connection, oauth, site_info
from attachd.jira.reply import Reply
from attachd.journal import database, terms
from attachd.model import Fault, Scope, printable
from attachd.report import disk, health, token_expiry
from attachd.report.health import Kind
from attachd.service import growing, reaching, reload, start, surroundings, trying
from attachd.service.finding import Finding
from attachd.share import inbox_marker, locks, paths


def inspect(config: Config, state: Path, environ: Mapping[str, str], *, offline: bool) -> list[Finding]:
    """Try everything. The configuration itself was found valid before."""
    findings = [Finding("configuration", "ok", str(config.file))]
    findings += [Finding("configuration", "warning", notice, "write the new name") for notice in config.notices]
    findings += _scope(config)
    findings += _state(state)
    findings += _folders(config, state)
    findings += _daemon(config, state)
    tried = [each.detail for each in findings if each.what == "events"]
    findings += _conditions(config, state, tried)
    findings += growing.find(config, state, Clock())
    findings += _token_expires(config, token_expiry.today(Clock().wall()))
    if offline:
        findings += _tls(config)
    else:
        try:
            findings += _jira(config, state, environ)
        except Mistake as mistake:
            findings += [Finding(p.where or "credentials", "failed", p.what, p.remedy) for p in mistake.problems]
    return findings


def _scope(config: Config) -> Iterator[Finding]:
    if not config.folders.projects:
        yield Finding(
            "folders.projects",
            "warning",
            "files for every project are accepted",
            'list the projects that are served, e.g. projects = ["TEST"]',
        )
    if config.jira.auth.kind == "anonymous":
        yield Finding("jira.auth", "warning", "files are attached anonymously", "use a service account's token")


def _state(state: Path) -> Iterator[Finding]:
    """What a start makes, opens and locks there, without making any of it."""
    there = next(each for each in (state, *state.parents) if each.exists())
    remedy = f"let user {os.geteuid()} read and write there (owner, mode, mount), or name another folders.state"
    if not there.is_dir():
        yield Finding(
            "folders.state", "failed", f"{there} is not a folder", "name another folders.state, or move it away"
        )
    elif not os.access(there, os.W_OK | os.X_OK) and not disk.trouble(there):
        yield Finding("folders.state", "failed", f"{there} may not be written to", remedy)
    elif there == state:
        for name in ("lock", database.FILE_NAME):
            file = state / name
            if os.path.lexists(file) and not (
                file.is_file() and not file.is_symlink() and os.access(file, os.R_OK | os.W_OK)
            ):
                yield Finding("folders.state", "failed", f"{file} is no file that may be written to", remedy)


def _tls(config: Config) -> Iterator[Finding]:
    """Whether the files can be used that the configuration names; Jira is not asked."""
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
            yield Finding(where, "warning", f"{path} is not there now", "mount it; files wait until then")
        else:
            tried = _try_folder(where, path)
            usable[name] = tried.result == "ok"
            yield tried
    if "folders.inbox" not in missing and config.folders.inbox.is_dir():
        yield from _markers_folder(config.folders.inbox)
        yield from _marker(config, state)
    if not missing and usable["inbox"] and usable["done"]:
        yield _try_rename(config)
        yield from surroundings.events(config)
        yield surroundings.leases(config)
        yield surroundings.locked(config, state)
        yield surroundings.droppers(config)
        yield from surroundings.loose(config)


def _marker(config: Config, state: Path) -> Iterator[Finding]:
    """Whether the inbox is the one that the journal knows; the journal of another inbox would hold everything up."""
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
        remedy = f"mount it; or name another folders.state, if the journal in {state} is that of another inbox"
        yield Finding("inbox marker", "failed", sight.reason, remedy)
    elif not known.knows(sight.term):
        reason = paths.worked_since(config.folders.inbox, inbox_marker.read_marker(config.folders.inbox))
        remedy = "nothing has to be done: the next start looks every file in it up in Jira before it is sent"
        yield Finding("inbox marker", "warning", reason, remedy)


def _try_folder(where: str, path: Path) -> Finding:
    """List it, and create, rename and delete a file, as the service will."""
    trial = trying.fresh(path)
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
    """Whether the inbox's marker can lie where it does. What is in the way of its lock, a start sets aside."""
    folder = inbox / inbox_marker.FOLDER
    if not os.path.lexists(folder):
        return
    try:
        with inbox_marker.opened(inbox) as opened:
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=opened):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(os.stat(inbox_marker.MARKER, dir_fd=opened, follow_symlinks=False).st_mode):
                    raise OSError(errno.EINVAL, f"{inbox_marker.MARKER} is no file")
    except OSError as error:
        what = f"{folder} cannot be entered or written: {error.strerror}"
        yield Finding("folders.inbox", "failed", what, "attachd has to create, rename and delete files in the inbox")


def _try_rename(config: Config) -> Finding:
    """Whether a move is one rename, and whether that refuses to replace a file."""
    name = os.fsencode(trying.fresh(config.folders.inbox).name)
    inbox, done = config.folders.inbox, config.folders.done
    source, target = os.path.join(bytes(inbox), name), os.path.join(bytes(done), name)
    descriptors = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (inbox, done)]
    try:
        os.close(os.open(source, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        rename.rename_noreplace(descriptors[0], name, descriptors[1], name)
    except OSError as error:
        detail = (
            f"a move from inbox to done is not one rename ({error.strerror}): files are copied, compared and deleted"
        )
        return Finding("move", "warning", detail, "put done and failed on the inbox's file system")
    finally:
        for path in (source, target):
            if os.path.lexists(path):
                os.unlink(path)
        for descriptor in descriptors:
            os.close(descriptor)
    return Finding("move", "ok", "one rename, which never replaces a file")


def _daemon(config: Config, state: Path) -> Iterator[Finding]:
    holder = locks.holder(state / "lock") if state.is_dir() else None
    yield Finding("daemon", "ok", f"held by {holder}" if holder else "not running")
    if holder is None or _is_service(holder, state):
        yield from surroundings.page(config, running=holder is not None)


#: Conditions that are tried here for real.
_TRIED = {Kind.INBOX, Kind.TOKEN}


def _conditions(config: Config, state: Path, events: Sequence[str]) -> Iterator[Finding]:
    """What is not as it should be with the service, whether it runs or not; *events*: what was told of mounts without them."""
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
        told = each.kind == Kind.BLIND and any(detail.startswith(f"{each.subject}:") for detail in events)
        if each.kind not in _TRIED and not told:
            result: Literal["warning", "failed"] = "failed" if each.kind == Kind.DISK else "warning"
            what = f"paused {each.subject or each.scope}" if each.pause else str(each.kind)
            yield Finding(what, result, each.sentence, each.remedy)


def _is_service(holder: locks.Holder, state: Path) -> bool:
    """Whether who holds the state folder is `attachd run` on this machine: nobody else serves the page."""
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


# --- Jira -------------------------------------------------------------------------------------------------------


def _jira(config: Config, state: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    clock = Clock()
    who: oauth.Identity = start.make_credentials(config, environ, state, clock)
    if _would_use_up(config, state):
        who = connection.NOBODY
        detail = f"the refresh token was not tried: each use replaces it, and the service has no journal in {state} yet"
        remedy = "start the service (`attachd run` or `attachd once`), then check again"
        yield Finding("jira.auth", "warning", detail, remedy)
    with closing(connection.asking_client(config, config.jira.url, who)) as asker:
        found = list(_ask(config, asker, clock, signed=who is not connection.NOBODY))
    yield reaching.proxy(
        config, environ, reached=any(each.what == "jira.url" and each.result == "ok" for each in found)
    )
    yield from found


def _would_use_up(config: Config, state: Path) -> bool:
    """Whether to sign in would spend the refresh token where the service may never find the next one.

    The next one goes into the state folder; that this is the service's is certain once its journal is there.
    """
    rotates = config.jira.auth.kind == "oauth2" and config.jira.auth.token is not None
    return rotates and not (state / database.FILE_NAME).exists()


def _ask(config: Config, asker: client.Client, clock: Clock, *, signed: bool) -> Iterator[Finding]:
    known = site_.Site(config.jira.url, config.jira.deployment, clock)
    answer = known.hear(reaching.asked(lambda: asker.server_info(known.version or "2")))
    version = site_info.deployment(answer)
    if isinstance(version, Fault) and not known.version and isinstance(answer, Reply):
        answer = known.hear(reaching.asked(lambda: asker.server_info("3")))
        version = site_info.deployment(answer)
    if isinstance(version, Fault):
        # The gateway answers nobody who is not signed in.
        if signed or version.scope is not Scope.ACCOUNT:
            yield _unmet(config, version)
        return
    yield Finding("jira.url", "ok", f"{config.jira.url} is Jira {'Cloud' if version == '3' else 'Data Center'}")
    yield reaching.certificate(config, asker.certificate(), clock.wall())
    if isinstance(answer, Reply) and answer.date is not None:
        yield _skew(answer.date - clock.wall())
    known.version = known.version or version
    account = list(_account(config, asker, known)) if signed else []
    yield from account
    yield _limits(site_info.limits(reaching.asked(lambda: asker.attachment_meta(known.version)), clock.boot()))
    if signed and not any(finding.result == "failed" for finding in account):
        rights: list[Finding] = []
        if config.jira.auth.kind != "anonymous":
            rights = list(reaching.rights(config, asker, known))
        yield from rights
        told = any(each.remedy != reaching.ASK for each in rights)
        yield from reaching.issues(config, asker, known, told=told)


def _unmet(config: Config, fault: Fault) -> Finding:
    if fault.scope is Scope.ACCOUNT:
        return Finding("jira.auth", "failed", fault.reason, _token_remedy(config, fault))
    return Finding("jira.url", "failed", fault.reason, "check jira.url, the proxy and the network")


def _skew(seconds: float) -> Finding:
    seconds = abs(seconds)
    if seconds < 60:
        return Finding("clock", "ok", f"differs from Jira's by {seconds:.0f} s")
    return Finding("clock", "warning", f"differs from Jira's by {seconds:.0f} s", "set this machine's clock (NTP)")


def _account(config: Config, asker: client.Client, known: site_.Site) -> Iterator[Finding]:
    if config.jira.auth.kind == "anonymous":
        return
    answer = reaching.asked(lambda: asker.myself(known.version))
    who = site_info.who(answer)
    if isinstance(who, Fault):
        yield Finding("jira.auth", "failed", who.reason, _token_remedy(config, who))
    else:
        name = answer.json.get("displayName") if isinstance(answer, Reply) else None
        called = f" ({printable(name.encode('utf-8', 'surrogatepass'))})" if isinstance(name, str) and name else ""
        yield Finding("jira.auth", "ok", f"Jira knows us as {who}{called}")


def _token_remedy(config: Config, fault: Fault) -> str:
    kind = config.jira.auth.kind
    if fault.kind == "refused" and auth.may_be_needed(config.jira.url, kind):
        with closing(connection.asking_client(config, config.jira.url, connection.NOBODY)) as stranger:
            where = auth.address(reaching.asked(stranger.tenant_info)) or f"{auth.ADDRESS}CLOUD-ID"
        return f"{auth.hint(kind, where)}; otherwise make a new one"
    return "" if fault.kind.startswith("token") else "check jira.auth: kind, user and token"


def _limits(known: site_info.Limits | None) -> Finding:
    if known is None:
        return Finding("limits", "warning", "Jira does not tell its limits", "")
    if not known.enabled:
        return Finding(
            "limits", "failed", "attachments are disabled in this Jira", "have them enabled by its administrator"
        )
    return Finding(
        "limits", "ok", f"files up to {text.size(known.largest)}" if known.largest else "no limit of size is told"
    )
