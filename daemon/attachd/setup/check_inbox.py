"""What `check` finds around the service: what the inbox's file system tells and allows, who drops, whether the page answers."""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import Iterator
from pathlib import Path

from attachd.config import Config, Rulebook
from attachd.intake import ignore, router
from attachd.model import printable
from attachd.report import disk
from attachd.setup import check_filesystem
from attachd.setup.finding import Finding
from attachd.share import inbox_marker, paths

#: How many loose files are named.
_MOST_NAMED = 3


def events(config: Config) -> Iterator[Finding]:
    """Whether the kernel tells of new files."""
    inbox = config.folders.inbox
    for mount, reason in check_filesystem.events(inbox) if (inbox / inbox_marker.FOLDER).is_dir() else ():
        remedy = "let the service run where the files are written, if they have to go at once" if reason else ""
        yield Finding("events", "warning" if reason else "ok", f"{mount}: {reason}" if reason else mount, remedy)


def leases(config: Config) -> Finding:
    """Whether it can be told who writes a file."""
    try:
        reason = check_filesystem.leases(config.folders.inbox)
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
            reason = check_filesystem.locks(folder)
        except OSError as error:
            return Finding("locks", "failed", f"{folder}: {error.strerror}", "let the service's user write there")
        if reason:
            remedy = "mount it with locks (NFS: version 4, without nolock; SMB: without nobrl), or choose another place"
            return Finding("locks", "failed", reason, remedy)
    return Finding("locks", "ok", "a second service on this inbox would be noticed")


def droppers(config: Config) -> Finding:
    """Whether what others drop can be taken out of the folders that they make (default ACLs, or umask 002)."""
    inbox = config.folders.inbox
    try:
        reason = check_filesystem.droppers(inbox)
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
