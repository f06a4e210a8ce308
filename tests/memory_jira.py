"""A small world to test delivery in: a clock that tests move, a Jira in memory, real folders and a real journal.

The Jira behaves (it stores, lists, forgets nothing) and can misbehave once: ``faults`` holds what the next
uploads meet. Nothing here knows how attachd works inside.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx

from attachd import config
from attachd.clock import Clock
from attachd.delivery import orphans
from attachd.delivery.runtime import Runtime
from attachd.filing import file_away, note_cleanup, retry
from attachd.intake.context import Context
from attachd.intake.folder_scan import Report
from attachd.intake.scanner import Scanner
from attachd.jira import client, transport
from attachd.journal import rows
from attachd.journal.rows import Row
from attachd.service import start, worker

SITE = "https://jira.example.com"
ACCOUNT = "712020:robot"


class FakeClock(Clock):
    """The clocks of one machine, moved by the test: ``time`` is on its wall, and can be set alone."""

    def __init__(self) -> None:
        self.time, self.since_boot, self.boots, self.slept = 1_800_000_000.0, 1000.0, 1, 0.0

    def wall(self) -> float:
        return self.time

    def boot(self) -> float:
        return self.since_boot

    def awake(self) -> float:
        return self.since_boot - self.slept

    def boot_id(self) -> str:
        return f"boot {self.boots}"

    def sleep(self, seconds: float) -> None:
        """Suspend the machine."""
        self.slept += seconds
        self.advance(seconds)

    def reboot(self, off: float = 60.0) -> None:
        """Switch the machine off for so many seconds; the clock on its wall goes on."""
        self.time, self.since_boot, self.boots, self.slept = self.time + off, 5.0, self.boots + 1, 0.0

    def advance(self, seconds: float) -> None:
        self.time += seconds
        self.since_boot += seconds


@dataclass(frozen=True)
class Stored:
    """What the Jira in memory holds."""

    id: str
    issue: str
    name: str
    content: bytes
    created: float
    author: str = ACCOUNT

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass
class Fault:
    """What one upload meets. ``commit``: None for nothing stored, "all", "half", or seconds for a late commit."""

    commit: str | float | None = None
    status: int | None = None  # answered so; None with ``breaks`` unset answers normally
    breaks: type[Exception] | None = None  # raised at the client
    early: bool = False  # before the body was read
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    rename: str = ""  # the stored name is changed so
    shared: bool = False  # only a request of several files meets it


class MemoryJira(httpx.BaseTransport):
    """Jira as a transport: what a request would do to the server, without a socket."""

    def __init__(self, clock: FakeClock, deployment: str = "Cloud") -> None:
        self.clock, self.deployment, self.cloud = clock, deployment, deployment == "Cloud"
        self.time: Callable[[], float] = lambda: self.clock.time
        self.stored: list[Stored] = []
        self.late: list[tuple[float, Stored]] = []
        self.faults: list[Fault] = []
        self.look_faults: list[Fault] = []
        self.token = "Basic " + __import__("base64").b64encode(b"robot@example.com:not-a-secret").decode()
        self.missing: set[str] = set()
        self.forbidden: set[str] = set()
        self.moved: dict[str, str] = {}
        self.limit = 10**9
        self.most = 10**9
        self.enabled = True
        self.requests: list[tuple[str, str]] = []
        self.uploads: list[list[str]] = []
        self.hide_field = False
        self.readable = deployment == "Cloud"  # whether contents are given to a client that signs in without a browser
        self.content_faults: list[Fault] = []
        self.lag = 0.0  # listings show what was stored so long ago
        self.date_ahead = 0.0  # of what stands in front of Jira and writes the Date header
        self.mixed_up: list[str] = []  # the next listings are those of these issues, whatever was asked for
        self._ids = itertools.count(10_001)
        self._lock = threading.Lock()
        self.before: Callable[[], None] = lambda: None
        #: Called once while the body of an upload is on its way: behind the first piece of it.
        self.amid: Callable[[], None] = lambda: None

    # --- what tests ask ---

    def on(self, issue: str) -> list[Stored]:
        return [s for s in self.stored if s.issue == issue]

    def names(self, issue: str) -> list[str]:
        return [s.name for s in self.on(issue)]

    @property
    def is_answering(self) -> bool:
        return self._lock.locked()

    # --- the transport ---

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self._commit_late()
            path = unquote(request.url.path)
            self.requests.append((request.method, path))
            self.before()
            return self._answer(request, path)

    def _commit_late(self) -> None:
        due = [s for at, s in self.late if at <= self.time()]
        self.late = [(at, s) for at, s in self.late if at > self.time()]
        self.stored += due

    def _answer(self, request: httpx.Request, path: str) -> httpx.Response:
        if path.endswith("/serverInfo"):
            return self._reply(200, {"deploymentType": self.deployment, "baseUrl": SITE, "version": "x"})
        known = self.token in (None, request.headers.get("authorization"))
        if path.endswith("/myself"):
            return self._reply(200, self._user(ACCOUNT)) if known else self._reply(401, _error("Not signed in."))
        if path.endswith("/attachment/meta"):
            return self._reply(200, {"enabled": self.enabled, "uploadLimit": self.limit})
        if match := re.search(r"/attachment/content/(\d+)$|/secure/attachment/(\d+)/", path):
            return self._content(match[1] or match[2])
        if match := re.search(r"/attachment/(\d+)$", path):
            found = [s for s in self.stored if s.id == match[1]]
            shown = [self._entry(s) | {"id": int(s.id)} for s in found]
            return self._reply(200, shown[0]) if found else self._reply(404, _error("gone"))
        match = re.search(r"/issue/([^/]+)(/attachments)?$", path)
        assert match, path
        issue = self.moved.get(match[1], match[1])
        if request.method == "POST":
            return self._upload(request, issue, known)
        return self._list(issue, known)

    def _content(self, number: str) -> httpx.Response:
        if self.content_faults:
            fault = self.content_faults.pop(0)
            if fault.breaks:
                raise fault.breaks("as told")
            return self._reply(fault.status or 200, fault.body, fault.headers)
        if not self.readable:
            return self._reply(302, b"", {"location": "/login.jsp?permissionViolation=true"})
        found = [s for s in self.stored if s.id == number]
        return httpx.Response(200, content=found[0].content) if found else self._reply(404, _error("gone"))

    def number(self, issue: str) -> str:
        """Jira's own number of an issue."""
        return str(int(hashlib.sha256(issue.encode()).hexdigest()[:7], 16))

    def _list(self, issue: str, known: bool) -> httpx.Response:
        issue = self.mixed_up.pop(0) if self.mixed_up else issue
        if self.look_faults:
            fault = self.look_faults.pop(0)
            if fault.breaks:
                raise fault.breaks("as told")
            return self._reply(fault.status or 200, fault.body)
        if refusal := self._unseen(issue, known):
            return refusal
        shown = [s for s in self.on(issue) if not self.lag or s.created <= self.time() - self.lag]
        fields = {} if self.hide_field else {"attachment": [self._entry(s) for s in shown]}
        return self._reply(200, {"id": self.number(issue), "key": issue, "fields": fields})

    def _upload(self, request: httpx.Request, issue: str, known: bool) -> httpx.Response:
        fault = self.faults.pop(0) if self.faults else Fault()
        if fault.early:
            return self._end(fault, [])
        body = b"".join(self._pieces(request))
        assert len(body) == int(request.headers["content-length"])
        files = _parts(body, request.headers["content-type"])
        if fault.shared and len(files) == 1:
            fault = Fault()
        self.uploads.append([name for name, _ in files])
        if (refusal := self._refusal(issue, known, files)) and fault.status is None and fault.breaks is None:
            return refusal
        fresh = [
            Stored(str(next(self._ids)), issue, fault.rename or name, content, self.time()) for name, content in files
        ]
        if isinstance(fault.commit, float):
            self.late += [(self.time() + fault.commit, replace(s, created=self.time() + fault.commit)) for s in fresh]
            return self._end(fault, fresh)
        if fault.commit == "half":
            fresh = fresh[: len(fresh) // 2]
        if fault.commit or (fault.status is None and fault.breaks is None):
            self.stored += fresh
        return self._end(fault, fresh)

    def _pieces(self, request: httpx.Request) -> Iterator[bytes]:
        for number, piece in enumerate(request.stream):  # type: ignore[arg-type]
            yield piece
            if number == 0:
                self.amid()

    def _unseen(self, issue: str, known: bool) -> httpx.Response | None:
        """Refuse what the caller may not know of. Data Center says that it is the token; Cloud hides that."""
        if not known and not self.cloud:
            return self._reply(401, _error("You do not have the permission to see the specified issue."))
        if issue in self.missing or not known:
            return self._reply(404, _error("Issue does not exist or you do not have permission to see it."))
        return None

    def _refusal(self, issue: str, known: bool, files: list[tuple[str, bytes]]) -> httpx.Response | None:
        if refusal := self._unseen(issue, known):
            return refusal
        if not self.enabled:
            return self._reply(403, _error("Attachments are disabled."))
        if issue in self.forbidden:
            return self._reply(403, _error("You do not have permission to create attachments for this issue."))
        if any(len(content) > self.limit for _, content in files):
            said = f"The file exceeds its maximum permitted size of {self.limit} bytes."
            return self._reply(413 if self.cloud else 404, _error(said))
        if len(self.on(issue)) + len(files) > self.most:
            return self._reply(413, _error(f"An issue may have {self.most} attachments at most."))
        return None

    def _end(self, fault: Fault, fresh: list[Stored]) -> httpx.Response:
        if fault.breaks:
            raise fault.breaks("as told")
        if fault.status is None:
            return self._reply(200, [self._entry(s) for s in fresh], fault.headers)
        return self._reply(fault.status, fault.body, fault.headers)

    def _entry(self, stored: Stored) -> dict[str, Any]:
        at = datetime.datetime.fromtimestamp(stored.created, datetime.UTC)
        content = f"/rest/api/3/attachment/content/{stored.id}"
        if not self.cloud:
            content = f"/secure/attachment/{stored.id}/{quote(stored.name, safe='')}"
        return {
            "self": f"{SITE}/rest/api/{3 if self.cloud else 2}/attachment/{stored.id}",
            "id": stored.id,
            "filename": stored.name,
            "author": self._user(stored.author),
            "created": at.strftime(f"%Y-%m-%dT%H:%M:%S.{at.microsecond // 1000:03d}+0000"),
            "size": len(stored.content),
            "mimeType": "application/octet-stream",
            "content": SITE + content,
        }

    def _user(self, account: str) -> dict[str, str]:
        return {"accountId": account} if self.cloud else {"name": account, "key": account}

    def _reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        base = {"date": formatdate(self.time() + self.date_ahead, usegmt=True)}
        kind = {} if isinstance(body, bytes) else {"content-type": "application/json"}
        return httpx.Response(status, content=content, headers=base | kind | (headers or {}))


def _error(text: str) -> dict[str, Any]:
    return {"errorMessages": [text], "errors": {}}


def _parts(body: bytes, content_type: str) -> list[tuple[str, bytes]]:
    boundary = b"--" + content_type.partition("boundary=")[2].encode()
    assert body.startswith(boundary + b"\r\n")
    assert body.endswith(b"\r\n" + boundary + b"--\r\n")
    pieces = body[len(boundary) + 2 : -(len(boundary) + 6)].split(b"\r\n" + boundary + b"\r\n")
    found = []
    for piece in pieces:
        head, _, content = piece.partition(b"\r\n\r\n")
        name = re.search(rb'name="file"; filename="(.*)"\r\n', head + b"\r\n")
        assert name, head
        found.append((name[1].decode(), content))
    return found


class Impatient(threading.Event):
    """A stop signal on which nobody waits: the tries within one call follow each other at once."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


class World:
    """Folders, a journal, a Jira, and the program's own steps on them; ``restart`` is a new process."""

    def __init__(self, home: Path, *, deployment: str = "Cloud", **tables: Any) -> None:
        self.home, self.clock = home, FakeClock()
        self.jira = MemoryJira(self.clock, deployment)
        self.inbox, self.done, self.failed = home / "inbox", home / "done", home / "failed"
        for folder in (self.inbox, self.done, self.failed):
            folder.mkdir()
        token = home / "token"
        token.write_text("not-a-secret\n")
        token.chmod(0o600)
        self.tables = tables
        self.running = False
        self.restart()

    def configuration(self) -> config.Config:
        base: dict[str, Any] = {
            "folders": {"inbox": str(self.inbox), "state": str(self.home / "state")},
            "jira": {"url": SITE, "auth": {"user": "robot@example.com", "token": {"file": str(self.home / "token")}}},
            "settle": {"quiet_seconds": 0.0, "quiet_seconds_unproven": 0.0, "empty_seconds": 0.0},
        }
        for name, table in self.tables.items():
            base[name] = base.get(name, {}) | table if isinstance(table, dict) else table
        return config.parse(base, base=self.home)

    def restart(self, **options: bool) -> None:
        """End the process, if one runs, and start another."""
        self.end()
        self.held = start.start(self.configuration(), clock=self.clock, environ={}, **options)
        self.runtime: Runtime = self.held.runtime
        self.runtime.stopping = Impatient()
        self.client = self.connect()
        orphans.adopt_all(self.runtime)
        self.scanner = Scanner(Context(self.runtime.journal, self.runtime.config, self.clock, self.runtime.guard))
        self.running = True

    def connect(self) -> client.Client:
        timeouts = transport.Timeouts(1.0, 1.0, 1.0)
        return client.Client(
            SITE,
            self.runtime.credentials,
            self.jira,
            timeouts=timeouts,
            deadline=transport.Deadline(),
            user_agent="test",
        )

    def end(self) -> None:
        if self.running:
            self.client.close()
            self.held.release()
            self.running = False

    # --- what people do ---

    def drop(self, path: str | bytes, content: bytes = b"content", mtime_ns: int | None = None) -> Path:
        """Write a file and rename it into the inbox, over whatever is there."""
        target = self.inbox / os.fsdecode(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.home / "fresh"
        fresh.write_bytes(content)
        if mtime_ns is not None:
            os.utime(fresh, ns=(mtime_ns, mtime_ns))
        os.rename(fresh, target)
        return target

    def go_back(self, path: str, to: str = "") -> Path:
        """Move a failed file into the inbox, to where it was or elsewhere."""
        target = self.inbox / (to or path)
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.failed / path).rename(target)
        return target

    # --- what befalls it ---

    def lose_journal(self) -> None:
        """The process ends, its journal is gone, and another begins without it."""
        self.end()
        for path in (self.home / "state").glob("journal.db*"):
            path.unlink()
        self.restart()

    def fail_in_doubt(self, path: str, content: bytes) -> None:
        """Two answers that prove nothing, for an upload that was not stored, or will be later."""
        self.drop(path, content)
        self.jira.faults += [Fault(status=200, body=b"<html>")] * 2
        self.settle(hours=1)
        assert self.row(path).state == "FAILED"
        assert self.row(path).may_be_attached

    # --- what the program does ---

    def scan(self) -> Report:
        """One full scan, as the service makes it."""
        if self.runtime.guard.look().there:
            retry.end_what_was_begun(self.runtime.config, self.runtime.journal)
        if self.scanner.remounted():
            file_away.close_moved(self.runtime)
        report = self.scanner.scan()
        if report.there:
            note_cleanup.drop_notes(self.runtime)
        return report

    def step(self) -> bool:
        return worker.step(self.runtime, self.client)

    def work(self, most: int = 200) -> int:
        """Work until there is nothing to do now."""
        for count in range(most):
            if not self.step():
                return count
        raise AssertionError(f"still busy after {most} steps")

    def deliver(self) -> None:
        """Scan, then work."""
        self.scan()
        self.work()

    def settle(self, hours: float = 30.0) -> None:
        """Let time pass, scanning and working, until nothing is left to be done or the hours are over."""
        until = self.clock.time + hours * 3600
        while self.clock.time < until:
            self.scan()
            self.work()
            if not self.unfinished():
                # What had to wait for a row that is closed only now is found by the next scan.
                self.scan()
                if not self.unfinished():
                    return
            self.clock.advance(31.0)

    # --- what tests ask ---

    def rows(self, rest: str = "") -> list[Row]:
        return [rows.from_sql(record) for record in self.runtime.journal.rows(f"{rows.SELECT} {rest} ORDER BY id")]

    def row(self, path: str) -> Row:
        """The newest row of a path."""
        return [row for row in self.rows() if row.path == os.fsencode(path)][-1]

    def unfinished(self) -> list[Row]:
        return self.rows("WHERE finished_at IS NULL")

    def states(self) -> list[str]:
        return [str(row.state) for row in self.rows()]

    def files(self, folder: Path) -> dict[str, bytes]:
        """Everything in a folder, by relative path, without our own files."""
        found = {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }
        return {name: content for name, content in found.items() if not name.startswith(".attachd")}

    def pauses(self) -> set[str]:
        found = self.runtime.journal.rows("SELECT scope, kind, until, cure FROM pause")
        return {f"{r[0]}:{r[1]}" for r in found if r[3] != "time" or r[2] > self.clock.now()}


@contextmanager
def world(home: Path, **options: Any) -> Iterator[World]:
    made = World(home, **options)
    try:
        yield made
    finally:
        made.end()
