"""Find out what lies at a path that a person names, from the folders and the journal. Changes nothing."""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from attachd.clock import Clock
from attachd.config import Config, Rulebook
from attachd.errors import Mistake, Problem
from attachd.fs import folders, recognition
from attachd.intake import examine, files, ignore, ignore_patterns, router
from attachd.intake import identity as intake_identity
from attachd.journal import counts, lookup, retries, terms
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.model import FINISHED, State, printable
from attachd.report import circumstances as report_circumstances
from attachd.report import health
from attachd.report import why as report_why
from attachd.report.circumstances import Circumstances, Waiting
from attachd.report.why import Rule, Situation
from attachd.share import inbox_marker, locks, notes, paths

Found = tuple[bytes, Situation]

#: What is neither a file nor a folder, in words.
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)
_NO_BYTES = b""


def circumstances(config: Config, state: Path, journal: Journal, clock: Clock) -> Circumstances:
    """Return the circumstances of all files at this moment, as another process finds them."""
    sight = paths.sight(config, state, terms.known(journal))
    epoch, holder = int(str(lookup.fact(journal, "epoch") or 0)), locks.holder(state / "lock")
    found = health.of_journal(config, state, journal, clock.wall(), absent="", pid=holder.pid if holder else 0)
    return report_circumstances.gather(
        config,
        clock,
        sight,
        lookup.every_pause(journal),
        epoch,
        running=holder is not None,
        stopped=health.stopping(found),
    )


def meant(journal: Journal, given: str) -> bytes | Row:
    """Return the path that is *given*, or the row with that id: at its path another file may lie by now.

    A file here of that name comes first. Raises ``errors.Mistake`` (1) if no file has the id.
    """
    if not re.fullmatch(r"[Ff][1-9][0-9]{0,17}", given, re.ASCII) or os.path.lexists(given):
        return os.fsencode(given)
    row = lookup.by_id(journal, int(given[1:]))
    if row is None:
        what = f"no file has the id {given.upper()}, or its history was deleted."
        raise Mistake(Problem("", what, "`attachd history` lists all files."), exit_code=1)
    return row


class Locator:
    """Finds out what lies at paths."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self._config, self._journal = config, journal
        self._roots = paths.roots(config)
        self._router = router.of(config)
        self._rulebook = Rulebook(config)
        self._visited = b""
        self._hiding = ignore.Hiding(config, self._rulebook, self._router)

    def about(self, given: bytes | Row, cwd: bytes) -> Iterator[Found]:
        """Yield what lies at a path; for a folder, everything in it, or what is wrong with the folder itself.

        Of a row yield what became of its own file.
        """
        if isinstance(given, Row):
            yield self._of(given)
            return
        placed = self._place(given, cwd)
        if placed is None:
            yield given, report_why.Elsewhere()
            return
        root, path = placed
        status = self._status(root, path)
        if isinstance(status, os.stat_result) and stat.S_ISDIR(status.st_mode):
            yield from self._folder(root, path)
        elif root == "inbox":
            yield self._named(root, path), self._in_inbox(path, status)
        else:
            yield self._named(root, path), self._filed(root, path, status)

    def _of(self, row: Row) -> Found:
        if row.root is None or row.target is None:
            root, path, last = "inbox", row.path, lookup.at_path(self._journal, row.path)
        else:
            root, path, last = row.root, row.target, lookup.filed(self._journal, row.root, row.target)
        named, status = self._named(root, path), self._status(root, path)
        if last is None or last.id != row.id:  # Whatever lies there is another row's, or nobody's yet.
            return named, report_why.Finished(row, there=False) if row.state in FINISHED else self._waiting(row)
        if isinstance(status, os.stat_result) and stat.S_ISDIR(status.st_mode):
            status = None
        return named, self._in_inbox(path, status) if root == "inbox" else self._filed(root, path, status)

    # --- Where it is --------------------------------------------------------------------------------------------

    def _place(self, given: bytes, cwd: bytes) -> tuple[str, bytes] | None:
        """Return the folder (inbox, done or failed) that a path is in, and the path below it."""
        path = paths.below(given)
        return paths.place(given, cwd, self._roots) or (self._below_a_root(path) if path is not None else None)

    def _below_a_root(self, path: bytes) -> tuple[str, bytes] | None:
        there = (root for root, folder in self._roots.items() if os.path.lexists(os.path.join(bytes(folder), path)))
        found = next(there, None)
        if found is None and lookup.last_at_path(self._journal, path):
            found = "inbox"
        return (found, path) if found else None

    def _named(self, root: str, path: bytes) -> bytes:
        return os.path.join(bytes(self._roots[root]), path)

    def _status(self, root: str, path: bytes) -> os.stat_result | OSError | Situation | None:
        """Return the status of the name itself, or why it has none; ``Special`` if the way leads through a link."""
        here = bytes(self._roots[root])
        parts = folders.split(path)
        try:
            status = os.stat(here)
            for number, part in enumerate(parts):
                here = os.path.join(here, part)
                status = os.lstat(here)
                if number + 1 < len(parts) and (kind := _kind(status)):
                    return report_why.Special(kind, part)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            return None
        except OSError as error:
            return error
        return status

    # --- In the inbox -------------------------------------------------------------------------------------------

    def _in_inbox(self, path: bytes, status: os.stat_result | OSError | Situation | None) -> Situation:
        row = lookup.at_path(self._journal, path)
        if row is not None and row.state not in (State.SEEN, State.READY):
            return self._waiting(row, gone=status is None)
        if isinstance(status, OSError):
            return self._waiting(row) if row else report_why.Unreachable(status.strerror or str(status))
        if status is None:
            return self._waiting(row, gone=True) if row else self._last(path)
        if not isinstance(status, os.stat_result):
            return status
        barred = self._barred(path, status)
        if barred is not None:
            return self._carried_here(status) or barred
        if coming := self._coming_back("inbox", path):
            return coming
        return self._waiting(row) if row else self._unseen(path, status.st_size)

    def _carried_here(self, status: os.stat_result) -> Waiting | None:
        """Return the row of a file that was sent from another path, and carried here before it could be moved out."""
        for row in lookup.of_inode(self._journal, files.fingerprint(status)) if stat.S_ISREG(status.st_mode) else ():
            own = self._status("inbox", row.path)
            # Both may be hard links of one file: then its own name is there, too, and this one was never dropped.
            linked = isinstance(own, os.stat_result) and os.path.samestat(own, status)
            if intake_identity.is_sent(row) and not linked:
                return self._waiting(row, gone=True)
        return None

    def _coming_back(self, root: str, path: bytes) -> report_why.ComingBack | None:
        """Return the unfinished ``retry`` of this path: intake skips the copy until the original is gone."""
        with self._journal.transaction_for_reading() as connection:
            begun = retries.unfinished(connection)
        found = (i for i in begun if path == (i.target if root == "inbox" else i.source))
        return next(
            (
                report_why.ComingBack(i.source, i.target, i.since)
                for i in found
                if examine.still_in_failed(self._config.folders.failed, i.source)
            ),
            None,
        )

    def _last(self, path: bytes) -> Situation:
        """Return what lay last at a path where nothing lies now."""
        row = lookup.last_at_path(self._journal, path)
        if row is None:
            return report_why.Unknown()
        return self._finished(row) if row.state in FINISHED else self._waiting(row)

    def _finished(self, row: Row, *, note: bool = False) -> report_why.Finished:
        there = row.root is not None and row.target is not None and os.path.lexists(self._named(row.root, row.target))
        return report_why.Finished(row, there, note)

    def _waiting(self, row: Row, *, gone: bool = False) -> Waiting:
        return report_circumstances.waiting(self._journal, self._rulebook, row, gone=gone)

    def _unrouted_since(self, folder: bytes) -> float | None:
        """Return when a scan first found files in a folder that is not an issue folder."""
        since = self._journal.value("SELECT min(since) FROM unrouted WHERE folder = ?", (folder,))
        return None if since is None else float(since)

    def _barred(self, path: bytes, status: os.stat_result) -> Situation | None:
        """Return why intake ignores this path; None if it takes it."""
        if kind := _kind(status):
            return report_why.Special(kind)
        if ignored := self._ignored(path, folder=False):
            return ignored
        top, _, rest = path.partition(b"/")
        if not rest:
            return report_why.NoIssue("", since=self._unrouted_since(b""))
        routed = self._router.route(top)
        if isinstance(routed, router.Unrouted):
            return report_why.NoIssue(routed.reason, since=self._unrouted_since(top))
        if self._config.folders.nested == "ignore" and b"/" in rest:
            return report_why.TooDeep()
        if path.count(b"/") > files.DEPTH + 1:
            return report_why.TooDeep(files.DEPTH)
        return None

    def _unseen(self, path: bytes, size: int) -> Situation:
        if self._is_note(path):
            return report_why.Dragged()
        broken = next(((f, why) for f, why in self._hiding.broken.items() if path.startswith(f + b"/")), None)
        if broken is not None:
            return report_why.Undecided(*broken)
        if unlisted := self._unlisted(path):
            return unlisted
        top = path.partition(b"/")[0]
        routed = self._router.route(top)
        assert isinstance(routed, router.Routed)
        return report_why.Unseen(routed.key, size, self._rulebook.of(top, routed.key))

    def _unlisted(self, path: bytes) -> report_why.Unlisted | None:
        """Return the trouble that the last scan had with a folder on the way to a path."""
        troubles = counts.troubles(self._journal)
        ways = itertools.accumulate(path.split(b"/")[:-1], lambda one, other: one + b"/" + other) if troubles else ()
        return next((report_why.Unlisted(way, troubles[way]) for way in map(printable, ways) if way in troubles), None)

    def _is_note(self, path: bytes) -> bool:
        name = path.rpartition(b"/")[2]
        if not notes.may_be_named(name):
            return False
        with suppress(OSError):
            file = os.open(self._named("inbox", path), recognition.READ)
            try:
                return notes.is_note(name, os.read(file, notes.FIRST_BYTES)) is not None
            finally:
                os.close(file)
        return False

    def _ignored(self, path: bytes, *, folder: bool) -> report_why.Ignored | None:
        """Return the first name on the way to a path that a pattern ignores."""
        parts = path.split(b"/")
        self._visit(path)
        for number in range(1, len(parts) + 1):
            last = number == len(parts)
            here, is_folder = b"/".join(parts[:number]), folder or not last
            above = _NO_BYTES if last else parts[number - 1]
            pattern = self._hiding.pattern(here, is_folder)
            if pattern is not None:
                return report_why.Ignored(pattern, _rule(pattern, self._hiding.rules(path).ignore), above)
            if not is_folder and (marker := self._hiding.marker(here)):
                return report_why.Ignored(marker, Rule.MARKER)
            if listed := self._hiding.listed(here, is_folder):
                return report_why.Ignored(listed.line, Rule.LISTED, above, listed.file)
        return None

    def _visit(self, path: bytes) -> None:
        """Read the ignore files on the way to a path, once for all files of a folder."""
        above = path.rpartition(b"/")[0]
        routed = self._router.route(path.partition(b"/")[0])
        if above and above != self._visited and isinstance(routed, router.Routed):
            self._hiding.visit(self._config.folders.inbox, above)
            self._visited = above

    # --- Done and failed ----------------------------------------------------------------------------------------

    def _filed(self, root: str, path: bytes, status: os.stat_result | OSError | Situation | None) -> Situation:
        if root == "failed" and (coming := self._coming_back(root, path)):
            return coming
        row = lookup.filed(self._journal, root, path)
        if row is not None:
            return self._finished(row) if row.state in FINISHED else self._waiting(row)
        noted = lookup.noted(self._journal, path) if root == "failed" else None
        if noted is not None:
            return self._finished(noted, note=True)
        if isinstance(status, OSError):
            return report_why.Unreachable(status.strerror or str(status))
        return report_why.Unknown(there=status is not None)

    # --- Folders ------------------------------------------------------------------------------------------------

    def _folder(self, root: str, path: bytes) -> Iterator[Found]:
        named = self._named(root, path).rstrip(b"/")
        if root == "inbox" and path:
            trouble = self._folders_trouble(path)
            if trouble is not None:
                yield named, trouble
                return
        inside = self._inside(root, path)
        first = next(inside, None)
        if first is None:
            yield named, report_why.Empty(self._key(path) if root == "inbox" else "")
            return
        yield from itertools.chain([first], inside)

    def _key(self, path: bytes) -> str:
        routed = self._router.route(path.partition(b"/")[0])
        return routed.key if isinstance(routed, router.Routed) else ""

    def _folders_trouble(self, path: bytes) -> Situation | None:
        """Return what is wrong with a folder in the inbox, whatever lies in it."""
        ignored = self._ignored(path, folder=True)
        if ignored is not None:
            return ignored
        routed = self._router.route(path.partition(b"/")[0])
        if isinstance(routed, router.Unrouted):
            return report_why.NoIssue(routed.reason, folder=True, since=self._unrouted_since(path.partition(b"/")[0]))
        if self._config.folders.nested == "ignore" and b"/" in path:
            return report_why.TooDeep()
        return report_why.TooDeep(files.DEPTH) if path.count(b"/") > files.DEPTH else None

    def _inside(self, root: str, path: bytes) -> Iterator[Found]:
        """Yield everything in a folder by name, and only the folder itself if something is wrong with it."""
        try:
            entries = sorted(os.scandir(self._named(root, path)), key=lambda entry: entry.name)
        except OSError as error:
            yield self._named(root, path).rstrip(b"/"), report_why.Unreachable(error.strerror or str(error))
            return
        for entry in entries:
            below = os.path.join(path, entry.name)
            if below == inbox_marker.FOLDER.encode():
                continue
            if entry.is_dir(follow_symlinks=False):
                trouble = self._folders_trouble(below) if root == "inbox" else None
                if trouble is None:
                    yield from self._inside(root, below)
                else:
                    yield self._named(root, below), trouble
            elif root == "inbox":
                found = self._in_inbox(below, self._status(root, below))
                if not (isinstance(found, report_why.Ignored) and found.rule is Rule.OWN):
                    yield self._named(root, below), found
            elif root != "failed" or lookup.noted(self._journal, below) is None:
                yield self._named(root, below), self._filed(root, below, self._status(root, below))


def _kind(status: os.stat_result) -> str:
    """Return what it is in words; "" for a file or a folder."""
    return next((kind for is_kind, kind in _KINDS if is_kind(status.st_mode)), "")


def _rule(pattern: str, users: tuple[str, ...]) -> Rule:
    if pattern in (*ignore_patterns.OWN, ignore_patterns.OWN_STATUS):
        return Rule.OWN
    if pattern == ignore_patterns.KEPT:
        return Rule.KEPT
    if pattern not in ignore_patterns.BUILT_IN and pattern in users:
        return Rule.USERS
    if pattern.startswith("."):
        return Rule.HIDDEN
    return Rule.BUILT_IN if pattern in ignore_patterns.BUILT_IN else Rule.USERS
