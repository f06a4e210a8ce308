"""Delivery with the program's own client, against the stand-in: what needs a real connection to go wrong."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attachd import errors
from attachd.delivery import pacer, preflight
from attachd.delivery import upload as delivery_upload
from attachd.jira import connection, multipart
from attachd.journal import queue
from attachd.service import worker
from attachd.standin import Fault, Standin
from memory_jira import World, world

#: More than the buffers of a connection on loopback take in while nobody reads.
LARGE = bytes(range(256)) * (12 * 1024 * 1024 // 256)
#: In how many reads that is sent.
READS = -(-len(LARGE) // multipart.READ_BYTES)


@pytest.fixture
def jira(tmp_path: Path) -> Iterator[Standin]:
    """A site with one issue."""
    folder = tmp_path / "jira"
    with Standin(folder, issues=["TEST-1"], page=False, user="robot@example.com", token="not-a-secret") as jira:
        yield jira


@pytest.fixture
def w(tmp_path: Path, jira: Standin) -> Iterator[World]:
    """A world that sends to the stand-in; a write may stall for longer than a test may take."""
    home = tmp_path / "home"
    home.mkdir()
    auth = {"user": "robot@example.com", "token": {"file": str(home / "token")}}
    with world(home, jira={"url": jira.url, "auth": auth}, upload={"stall_seconds": 300.0}) as made:
        made.client.close()
        made.client = connection.make_client(
            made.runtime.config, made.runtime.credentials, connection.tls_context(made.runtime.config)
        )
        yield made


def uploads(jira: Standin) -> list[str | None]:
    """The fault that each upload met."""
    return [request.fault for request in jira.requests if request.method == "POST"]


def early(status: int, words: object = None, **options: bool) -> Fault:
    body, kind = ("", "text/html") if words is None else (json.dumps(words), "application/json")
    return Fault("status", status=status, early=True, body=body, content_type=kind, **options)


@pytest.mark.parametrize("stall", [False, True])
@pytest.mark.parametrize(
    ("words", "reason"), [({"errorMessages": ["no"]}, "as many attachments as"), (None, "a proxy in front of Jira")]
)
def test_a_large_file_that_is_declined_early_is_refused_at_once(
    w: World, jira: Standin, words: object, reason: str, stall: bool
) -> None:
    w.drop("TEST-1/large.bin", LARGE)
    jira.faults.add(early(413, words, stall=stall))

    w.deliver()

    assert w.states() == ["FAILED"]
    assert reason in (w.row("TEST-1/large.bin").reason or "")
    assert not w.row("TEST-1/large.bin").may_be_attached
    assert w.files(w.failed)["TEST-1/large.bin"] == LARGE
    assert len(uploads(jira)) == 1


@pytest.mark.parametrize("stall", [False, True])
def test_a_large_file_whose_account_is_declined_early_waits_and_is_sent_once(
    w: World, jira: Standin, stall: bool
) -> None:
    w.drop("TEST-1/large.bin", LARGE)
    jira.faults.add(early(401, {"message": "no"}, stall=stall))
    w.scan()
    assert w.step()

    row = w.row("TEST-1/large.bin")
    assert (row.state, row.ever_doubtful, {pause.partition(":")[0] for pause in w.pauses()}) == (
        "READY",
        False,
        {"account"},
    )

    w.settle()

    assert w.states() == ["DONE"]
    assert [one.size for one in jira.store.attachments("TEST-1")] == [len(LARGE)]
    assert len(uploads(jira)) == 2


@pytest.mark.parametrize(("status", "state"), [(503, "READY"), (200, "DOUBTFUL")])
def test_another_early_answer_of_a_large_file(w: World, jira: Standin, status: int, state: str) -> None:
    w.drop("TEST-1/large.bin", LARGE)
    jira.faults.add(early(status, [{"id": "7", "filename": "large.bin", "size": len(LARGE)}]))
    w.scan()
    assert w.step()

    assert w.states() == [state]

    w.settle()

    assert w.states() == ["DONE"]
    assert [one.size for one in jira.store.attachments("TEST-1")] == [len(LARGE)]


# --- The file while it is being sent --------------------------------------------------------------------------------

MTIME = 1_700_000_000_000_000_000
NEW = LARGE[::-1]


def grows(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"and more")


def grows_by_the_end_of_a_body(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(len("\r\n--") + 32 + len("--\r\n")))


def shrinks(path: Path) -> None:
    os.truncate(path, 1024)


def is_emptied(path: Path) -> None:
    os.truncate(path, 0)


def is_rewritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(NEW)


def is_rewritten_and_its_time_put_back(path: Path) -> None:
    is_rewritten(path)
    os.utime(path, ns=(MTIME, MTIME))


def at_the_read(number: int, do: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something before the *number*-th piece is read of a file that is sent, once."""
    usual, reads = os.pread, iter(range(1, 1 << 30))

    def pread(descriptor: int, size: int, position: int) -> bytes:
        if size == multipart.READ_BYTES and next(reads) == number:
            do()
        return usual(descriptor, size, position)

    monkeypatch.setattr(os, "pread", pread)


@pytest.mark.parametrize(
    "change",
    [grows, grows_by_the_end_of_a_body, shrinks, is_emptied, is_rewritten, is_rewritten_and_its_time_put_back],
)
@pytest.mark.parametrize("moment", [2, READS * 5 // 8, READS])
def test_a_file_that_changes_while_it_is_sent_arrives_as_it_is_in_the_end(
    w: World, jira: Standin, change: Callable[[Path], None], moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only so: nothing of what was under way is stored, and no error of a library comes through."""
    path = w.drop("TEST-1/large.bin", LARGE, MTIME)
    at_the_read(moment, lambda: change(path), monkeypatch)

    w.settle()

    assert w.states() == ["DONE"]
    (stored,) = jira.store.attachments("TEST-1")
    (content,) = w.files(w.done).values()
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert (content == LARGE) is False
    assert len(uploads(jira)) == 2
    assert not w.rows()[0].ever_doubtful


def test_a_file_that_is_replaced_while_it_is_sent(w: World, jira: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both contents are attached: the one that was held to its end, and the new one."""
    w.drop("TEST-1/large.bin", LARGE, MTIME)
    at_the_read(READS * 5 // 12, lambda: w.drop("TEST-1/large.bin", NEW) and None, monkeypatch)

    w.settle()

    assert sorted(one.sha256 for one in jira.store.attachments("TEST-1")) == sorted(
        hashlib.sha256(content).hexdigest() for content in (LARGE, NEW)
    )
    assert sorted(w.states()) == ["DONE", "DONE"]


def test_a_disk_that_fails_in_the_midst_of_a_file_holds_that_file_alone(
    w: World, jira: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    w.drop("TEST-1/large.bin", LARGE)

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    at_the_read(READS * 5 // 12, fail, monkeypatch)
    w.scan()
    assert w.step()

    row = w.row("TEST-1/large.bin")
    assert (row.state, row.blocked, w.pauses()) == (
        "SEEN",
        "attachd cannot read the file: [Errno 5] Input/output error",
        set(),
    )

    w.drop("TEST-1/other.txt", b"other")
    w.settle()
    assert w.states() == ["DONE", "DONE"]
    assert sorted(one.size for one in jira.store.attachments("TEST-1")) == [5, len(LARGE)]


def test_a_file_that_is_being_rewritten_as_its_upload_begins_settles_first(w: World, jira: Standin) -> None:
    """Between its opening and the first byte Jira may be asked for its limits: that is time enough to write."""
    path = w.drop("TEST-1/a.txt", b"old content", MTIME)
    w.scan()
    loaded, usual = [], preflight.load

    def load(runtime, stack, row, folders):  # type: ignore[no-untyped-def]
        loaded.append(usual(runtime, stack, row, folders))
        if len(loaded) == 1:
            with path.open("r+b") as file:
                file.write(b"new ")
        return loaded[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery_upload, "load", load)
        w.step()
    assert jira.store.attachments("TEST-1") == []

    with path.open("r+b") as file:
        file.write(b"new words!!")
    w.settle()
    assert [one.sha256 for one in jira.store.attachments("TEST-1")] == [hashlib.sha256(b"new words!!").hexdigest()]


# --- The journal while it is being sent -----------------------------------------------------------------------------


def full() -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error


@contextlib.contextmanager
def no_file_grows() -> Iterator[None]:
    """What a disk quota does to SQLite: a write that fails otherwise than for want of room."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


@pytest.mark.parametrize("real", [False, True])
def test_a_journal_that_cannot_be_written_before_the_end_of_a_body_leaves_nothing_in_doubt(
    w: World, jira: Standin, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closing boundary never left: when there is room again the file is sent, once, without a look."""
    w.drop("TEST-1/large.bin", LARGE)
    w.scan()
    usual = queue.checksums
    with contextlib.ExitStack() as stack, monkeypatch.context() as patch:

        def checksums(*args: Any) -> None:
            stack.enter_context(no_file_grows()) if real else full()
            usual(*args)

        def disk_fails(error: sqlite3.OperationalError) -> bool:
            stack.close()  # what is logged may go to a file too
            return judged(error)

        judged = errors.disk_fails
        patch.setattr(queue, "checksums", checksums)
        patch.setattr(errors, "disk_fails", disk_fails)
        patch.setattr(worker, "FULL_SECONDS", 0.0)
        assert not w.step()
    assert w.states() == ["SENDING"]
    assert jira.store.attachments("TEST-1") == []

    w.step()
    assert (w.row("TEST-1/large.bin").state, w.row("TEST-1/large.bin").ever_doubtful) == ("READY", False)

    w.settle()
    assert w.states() == ["DONE"]
    assert [one.size for one in jira.store.attachments("TEST-1")] == [len(LARGE)]
    assert [request.method for request in jira.requests if "TEST-1" in request.path] == [
        "GET",
        "POST",
        "POST",
    ]


# --- The limit to the bandwidth -------------------------------------------------------------------------------------


@contextlib.contextmanager
def limited(home: Path, jira: Standin, rate: int, **keys: Any) -> Iterator[World]:
    """A world with a limit, in which worker and limit have the real time."""
    home.mkdir()
    auth = {"user": "robot@example.com", "token": {"file": str(home / "token")}}
    upload = {"max_bytes_per_second": rate, **keys}
    with world(home, jira={"url": jira.url, "auth": auth}, upload=upload) as made:
        made.client.close()
        made.client = connection.make_client(
            made.runtime.config, made.runtime.credentials, connection.tls_context(made.runtime.config)
        )
        made.runtime.stopping = threading.Event()
        made.clock.boot = time.monotonic  # type: ignore[method-assign]
        yield made


@pytest.mark.parametrize(("files", "size"), [(1, len(LARGE)), (3, 1024 * 1024)])
def test_no_more_than_the_limit_is_sent(tmp_path: Path, jira: Standin, files: int, size: int) -> None:
    """Streamed and of one buffer; with times for a write and for the reply that are shorter than the sending."""
    rate = files * size // 2  # two seconds
    with limited(tmp_path / "home", jira, rate, stall_seconds=1.5, reply_seconds=1.5) as w:
        for number in range(files):
            w.drop(f"TEST-1/{number}.bin", LARGE[:size])
        w.scan()
        begun = time.monotonic()
        w.work()
        seconds = time.monotonic() - begun

        assert w.states() == ["DONE"] * files
    assert seconds >= files * size / rate - pacer.SAVED_SECONDS
    assert [one.size for one in jira.store.attachments("TEST-1")] == [size] * files


@pytest.mark.parametrize("size", [len(LARGE), 1024 * 1024])
def test_a_worker_that_waits_for_the_limit_is_not_waited_for(tmp_path: Path, jira: Standin, size: int) -> None:
    """Minutes would be left; the service ends at once, with nothing in doubt and nothing sent whole."""
    with limited(tmp_path / "home", jira, 4096) as w:
        w.drop("TEST-1/a.bin", LARGE[:size])
        w.scan()
        thread = threading.Thread(target=w.step)
        thread.start()
        charged, until = w.runtime.bandwidth, time.monotonic() + 20.0
        while charged._paid == 0.0:
            assert time.monotonic() < until
            time.sleep(0.01)
        w.runtime.stopping.set()
        w.runtime.cutting.set()
        thread.join(20.0)

        assert not thread.is_alive()
        assert (w.states(), w.rows()[0].ever_doubtful) == (["READY"], False)
    assert jira.store.attachments("TEST-1") == []
