"""What `check` tests of the web page: whether it answers, or whether its address is free."""

from __future__ import annotations

import http.client
import os
import socket
import stat
import urllib.parse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from attachd.config import Config
from attachd.setup.finding import Finding

#: How long the page may take to answer, in seconds.
_PAGE_SECONDS = 5.0
_RUNTIME = Path("/run/attachd")


def page(config: Config, *, running: bool) -> Iterator[Finding]:
    """Check that the page answers or, while nothing runs, that its address is free."""
    listen = config.web.listen
    if listen is None:
        return
    reason = _silent(listen) if running else _taken(listen)
    if not reason:
        yield Finding("web.listen", "ok", f"{listen} {'answers' if running else 'is free'}")
    elif running:
        remedy = "restart attachd if [web] has changed; otherwise see page.not_served in its log"
        yield Finding("web.listen", "warning", f"{listen} does not answer: {reason}", remedy)
    else:
        remedy = "choose another address, or stop the program that uses this one; files are attached anyway"
        yield Finding("web.listen", "warning", f"{listen} cannot be used: {reason}", remedy)


def _silent(listen: str) -> str:
    """Return why the page does not answer, or ""."""
    try:
        with closing(_connected(listen)) as connection:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "" if status in (200, 503) else f"another program answers there with status {status}"


def _connected(listen: str) -> http.client.HTTPConnection:
    """Return a connection to a port, or to a socket at a path. Raises OSError."""
    if not listen.startswith("unix:"):
        return http.client.HTTPConnection(listen, timeout=_PAGE_SECONDS)
    connection = http.client.HTTPConnection("localhost", timeout=_PAGE_SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(_PAGE_SECONDS)
    try:
        connection.sock.connect(listen.removeprefix("unix:"))
    except OSError:
        connection.close()
        raise
    return connection


def _taken(listen: str) -> str:
    """Return why nothing can listen there, or "". Leaves nothing behind."""
    if listen.startswith("unix:"):
        return _unfit(Path(listen.removeprefix("unix:")))
    parts = urllib.parse.urlsplit(f"//{listen}")
    family = socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((parts.hostname, parts.port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _unfit(path: Path) -> str:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return "a file that is not a socket has this path"
        _connected(f"unix:{path}").close()
        return "another process is listening there"
    except (FileNotFoundError, ConnectionRefusedError):
        pass
    except OSError as error:
        return error.strerror or str(error)
    # The units let systemd create that folder and remove it with the service (RuntimeDirectory=, systemd.exec(5)).
    if path.is_relative_to(_RUNTIME) or os.access(path.parent, os.W_OK | os.X_OK):
        return ""
    return f"{path.parent} is missing or not writable"
