"""The page's server: a thread of its own beside the others, which nothing that delivers ever waits for."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import stat
import threading
import urllib.parse
from pathlib import Path

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from attachd.model import Unserved
from attachd.service.engine import Engine
from attachd.web import token as web_token
from attachd.web.access import Gate
from attachd.web.app import Page

log = structlog.get_logger()

#: How long after a failure it is tried again to listen.
_AGAIN_SECONDS = 30.0
#: How long requests may take that are under way at the end.
_STOP_SECONDS = 2
_BACKLOG = 64
#: How many connections there are at once, and how long one may take to ask something.
_MOST_CONNECTIONS, _FIRST_SECONDS = 100, 10.0


class Connection(H11Protocol):
    """One of so many at the most, each with so long for its first request: descriptors are what files are attached with."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, or close it at once."""
        self._refused = len(self.connections) >= _MOST_CONNECTIONS
        if self._refused:
            transport.abort()
            return
        super().connection_made(transport)
        self.loop.call_later(_FIRST_SECONDS, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is to be tidied up for one that was refused."""
        if not self._refused:
            super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        if getattr(self, "cycle", None) is None and not self.transport.is_closing():
            self.transport.close()


class Serving:
    """Serves the page from ``start`` to ``stop``. Where it cannot listen, that is told, and tried again: files go on."""

    def __init__(self, engine: Engine, state: Path) -> None:
        """Prepare; nothing listens yet."""
        listen = engine.runtime.config.web.listen
        assert listen is not None
        self._listen, self._engine, self._state = listen, engine, state
        self._stopping = threading.Event()
        self._server: uvicorn.Server | None = None
        self._told = ""
        self._thread = threading.Thread(target=self._loop, name="web", daemon=True)

    def start(self) -> None:
        """Listen, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End it; whoever looks on is told by the end of the connection."""
        self._stopping.set()
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(_STOP_SECONDS + 1)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                gate = _gate(self._listen, self._state, self._engine.runtime.config.web.hosts)
            except OSError as error:
                reason = f"its token cannot be made in {self._state} ({error.strerror or error})"
                self._wait(reason, "make room there, or put the folder's mode right")
                continue
            try:
                listener = bound(self._listen)
            except OSError as error:
                self._wait(
                    error.strerror or str(error), "choose another address in web.listen, or end what has this one"
                )
                continue
            self._engine.runtime.page_trouble, self._told = None, ""
            log.info("page.served", listen=self._listen)
            self._serve(listener, gate)

    def _wait(self, reason: str, remedy: str) -> None:
        """Say why it is not served, once and as long as that is so, and wait before the next try."""
        if reason != self._told:
            self._told = reason
            self._engine.runtime.page_trouble = Unserved(
                self._listen, reason, remedy, self._engine.runtime.clock.wall()
            )
            log.error(
                "page.not_served",
                listen=self._listen,
                reason=reason,
                remedy=f"files are attached all the same; {remedy}",
            )
        self._stopping.wait(_AGAIN_SECONDS)

    def _serve(self, listener: socket.socket, gate: Gate) -> None:
        app = Page(self._engine, self._state, gate, self._stopping).application()
        config = uvicorn.Config(
            app, lifespan="off", loop="asyncio", http=Connection, ws="none", interface="asgi3", log_config=None, access_log=False,
            server_header=False, proxy_headers=False, limit_concurrency=100, timeout_graceful_shutdown=_STOP_SECONDS,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        if not self._stopping.is_set():
            self._server.run(sockets=[listener])
        listener.close()
        # Nobody else has put a socket there meanwhile: one at which somebody answers is not replaced.
        _remove_socket(self._listen)


def _gate(listen: str, state: Path, hosts: tuple[str, ...]) -> Gate:
    if listen.startswith("unix:"):
        return Gate(secrets.token_bytes(32), None, 0, hosts)
    token = web_token.made(state)
    return Gate(token.encode(), token, _address(listen)[1], hosts)


def _address(listen: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(f"//{listen}")
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def bound(listen: str) -> socket.socket:
    """A socket that listens; one of a path (0660) replaces what a process left that was killed. Raises OSError."""
    if listen.startswith("unix:"):
        return _bound_to_path(listen.removeprefix("unix:"))
    host, port = _address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _bound_to_path(path: str) -> socket.socket:
    """Bound under another name first, so that at no moment one is there that others may use, or none."""
    fresh = f"{path}.{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(fresh)
        os.chmod(fresh, 0o660)
        listener.listen(_BACKLOG)
        if not _may_be_replaced(path):
            raise FileExistsError(17, "what lies there is no socket")
        os.rename(fresh, path)
    except OSError:
        listener.close()
        Path(fresh).unlink(missing_ok=True)
        raise
    return listener


def _may_be_replaced(path: str) -> bool:
    """Whether nothing is there but a socket at which nobody answers any more."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except FileNotFoundError:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(path)
        except ConnectionRefusedError:
            return True
    raise OSError(98, "another process listens there")


def _remove_socket(listen: str) -> None:
    if listen.startswith("unix:"):
        Path(listen.removeprefix("unix:")).unlink(missing_ok=True)
