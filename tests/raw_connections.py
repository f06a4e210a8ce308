"""Both ends of a connection for tests: a client as the program makes it, and a server that does what a test says."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import pytest

from attachd.jira import transport
from attachd.jira.auth import Credentials
from attachd.jira.client import Client
from attachd.jira.multipart import Body, Part
from attachd.jira.reply import Broken, Exchange
from attachd.jira.transport import Deadline, Timeouts, Tls

USER, TOKEN = "demo@example.com", "standin-token"
MIB = 1 << 20
#: Long enough for any healthy server on a machine that is busy.
PATIENT = 20.0
#: For what never comes.
SHORT = 0.3
TIMEOUTS = Timeouts(connect=PATIENT, stall=PATIENT, reply=PATIENT)

SMALL = b"content of a small file\n"
#: More than the buffers of a connection on loopback take in while nobody reads.
LARGE = bytes(range(256)) * (12 * MIB // 256)


# --- Bodies, certificates, clients ----------------------------------------------------------------------------------


def claimed(descriptor: int, name: str = "a.txt") -> Part:
    status = os.fstat(descriptor)
    return Part(descriptor, name, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@contextlib.contextmanager
def body_of(path: Path, *names: str) -> Iterator[Body]:
    """A body that has the file once for each name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield Body([claimed(descriptor, name) for name in names or ("a.txt",)])
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own, and what it signed: files in PEM form."""

    ca: Path
    server: tuple[Path, Path]
    client: tuple[Path, Path]

    def context(self, *, with_client: bool = False) -> ssl.SSLContext:
        cert, key = map(str, self.client) if with_client else (None, None)
        return Tls(str(self.ca), cert, key).context()

    def serving(self, *, asks: bool = False, at_most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.ca))
        context.load_cert_chain(*self.server)
        context.maximum_version = at_most
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def make_authority(folder: Path) -> Authority:
    """Make it with openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificates with openssl")
    (folder / "conf").write_text("[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = attachd test\n")
    made = functools.partial(_certificate, folder)
    ca = made("ca", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    by = ["-CA", str(ca[0]), "-CAkey", str(ca[1])]
    server = made("server", *by, "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "authorityKeyIdentifier=keyid")
    client = made("client", *by, "-addext", "extendedKeyUsage=clientAuth", "-addext", "authorityKeyIdentifier=keyid")
    return Authority(ca[0], server, client)


def _certificate(folder: Path, name: str, *options: str) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    files = ["-config", str(folder / "conf"), "-out", str(cert), "-keyout", str(key)]
    subprocess.run(["openssl", "req", "-x509", *kind, *files, *options], check=True, capture_output=True)
    return cert, key


@functools.cache
def system_store() -> ssl.SSLContext:
    return Tls().context()


def credentials(token: str = TOKEN) -> Credentials:
    return Credentials("basic", USER, lambda: token)


@contextlib.contextmanager
def calling(
    url: str, *, timeouts: Timeouts = TIMEOUTS, tls: ssl.SSLContext | None = None, proxy: str | None = None,
    who: Credentials | None = None,
) -> Iterator[Client]:  # fmt: skip
    """A client as the program makes it."""
    deadline = Deadline()
    wire = transport.transport(tls or system_store(), proxy, deadline)
    client = Client(url, who or credentials(), wire, timeouts=timeouts, deadline=deadline, user_agent="attachd/test")
    try:
        yield client
    finally:
        client.close()


def came_to(outcome: Exchange) -> str:
    """An exchange in a word or two: the stage, or the status with what is missing."""
    if isinstance(outcome, Broken):
        return outcome.stage.value
    return f"{outcome.status}{'' if outcome.whole else ' cut'}{'' if outcome.exhausted else ' early'}"


# --- A server that does what a test says --------------------------------------------------------------------------


Act = Callable[[socket.socket], None]


class Server:
    """Does with each connection in turn what the next of *acts* says, and closes it."""

    def __init__(self, *acts: Act, tls: ssl.SSLContext | None = None) -> None:
        self._acts, self._tls = acts, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.closed = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name="server")

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        for act in self._acts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                connection.settimeout(PATIENT)
                with contextlib.suppress(OSError):
                    self._act(connection, act)
            self.closed.release()

    def _act(self, connection: socket.socket, act: Act) -> None:
        if self._tls is None:
            act(connection)
            return
        with self._tls.wrap_socket(connection, server_side=True) as wrapped:
            act(wrapped)


def take(connection: socket.socket) -> tuple[bytes, bytes]:
    """Read one request: its head and its body."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += more(connection)
    head, _, body = got.partition(b"\r\n\r\n")
    pieces, left = [body], int("".join(header(head, "Content-Length")) or 0) - len(body)
    while left > 0:
        pieces.append(more(connection))
        left -= len(pieces[-1])
    return head, b"".join(pieces)


def more(connection: socket.socket) -> bytes:
    if not (piece := connection.recv(MIB)):
        raise ConnectionError("the client has gone")
    return piece


def said(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def answering(*replies: bytes, seen: list[bytes] | None = None) -> Act:
    """Answer each request of a connection with the next of *replies*; *seen* collects the heads."""

    def act(connection: socket.socket) -> None:
        for reply in replies:
            head, _ = take(connection)
            if seen is not None:
                seen.append(head)
            connection.sendall(reply)

    return act


def header(head: bytes, name: str) -> list[str]:
    lines = [line.decode("latin-1").partition(":") for line in head.split(b"\r\n")[1:]]
    return [value.strip() for key, _, value in lines if key.lower() == name.lower()]


def until_gone(connection: socket.socket) -> None:
    """Wait for the client to close."""
    while connection.recv(65536):
        pass


class Proxy(Server):
    """Forwards what a test allows and nothing else; ``heads`` are the requests that were made of it."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, times: int = 4) -> None:
        super().__init__(*[self._serve] * times, tls=tls)
        self.heads: list[bytes] = []

    def _serve(self, connection: socket.socket) -> None:
        got = connection.recv(65536)
        head, _, rest = got.partition(b"\r\n\r\n")
        self.heads.append(head)
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        tunnel = method == b"CONNECT"
        where = urlsplit(b"//" + target if tunnel else target)
        assert where.hostname is not None
        with socket.create_connection((where.hostname.decode(), where.port), PATIENT) as there:
            if tunnel:
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = target.partition(where.netloc)[2]
                there.sendall(head.replace(target, path, 1) + b"\r\n\r\n" + rest)
            pump(connection, there)


def pump(one: socket.socket, other: socket.socket) -> None:
    """Forward both ways until both have ended: in one thread, since a TLS connection is not for two."""
    ways = {one: other, other: one}
    with contextlib.suppress(OSError):
        while ways:
            pending = [source for source in ways if isinstance(source, ssl.SSLSocket) and source.pending()]
            ready = pending or select.select(list(ways), [], [], PATIENT)[0]
            free = select.select([], [ways[source] for source in ready], [], SHORT / 10)[1]
            for source in ready:
                if ways[source] not in free:
                    continue
                if piece := source.recv(16384):
                    ways[source].sendall(piece)
                else:
                    ways.pop(source).shutdown(socket.SHUT_WR)
