"""The web server of the page, in a thread that delivery never waits for."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import stat
import threading
import urllib.parse
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from attachd.logger import get_logger
from attachd.model import Unserved
from attachd.service.engine import Engine
from attachd.web import token as web_token
from attachd.web.access import Gate
from attachd.web.app import Page

log = get_logger()

#: How long to wait before the next try to listen.
_AGAIN_SECONDS = 30.0
#: How long open requests may take at the end.
_STOP_SECONDS = 2
_BACKLOG = 64
#: How many connections there may be, and how long a client may take to send its first request.
_MOST_CONNECTIONS, _FIRST_SECONDS = 100, 10.0


class Connection(H11Protocol):
    """A connection of a limited number, with a time limit for its first request: uploads need the descriptors too."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or close it at once."""
        self._refused = len(self.connections) >= _MOST_CONNECTIONS
        if self._refused:
            transport.abort()
            return
        super().connection_made(transport)
        self.loop.call_later(_FIRST_SECONDS, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tidy up, unless the connection was refused."""
        if not self._refused:
            super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        if getattr(self, "cycle", None) is None and not self.transport.is_closing():
            self.transport.close()


class PageServer:
    """Serves the page from ``start`` to ``stop``. If it cannot listen, it logs that and tries again; uploads go on."""

    def __init__(self, engine: Engine, state: Path) -> None:
        listen = engine.runtime.config.web.listen
        assert listen is not None
        self._listen, self._engine, self._state = listen, engine, state
        self._stopping = threading.Event()
        self._server: uvicorn.Server | None = None
        self._logged = ""
        self._thread = threading.Thread(target=self._loop, name="web", daemon=True)

    def start(self) -> None:
        """Start to listen, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and close the open connections."""
        self._stopping.set()
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(_STOP_SECONDS + 1)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                gate = _gate(self._listen, self._state, self._engine.runtime.config.web.hosts)
            except OSError as error:
                reason = f"the page's token cannot be written to {self._state} ({error.strerror or error})"
                self._wait(reason, "make room there, or correct the folder's mode")
                continue
            try:
                listener = bound(self._listen)
            except OSError as error:
                self._wait(
                    error.strerror or str(error),
                    "choose another address in web.listen, or stop the program that uses this one",
                )
                continue
            self._engine.runtime.page_trouble, self._logged = None, ""
            log.info("page.served", listen=self._listen)
            self._serve(listener, gate)

    def _wait(self, reason: str, remedy: str) -> None:
        """Log once why the page is not available, show it as long as it lasts, and wait before the next try."""
        if reason != self._logged:
            self._logged = reason
            self._engine.runtime.page_trouble = Unserved(
                self._listen, reason, remedy, self._engine.runtime.clock.wall()
            )
            log.error(
                "page.not_served",
                listen=self._listen,
                reason=reason,
                remedy=f"{remedy}. Files are attached all the same",
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
        # It is still ours: no process replaces a socket that another one answers.
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
    """Return a listening socket. A socket file (0660) replaces that of a killed process. Raises OSError."""
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
    """Bind under another name first, so that the path always holds a socket with the right mode."""
    fresh = f"{path}.{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(fresh)
        os.chmod(fresh, 0o660)
        listener.listen(_BACKLOG)
        if not _may_be_replaced(path):
            raise FileExistsError(17, "the path holds something else than a socket")
        os.rename(fresh, path)
    except OSError:
        listener.close()
        Path(fresh).unlink(missing_ok=True)
        raise
    return listener


def _may_be_replaced(path: str) -> bool:
    """Return True if the path holds nothing, or a socket that no process answers."""
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
