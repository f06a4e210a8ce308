"""Every call that may hang on a share is marked, so that a NAS that is away never makes the watchdog restart the service.

The first test reads the code. The others hang in single calls, as a share that does not answer would have them.
"""

from __future__ import annotations

import ast
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import attachd
from attachd import heartbeat
from attachd.delivery import preflight
from attachd.filing import note_cleanup
from attachd.fs import folders, move
from attachd.fs.recognition import Identity
from attachd.heartbeat import PATIENCE_SECONDS, Beats, Hang
from attachd.jira import multipart
from attachd.share import inbox_marker, notes, status_files
from memory_jira import World, world

PACKAGE = Path(attachd.__file__).parent

#: The modules that touch what lies in inbox, done or failed.
_MODULES = sorted(
    path
    for room in ("fs", "share", "intake", "filing", "delivery/preflight.py", "jira/multipart.py")
    for path in ([PACKAGE / room] if room.endswith(".py") else (PACKAGE / room).glob("*.py"))
)

#: The calls of ``os`` that may ask a file server.
_CALLS = frozenset(
    (
        *("access", "chmod", "close", "fchmod", "fstat", "fstatvfs", "fsync", "ftruncate", "link", "listdir", "lstat"),
        *("mkdir", "makedirs", "open", "pread", "pwrite", "read", "readlink", "rename", "replace", "rmdir", "scandir"),
        *("stat", "statvfs", "symlink", "truncate", "unlink", "utime", "walk", "write"),
    )
)
_PATH_CALLS = frozenset(("exists", "getmtime", "getsize", "isdir", "isfile", "islink", "lexists"))

#: What only commands call, which have no watchdog.
_LOCAL = frozenset({("filing/retry.py", "_named")})


class _Unmarked(ast.NodeVisitor):
    """Finds calls that are in no marked region of their function."""

    def __init__(self, module: str) -> None:
        self.module, self.found = module, list[str]()
        self._marked, self._function = 0, "<module>"

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        marked, function = self._marked, self._function
        self._marked, self._function = int(any(map(_is_mark, node.decorator_list))), node.name
        self.generic_visit(node)
        self._marked, self._function = marked, function

    def visit_With(self, node: ast.With) -> None:
        before = self._marked
        for item in node.items:
            self.visit(item.context_expr)
            self._marked += _is_mark(item.context_expr)
        for statement in node.body:
            self.visit(statement)
        self._marked = before

    def visit_Call(self, node: ast.Call) -> None:
        each = isinstance(node.func, ast.Attribute) and node.func.attr == "each" and _is_mark(node.func.value)
        self._marked += each
        if not self._marked and _may_hang(node) and (self.module, self._function) not in _LOCAL:
            self.found.append(f"{self.module}:{node.lineno} in {self._function}: {ast.unparse(node)}")
        self.generic_visit(node)
        self._marked -= each


def _is_mark(node: ast.expr) -> bool:
    return ast.unparse(node) == "heartbeat.on_share()"


def _may_hang(node: ast.Call) -> bool:
    called = ast.unparse(node.func)
    first, _, name = called.rpartition(".")
    if first == "os":
        return name in _CALLS
    return (first == "os.path" and name in _PATH_CALLS) or (name in ("is_dir", "exists", "mkdir") and not node.keywords)


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_call_that_may_ask_a_file_server_is_in_a_marked_region(path: Path) -> None:
    finder = _Unmarked(str(path.relative_to(PACKAGE)))
    finder.visit(ast.parse(path.read_text("utf-8")))

    assert finder.found == []


def test_an_unmarked_call_would_be_found() -> None:
    finder = _Unmarked("intake/x.py")
    finder.visit(ast.parse("def f(a):\n    with heartbeat.on_share():\n        os.stat(a)\n    os.stat(a)\n"))

    assert finder.found == ["intake/x.py:4 in f: os.stat(a)"]


# --- Calls that hang ----------------------------------------------------------------------------------------------------


def hanging(monkeypatch: pytest.MonkeyPatch, call: str, work: Callable[[], object], nth: int = 1) -> Hang:
    """Run *work* in a thread whose *nth* ``os.<call>`` hangs, and return what the watchdog says of it meanwhile."""
    inside, answers, boot, calls = threading.Event(), threading.Event(), [1000.0], [0]
    beats, real = Beats(lambda: boot[0]), getattr(os, call)

    def hangs(*args: Any, **kwargs: Any) -> Any:
        if threading.current_thread().name == "loop":
            calls[0] += 1
            if calls[0] == nth:
                inside.set()
                assert answers.wait(30)
        return real(*args, **kwargs)

    def loop() -> None:
        beats.beat()
        work()
        beats.leave()

    thread = threading.Thread(target=loop, name="loop")
    monkeypatch.setattr(os, call, hangs)
    try:
        thread.start()
        assert inside.wait(30), f"os.{call} was not called {nth} times"
        boot[0] += PATIENCE_SECONDS + 1
        (hang,) = beats.hangs()
    finally:
        answers.set()
        thread.join(30)
        monkeypatch.undo()
    return hang


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("call", "nth"),
    [*(("open", nth) for nth in range(1, 7)), ("scandir", 1), ("scandir", 2), ("fstat", 1), ("fstat", 2), ("close", 1)],
)
def test_a_scan_that_hangs_is_degraded(w: World, monkeypatch: pytest.MonkeyPatch, call: str, nth: int) -> None:
    w.scan()
    w.drop("TEST-1/a.bin", b"a")

    assert hanging(monkeypatch, call, lambda: w.scanner.scan(fully=True), nth).degraded


def test_a_look_at_the_inbox_that_hangs_is_degraded_and_so_is_who_waits_for_it(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hanging(monkeypatch, "open", w.runtime.guard.look).degraded

    boot = [1000.0]
    beats, began = Beats(lambda: boot[0]), threading.Event()

    def waits() -> None:
        beats.beat()
        began.set()
        w.runtime.guard.look()
        beats.leave()

    with w.runtime.guard._lock:
        thread = threading.Thread(target=waits)
        thread.start()
        assert began.wait(30)
        boot[0] += PATIENCE_SECONDS + 1
        while not (hangs := beats.hangs()) or not hangs[0].degraded:
            assert thread.is_alive()
    thread.join(30)


@pytest.mark.parametrize("call", ["open", "fstat", "stat"])
def test_a_move_to_done_that_hangs_is_degraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "done").mkdir()
    (tmp_path / "inbox" / "a").write_bytes(b"a")
    status = (tmp_path / "inbox" / "a").stat()
    identity = Identity(1, status.st_mtime_ns, None, None)

    def moves() -> None:
        move.move(tmp_path / "inbox", b"a", tmp_path / "done", b"TEST-1/a", identity, move.Group())

    assert hanging(monkeypatch, call, moves).degraded


def test_a_rename_that_hangs_is_degraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rename that a file system without RENAME_NOREPLACE gets."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x").write_bytes(b"x")
    monkeypatch.setattr("attachd.fs.rename._LIBC", object())
    status = (tmp_path / "a" / "x").stat()
    identity = Identity(1, status.st_mtime_ns, None, None)

    def renames() -> None:
        move.move(tmp_path / "a", b"x", tmp_path / "b", b"x", identity, move.Group())

    assert hanging(monkeypatch, "rename", renames).degraded


def test_an_upload_whose_file_hangs_while_it_is_read_is_degraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body is read inside the wait for Jira, which alone would have more time."""
    path = tmp_path / "a"
    path.write_bytes(b"a")
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        part = multipart.Part(file.fileno(), "a", 1, status.st_mtime_ns, status.st_ctime_ns)

        @heartbeat.on_jira()
        def sends() -> None:
            list(multipart.read_claimed(part))

        assert hanging(monkeypatch, "pread", sends).degraded


@pytest.mark.parametrize("call", ["open", "close"])
def test_a_file_that_hangs_when_it_is_opened_or_closed_for_sending_is_degraded(
    w: World, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    w.drop("TEST-1/a.bin", b"a")
    w.scan()
    with folders.Held() as held:
        held.folder(w.runtime.guard.inbox, b"TEST-1")

        def sends() -> None:
            opened = preflight.open_same(w.runtime.guard.inbox, w.rows()[0], w.runtime.guard.epoch, held)
            assert isinstance(opened, preflight.Opened)
            preflight.close(opened)

        assert hanging(monkeypatch, call, sends).degraded


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@pytest.mark.parametrize("call", ["open", "write", "fsync", "unlink"])
def test_a_note_that_hangs_is_degraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    (tmp_path / "TEST-1").mkdir()

    def writes() -> None:
        notes.write(tmp_path, b"TEST-1/a", b"attachd F1: it failed\n", "F1")

    assert hanging(monkeypatch, call, writes).degraded


@pytest.mark.parametrize("call", ["open", "write", "fsync", "fstat"])
def test_a_status_file_that_hangs_is_degraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    mount = inbox_marker.mount_of(tmp_path)[:2]

    def writes() -> None:
        status_files.put(tmp_path, mount, b"", status_files.STATUS, status_files.render("x", []))

    assert hanging(monkeypatch, call, writes).degraded


def test_a_look_for_notes_whose_file_is_gone_that_hangs_is_degraded(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hanging(monkeypatch, "scandir", lambda: note_cleanup.drop_notes(w.runtime)).degraded


def test_a_journal_that_hangs_while_files_are_scanned_is_stuck(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal lies on a disk of this machine: a restart may mend what hangs there."""
    w.drop("TEST-1/a.bin", b"a")
    boot, inside, answers = [1000.0], threading.Event(), threading.Event()
    beats, real = Beats(lambda: boot[0]), w.runtime.journal.transaction

    def hangs(**kwargs: Any) -> Any:
        inside.set()
        assert answers.wait(30)
        return real(**kwargs)

    def loop() -> None:
        beats.beat()
        w.scanner.scan()
        beats.leave()

    monkeypatch.setattr(w.runtime.journal, "transaction", hangs)
    thread = threading.Thread(target=loop)
    thread.start()
    assert inside.wait(30)
    boot[0] += PATIENCE_SECONDS + 1
    (hang,) = beats.hangs()
    answers.set()
    thread.join(30)
    assert not hang.degraded
