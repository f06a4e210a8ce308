"""What `check` finds around the service: what the inbox's file system tells and allows, who drops, whether the page answers."""

from __future__ import annotations

import http.client
import os
import pwd
import shlex
import socket
import stat
import urllib.parse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from attachd.config import Config, Rulebook
from attachd.intake import ignore, router
from attachd.model import printable
from attachd.report import disk
from attachd.service import trying
from attachd.service.finding import Finding
from attachd.share import inbox_marker, paths

#: How many loose files are named.
_MOST_NAMED = 3
#: How long the page may take to answer, in seconds.
_PAGE_SECONDS = 5.0
_RUNTIME = Path("/run/attachd")


def events(config: Config) -> Iterator[Finding]:
    """Whether the kernel tells of new files."""
    inbox = config.folders.inbox
    for mount, reason in trying.events(inbox) if (inbox / inbox_marker.FOLDER).is_dir() else ():
        remedy = "let the service run where the files are written, if they have to go at once" if reason else ""
        yield Finding("events", "warning" if reason else "ok", f"{mount}: {reason}" if reason else mount, remedy)


def leases(config: Config) -> Finding:
    """Whether it can be told who writes a file."""
    try:
        reason = trying.leases(config.folders.inbox)
    except OSError as error:
        reason = f"it cannot be tried: {error.strerror}"
    if not reason:
        return Finding("leases", "ok", "an open file is known as such")
    waits = f"those files are sent when they have been unchanged for {config.settle.quiet_seconds_unproven:g} s"
    return Finding(
        "leases", "warning", f"{reason}; {waits}", "AmbientCapabilities=CAP_LEASE in the unit, on local disks"
    )


def locked(config: Config, state: Path) -> Finding:
    """Whether two services could be kept apart by a lock in the inbox, and in the state folder if there is one."""
    if other := paths.other_holder(config.folders.inbox, state):
        remedy = "end that service, or give this one an inbox of its own"
        return Finding("locks", "failed", f"the inbox {config.folders.inbox} is held by {other}", remedy)
    # That the disk of the state folder is full is said of the disk.
    tried = [state] if state.is_dir() and not disk.trouble(state) else []
    for folder in (config.folders.inbox, *tried):
        try:
            reason = trying.locks(folder)
        except OSError as error:
            return Finding("locks", "failed", f"{folder}: {error.strerror}", "let the service's user write there")
        if reason:
            remedy = "mount it with locks (NFS: version 4, without nolock; SMB: without nobrl), or choose another place"
            return Finding("locks", "failed", reason, remedy)
    return Finding("locks", "ok", "a second service on this inbox would be noticed")


def droppers(config: Config) -> Finding:
    """Whether what others drop can be taken out of the folders that they make (contract 3: default ACLs, or umask 002)."""
    inbox = config.folders.inbox
    try:
        reason = trying.droppers(inbox)
    except OSError as error:
        return Finding("droppers", "warning", f"it cannot be tried: {error.strerror}", "check again")
    if not reason:
        return Finding("droppers", "ok", "whatever may be dropped there can be taken out again")
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    remedy = (
        f"setfacl -R -m u:{user}:rwX,d:u:{user}:rwX {shlex.quote(str(inbox))} (package acl);"
        " or chmod g+s, and umask 002 for all who drop"
    )
    return Finding("droppers", "warning", reason, remedy)


def loose(config: Config) -> Iterator[Finding]:
    """Files that lie in the inbox itself, and so in no issue's folder."""
    hidden = ignore.Hiding(config, Rulebook(config), router.of(config))
    with os.scandir(config.folders.inbox) as entries:
        files = [os.fsencode(each.name) for each in entries if each.is_file(follow_symlinks=False)]
    found = sorted(name for name in files if not hidden.why(name, False))
    if found:
        names = ", ".join(printable(name) for name in found[:_MOST_NAMED])
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        remedy = "move what lies in the inbox itself into a folder that is named like its issue"
        yield Finding("inbox", "warning", f"{names}{more}: in no issue's folder, so not attached", remedy)


# --- The page -----------------------------------------------------------------------------------------------------


def page(config: Config, *, running: bool) -> Iterator[Finding]:
    """Whether the page answers or, while nothing runs, whether it could be served at its address."""
    listen = config.web.listen
    if listen is None:
        return
    reason = _silent(listen) if running else _taken(listen)
    if not reason:
        yield Finding("web.listen", "ok", f"{listen} {'answers' if running else 'is free'}")
    elif running:
        remedy = "restart attachd if [web] was changed; otherwise its log says why (page.not_served)"
        yield Finding("web.listen", "warning", f"{listen} does not answer: {reason}", remedy)
    else:
        remedy = "choose another address, or end what has this one; files are attached all the same"
        yield Finding("web.listen", "warning", f"{listen} cannot be served: {reason}", remedy)


def _silent(listen: str) -> str:
    """Why the page does not answer; "" where it does."""
    try:
        with closing(_connected(listen)) as connection:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "" if status in (200, 503) else f"something else is there, which says {status}"


def _connected(listen: str) -> http.client.HTTPConnection:
    """A connection to a port, or to a socket at a path. Raises OSError."""
    if not listen.startswith("unix:"):
        return http.client.HTTPConnection(listen, timeout=_PAGE_SECONDS)
    connection = http.client.HTTPConnection("localhost", timeout=_PAGE_SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(_PAGE_SECONDS)
    try:
        connection.sock.connect(listen.removeprefix("unix:"))
    except OSError:
        connection.close()
        raise
    return connection


def _taken(listen: str) -> str:
    """Why nothing could listen there; "" where something could. Nothing is left behind."""
    if listen.startswith("unix:"):
        return _unfit(Path(listen.removeprefix("unix:")))
    parts = urllib.parse.urlsplit(f"//{listen}")
    family = socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((parts.hostname, parts.port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _unfit(path: Path) -> str:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return "a file lies there that is no socket"
        _connected(f"unix:{path}").close()
        return "another process listens there"
    except (FileNotFoundError, ConnectionRefusedError):
        pass
    except OSError as error:
        return error.strerror or str(error)
    # The units have systemd make that folder, and remove it with the service (RuntimeDirectory=, systemd.exec(5)).
    if path.is_relative_to(_RUNTIME) or os.access(path.parent, os.W_OK | os.X_OK):
        return ""
    return f"{path.parent} is not there, or cannot be written to"
