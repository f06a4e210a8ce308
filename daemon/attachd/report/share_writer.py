"""Keeps ``_STATUS.txt`` and each ``_WHY.txt`` of the inbox up to date, in a thread of its own: a share that does not answer
holds up nothing else.

Which folders hold a ``_WHY.txt`` is in the journal before it is written, so that one whose reason is gone is removed also after a
crash. A folder is known again by its inode, because the remedy is to rename it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import structlog

from attachd import errors
from attachd import text as attachd_text
from attachd.delivery.runtime import Runtime
from attachd.journal import counts, database, lookup
from attachd.model import printable
from attachd.report import health, share_texts
from attachd.report.share_texts import Seen
from attachd.share import status_files

log = structlog.get_logger()

#: How often it is looked whether a text would be another one by now.
STEP_SECONDS = 5.0
#: How often ``_STATUS.txt`` is written even so, because its age tells that attachd runs.
RENEW_SECONDS = 3600.0

_SOON = 0.1

_KEY = "notices"


@dataclass(frozen=True, slots=True)
class Posted:
    """A ``_WHY.txt`` that is there, or was to be written when a process died: *digest* is then "". *inode*: its folder's."""

    digest: str = ""
    inode: tuple[int, int] | None = None


class Posting:
    """What the thread does; ``step`` is one round."""

    def __init__(self, runtime: Runtime) -> None:
        """Nothing is written before the first step."""
        self._runtime = runtime
        self._status = ""
        self._renew_at = 0.0
        self._told: set[bytes] = set()

    def loop(self, scanned: threading.Event, others: Sequence[threading.Thread]) -> None:
        """Post until the end, and what is the case at the end when the *others* have ended."""
        runtime = self._runtime
        for _ in range(int(STEP_SECONDS / _SOON)):
            # What the first scan finds is waited for, unless it takes long: "no file waits" would be a lie.
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
        """Write what is another text by now. What cannot be written now is tried again, and is told once."""
        self._runtime.beats.beat()
        with errors.left_to_workers():
            sight = self._runtime.guard.look()
            if sight.there:
                mount = sight.mount[:2]
                seen = gather(self._runtime)
                self._post_status(seen, mount, running=running)
                self._post_whys(seen, mount)

    # --- _STATUS.txt --------------------------------------------------------------------------------------------

    def _post_status(self, seen: Seen, mount: tuple[int, int], *, running: bool) -> None:
        if self._runtime.config.folders.share_status == "off":
            if self._status != "off" and self._try(status_files.STATUS, lambda: self._unpost(mount)):
                self._status = "off"
            return
        lines = share_texts.status(seen, running=running)
        fresh = "\n".join(lines)
        boot = self._runtime.clock.boot()
        if fresh == self._status and boot < self._renew_at:
            return
        content = status_files.render("how it stands in these folders", [share_texts.as_of(seen.now), "", *lines])
        if self._try(
            status_files.STATUS,
            lambda: status_files.put(self._runtime.guard.inbox, mount, b"", status_files.STATUS, content),
        ):
            self._status, self._renew_at = fresh, boot + RENEW_SECONDS

    def _unpost(self, mount: tuple[int, int]) -> None:
        status_files.remove(self._runtime.guard.inbox, mount, b"", status_files.STATUS)

    # --- _WHY.txt -----------------------------------------------------------------------------------------------

    def _post_whys(self, seen: Seen, mount: tuple[int, int]) -> None:
        wanted = share_texts.why(seen, self._runtime.config.limits.warn_after_minutes * 60)
        posted = before = _read(self._runtime)
        for folder in posted.keys() - wanted.keys():
            if self._try(_path(folder), lambda: self._remove(folder, posted[folder], mount)):  # noqa: B023
                posted = {name: each for name, each in posted.items() if name != folder}
        fresh = {f: text for f, text in wanted.items() if posted.get(f, Posted()).digest != status_files.digest(text)}
        intended = posted | {folder: replace(posted.get(folder, Posted()), digest="") for folder in fresh}
        if intended != before:
            _write(self._runtime, intended)
        written = {f: done for f, text in fresh.items() if (done := self._put(f, text, mount))}
        if written:
            _write(self._runtime, intended | written)

    def _put(self, folder: bytes, text: bytes, mount: tuple[int, int]) -> Posted | None:
        found: list[tuple[int, int]] = []

        def put() -> None:
            found.append(status_files.put(self._runtime.guard.inbox, mount, folder, status_files.WHY, text))

        return Posted(status_files.digest(text), found[0]) if self._try(_path(folder), put) else None

    def _remove(self, folder: bytes, posted: Posted, mount: tuple[int, int]) -> None:
        """Remove the text from the folder, or from where the folder is now."""
        inbox = self._runtime.guard.inbox
        status_files.remove(inbox, mount, folder, status_files.WHY)
        if posted.inode is not None and status_files.inode(inbox, mount, folder) != posted.inode:
            renamed = status_files.renamed(inbox, mount, posted.inode)
            if renamed is not None:
                status_files.remove(inbox, mount, renamed, status_files.WHY)

    # --- Both ---------------------------------------------------------------------------------------------------

    def _try(self, path: bytes, write: Callable[[], object]) -> bool:
        """Whether it could be written; told once where it cannot. A text that lacks holds up no file."""
        self._runtime.beats.beat()
        try:
            write()
        except status_files.Foreign:
            self._tell(path, "a file of this name lies there that is not attachd's", "rename that file")
            return False
        except OSError as error:
            self._tell(path, str(error.strerror or error), "it is written when the disk and the folder's mode allow it")
            return False
        self._told.discard(path)
        return True

    def _tell(self, path: bytes, reason: str, remedy: str) -> None:
        if path not in self._told:
            self._told.add(path)
            log.warning("notice.not_written", file=printable(path), reason=reason, remedy=remedy)


def _path(folder: bytes) -> bytes:
    return b"/".join([folder, status_files.WHY]) if folder else status_files.WHY


def gather(runtime: Runtime) -> Seen:
    """What the journal says now. Each question is answered by an index, however many files wait."""
    journal, now = runtime.reader, runtime.clock.wall()
    settings = runtime.config
    warn = settings.limits.warn_after_minutes * 60
    words = counts.standing(journal).words
    named = None
    if settings.folders.share_status == "names":
        named = lookup.sending(journal), lookup.troubled(journal), counts.last_verdicts(journal)
    conditions = health.of_runtime(runtime)
    return Seen(
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


def _read(runtime: Runtime) -> dict[bytes, Posted]:
    with runtime.journal.transaction_for_reading() as connection:
        known = json.loads(database.get(connection, _KEY) or "{}")
    return {
        name.encode("latin-1"): Posted(each["digest"], tuple(each["inode"]) if each["inode"] else None)
        for name, each in known.items()
    }


def _write(runtime: Runtime, posted: dict[bytes, Posted]) -> None:
    with runtime.journal.transaction() as connection:
        database.put(
            connection, _KEY, json.dumps({name.decode("latin-1"): asdict(each) for name, each in posted.items()})
        )
