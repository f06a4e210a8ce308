"""httpx, set up so that it does what a careful client needs, and the one place that knows its private parts.

A client belongs to one thread: a shared one answers with spurious errors when threads outnumber its connections
(httpcore issue 1110). The TLS context is shared, because making one costs more than a request.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

#: Below every server's idle limit (Tomcat 20 s, nginx 75 s): a connection that the server is just closing is not reused.
KEEPALIVE_SECONDS = 3.0
#: No answer of Jira's that we read is larger: 2,000 attachments make about 2 MiB.
REPLY_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds: to connect, for each write, and for the whole reply, counted from the last byte sent."""

    connect: float
    stall: float
    reply: float


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the user's own CA, client certificate and its key; None for the system's trust store and for none."""

    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """Make the context that all clients share. Raises ``OSError`` or ``ssl.SSLError`` for unusable files."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.client_cert_file:
            context.load_cert_chain(self.client_cert_file, self.client_key_file)
        return context


class Deadline:
    """When what is read must be complete (``time.monotonic``)."""

    def __init__(self) -> None:
        """Start without one."""
        self._at: float | None = None
        self._armed: float | None = None

    def start(self, seconds: float) -> None:
        """Give all reads together *seconds* from now."""
        self._at, self._armed = time.monotonic() + seconds, None

    def arm(self, seconds: float) -> None:
        """Give all reads together *seconds* from the first one on: nothing is read before the last byte has left."""
        self._at, self._armed = None, seconds

    def clear(self) -> None:
        """Let reads take as long as their own time-out says."""
        self._at = self._armed = None

    def shorten(self, timeout: float | None) -> float | None:
        """The time-out of one read. Raises ``httpcore.ReadTimeout`` when there is nothing left of it."""
        if self._armed is not None:
            self.start(self._armed)
        if self._at is None:
            return timeout
        left = self._at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the reply was not complete in time")
        return left if timeout is None else min(left, timeout)


class _Stream(httpcore.NetworkStream):
    """A connection whose reads obey a total deadline: httpx knows time-outs for one read only (a trickle never ends)."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.shorten(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, ssl_context: ssl.SSLContext, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, *args, **kwargs), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, deadline: Deadline) -> None:
        self._inner = httpcore.SyncBackend()
        self._deadline = deadline

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        stream = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._deadline)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


def transport(context: ssl.SSLContext, proxy: str | None, deadline: Deadline) -> httpx.HTTPTransport:
    """Make the transport of one client: one connection, no environment, our deadline on its reads."""
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_SECONDS)
    through = _proxy(proxy, context) if proxy else None
    made = httpx.HTTPTransport(verify=context, trust_env=False, limits=limits, proxy=through)
    # httpx passes no network backend on; httpcore's pools take one, and keep it under this name (httpcore 1.0.9).
    made._pool._network_backend = _Backend(deadline)  # noqa: SLF001
    return made


def _proxy(url: str, context: ssl.SSLContext) -> httpx.Proxy:
    # Without it a proxy that is itself spoken to in TLS is held against certifi's list, not the one we were given.
    return httpx.Proxy(url, ssl_context=context if httpx.URL(url).scheme == "https" else None)


def client(wire: httpx.BaseTransport, user_agent: str) -> httpx.Client:
    """Make the client of one worker: it follows no redirect (a redirected POST becomes a GET) and reads no environment."""
    headers = {"User-Agent": user_agent, "Accept": "application/json", "X-Atlassian-Token": "no-check"}
    return httpx.Client(transport=wire, trust_env=False, follow_redirects=False, headers=headers)
