"""The targets of hooks: a webhook that is signed, and a command."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import signal
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import httpx

from attachd import __version__
from attachd.config import Config, loader, secrets
from attachd.delivery.runtime import Desk
from attachd.errors import Mistake
from attachd.jira import transport
from attachd.journal import outbox
from attachd.journal.outbox import Event
from attachd.logs import setup
from attachd.service import commenting, hooking
from attachd.service.hooking import Target

#: How long a receiver may take to answer, and a command to end, in seconds.
ANSWER_SECONDS, COMMAND_SECONDS = 15.0, 60.0
#: What is kept of what a command says, in bytes.
_SAID_BYTES = 4096
#: What the secret of a webhook may begin with; the rest is base64 then (standardwebhooks.com).
_PREFIX = "whsec_"


def targets(desk: Desk) -> list[Target]:
    """Who is told, by the configuration."""
    settings = desk.config.hooks
    wanted = frozenset(settings.events or hooking.KINDS)
    found: list[Target] = []
    if settings.url:
        found.append(Webhook(desk, settings.url, wanted))
    if settings.command:
        found.append(Command(desk, settings.command, wanted))
    if settings.issue_comment:
        found.append(commenting.Comment(desk))
    return found


class Webhook:
    """Posts each event as JSON, signed as Standard Webhooks has it (webhook-id, webhook-timestamp, webhook-signature)."""

    name, at_once = "url", 1

    def __init__(self, desk: Desk, url: str, wanted: frozenset[str]) -> None:
        """Post to *url* what is *wanted*."""
        self._desk, self._url, self._wanted = desk, url, wanted
        # Redirects are not followed, and neither the environment's proxies nor its passwords used.
        self._deadline = transport.Deadline()
        wire = transport.transport(ssl.create_default_context(), desk.config.hooks.proxy, self._deadline)
        self._http = httpx.Client(transport=wire, trust_env=False, follow_redirects=False, timeout=ANSWER_SECONDS)

    def tell(self, waiting: Sequence[Event], ended: threading.Event) -> tuple[int, str]:
        """Post the first event; 2xx is a yes."""
        del ended
        event = waiting[0]
        if event.kind not in self._wanted:
            return 1, ""
        told = outbox.shown(event, self._desk.journal.timeline())
        content = hooking.encoded(told, loader.instance(self._desk.config.file), self._desk.site.page)
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"attachd/{__version__}",
            "webhook-id": f"attachd-{self._desk.guard.inbox_id}-{event.id}",
            "webhook-timestamp": str(now),
        }
        try:
            if key := _key(self._desk.config):
                headers["webhook-signature"] = signature(key, headers["webhook-id"], now, content)
            self._deadline.start(ANSWER_SECONDS)
            with self._http.stream("POST", self._url, content=content, headers=headers) as answer:
                # What it says beyond that is nobody's to read: it may have no end.
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # Names that no host can have are found out by the library, in several ways.
            return 0, f"{type(error).__name__}: {error}"
        except Mistake as mistake:
            return 0, str(mistake)
        return (1, "") if 200 <= status < 300 else (0, f"it answered {status}")


def _key(config: Config) -> bytes:
    """The key of the signature; empty where none is configured. Raises ``model.Mistake``."""
    if config.hooks.secret is None:
        return b""
    text = secrets.read(config.hooks.secret, environ=os.environ, base=config.file.parent, where="hooks.secret").reveal()
    setup.hide(text)
    if text.startswith(_PREFIX):
        try:
            return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            pass
    return text.encode()


def signature(key: bytes, ident: str, timestamp: int, content: bytes) -> str:
    """HMAC-SHA256 of id, time and body, in the first version of Standard Webhooks (standardwebhooks.com, "Signature scheme")."""
    signed = b".".join((ident.encode(), str(timestamp).encode(), content))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class Command:
    """Runs a program for each event, without a shell, with the JSON on its stdin and the kind in $ATTACHD_EVENT."""

    name, at_once = "command", 1

    def __init__(self, desk: Desk, words: Sequence[str], wanted: frozenset[str]) -> None:
        """Run *words* for what is *wanted*."""
        self._desk, self._words, self._wanted = desk, words, wanted

    def tell(self, waiting: Sequence[Event], ended: threading.Event) -> tuple[int, str]:
        """Run it for the first event; exit status 0 is a yes."""
        event = waiting[0]
        if event.kind not in self._wanted:
            return 1, ""
        told = outbox.shown(event, self._desk.journal.timeline())
        content = hooking.encoded(told, loader.instance(self._desk.config.file), self._desk.site.page)
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
