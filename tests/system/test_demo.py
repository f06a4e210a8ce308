"""``attachd demo`` as a stranger meets it: one command, a file that is attached before the browser is open, an end by Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from installation import ATTACHD
from waiting import wait_until


class Demo:
    """A running demo: what it says, what its Jira holds, what it has left behind."""

    def __init__(self, *words: str | Path, temporary: Path, stderr: IO[bytes]) -> None:
        self.stderr = stderr
        # A session of its own: Ctrl-C reaches all of its processes at once, as it does on a terminal.
        self.process = subprocess.Popen(
            [ATTACHD, "demo", *words],
            env=os.environ | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.said = ""
        while "attachd status" not in self.said:
            line = self.process.stdout.readline()
            assert line, f"it ended: {self.said}"
            self.said += line
        self.url = _found(r"(http://127\.0\.0\.1:\d+)/", self.said)
        self.folder = Path(_found(r"cp FILE (/.*)/inbox/DEMO-1/", self.said))

    def attachments(self) -> dict[str, tuple[str, int]]:
        """Names with issue and size, as the stand-in holds them."""
        with urllib.request.urlopen(f"{self.url}/__standin__/attachments", timeout=30) as answer:
            held: list[dict[str, Any]] = json.load(answer)
        return {a["filename"]: (a["issue"], a["size"]) for a in held}

    def end(self, reached: Callable[[int, int], None] = os.killpg) -> int:
        """Press Ctrl-C; *reached*: the whole group, or (``os.kill``) the demo alone."""
        reached(self.process.pid, signal.SIGINT)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end; the daemon must have stopped by itself."""
        code = self.process.wait(15)
        self.stderr.seek(0)
        log = self.stderr.read().decode()
        assert "service.stopped" in log, log
        assert "Traceback" not in log, log
        return code

    def left_behind(self) -> list[int]:
        """Processes of its session that are still there."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _session(pid) == self.process.pid]


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


def _session(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return None


@contextlib.contextmanager
def demo(*words: str | Path, temporary: Path) -> Iterator[Demo]:
    """Start one; whatever a test does, nothing of it is left running."""
    with tempfile.TemporaryFile() as stderr:
        running = Demo(*words, temporary=temporary, stderr=stderr)
        try:
            yield running
        finally:
            for pid in running.left_behind():
                os.kill(pid, signal.SIGKILL)
            running.process.wait()
            assert running.process.stdout is not None
            running.process.stdout.close()


@pytest.mark.parametrize("reached", [os.killpg, os.kill], ids=["ctrl-c", "sigint"])
def test_a_file_is_attached_at_once_another_when_it_is_dropped_and_ctrl_c_ends_it(
    tmp_path: Path, reached: Callable[[int, int], None]
) -> None:
    with demo("--port", "0", temporary=tmp_path) as running:
        wait_until(lambda: "welcome.txt" in running.attachments())
        with urllib.request.urlopen(running.url, timeout=30) as answer:
            assert answer.status == 200
            assert "welcome.txt" in answer.read().decode()
        (running.folder / "inbox" / "DEMO-2" / "Prüfbericht 7.txt").write_text("by hand")
        wait_until(lambda: "Prüfbericht 7.txt" in running.attachments())
        assert running.attachments()["Prüfbericht 7.txt"] == ("DEMO-2", 7)
        wait_until((running.folder / "done" / "DEMO-2" / "Prüfbericht 7.txt").exists)

        assert running.end(reached) == 0

        assert running.left_behind() == []
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(running.url, timeout=30)
    (kept,) = tmp_path.iterdir()
    assert (kept / "done" / "DEMO-2" / "Prüfbericht 7.txt").read_text() == "by hand"


def test_nothing_is_left_of_a_demo_into_which_nothing_was_dropped(tmp_path: Path) -> None:
    with demo("--port", "0", temporary=tmp_path) as running:
        wait_until(lambda: "welcome.txt" in running.attachments())
        assert running.end() == 0

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_named_keeps_everything_for_the_next_time(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with demo("--port", "0", "--folder", folder, temporary=tmp_path) as running:
        assert running.folder == folder
        wait_until((folder / "done" / "DEMO-1" / "welcome.txt").exists)
        assert running.end() == 0

    with demo("--port", "0", "--folder", folder, temporary=tmp_path) as running:
        wait_until((folder / "done" / "DEMO-1" / "welcome (2).txt").exists)
        assert running.end() == 0
    assert not (folder / "failed" / "DEMO-1").exists()


def test_a_folder_of_somebodys_files_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.toml").write_text("# mine\n")

    ended = subprocess.run(
        [ATTACHD, "demo", "--port", "0", "--folder", folder], capture_output=True, text=True, timeout=60
    )  # fmt: skip

    assert ended.returncode == 1
    assert "contains files and is not a demo" in ended.stderr
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"config.toml": "# mine\n"}


def test_an_issue_that_does_not_exist_is_explained_in_failed(tmp_path: Path) -> None:
    with demo("--port", "0", temporary=tmp_path) as running:
        wait_until(lambda: "welcome.txt" in running.attachments())
        (running.folder / "inbox" / "NOPE-1").mkdir()
        (running.folder / "inbox" / "NOPE-1" / "lost.txt").write_text("lost?")
        note = running.folder / "failed" / "NOPE-1" / "lost.txt.why.txt"
        wait_until(note.exists, 30)
        assert "The issue does not exist, or attachd may not see it" in note.read_text("utf-8")
        assert (running.folder / "failed" / "NOPE-1" / "lost.txt").read_text() == "lost?"
        assert running.end() == 0


def test_a_port_that_is_taken_is_no_obstacle(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with demo("--port", str(port), temporary=tmp_path) as running:
            assert not running.url.endswith(f":{port}")
            wait_until(lambda: "welcome.txt" in running.attachments())
            assert running.end() == 0


def test_ctrl_c_pressed_again_and_again_ends_it_all_the_same(tmp_path: Path) -> None:
    """A handler that is interrupted by the next signal must not wait for itself."""
    with demo("--port", "0", temporary=tmp_path) as running:
        wait_until(lambda: "welcome.txt" in running.attachments())
        for _ in range(200):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGINT)

        assert running.ended() == 0
        assert running.left_behind() == []
