"""A small world whose Jira is the stand-in, reached over a socket; its clock is the one that tests move, like ours.

A ``Line`` is a row of a table: what is laid out, and what must have come of it, as people would look it up: in the
folders, in the journal, at the stand-in.
"""

from __future__ import annotations

import functools
import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from attachd.delivery import probe
from attachd.jira import client, connection
from attachd.journal.rows import Row
from attachd.model import State
from attachd.standin import Attachment, Fault, Request, Standin
from memory_jira import FakeClock, World

USER = "demo@example.com"
ISSUES = [f"{project}-{number}" for project in ("TEST", "OPS") for number in range(1, 5)]
#: In seconds: long enough for any answer on a busy machine, and for those that never come.
PATIENT, SHORT = 20.0, 0.4
#: More than the buffers of a connection on loopback take in while nobody reads.
LARGE = bytes(range(256)) * (12 * 1024 * 1024 // 256)
#: What the stand-in's requests are called here.
_CALLED = (
    (re.compile(r"/attachments$"), "POST"),
    (re.compile(r"/issue/[^/]+$"), "issue"),
    (re.compile(r"/content/[^/]+$|/secure/attachment/"), "content"),
    (re.compile(r"/(myself|serverInfo|meta)$"), ""),
)


class SharedClock(FakeClock):
    """The clock of both sides: what the server had put off happens when its time has come."""

    on_move: Callable[[], None] = staticmethod(lambda: None)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.on_move()


@functools.cache
def system_store() -> ssl.SSLContext:
    """The context of all clients that need no authority of their own; making one costs more than a request."""
    return ssl.create_default_context()


class Wired(World):
    """The folders, the journal and the steps of ``World``; requests are made as the service makes them."""

    def __init__(self, home: Path, standin: Standin, clock: SharedClock, **tables: dict[str, Any]) -> None:
        self.home, self.clock, self.jira = home, clock, standin
        self.inbox, self.done, self.failed = home / "inbox", home / "done", home / "failed"
        for folder in (self.inbox, self.done, self.failed):
            folder.mkdir()
        self.write_token(standin.store.token)
        auth = {"user": USER, "token": {"file": str(home / "token")}}
        waits = {"connect_seconds": PATIENT, "stall_seconds": PATIENT, "reply_seconds": PATIENT}
        self.tables = {
            "jira": {"url": standin.url, "auth": auth} | tables.pop("jira", {}),
            "upload": waits | tables.pop("upload", {}),
            **tables,
        }
        self.running = False
        self.counted = 0
        self.restart()

    def write_token(self, token: str) -> None:
        """Put a new token in the place of the old one, as an administrator does."""
        fresh = self.home / "token.new"
        fresh.write_text(token + "\n")
        fresh.chmod(0o600)
        fresh.rename(self.home / "token")

    def connect(self) -> client.Client:
        own = self.runtime.config.jira.ca_file is not None
        return connection.make_client(
            self.runtime.config,
            self.runtime.credentials,
            connection.tls_context(self.runtime.config) if own else system_store(),
        )

    def reconnect(self) -> None:
        """Begin again with a connection that is not open yet."""
        self.client.close()
        self.client = self.connect()

    def meet(self) -> None:
        """Get to know the site, so that what follows is only what the files are the reason for."""
        assert probe.introduce(self.runtime, self.client) is None
        probe.limits(self.runtime, self.client, fresh=False)
        self.count_anew()

    # --- what the stand-in saw ---

    def count_anew(self) -> None:
        """Let ``requests`` begin here."""
        self.counted = len(self.jira.requests)

    def seen(self) -> list[Request]:
        return self.jira.requests[self.counted :]

    def uploads(self, issue: str | None = None) -> list[Request]:
        return [r for r in self.seen() if called(r) == "POST" and issue in (None, r.issue)]

    def of(self, issue: str) -> list[Row]:
        return [row for row in self.rows() if row.folder_key == issue]

    def requests(self) -> str:
        """Files in each upload in their order, then how often everything else was asked: ``POST 4 2, 3 issue``."""
        posts = [str(r.files) for r in self.uploads()]
        others = Counter(name for r in self.seen() if (name := called(r)) != "POST")
        counts = [f"{count} {name}" for name, count in sorted(others.items())]
        return ", ".join(([f"POST {' '.join(posts)}"] if posts else []) + counts)

    def on(self, issue: str) -> list[Attachment]:
        return self.jira.store.attachments(issue)

    def contents(self, issue: str) -> list[bytes]:
        return sorted((it.path.read_bytes() for it in self.on(issue)), key=lambda content: (len(content), content))

    # --- how it stands ---

    def paused(self) -> str:
        """The active pauses: ``scope:subject:kind``."""
        now = self.clock.now()
        found = self.runtime.journal.rows("SELECT scope, subject, kind, until, cure FROM pause")
        active = [r for r in found if r["cure"] != "time" or r["until"] > now]
        return " ".join(sorted(f"{r['scope']}:{r['subject']}:{r['kind']}" for r in active))

    def told(self) -> str:
        """The words of all pauses."""
        return "\n".join(str(r["reason"]) for r in self.runtime.journal.rows("SELECT reason FROM pause"))

    def end_of(self, row: Row) -> str:
        """Say how a file stands, having looked whether it lies where it then has to."""
        places = {
            "inbox": self.inbox / row.path.decode(),
            "done": self.done / (row.target or row.path).decode(),
            "failed": self.failed / (row.target or row.path).decode(),
        }
        there = [name for name, path in places.items() if path.is_file()]
        noted = (self.failed / f"{(row.target or row.path).decode()}.why.txt").is_file()
        match row.state:
            case State.READY if there == ["inbox"]:
                return "held" if row.proof != "none" else "waits"
            case State.DOUBTFUL if there == ["inbox"]:
                return "in-doubt"
            case State.DONE if there == ["done"] and not noted:
                return "attached"
            case State.FAILED if there == ["failed"] and noted:
                return "a-person" if row.may_be_attached else "failed"
        return f"{row.state}({','.join(there)})"

    def stand(self, issue: str = "TEST-1") -> str:
        """How the files of an issue stand, in order of the words."""
        return " ".join(sorted(map(self.end_of, self.of(issue))))

    def proven(self) -> None:
        """Every file that is said to be attached is on its issue, under its id, with its bytes."""
        for row in self.rows():
            if row.state is State.DONE:
                stored = self.jira.store.attachment(row.attachment or "")
                filed = self.done / (row.target or b"").decode()
                assert stored is not None, row
                assert (stored.issue, stored.path.read_bytes()) == (row.issue, filed.read_bytes())


def called(request: Request) -> str:
    for pattern, name in _CALLED:
        if found := pattern.search(request.path):
            return name or found[1]
    return request.path


@contextmanager
def wired(
    home: Path, *, deployment: str = "Cloud", tls: tuple[Path, Path] | None = None, **tables: Any
) -> Iterator[Wired]:
    """A stand-in that listens, and a world that knows its address."""
    clock = SharedClock()
    with Standin(
        home / "jira", page=False, issues=ISSUES, deployment=deployment, clock=clock.now, user=USER, tls=tls
    ) as jira:
        clock.on_move = jira.catch_up
        jira.store.upload_limit = 10 * len(LARGE)
        made = Wired(home, jira, clock, **tables)
        try:
            yield made
        finally:
            made.end()


# --- A line of a table ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """What is laid out for the files of TEST-1; what has come of it at once; and later, with the trouble gone.

    ``stand`` is the end of all files, or of each (words as in ``Wired.end_of``). ``folder_key`` is what the stand-in saw at
    once and ``then`` what it saw later, as patterns of ``Wired.requests``. Where Data Center differs, ``server`` says
    how; None: it cannot happen there.
    """

    what: str
    faults: tuple[Fault, ...] = ()
    files: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    content: bytes = b""
    before: Callable[[Wired], None] = lambda w: None
    after: Callable[[Wired], None] = lambda w: None
    stand: str = "waits"
    says: str = ""
    pauses: str = ""
    tells: str = ""
    folder_key: str = ".*"
    stored: int = 0
    then: str = ".*"
    at_last: str = "attached"
    server: dict[str, Any] | None = field(default_factory=dict)

    def at(self, deployment: str) -> Line:
        return self if deployment == "Cloud" else replace(self, **(self.server or {}))


class Like:
    """Equal to what its pattern matches as a whole: an assertion that fails shows both."""

    __hash__ = None

    def __init__(self, pattern: str) -> None:
        self.pattern = re.compile(pattern, re.DOTALL)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.pattern.fullmatch(other) is not None

    def __repr__(self) -> str:
        return f"like {self.pattern.pattern!r}"


def both(lines: list[Line]) -> list[Any]:
    """Every line for Cloud and for Data Center, where it can happen there."""
    sites = [(line, site) for line in lines for site in ("Cloud", "Server")]
    return [
        pytest.param(line.at(site), site, id=f"{line.what}-{site}")
        for line, site in sites
        if site == "Cloud" or line.server is not None
    ]
