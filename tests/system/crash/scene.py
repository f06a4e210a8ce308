"""One installation on which lives are lived one after another, and what is laid out for each of them."""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from installation import Jira, Place
from system.crash import tracing

#: Everything waits as short as it can: what is tried is the order of things, not their length. But an answer may take its time,
#: on a machine on which ten lives are lived at once.
SETTINGS = """
[doubt]
looks_seconds = [0.05, 0.2]
[upload]
reply_seconds = 1.5
slowest_bytes_per_second = 100000000
[fuse]
hold_minutes = 0
"""
#: After so many seconds a life is taken for hung, and killed.
LIFE_SECONDS = 60
#: So often a recovery is tried before the files are looked at: what is in doubt or paused takes more than one.
RECOVERIES = 8
LONGEST_PAUSE_SECONDS = 30.0
TOKEN = "standin-token"


class Site(Jira):
    """A stand-in that is already running, and is somebody else's to end."""

    def __init__(self, url: str) -> None:
        self.url = url

    def on(self, issue: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(f"attachments?issue={issue}")
        return found

    def uploads(self, issue: str) -> int:
        return sum(each["method"] == "POST" for each in self.ask(f"requests?issue={issue}"))


@dataclass(frozen=True)
class Expected:
    """One file that was dropped, and how it is to end: "done", "failed", or "either"."""

    issue: str
    digest: str
    name: str
    end: str = "done"


@dataclass
class Scene:
    """What was laid out for one life."""

    place: Place
    jira: Site
    number: int
    expected: list[Expected] = field(default_factory=list)
    #: Contents that are on an issue, or in a folder, and not of this scene's making.
    strange: Counter[str] = field(default_factory=Counter)
    #: Whether the journal knows what was done before the death.
    remembers: bool = True

    def issue(self, which: int = 0, project: str = "TEST") -> str:
        return f"{project}-{self.number * 10 + which + 1}"

    def content(self, which: int, size: int = 700) -> bytes:
        return random.Random(self.number * 1000 + which).randbytes(size)

    def drop(self, path: str, content: bytes, *, name: str = "", end: str = "done") -> Path:
        """Drop a file and expect it to end so, on its issue under *name*."""
        issue, _, below = path.partition("/")
        digest = hashlib.sha256(content).hexdigest()
        self.expected.append(Expected(issue, digest, name or below.replace("/", "-"), end))
        return self.place.drop(path, content)

    def fault(self, kind: str, which: int = 0, **options: Any) -> None:
        self.jira.tell("faults", {"kind": kind, "issue": self.issue(which), **options})

    def put_on_issue(self, name: str, content: bytes) -> None:
        """Attach something by hand, as the same account."""
        end = b"--edge--"
        head = f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        secret = b64encode(f"demo@example.com:{TOKEN}".encode()).decode()
        headers = {"Authorization": f"Basic {secret}", "X-Atlassian-Token": "no-check",
                   "Content-Type": "multipart/form-data; boundary=edge"}  # fmt: skip
        address = f"{self.jira.url}/rest/api/3/issue/{self.issue()}/attachments"
        body = head + content + b"\r\n" + end + b"\r\n"
        urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=30).close()
        self.strange[hashlib.sha256(content).hexdigest()] += 0

    @property
    def issues(self) -> set[str]:
        return {each.issue for each in self.expected}


def preload(place: Place) -> None:
    """Import here what a life imports, so that those to come begin with it."""
    listed = place.home / "modules"

    def live() -> int:
        _log(place)
        code = _command(place, "once")
        listed.write_text("\n".join(name for name in sys.modules if name.startswith(("attachd.", "httpx", "rich"))))
        return code

    run(live)
    for name in listed.read_text().splitlines():
        importlib.import_module(name)
    _program()


@functools.cache
def _program() -> Any:
    """The command line, made once: its making takes as long as half a life."""
    from attachd.cli import main

    return typer.main.get_command(main.application())


def _log(place: Place) -> None:
    """Let a life say what it says into the log."""
    out = os.open(place.home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # as attachd.cli.main does


def _command(place: Place, *words: str) -> int:
    try:
        _program()([words[0], "-c", str(place.config), *words[1:]], "attachd")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


class Hung(Exception):
    """A life did not come to its end."""


def _limited(act: Callable[[], int]) -> int:
    def ring(*_: object) -> None:
        raise Hung

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIFE_SECONDS)
    try:
        return act()
    finally:
        signal.alarm(0)


def run(work: Callable[[], int]) -> int:
    """Do *work* in a child; its exit code. Raises ``Hung``."""
    pid = tracing.fork(work)
    try:
        return _limited(lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    except Hung:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def verb(place: Place, *words: str) -> int:
    """Run a verb in a child; its exit code."""

    def live() -> int:
        _log(place)
        return _command(place, *words)

    return run(live)


def once(place: Place, *options: str) -> int:
    """Run `once` in a child; its exit code."""
    return verb(place, "once", *options)


def until_quiet(place: Place) -> int:
    """Run the verb until there is nothing left to do; its last exit code."""
    code = -1
    for _ in range(RECOVERIES):
        code = once(place, "--wait", "2")
        if code in (0, 3):
            break
        # What an answer of 500 has paused, or a move that could not be made, people would not try again at once either.
        waits = "SELECT max(until) FROM (SELECT until FROM pause UNION SELECT due FROM file WHERE finished_at IS NULL)"
        ((until,),) = rows(place, waits)
        time.sleep(max(0.0, min((until or 0.0) - time.time(), LONGEST_PAUSE_SECONDS)))
    return code


def traced(
    place: Place,
    words: tuple[str, ...],
    decide: Callable[[tracing.Call], tracing.Decision],
    numbers: dict[str, int],
    actor: Callable[[int], None] | None,
) -> tracing.Ended:
    """Run a verb in a child of which each call is decided on, beside an *actor* in another one. Raises ``Hung``."""
    children: list[int] = []

    def started(leader: int) -> None:
        children.append(leader)
        if actor is not None:
            children.append(tracing.fork(lambda: _act(actor, leader)))

    ended: list[tracing.Ended] = []
    try:
        _limited(
            lambda: (
                ended.append(
                    tracing.run(lambda: _command(place, *words), decide, numbers, lambda: _log(place), started)
                )
                or 0
            )
        )
    finally:
        for child in children:
            _end(child)
    return ended[0]


def _act(actor: Callable[[int], None], leader: int) -> int:
    with suppress(OSError):  # the process has ended, or its disk has
        actor(leader)
    return 0


def _end(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        # A traced process ends when each of its threads was waited for (ptrace(2)): whichever it is, it comes to its tracer.
        while os.waitpid(-1, tracing.WALL)[0] != child:
            pass
    except (ProcessLookupError, ChildProcessError):
        pass  # it was waited for already


def clear(place: Place) -> None:
    """Take away what the last life has left in the folders, and its pauses; the journal goes on."""
    with closing(sqlite3.connect(place.state / "journal.db")) as connection, connection:
        connection.execute("DELETE FROM pause")
    for folder in (place.inbox, place.done, place.failed):
        for entry in list(os.scandir(folder)):
            if entry.name != ".attachd":
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
    (place.home / "log").unlink(missing_ok=True)
    for left in (*place.home.glob("copy-*"), *place.state.glob("journal.*")):
        if left.name not in ("journal.db", "journal.db-wal", "journal.db-shm"):
            left.unlink()


def copied(folder: Path) -> None:
    """Put a copy in the place of a folder, as a restored backup is: nothing has the inode that it had."""
    twin = folder.with_name(folder.name + ".copy")
    subprocess.run(["cp", "-a", folder, twin], check=True)
    shutil.rmtree(folder)
    twin.rename(folder)


def rows(place: Place, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask the journal, when the program has ended. Not read-only: it may have died and left a log that has to be read first."""
    with closing(sqlite3.connect(place.state / "journal.db")) as connection:
        return connection.execute(sql, values).fetchall()
