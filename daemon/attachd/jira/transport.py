"""httpx with the limits that a careful client needs. Only this module uses its private parts.

A client belongs to one thread: a shared one answers with spurious errors when threads outnumber its connections
(httpcore issue 1110). The TLS context is shared, because making one costs more than a request.
"""

from __future__ import annotations

import contextlib
import functools
import re
import select
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from attachd import heartbeat

#: Below the idle limit of every server (Tomcat 20 s, nginx 75 s), so that no closing connection is reused, in seconds.
KEEPALIVE_SECONDS = 3.0
#: The longest answer to read, in bytes: 2,000 attachments make about 2 MiB.
REPLY_BYTES = 32 * 1024 * 1024
#: How many bytes to send before looking for an answer. Over TLS, the stall timeout applies to each such write.
WRITE_BYTES = 256 * 1024
#: More bytes than this before the request is complete are an answer, whatever they contain.
INTERIM_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024

#: 1xx except 101 is interim: the answer follows (RFC 9110, 15.2).
_INTERIM = rb"HTTP/1\.[01] 1(?!01)\d\d"
_BEGINS_INTERIM = re.compile(_INTERIM)
_WHOLE_INTERIM = re.compile(_INTERIM + rb"[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n")
#: "HTTP/1.1 413": the shortest beginning that shows the status.
_TELLING_BYTES = 12


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
    """The time by which the reply must be complete (``time.monotonic``)."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._armed: float | None = None

    def start(self, seconds: float) -> None:
        """Allow all reads together *seconds* from now."""
        self._at, self._armed = time.monotonic() + seconds, None

    def arm(self, seconds: float) -> None:
        """Allow all reads together *seconds* from the first read, which follows the last byte sent."""
        self._at, self._armed = None, seconds

    def clear(self) -> None:
        """Remove the deadline, so that each read has its own timeout."""
        self._at = self._armed = None

    def shorten(self, timeout: float | None) -> float | None:
        """Return the timeout of one read. Raises ``httpcore.ReadTimeout`` if no time is left."""
        if self._armed is not None:
            self.start(self._armed)
        if self._at is None:
            return timeout
        left = self._at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the reply was not complete in time")
        return left if timeout is None else min(left, timeout)


def is_answer(early: bytes) -> bool:
    """Return True if these bytes begin the final answer, although the request is not complete yet."""
    position = 0
    while interim := _WHOLE_INTERIM.match(early, position):
        position = interim.end()
    undecided = len(early) - position < _TELLING_BYTES or _BEGINS_INTERIM.match(early, position)
    return not undecided or len(early) > INTERIM_BYTES


class _Stream(httpcore.NetworkStream):
    """A connection whose reads obey a total deadline, and whose writes stop when an early answer arrives.

    httpx knows time-outs for one read only: a trickle never ends. And it looks for an answer only after the last byte: a
    server that declines a large file and reads no further would be a stall, its words lost.
    """

    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline
        self._early = b""
        self._failure: httpcore.ReadError | None = None
        self._socket = inner.get_extra_info("socket")
        # httpcore's TLS within TLS, which cannot stop in the middle of a write.
        self._nested = isinstance(inner.get_extra_info("ssl_object"), ssl.SSLObject)
        self._poll = select.poll()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._deadline.shorten(timeout)
        if self._early:
            taken, self._early = self._early[:max_bytes], self._early[max_bytes:]
            return taken
        if self._failure:
            raise self._failure
        with heartbeat.on_jira():
            return self._inner.read(max_bytes, left)

    @heartbeat.on_jira()
    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send everything. An early answer, or a close by the peer, raises WriteError; httpcore then reads what arrived."""
        write = self._write_nested if self._nested else self._write
        left = memoryview(buffer)
        while left:
            left = left[write(left[:WRITE_BYTES], timeout) :]

    def _write(self, piece: memoryview, timeout: float | None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        wanted = select.POLLIN | select.POLLOUT
        self._socket.settimeout(0.0)
        while events := self._events(wanted, until):
            if events & ~select.POLLOUT and self._answered():
                raise httpcore.WriteError("an answer came before the request was complete")
            sent = 0
            try:
                # Python's TLS sends one record of 16 KiB at a time (SSL_MODE_ENABLE_PARTIAL_WRITE).
                while sent < len(piece):
                    sent += self._socket.send(piece[sent:])
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except (BlockingIOError, ssl.SSLWantWriteError):
                wanted = select.POLLIN | select.POLLOUT
            except OSError as error:
                raise httpcore.WriteError(str(error)) from error
            if sent:
                return sent
        raise httpcore.WriteTimeout("timed out")

    def _write_nested(self, piece: memoryview, timeout: float | None) -> int:
        if self._events(select.POLLIN, time.monotonic()) and self._answered():
            raise httpcore.WriteError("an answer came before the request was complete")
        try:
            self._inner.write(bytes(piece), timeout)
        except httpcore.WriteTimeout as stalled:
            if self._answered():
                raise httpcore.WriteError("an answer came before the request was complete") from stalled
            raise
        return len(piece)

    def _events(self, wanted: int, until: float | None) -> int:
        self._poll.register(self._socket, wanted)
        found = self._poll.poll(None if until is None else max(0.0, until - time.monotonic()) * 1000)
        return found[0][1] if found else 0

    def _answered(self) -> bool:
        """Read and keep what has arrived, without waiting. A TLS 1.3 ticket makes the socket readable without data."""
        try:
            while piece := self._inner.read(_READ_BYTES, 0.0):
                self._early += piece
                if is_answer(self._early):
                    return True
        except httpcore.ReadError as error:
            if isinstance(error.__cause__, BlockingIOError | ssl.SSLWantReadError | ssl.SSLWantWriteError):
                return False
            # A second read of the connection would not say why it ended.
            self._failure = error
        return True

    def close(self) -> None:
        self._inner.close()

    @heartbeat.on_jira()
    def start_tls(self, ssl_context: ssl.SSLContext, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, *args, **kwargs), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable" and self._early:
            return True
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, deadline: Deadline) -> None:
        self._inner = httpcore.SyncBackend()
        self._deadline = deadline

    @heartbeat.on_jira()
    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        try:
            stream = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        except UnicodeError as error:
            # An impossible name for DNS (Lib/encodings/idna.py): nothing was sent.
            raise httpcore.ConnectError(f"{error}") from error
        return _Stream(stream, self._deadline)

    @heartbeat.on_jira()
    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


def transport(context: ssl.SSLContext, proxy: str | None, deadline: Deadline) -> httpx.HTTPTransport:
    """Make the transport of one client: one connection, no environment variables, a deadline on its reads."""
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_SECONDS)
    through = _proxy(proxy, context) if proxy else None
    made = httpx.HTTPTransport(verify=context, trust_env=False, limits=limits, proxy=through)
    # httpx does not accept a network backend. httpcore's pools do, and keep it under this name (httpcore 1.0.9).
    made._pool._network_backend = _Backend(deadline)  # noqa: SLF001
    return made


def _proxy(url: str, context: ssl.SSLContext) -> httpx.Proxy:
    # Without this, a proxy with TLS would be checked against certifi's list, not against the configured one.
    return httpx.Proxy(url, ssl_context=context if httpx.URL(url).scheme == "https" else None)


#: An address is read once: httpx takes a fifth of a small request's time for that.
_read_url = functools.lru_cache(4096)(httpx.URL)


class Requests:
    """Makes the requests of one worker on a transport, below httpx's client, which costs as much as all the rest of a request.

    So there is no redirect (a redirected POST would become a GET), no cookie (a session would outlive its token, and a dead
    account look alive), and nothing from the environment.
    """

    def __init__(self, wire: httpx.BaseTransport, user_agent: str) -> None:
        self._wire = wire
        self._headers = {
            "User-Agent": user_agent,
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "X-Atlassian-Token": "no-check",
        }

    @contextlib.contextmanager
    def stream(
        self, method: str, url: str, timeout: httpx.Timeout, headers: Mapping[str, str],
        content: Iterator[bytes] | bytes | None,
    ) -> Iterator[httpx.Response]:  # fmt: skip
        """Send a request and give its answer, whose body is still to be read. Raises ``httpx.HTTPError`` or ``InvalidURL``."""
        both = {**self._headers, **headers}
        try:
            request = httpx.Request(
                method, _read_url(url), headers=both, content=content, extensions={"timeout": timeout.as_dict()}
            )
        except UnicodeError as error:
            raise httpx.ConnectError(f"{error}") from error
        with contextlib.closing(self._wire.handle_request(request)) as response:
            yield response

    def close(self) -> None:
        self._wire.close()
