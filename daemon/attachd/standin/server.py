"""Starts and stops the stand-in: a thread with an event loop, a listening socket, and its connections."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from uvicorn import Config
from uvicorn.server import ServerState

from attachd.standin.app import application
from attachd.standin.exchange import Site
from attachd.standin.faults import Faults
from attachd.standin.store import Request, RequestLog, Store
from attachd.standin.wire import Wire

#: How long an idle connection stays open, in seconds: so long that the client closes it first.
KEEP_ALIVE_SECONDS = 75
#: How long requests may take to notice that the server has stopped, in seconds.
STOP_SECONDS = 5.0
_HOST = "127.0.0.1"


class Standin:
    """A Jira that runs in this process. ``store`` and ``faults`` may be changed at any time, from any thread."""

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        page: bool = True,
        issues: Iterable[str] = (),
        auto_issues: bool = False,
        deployment: str = "Cloud",
        base_path: str = "",
        user: str = "demo@example.com",
        token: str = "standin-token",  # noqa: S107  the made-up secret of a made-up server
        tls: tuple[Path, Path] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Serve what *folder* holds, on *port* (0: a free one); *tls* is a certificate and its key, as files.

        With a *clock* of the caller's (seconds since the epoch), dates, limits and late commits obey it alone, and
        ``catch_up`` is to be called when it was moved.
        """
        self.store = Store(
            folder,
            clock=clock,
            deployment=deployment,
            base_path=base_path.rstrip("/"),
            user=user,
            token=token,
            auto_issues=auto_issues,
            # Data Center answers wrong credentials with 401 everywhere.
            anonymous_fallthrough=deployment == "Cloud",
        )
        for key in issues:
            if self.store.find_issue(key) is None:
                self.store.add_issue(key)
        self.faults = Faults()
        self.log = RequestLog()
        self.port = port
        self._page = page
        self._tls = tls
        self._reserved: socket.socket | None = None
        self._site: Site | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """The address for the configuration of a client."""
        return self._origin + self.store.base_path

    @property
    def _origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://{_HOST}:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in the order of arrival."""
        return self.log.all()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop for good."""
        self.close()

    def start(self) -> None:
        """Listen. Connections are accepted once this returns."""
        if self._thread is not None:
            return
        if self._reserved is None:
            self._reserved = _bound(self.port)
            self.port = self._reserved.getsockname()[1]
        site = self._site = Site(self.store, self.faults, self.log, self._origin)
        try:
            config = self._config(site)
        except BaseException:
            self.close()
            raise
        self.store.open()
        listener, self._reserved = self._reserved, None
        ready = threading.Event()
        serving = self._serve(site, config, listener, ready)
        self._thread = threading.Thread(target=asyncio.run, args=(serving,), name="standin", daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Refuse and drop connections, as at the end of the server's process. Keep the port for ``start``."""
        if self._thread is None:
            return
        assert self._loop is not None
        assert self._ended is not None
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._thread = None
        self._reserved = _bound(self.port)
        weakref.finalize(self, self._reserved.close)
        self.store.close()

    def restart(self) -> None:
        """Stop, and start again with the same store on the same port."""
        self.stop()
        self.start()

    def catch_up(self) -> None:
        """Make the delayed calls that are due now by the caller's clock."""
        if self._site is not None:
            self._site.catch_up()

    def close(self) -> None:
        """Stop, and release the port."""
        self.stop()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    # --- in the thread -------------------------------------------------------------------------------------------

    async def _serve(self, site: Site, config: Config, listener: socket.socket, ready: threading.Event) -> None:
        state = ServerState()
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await self._loop.create_server(
                lambda: Wire(config, state, self._strike), sock=listener, ssl=config.ssl, backlog=1024
            )
        finally:
            ready.set()
        await self._ended.wait()
        server.close()
        site.forget_later()
        await _drop(state)

    def _config(self, site: Site) -> Config:
        certificate, key = self._tls or (None, None)
        config = Config(
            application(site, with_page=self._page),
            http=Wire,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.ERROR,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        config.load()
        return config

    def _strike(self, wire: Wire) -> None:
        """Cut a new connection if a fault says so."""
        fault = self.faults.take_on_connection()
        if fault is None:
            return
        self.log.add(Request("", "", fault=fault.kind, ended=True))
        if fault.kind == "close":
            wire.close()
        else:
            wire.reset()


async def _drop(state: ServerState) -> None:
    """Cut all connections, and wait until their requests have noticed."""
    for connection in list(state.connections):
        assert isinstance(connection, Wire)
        connection.drop()
    tasks = list(state.tasks)
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
    # Transports close their sockets in the next turn of the loop.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _bound(port: int) -> socket.socket:
    """Bind a port without listening on it, so that connections are refused."""
    # Without the protocol's number asyncio leaves Nagle's algorithm on, which costs 40 ms a reply.
    reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reserved.bind((_HOST, port))
    except OSError:
        reserved.close()
        raise
    return reserved
