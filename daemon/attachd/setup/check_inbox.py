"""What `check` tests of the inbox: events, leases, locks, the folders of people who drop files, and loose files."""

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

#: How many loose files are listed by name.
_MOST_NAMED = 3


def events(config: Config) -> Iterator[Finding]:
    """Check that the kernel reports new files."""
    inbox = config.folders.inbox
    for mount, reason in check_filesystem.events(inbox) if (inbox / inbox_marker.FOLDER).is_dir() else ():
        remedy = "for immediate uploads, run the service where the files are written" if reason else ""
        yield Finding("events", "warning" if reason else "ok", f"{mount}: {reason}" if reason else mount, remedy)


def leases(config: Config) -> Finding:
    """Check that attachd can tell whether a program still writes a file."""
    try:
        reason = check_filesystem.leases(config.folders.inbox)
    except OSError as error:
        reason = f"cannot test leases: {error.strerror}"
    if not reason:
        return Finding("leases", "ok", "attachd sees which files are open")
    settle = config.settle
    waits = f"waits {settle.quiet_seconds_unproven:g} s instead of {settle.quiet_seconds:g}"
    return Finding(
        "leases", "warning", f"{reason}; {waits}", "on local disks, set AmbientCapabilities=CAP_LEASE in the unit"
    )


def locked(config: Config, state: Path) -> Finding:
    """Check that locks in the inbox and in the state folder can keep a second service away."""
    if other := paths.other_holder(config.folders.inbox, state):
        remedy = "stop that service, or give this one its own inbox"
        return Finding("locks", "failed", f"another attachd ({other}) uses the inbox {config.folders.inbox}", remedy)
    # Another finding reports a full disk of the state folder.
    tried = [state] if state.is_dir() and not disk.trouble(state) else []
    for folder in (config.folders.inbox, *tried):
        try:
            reason = check_filesystem.locks(folder)
        except OSError as error:
            return Finding("locks", "failed", f"{folder}: {error.strerror}", "let the service's user write there")
        if reason:
            remedy = (
                "mount it with locks (NFS: version 4, without nolock; SMB: without nobrl), or choose another folder"
            )
            return Finding("locks", "failed", reason, remedy)
    return Finding("locks", "ok", "attachd would notice a second service on this inbox")


def droppers(config: Config) -> Finding:
    """Check that attachd can take files out of folders that other users create (default ACLs, or umask 002)."""
    inbox = config.folders.inbox
    try:
        reason = check_filesystem.droppers(inbox)
    except OSError as error:
        return Finding("droppers", "warning", f"cannot test permissions: {error.strerror}", "run check again")
    if not reason:
        return Finding("droppers", "ok", "attachd can move every file out of the inbox")
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    remedy = (
        f"setfacl -R -m u:{user}:rwX,d:u:{user}:rwX {shlex.quote(str(inbox))} (package acl);"
        " or chmod g+s, and umask 002 for everybody who drops files"
    )
    return Finding("droppers", "warning", reason, remedy)


def loose(config: Config) -> Iterator[Finding]:
    """Yield files that lie in the inbox itself, and so not in an issue folder."""
    hidden = ignore.Hiding(config, Rulebook(config), router.of(config))
    with os.scandir(config.folders.inbox) as entries:
        files = [os.fsencode(each.name) for each in entries if each.is_file(follow_symlinks=False)]
    found = sorted(name for name in files if not hidden.why(name, False))
    if found:
        names = ", ".join(printable(name) for name in found[:_MOST_NAMED])
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        remedy = "move each file into a folder named like its issue"
        yield Finding("inbox", "warning", f"{names}{more}: not in an issue folder, so not attached", remedy)
