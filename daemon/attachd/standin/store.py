"""What the stand-in holds, on disk, so that a restart keeps it and an oracle can read it.

``folder/files/ID`` are the bytes; ``folder/log.jsonl`` is the append-only truth about everything else: one line for
each issue, move, commit (all files of a request in one line), deletion and request.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import mimetypes
import os
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attachd.standin.settings import UPLOAD_LIMITS, Settings

#: How many requests are kept in memory; the log on disk has all.
REQUESTS_KEPT = 200_000


@dataclass(frozen=True, slots=True)
class Attachment:
    """One stored file. ``created`` is in milliseconds since the epoch, ``sha256`` in hexadecimal digits."""

    id: str
    issue: str
    filename: str
    size: int
    sha256: str
    created: int
    author: str
    mime: str
    path: Path


@dataclass(slots=True)
class Issue:
    """One issue under its present key."""

    id: int
    key: str
    summary: str


@dataclass(slots=True)
class Part:
    """One file of a request, as far as it has arrived; its bytes are in ``path`` until they are stored or dropped."""

    path: Path
    filename: str
    mime: str
    size: int = 0
    sha256: str = ""
    whole: bool = False  #: its end has arrived
    too_large: bool = False  #: its bytes were not kept


@dataclass(slots=True)
class Request:
    """One request. It enters the log when its head has arrived, and is completed when it ``ended``."""

    method: str
    path: str
    query: str = ""
    issue: str | None = None
    files: int = 0
    #: None: the connection was cut before a whole reply was sent.
    status: int | None = None
    bytes_received: int = 0
    at: float = field(default_factory=time.monotonic)
    committed: list[str] = field(default_factory=list)
    fault: str | None = None
    complete: bool = False
    ended: bool = False


class RequestLog:
    """Every request in the order in which the heads arrived. Any thread may read it and wait for it."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque(maxlen=REQUESTS_KEPT)
        self._changed = threading.Condition()

    def add(self, request: Request) -> None:
        """Remember *request*, whose head has just arrived."""
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def touch(self) -> None:
        """Wake waiting threads, because a request has changed."""
        with self._changed:
            self._changed.notify_all()

    def all(self) -> list[Request]:
        """List what was seen so far."""
        with self._changed:
            return list(self._requests)

    def wait(self, enough: Callable[[list[Request]], bool], seconds: float) -> bool:
        """Wait until *enough* accepts the whole log. Return False if it never does."""
        with self._changed:
            return self._changed.wait_for(lambda: enough(list(self._requests)), seconds)


KEY = re.compile(r"[A-Z][A-Z0-9_]*-[1-9][0-9]*")
FIRST_ISSUE_ID = 10_001
FIRST_ATTACHMENT_ID = 20_001


class Store(Settings):
    """Issues, attachments and settings of one stand-in. Any thread may use it."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] | None = None, **settings: Any) -> None:
        """Open *folder*, making it if need be, and read what an earlier stand-in stored there.

        *clock* tells the seconds since the epoch, in the place of the machine's own clocks.
        """
        super().__init__(**settings)
        self.upload_limit = self.upload_limit or UPLOAD_LIMITS[self.deployment]
        self.folder = folder
        self._clock = clock
        self.incoming = folder / "incoming"
        self._files = folder / "files"
        self._lock = threading.RLock()
        self._issues: dict[int, Issue] = {}
        self._keys: dict[str, int] = {}
        self._attachments: dict[str, Attachment] = {}
        self._on_issue: dict[str, dict[str, Attachment]] = {}
        self.comments: dict[str, list[dict[str, Any]]] = {}  #: by issue; in memory only
        self.heard: list[dict[str, Any]] = []  #: posts to the stand-in as a webhook; in memory only
        self._last_issue, self._last_attachment = FIRST_ISSUE_ID - 1, FIRST_ATTACHMENT_ID - 1
        self.version = 0  #: grows with every change that the web page shows
        shutil.rmtree(self.incoming, ignore_errors=True)
        for directory in (self.incoming, self._files):
            directory.mkdir(parents=True, exist_ok=True)
        self._log_path = folder / "log.jsonl"
        self._replay()
        self._clean()
        self._log: int | None = None

    # --- the log -------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the log for writing; a closed store can still be read."""
        with self._lock:
            if self._log is None:
                self._log = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Close the log."""
        with self._lock:
            if self._log is not None:
                os.close(self._log)
                self._log = None

    def note(self, event: str, **values: Any) -> None:
        """Append one line to the log, in one write: a reader never sees two lines mixed."""
        line = json.dumps({"event": event, "time": time.time(), **values}, ensure_ascii=False) + "\n"
        data = line.encode("utf-8", "surrogatepass")
        with self._lock:
            if self._log is None:
                with self._log_path.open("ab") as log:
                    log.write(data)
            else:
                os.write(self._log, data)

    def _replay(self) -> None:
        if not self._log_path.exists():
            return
        whole, _, torn = self._log_path.read_bytes().rpartition(b"\n")
        for line in whole.splitlines():
            self._apply(json.loads(line))
        if torn:
            os.truncate(self._log_path, len(whole) + 1)

    def _clean(self) -> None:
        """Remove bytes of a process that died before it logged them, or after it logged their end."""
        for path in self._files.iterdir():
            if path.name not in self._attachments:
                path.unlink()

    def _apply(self, entry: dict[str, Any]) -> None:
        match entry["event"]:
            case "issue":
                self._remember_issue(Issue(entry["id"], entry["key"], entry["summary"]))
            case "move":
                self._rename(entry["old"], entry["new"])
            case "commit":
                for values in entry["attachments"]:
                    self._remember(Attachment(**values | {"path": self._files / values["id"]}))
            case "delete":
                self._forget(entry["id"])
            case _:
                pass  # requests are for the reader of the log

    # --- issues --------------------------------------------------------------------------------------------------

    def add_issue(self, key: str, summary: str = "") -> Issue:
        """Create the issue *key*, or change its summary."""
        with self._lock:
            known = self._keys.get(key.upper())
            number = known if known is not None else self._last_issue + 1
            issue = Issue(number, self._issues[number].key if known is not None else key, summary)
            self.note("issue", id=issue.id, key=issue.key, summary=issue.summary)
            return self._remember_issue(issue)

    def _remember_issue(self, issue: Issue) -> Issue:
        self._issues[issue.id] = issue
        self._keys[issue.key.upper()] = issue.id
        self._last_issue = max(self._last_issue, issue.id)
        self.version += 1
        return issue

    def move_issue(self, old: str, new: str) -> None:
        """Move *old* to the key *new*. The old key still leads to it, and attachments of both are merged."""
        with self._lock:
            if old.upper() not in self._keys:
                self.add_issue(old)
            self.note("move", old=old, new=new)
            self._rename(old, new)

    def _rename(self, old: str, new: str) -> None:
        moved = self._issues[self._keys[old.upper()]]
        target = self._issues.get(self._keys.get(new.upper(), moved.id), moved)
        former, target.key = moved.key, new
        self._keys = {key: target.id if number == moved.id else number for key, number in self._keys.items()}
        self._keys[new.upper()] = target.id
        if target is not moved:
            del self._issues[moved.id]
        together = self._on_issue.pop(former, {}) | self._on_issue.pop(new, {})
        for number in sorted(together, key=int):
            self._remember(replace(together[number], issue=new))
        self.version += 1

    def find_issue(self, key_or_id: str) -> Issue | None:
        """Return an issue by key in any case, former key or number. Create it if ``auto_issues`` allows that."""
        with self._lock:
            if key_or_id.isascii() and key_or_id.isdigit():
                return self._issues.get(int(key_or_id))
            number = self._keys.get(key_or_id.upper())
            if number is not None:
                return self._issues[number]
            return self.add_issue(key_or_id.upper()) if self._springs_up(key_or_id.upper()) else None

    def has_project(self, project: str) -> bool:
        """Return True if *project* has an issue, or would get one."""
        with self._lock:
            return self._springs_up(f"{project}-1") or any(key.startswith(f"{project}-") for key in self._keys)

    def _springs_up(self, key: str) -> bool:
        project = key.rpartition("-")[0]
        return self.auto_issues and KEY.fullmatch(key) is not None and (not self.projects or project in self.projects)

    def issues(self) -> list[Issue]:
        """List the issues in the order of creation."""
        with self._lock:
            return [replace(issue) for issue in self._issues.values()]

    # --- attachments ---------------------------------------------------------------------------------------------

    @property
    def own_clock(self) -> bool:
        """Return True if the caller moves the clock."""
        return self._clock is not None

    def _now(self) -> float:
        return (self._clock or time.time)() + self.clock_skew

    def moment(self) -> float:
        """Return a monotonic time."""
        return (self._clock or time.monotonic)()

    def now_ms(self) -> int:
        """Return this server's time in milliseconds since the epoch."""
        return int(self._now() * 1000)

    def http_date(self) -> str:
        """Return the time of the Date header: this server's, or that of the proxy in front of it."""
        return email.utils.formatdate(self._now() + self.date_skew, usegmt=True)

    def set_aside(self, part: Part) -> Part:
        """Copy the bytes of a part that will be stored later."""
        path = self.incoming / os.urandom(12).hex()
        os.link(part.path, path)
        return replace(part, path=path)

    def prepare(self, issue: Issue, parts: Iterable[Part]) -> list[Attachment]:
        """Give each of *parts* an id without storing it."""
        with self._lock:
            prepared = []
            for part in parts:
                self._last_attachment += 1
                number = str(self._last_attachment)
                prepared.append(
                    Attachment(
                        id=number,
                        issue=issue.key,
                        filename=part.filename,
                        size=part.size,
                        sha256=part.sha256,
                        created=self.now_ms(),
                        author=self.author,
                        mime=part.mime,
                        path=self._files / number,
                    )
                )
            return prepared

    def keep(self, attachments: Sequence[Attachment], parts: Sequence[Part]) -> None:
        """Store *attachments*, whose bytes are in *parts*: all of them, or none if the process dies before the line."""
        for attachment, part in zip(attachments, parts, strict=True):
            # A link, so that the same part can be stored twice.
            os.link(part.path, attachment.path)
        with self._lock:
            self.note("commit", attachments=[described(attachment) for attachment in attachments])
            for attachment in attachments:
                self._remember(attachment)

    def _remember(self, attachment: Attachment) -> None:
        self._attachments[attachment.id] = attachment
        self._on_issue.setdefault(attachment.issue, {})[attachment.id] = attachment
        self._last_attachment = max(self._last_attachment, int(attachment.id))
        self.version += 1

    def attach(self, key: str, filename: str, data: bytes, *, author: str = "", created: int = 0) -> Attachment:
        """Attach a file as another user; *created* is in milliseconds since the epoch."""
        issue = self.find_issue(key) or self.add_issue(key)
        mime = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        part = Part(self.incoming / os.urandom(8).hex(), filename, mime, len(data), hashlib.sha256(data).hexdigest())
        part.path.write_bytes(data)
        (plain,) = self.prepare(issue, [part])
        attachment = replace(plain, author=author or plain.author, created=created or plain.created)
        self.keep([attachment], [part])
        part.path.unlink()
        return attachment

    @property
    def author(self) -> str:
        """The account in answers: its account id on Cloud, its user name on Data Center."""
        return self.account_id if self.cloud else self.user

    def attachments(self, key: str) -> list[Attachment]:
        """List what is on an issue, oldest first."""
        with self._lock:
            number = self._keys.get(key.upper())
            return [] if number is None else self.of_issue(self._issues[number])

    def of_issue(self, issue: Issue) -> list[Attachment]:
        """List what is on *issue*, oldest first."""
        with self._lock:
            return list(self._on_issue.get(issue.key, {}).values())

    def shown_of(self, issue: Issue) -> list[Attachment]:
        """List what is on *issue* as a lagging replica shows it."""
        latest = self.now_ms() - self.listing_lag * 1000
        return [it for it in self.of_issue(issue) if not self.listing_lag or it.created <= latest]

    def all_attachments(self) -> list[Attachment]:
        """List everything that is stored, oldest first."""
        with self._lock:
            return list(self._attachments.values())

    def attachment(self, attachment_id: str) -> Attachment | None:
        """Find one attachment."""
        with self._lock:
            return self._attachments.get(attachment_id)

    def delete(self, attachment_id: str) -> None:
        """Delete an attachment. Its id is never used again."""
        with self._lock:
            gone = self._forget(str(attachment_id))
            self.note("delete", id=gone.id)
        gone.path.unlink(missing_ok=True)

    def _forget(self, attachment_id: str) -> Attachment:
        gone = self._attachments.pop(attachment_id)
        del self._on_issue[gone.issue][attachment_id]
        self.version += 1
        return gone


def described(attachment: Attachment) -> dict[str, Any]:
    """Show an attachment as JSON values."""
    names = ("id", "issue", "filename", "size", "sha256", "created", "author", "mime")
    return {name: getattr(attachment, name) for name in names} | {"path": str(attachment.path)}
