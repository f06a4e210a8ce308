"""How far events can be trusted, for each mount under the inbox: where they cannot, folders are looked through more often.

Decided by what is seen, not by settings: the kind of file system, a canary whose event must come back, watches that the
kernel refuses, and files that scans keep finding and of which no event told.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Collection, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from attachd import heartbeat
from attachd.fs import folders
from attachd.intake import inotify, mounts
from attachd.intake.inotify import CANARY, Watch
from attachd.intake.mounts import Mount
from attachd.logger import get_logger
from attachd.model import printable
from attachd.share import inbox_marker

# A file that is made and removed again, to see what a file system tells: whether its event comes back, whether
# folders show in their mtime that something was added, and whether its clock is ours.

#: How long an event may take. On a healthy system it is milliseconds; a busy one is not to be called blind.
ECHO_SECONDS = 5.0

#: How far a file system's clock may be from ours for folder mtimes to be compared with it.
_CLOCK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What one canary showed: ``events`` come back; ``mtimes`` of folders can be relied on; ``error``: none could be made."""

    events: bool = False
    mtimes: bool = False
    error: str = ""


def prove(watch: Watch, folder: int) -> Proof:
    """Make a canary in the folder behind a descriptor, which is watched, and wait for its event, ECHO_SECONDS at most."""
    name = CANARY + secrets.token_hex(4).encode()
    echo = watch.expect(name)
    try:
        mtimes = _make(folder, name)
        return Proof(echo.wait(ECHO_SECONDS), mtimes)
    except OSError as error:
        return Proof(error=error.strerror or str(error))
    finally:
        watch.forget(name)


@heartbeat.on_share()
def _make(folder: int, name: bytes) -> bool:
    """Make and remove it; whether the folder's mtime changed at that, to about the present time."""
    before = os.fstat(folder).st_mtime_ns
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder))
    made = os.fstat(folder).st_mtime_ns
    os.unlink(name, dir_fd=folder)
    return made != before and abs(made / 1e9 - time.time()) < _CLOCK_SECONDS


@heartbeat.on_share()
def sweep(folder: int) -> None:
    """Remove what a process that died left behind: of these names what is empty, as ours are. Raises ``OSError``."""
    for name in os.listdir(folder):
        if os.fsencode(name).startswith(CANARY):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and not status.st_size:
                os.unlink(name, dir_fd=folder)


log = get_logger()

#: How often each mount has to prove itself.
PROVE_SECONDS = 600.0

#: In so many scans files must have been found of which no event told, before a mount is called blind.
_SCANS_UNTIL_BLIND = 2

_REFUSED = "the kernel grants no instance of inotify (sysctl fs.inotify.max_user_instances)"
_EXHAUSTED = "the kernel grants no more watches (sysctl fs.inotify.max_user_watches)"
_NO_EVENT = "the event of a trial file did not come back"
_UNTOLD = "scans keep finding files there of which no event told"
_NOT_YET = "nothing is watched yet"


@dataclass(frozen=True, slots=True)
class Trust:
    """What one mount is worth. ``blind`` says why its events do not tell everything; "" if they do. ``mtimes``: those of
    its folders show whether anything was added or taken away.
    """

    mount: Mount
    blind: str = ""
    mtimes: bool = False


_NONE_YET = Trust(mounts.UNKNOWN, _NOT_YET)


class Coverage:
    """The watches on one inbox, and what they are worth. For the thread that scans."""

    def __init__(self, inbox: Path, watch: Watch) -> None:
        """Nothing is watched before ``begin``."""
        self._inbox, self._watch = inbox, watch
        self._root = os.fsencode(os.path.realpath(inbox))
        self._trusts: dict[bytes, Trust] = {}
        self._proven_boot = 0.0
        self._started = False
        self._missed_scans: dict[Mount, int] = {}
        self._missed_lately: set[Mount] = set()
        self._unwatched: set[bytes] = set()
        self._told_unwatched = False

    # --- What is asked of a folder of the inbox, by its name ("" is the inbox itself) ---------------------------------

    def blind(self, top: bytes) -> str:
        """Why events do not tell of everything in this folder; "" if they do."""
        return self._of(top).blind or (_EXHAUSTED if top in self._unwatched else "")

    def mtimes(self, top: bytes) -> bool:
        """Whether the mtimes of its folders show that nothing was added or taken away."""
        return self._of(top).mtimes

    @property
    def proven(self) -> bool:
        """Whether the whole inbox is one file system whose events come and whose folders show in their mtime what happened."""
        trust = self._of(b"")
        return len(self._trusts) == 1 and not trust.blind and trust.mtimes

    def shared(self, path: bytes) -> bool:
        """Whether a file below the inbox lies on a file system to which other machines may write."""
        if len(self._trusts) < 2:
            return self._of(b"").mount.shared
        return mounts.of([trust.mount for trust in self._trusts.values()], self._root + b"/" + path).shared

    def _of(self, top: bytes) -> Trust:
        """The mount that the folder is, or that the inbox lies on; or a blind one in the folder."""
        if len(self._trusts) < 2:
            return self._trusts.get(self._root, _NONE_YET)
        path = self._root + b"/" + top
        inside = [t for point, t in self._trusts.items() if top and (point + b"/").startswith(path + b"/")]
        own = [t for t in inside if t.mount.point == path]
        return next((t for t in inside if t.blind), own[0] if own else self._trusts[self._root])

    def reasons(self) -> dict[str, str]:
        """The mounts on which events do not tell everything, by path, and why."""
        told = {printable(point): f"{t.mount.kind}: {t.blind}" for point, t in self._trusts.items() if t.blind}
        if self._unwatched:
            told.setdefault(printable(self._root), f"{len(self._unwatched)} folders: {_EXHAUSTED}")
        return told

    # --- Watching -----------------------------------------------------------------------------------------------

    def begin(self, boot: float) -> None:
        """Watch again: another mount lies at the inbox, or the watch went dead."""
        self._started = self._watch.start()
        self._unwatched, self._trusts = set(), {}
        self._prove(boot)

    def enter(self, folder: int, status: os.stat_result, path: bytes) -> None:
        """The folder behind a descriptor, *path* below the inbox, is about to be listed: from now on it is watched."""
        if self._started and not self._watch.cover(folder, inotify.identity(status), path) and self._watch.exhausted:
            self._unwatched.add(inotify.folder_of(path))

    def watched(self) -> Container[tuple[int, int]]:
        """The folders that are watched, by device and inode."""
        return self._watch.known

    def losses(self) -> int:
        """How often folders have ceased to be watched."""
        return self._watch.losses

    def listing(self) -> None:
        """Everything is about to be listed."""
        self._watch.listing()
        self._unwatched = set()

    def listed(self, *, everything: bool) -> None:
        """The inbox was scanned; *everything*: and listed. Says once that watches ran out, and once that they suffice."""
        if everything:
            self._watch.listed()
        if bool(self._unwatched) == self._told_unwatched:
            return
        self._told_unwatched = bool(self._unwatched)
        if self._unwatched:
            limit = _limit()
            log.warning(
                "watch.exhausted",
                folders=len(self._unwatched),
                watched=self._watch.count(),
                reason=f"{_EXHAUSTED}, now {limit or 'not readable'}",
                remedy=f"those folders are looked through every {mounts.POLL_SECONDS:g} s; raise it: "
                f"sysctl fs.inotify.max_user_watches={2 * (limit or 524_288)}",
            )
        else:
            log.info("watch.complete", watched=self._watch.count())

    # --- Proving ------------------------------------------------------------------------------------------------

    def check(self, boot: float) -> bool:
        """Let the mounts prove themselves where that is due. True if all is to be listed: the watch is new, or a mount."""
        if self._started and not self._watch.alive:
            log.warning(
                "watch.died",
                reason="the thread that reads events is gone",
                remedy="attachd watches it again, and scans",
            )
            self.begin(boot)
            return True
        due, before = boot - self._proven_boot >= PROVE_SECONDS, self._trusts
        same = not self.came_or_went()
        if not due and same:
            return False
        self._prove(boot)
        silent = [
            point for point, trust in self._trusts.items() if trust.blind == _NO_EVENT and _trusted(before, trust)
        ]
        if silent:
            log.warning(
                "watch.blind",
                folder=printable(silent[0]),
                reason=_NO_EVENT,
                remedy="attachd watches it again, and scans",
            )
            self.begin(boot)
        return bool(silent) or not same

    def came_or_went(self) -> bool:
        """Whether other file systems lie at the inbox or below it now than those that were judged last."""
        return {trust.mount for trust in self._trusts.values()} != set(self._present())

    def _present(self) -> list[Mount]:
        first, *below = mounts.below(self._inbox)
        return [Mount(self._root, first.kind), *below]

    def _prove(self, boot: float) -> None:
        self._proven_boot = boot
        # A mount on which scans have found nothing that events missed since it was proven last is trusted again.
        self._missed_scans = {m: scans for m, scans in self._missed_scans.items() if m in self._missed_lately}
        self._missed_lately = set()
        self._trusts = {mount.point: self._judge(mount) for mount in self._present()}

    def _judge(self, mount: Mount) -> Trust:
        if not self._started:
            return Trust(mount, _REFUSED)
        if mount.shared:
            return Trust(mount, "of what other machines do there, no event tells")
        with self._nest(mount) as nest:
            proof = prove(self._watch, nest) if nest is not None else Proof(error="it cannot be opened")
        if proof.error:
            return Trust(mount, f"no trial file could be made there ({proof.error})")
        if not proof.events:
            return Trust(mount, _NO_EVENT)
        untold = self._missed_scans.get(mount, 0) >= _SCANS_UNTIL_BLIND
        return Trust(mount, _UNTOLD if untold else "", proof.mtimes and not untold)

    @contextmanager
    def _nest(self, mount: Mount) -> Iterator[int | None]:
        """Where the canary of a mount is made: in our own folder of the inbox, or in the mount's root. Watched."""
        own = mount.point == self._root
        path = os.path.join(mount.point, os.fsencode(inbox_marker.FOLDER)) if own else mount.point
        try:
            with heartbeat.on_share():
                nest = os.open(path, folders.SUBFOLDER)
        except OSError:
            yield None
            return
        try:
            with suppress(OSError):
                sweep(nest)
            with heartbeat.on_share():
                status = os.fstat(nest)
            self._watch.cover(nest, inotify.identity(status), path[len(self._root) + 1 :])
            yield nest
        finally:
            folders.close(nest)

    # --- Files of which no event told -----------------------------------------------------------------------------

    def missed(self, found: Mapping[bytes, int]) -> None:
        """A scan has found files of which no event told, by folder: where that keeps happening, the mount is named."""
        for trust in {self._of(top) for top in found}:
            files = sum(count for top, count in found.items() if self._of(top) == trust)
            self._missed_lately.add(trust.mount)
            scans = self._missed_scans[trust.mount] = self._missed_scans.get(trust.mount, 0) + 1
            log.info("watch.missed", folder=printable(trust.mount.point), kind=trust.mount.kind, files=files)
            if scans == _SCANS_UNTIL_BLIND and not trust.blind:
                self._trusts[trust.mount.point] = Trust(trust.mount, _UNTOLD)
                log.warning(
                    "watch.blind",
                    folder=printable(trust.mount.point),
                    kind=trust.mount.kind,
                    reason=_UNTOLD,
                    remedy=f"it is looked through every {mounts.POLL_SECONDS:g} s, until nothing of the kind is found for "
                    f"{PROVE_SECONDS / 60:g} min",
                )


def _trusted(before: Mapping[bytes, Trust], now: Trust) -> bool:
    old = before.get(now.mount.point)
    return old is not None and old.mount == now.mount and not old.blind


def _limit() -> int | None:
    """The kernel's limit of watches; None where it cannot be read (systemd's ProcSubset=pid hides it)."""
    with suppress(OSError, ValueError), open("/proc/sys/fs/inotify/max_user_watches", encoding="ascii") as text:
        return int(text.read())
    return None


# Files that a scan found and of which no event had told: their number shows a mount whose events cannot be trusted.

#: How long an event may be under way, in seconds, before a file counts as one of which none told.
UNDER_WAY_SECONDS = 1.0


class MissedEvents:
    """Compares what full scans find with the folders that events told of."""

    def __init__(self) -> None:
        """Nothing is compared before the second scan: the first one finds what was there before anything was watched."""
        self._excused = True
        self._suspects: dict[bytes, int] = {}
        self._since = 0.0

    def excuse(self) -> None:
        """The next scan looks for what events are known to have missed: the watch is new, or the queue overflowed."""
        self._excused, self._suspects = True, {}

    def compare(self, found: Mapping[bytes, int], heard: Collection[bytes], boot: float) -> None:
        """A full scan *found* so many new files in each folder; *heard* are those of which an event told since the last scan."""
        if self._excused:
            self._excused = False
            return
        self._suspects = {top: count for top, count in found.items() if top not in heard}
        self._since = boot

    def confirm(self, heard: Collection[bytes], boot: float) -> dict[bytes, int]:
        """What is certain by now, by folder. *heard* are the folders of which an event told since ``compare``."""
        self._suspects = {top: count for top, count in self._suspects.items() if top not in heard}
        if boot - self._since < UNDER_WAY_SECONDS:
            return {}
        certain, self._suspects = self._suspects, {}
        return certain
