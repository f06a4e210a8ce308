"""A command that is run for each event."""

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
#: What is kept of what a command says, in bytes.
_SAID_BYTES = 4096


class Command:
    """Runs a program for each event, without a shell, with the JSON on its stdin and the kind in $ATTACHD_EVENT."""

    name, at_once = "command", 1

    def __init__(self, runtime: Runtime, words: Sequence[str], wanted: frozenset[str]) -> None:
        """Run *words* for what is *wanted*."""
        self._runtime, self._words, self._wanted = runtime, words, wanted

    def tell(self, waiting: Sequence[Event], ended: threading.Event) -> tuple[int, str]:
        """Run it for the first event; exit status 0 is a yes."""
        event = waiting[0]
        if event.kind not in self._wanted:
            return 1, ""
        told = outbox.shown(event, self._runtime.journal.timeline())
        content = payload.encoded(told, loader.instance(self._runtime.config.file), self._runtime.site.page)
        environ = {"PATH": os.environ.get("PATH", os.defpath), "ATTACHD_EVENT": event.kind, "LANG": "C.UTF-8"}
        environ |= {name: os.environ[name] for name in ("HOME", "USER", "TZ") if name in os.environ}
        try:
            said = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        except OSError as error:
            return 0, f"{self._words[0]} is not started, as no temporary file can be made: {error.strerror or error}"
        with said:
            try:
                # Without a shell; of the service's environment it gets neither credentials nor tokens.
                process = subprocess.Popen(  # noqa: S603
                    self._words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, env=environ,
                    start_new_session=True,
                )  # fmt: skip
            except (OSError, ValueError) as error:
                return 0, f"{self._words[0]} does not start: {getattr(error, 'strerror', None) or error}"
            with process:
                status = _finished(process, content, ended)
            if status is None:
                return 0, f"{self._words[0]} took more than {COMMAND_SECONDS:g} s, or was ended with attachd"
            if status:
                said.seek(0)
                return 0, f"{self._words[0]} ended with {status}: {_first_line(said.read(_SAID_BYTES))}"
        return 1, ""


def _finished(process: subprocess.Popen[bytes], content: bytes, ended: threading.Event) -> int | None:
    """Its exit status; None where it, and what it had started, had to be killed. What it leaves running on purpose is its own."""
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
