"""A command that attachd runs for each event."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from attachd.config import loader
from attachd.delivery.runtime import Runtime
from attachd.hooks import payload
from attachd.journal import outbox
from attachd.journal.outbox import Event

COMMAND_SECONDS = 60.0
#: So many bytes of what a command writes to stderr are kept.
_SAID_BYTES = 4096


class Command:
    """Runs a program for each event, without a shell, with the JSON on its stdin and the kind in $ATTACHD_EVENT."""

    name, at_once = "command", 1

    def __init__(self, runtime: Runtime, words: Sequence[str], wanted: frozenset[str]) -> None:
        self._runtime, self._words, self._wanted = runtime, words, wanted

    def send(self, waiting: Sequence[Event], ended: threading.Event) -> tuple[int, str]:
        """Run the command for the first event; exit status 0 means delivered."""
        event = waiting[0]
        if event.kind not in self._wanted:
            return 1, ""
        shown = outbox.shown(event, self._runtime.journal.timeline())
        content = payload.encoded(shown, loader.instance(self._runtime.config.file), self._runtime.site.page)
        environ = {"PATH": os.environ.get("PATH", os.defpath), "ATTACHD_EVENT": event.kind, "LANG": "C.UTF-8"}
        environ |= {name: os.environ[name] for name in ("HOME", "USER", "TZ") if name in os.environ}
        try:
            said = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        except OSError as error:
            return 0, f"{self._words[0]} cannot start without a temporary file: {error.strerror or error}"
        with said:
            try:
                # Without a shell, and without the credentials in the service's environment.
                process = subprocess.Popen(  # noqa: S603
                    self._words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, env=environ,
                    start_new_session=True,
                )  # fmt: skip
            except (OSError, ValueError) as error:
                return 0, f"{self._words[0]} cannot start: {getattr(error, 'strerror', None) or error}"
            with process:
                status = _finished(process, content, ended)
            if status is None:
                return 0, f"{self._words[0]} was killed after {COMMAND_SECONDS:g} s, or because attachd stopped"
            if status:
                said.seek(0)
                return 0, f"{self._words[0]} failed with exit status {status}: {_first_line(said.read(_SAID_BYTES))}"
        return 1, ""


def _finished(process: subprocess.Popen[bytes], content: bytes, ended: threading.Event) -> int | None:
    """Return the exit status; None if the command and its children had to be killed."""
    until = time.monotonic() + COMMAND_SECONDS
    try:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            # One event is smaller than a pipe holds (pipe(7)): this does not wait for its reader.
            process.stdin.write(content)
            process.stdin.close()
        while time.monotonic() < until and not ended.is_set():
            try:
                return process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        return None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)


def _first_line(said: bytes) -> str:
    line = said.decode("utf-8", "replace").strip().partition("\n")[0][:200]
    return "".join(c if c.isprintable() else " " for c in line)
