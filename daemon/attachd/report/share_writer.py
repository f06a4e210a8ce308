"""Keep ``_STATUS.txt`` and each ``_WHY.txt`` of the inbox up to date, in a thread of its own: a share may not answer.

The journal names the folders that hold a ``_WHY.txt`` before it is written, so that an old one is removed even after a
crash. A folder is recognised by its inode, because the usual remedy is to rename it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from attachd import errors
from attachd import text as attachd_text
from attachd.delivery.runtime import Runtime
from attachd.journal import counts, database, lookup
from attachd.logger import get_logger
from attachd.model import printable
from attachd.report import health, share_texts
from attachd.report.share_texts import Overview
from attachd.share import status_files

log = get_logger()

#: How often the texts are compared with the journal.
STEP_SECONDS = 5.0
#: How often ``_STATUS.txt`` is written without a change, because its age shows whether attachd runs.
RENEW_SECONDS = 3600.0

_SOON = 0.1

_KEY = "status_files"


@dataclass(frozen=True, slots=True)
class Written:
    """A ``_WHY.txt`` in a folder with this *inode*. *digest* is "" if a process may have died before it was written."""

    digest: str = ""
    inode: tuple[int, int] | None = None


class ShareWriter:
    """The thread that writes the texts; ``step`` is one round."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._status = ""
        self._renew_at = 0.0
        self._logged: set[bytes] = set()

    def loop(self, scanned: threading.Event, others: Sequence[threading.Thread]) -> None:
        """Write until the service stops, and once more when the *others* have ended."""
        runtime = self._runtime
        for _ in range(int(STEP_SECONDS / _SOON)):
            # Wait for the first scan, unless it takes long: "no files are waiting" would be a lie.
            if scanned.wait(_SOON) or runtime.stopping.is_set():
                break
        while not runtime.stopping.is_set():
            runtime.beats.beat()
            self.step()
            runtime.stopping.wait(STEP_SECONDS)
        for thread in others:
            while thread.is_alive():
                runtime.beats.beat()
                thread.join(1.0)
        self.step(running=False)

    def step(self, *, running: bool = True) -> None:
        """Write each text that has changed. A text that cannot be written is tried again, and logged once."""
        self._runtime.beats.beat()
        with errors.left_to_workers():
            sight = self._runtime.guard.look()
            if sight.there:
                mount = sight.mount[:2]
                seen = gather(self._runtime)
                self._write_status(seen, mount, running=running)
                self._write_whys(seen, mount)

    # --- _STATUS.txt --------------------------------------------------------------------------------------------

    def _write_status(self, seen: Overview, mount: tuple[int, int], *, running: bool) -> None:
        if self._runtime.config.folders.share_status == "off":
            if self._status != "off" and self._try(status_files.STATUS, lambda: self._remove_status(mount)):
                self._status = "off"
            return
        lines = share_texts.status(seen, running=running)
        fresh = "\n".join(lines)
        boot = self._runtime.clock.boot()
        if fresh == self._status and boot < self._renew_at:
            return
        content = status_files.render("overview of these folders", [share_texts.as_of(seen.now), "", *lines])
        if self._try(
            status_files.STATUS,
            lambda: status_files.put(self._runtime.guard.inbox, mount, b"", status_files.STATUS, content),
        ):
            self._status, self._renew_at = fresh, boot + RENEW_SECONDS

    def _remove_status(self, mount: tuple[int, int]) -> None:
        status_files.remove(self._runtime.guard.inbox, mount, b"", status_files.STATUS)

    # --- _WHY.txt -----------------------------------------------------------------------------------------------

    def _write_whys(self, seen: Overview, mount: tuple[int, int]) -> None:
        wanted = share_texts.why(seen, self._runtime.config.limits.warn_after_minutes * 60)
        known = before = _read(self._runtime)
        for folder in known.keys() - wanted.keys():
            if self._try(_path(folder), lambda: self._remove(folder, known[folder], mount)):  # noqa: B023
                known = {name: each for name, each in known.items() if name != folder}
        fresh = {f: text for f, text in wanted.items() if known.get(f, Written()).digest != status_files.digest(text)}
        intended = known | {folder: replace(known.get(folder, Written()), digest="") for folder in fresh}
        if intended != before:
            _record(self._runtime, intended)
        written = {f: done for f, text in fresh.items() if (done := self._put(f, text, mount))}
        if written:
            _record(self._runtime, intended | written)

    def _put(self, folder: bytes, text: bytes, mount: tuple[int, int]) -> Written | None:
        found: list[tuple[int, int]] = []

        def put() -> None:
            found.append(status_files.put(self._runtime.guard.inbox, mount, folder, status_files.WHY, text))

        return Written(status_files.digest(text), found[0]) if self._try(_path(folder), put) else None

    def _remove(self, folder: bytes, written: Written, mount: tuple[int, int]) -> None:
        """Remove the text from the folder, under whatever name the folder has now."""
        inbox = self._runtime.guard.inbox
        status_files.remove(inbox, mount, folder, status_files.WHY)
        if written.inode is not None and status_files.inode(inbox, mount, folder) != written.inode:
            renamed = status_files.renamed(inbox, mount, written.inode)
            if renamed is not None:
                status_files.remove(inbox, mount, renamed, status_files.WHY)

    # --- Both ---------------------------------------------------------------------------------------------------

    def _try(self, path: bytes, write: Callable[[], object]) -> bool:
        """Return True if the text could be written; log once if not. A missing text holds no file."""
        self._runtime.beats.beat()
        try:
            write()
        except status_files.Foreign:
            self._log(path, "a file of this name is there, and it is not attachd's", "rename that file")
            return False
        except OSError as error:
            self._log(path, str(error.strerror or error), "check the disk and the folder's mode; attachd tries again")
            return False
        self._logged.discard(path)
        return True

    def _log(self, path: bytes, reason: str, remedy: str) -> None:
        if path not in self._logged:
            self._logged.add(path)
            log.warning("status_file.not_written", file=printable(path), reason=reason, remedy=remedy)


def _path(folder: bytes) -> bytes:
    return b"/".join([folder, status_files.WHY]) if folder else status_files.WHY


def gather(runtime: Runtime) -> Overview:
    """Return what the journal says now. An index answers each question, however many files wait."""
    journal, now = runtime.reader, runtime.clock.wall()
    settings = runtime.config
    warn = settings.limits.warn_after_minutes * 60
    words = counts.standing(journal).words
    named = None
    if settings.folders.share_status == "names":
        named = lookup.sending(journal), lookup.troubled(journal), counts.last_verdicts(journal)
    conditions = health.of_runtime(runtime)
    return Overview(
        now=now,
        words=words,
        oldest=lookup.oldest_waiting(journal),
        failed=counts.lying_in_failed(journal),
        attached_today=counts.attached_since(journal, journal.timeline().kept(attachd_text.midnight(now))),
        conditions=conditions,
        pauses=[each.pause for each in conditions if each.pause is not None],
        unrouted=counts.unrouted(journal),
        blocked=lookup.blocked_before(journal, now - warn, share_texts.MOST_LINES * share_texts.MOST_FOLDERS),
        absent=counts.troubles(journal),
        named=named,
    )


def _read(runtime: Runtime) -> dict[bytes, Written]:
    with runtime.journal.transaction_for_reading() as connection:
        known = json.loads(database.get(connection, _KEY) or "{}")
    return {
        name.encode("latin-1"): Written(each["digest"], tuple(each["inode"]) if each["inode"] else None)
        for name, each in known.items()
    }


def _record(runtime: Runtime, written: dict[bytes, Written]) -> None:
    with runtime.journal.transaction() as connection:
        database.put(
            connection, _KEY, json.dumps({name.decode("latin-1"): asdict(each) for name, each in written.items()})
        )
