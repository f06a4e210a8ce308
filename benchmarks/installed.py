"""The installed command on folders of its own, with a stand-in Jira as a process beside it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ATTACHD = Path(sys.executable).with_name("attachd")
_CONFIGURATION = """
[folders]
inbox = "inbox"
state = "state"
[jira]
url = "{url}"
{ca}
[jira.auth]
user = "demo@example.com"
token = {{ file = "token" }}
[settle]
quiet_seconds = 0.0
quiet_seconds_unproven = 0.0
[limits]
issue_files_per_hour = 0
"""


class Site:
    """Folders, a configuration, and the command on them. Nothing is waited for before a file counts as finished."""

    def __init__(self, home: Path, url: str, ca_file: Path | None = None) -> None:
        """Make the folders below *home*, for the Jira at *url*, whose certificate is held against *ca_file*."""
        self.home, self.url = home, url
        self.inbox, self.done, self.failed = home / "inbox", home / "done", home / "failed"
        for folder in (self.inbox, self.done, self.failed):
            folder.mkdir()
        token = home / "token"
        token.write_text("standin-token\n")
        token.chmod(0o600)
        ca = f'ca_file = "{ca_file}"' if ca_file else ""
        (home / "config.toml").write_text(_CONFIGURATION.format(url=url, ca=ca))

    @property
    def config(self) -> Path:
        """The configuration's path."""
        return self.home / "config.toml"

    def run(self, *words: str) -> None:
        """Run a verb to its end."""
        subprocess.run([ATTACHD, words[0], "-c", self.config, *words[1:]], check=True, capture_output=True)

    def pause(self) -> None:
        """Let nothing be sent to Jira from now on."""
        self.run("once")
        self.run("pause")

    @property
    def log(self) -> str:
        """What the running service has written to stderr."""
        return (self.home / "log").read_text("utf-8")

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        """The service, for as long as the context lasts; gives its process id."""
        with (self.home / "log").open("wb") as log:
            daemon = subprocess.Popen([ATTACHD, "run", "-c", self.config], stderr=log)
            try:
                wait_until(lambda: "service.started" in self.log)
                yield daemon.pid
            finally:
                daemon.terminate()
                daemon.wait(120)

    def known(self) -> int:
        """How many files the journal has a row for."""
        return int(self.journal("SELECT count(*) FROM file")[0][0])

    def journal(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the journal, which the service may be writing meanwhile."""
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/state/journal.db?mode=ro", uri=True)) as journal:
            return list(journal.execute(query))

    def filed(self) -> int:
        """How many files lie in done."""
        return sum(len(os.listdir(self.done / issue)) for issue in os.listdir(self.done))

    def uploads(self) -> list[float]:
        """When each upload began to arrive at the stand-in, on this machine's monotonic clock."""
        with urllib.request.urlopen(f"{self.url}/__standin__/requests", timeout=60) as answer:
            requests = json.load(answer)
        return [request["at"] for request in requests if request["path"].endswith("/attachments")]


def counts(url: str) -> dict[str, int]:
    """How many requests and files have reached the server of ``benchmarks.sink``."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with urllib.request.urlopen(f"{url}/counts", timeout=60, context=context) as answer:
        found: dict[str, int] = json.load(answer)
    return found


def grown(count: Callable[[], int], goal: int, patience: float = 100.0, every: float = 0.2) -> float:
    """Wait until *count* has reached *goal*, or has not changed for so long; returns when, on the monotonic clock.

    The patience is that of three scans.
    """
    highest, at = count(), time.monotonic()
    while highest < goal and time.monotonic() < at + patience:
        time.sleep(every)
        if (now := count()) > highest:
            highest, at = now, time.monotonic()
    return at


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder where ``TMPDIR`` says. It is removed when the whole run has ended.

    For some minutes ext4 does not give out the inodes of removed files again, and searches long for others
    (``recently_deleted`` in Linux, fs/ext4/ialloc.c): files that are made after that are made several times slower.
    """
    made = tempfile.mkdtemp(prefix="attachd-bench-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    yield Path(made)


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """A site in a temporary folder, with a stand-in of its own."""
    with folder() as home:
        words = ["--folder", str(home / "jira"), "--port", "0", "--auto-issues", "--no-page"]
        with server("attachd.standin", *words) as url:
            yield Site(home, url)


@contextlib.contextmanager
def sinking(delay: float = 0.0, certificate: Certificate | None = None) -> Iterator[Site]:
    """A site whose Jira is the lean server of ``benchmarks.sink``, which takes *delay* seconds for each upload."""
    tls = ["--certificate", str(certificate.path), "--key", str(certificate.key)] if certificate else []
    with folder() as home, server("benchmarks.sink", "--delay", str(delay), *tls) as url:
        yield Site(home, url, certificate.path if certificate else None)


@contextlib.contextmanager
def server(module: str, *words: str) -> Iterator[str]:
    """A server as a process of its own, which prints its address in its first line; gives that."""
    process = subprocess.Popen([sys.executable, "-m", module, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for 127.0.0.1, by nobody but itself, and its key."""

    path: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        """Make one with ``openssl``."""
        made = cls(folder / "certificate.pem", folder / "key.pem")
        names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
        kind = ["-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        files = ["-keyout", str(made.key), "-out", str(made.path)]
        subprocess.run(["openssl", "req", *kind, *names, *files], check=True, capture_output=True)
        return made


def wait_until(condition: Callable[[], object], seconds: float = 3600.0, every: float = 0.05) -> float:
    """Look again and again until *condition* holds; returns when it did, on the monotonic clock."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("it did not come about in time")
        time.sleep(every)
    return time.monotonic()
