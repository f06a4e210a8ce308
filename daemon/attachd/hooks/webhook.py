"""A signed webhook."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import ssl
import threading
import time
from collections.abc import Sequence

import httpx

from attachd import __version__
from attachd.config import Config, loader, secrets
from attachd.delivery.runtime import Runtime
from attachd.errors import Mistake
from attachd.hooks import payload
from attachd.jira import transport
from attachd.journal import outbox
from attachd.journal.outbox import Event
from attachd.logs import setup

#: How long a receiver may take to answer, in seconds.
ANSWER_SECONDS = 15.0
#: With this prefix the rest of a secret is base64 (standardwebhooks.com).
_PREFIX = "whsec_"


class Webhook:
    """Posts each event as JSON, signed according to Standard Webhooks (webhook-id, -timestamp and -signature)."""

    name, at_once = "url", 1

    def __init__(self, runtime: Runtime, url: str, wanted: frozenset[str]) -> None:
        self._runtime, self._url, self._wanted = runtime, url, wanted
        # Redirects are not followed. The environment's proxies and passwords are not used.
        self._deadline = transport.Deadline()
        wire = transport.transport(ssl.create_default_context(), runtime.config.hooks.proxy, self._deadline)
        self._http = httpx.Client(transport=wire, trust_env=False, follow_redirects=False, timeout=ANSWER_SECONDS)

    def send(self, waiting: Sequence[Event], ended: threading.Event) -> tuple[int, str]:
        """Post the first event; 2xx means delivered."""
        del ended
        event = waiting[0]
        if event.kind not in self._wanted:
            return 1, ""
        shown = outbox.shown(event, self._runtime.journal.timeline())
        content = payload.encoded(shown, loader.instance(self._runtime.config.file), self._runtime.site.page)
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"attachd/{__version__}",
            "webhook-id": f"attachd-{self._runtime.guard.inbox_id}-{event.id}",
            "webhook-timestamp": str(now),
        }
        try:
            if key := _key(self._runtime.config):
                headers["webhook-signature"] = signature(key, headers["webhook-id"], now, content)
            self._deadline.start(ANSWER_SECONDS)
            with self._http.stream("POST", self._url, content=content, headers=headers) as answer:
                # The body is not read: it may have no end.
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # The library reports impossible host names in several ways.
            return 0, f"{type(error).__name__}: {error}"
        except Mistake as mistake:
            return 0, str(mistake)
        return (1, "") if 200 <= status < 300 else (0, f"the receiver answered {status}")


def _key(config: Config) -> bytes:
    """Return the key of the signature; empty if none is configured. Raises ``errors.Mistake``."""
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
    """Return the HMAC-SHA256 of id, time and body (standardwebhooks.com, "Signature scheme", version 1)."""
    signed = b".".join((ident.encode(), str(timestamp).encode(), content))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
