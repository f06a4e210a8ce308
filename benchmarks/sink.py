"""A server that takes uploads and does as little as it can: ``python -m benchmarks.sink``; prints its address.

It speaks just enough of Jira for every client that is measured against it: what a large body holds is thrown away in the kernel
(``MSG_TRUNC``, tcp(7)), a small one is only searched for its boundaries, and answers are put together from ready pieces. One
thread for each connection; a process of its own, so that it takes no time from those it measures. It never keeps anything.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Bodies up to this size are read, so that several files in one are all answered for; of larger ones only the first head is.
_READ_BYTES = 8 << 20
_WINDOW = 1 << 20
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\nContent-Length: *(\d+)", re.IGNORECASE)
_BOUNDARY = re.compile(rb'\r\nContent-Type: *multipart/form-data; *boundary="?([^"\r\n]+)', re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nExpect: *100-continue", re.IGNORECASE)
_NAME = re.compile(rb'filename="([^"]*)"')
_KEY = re.compile(rb"/issue/([^/? ]+)")


@dataclass(slots=True)
class Counts:
    """What came so far."""

    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(10_000))
    requests: int = 0
    files: int = 0


@dataclass(slots=True)
class Connection:
    """One connection; ``delay`` is how long an upload takes in seconds, ``ahead`` what was read of the next request."""

    socket: socket.socket
    counts: Counts
    delay: float
    ahead: bytes = b""

    def serve(self) -> None:
        """Answer one request after the other until the peer has had enough."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.socket:
            try:
                while head := self._head():
                    self.socket.sendall(self._answer(head))
            except (ConnectionError, ssl.SSLError):
                return

    def _head(self) -> bytes:
        while (end := self.ahead.find(_HEAD_END)) < 0:
            more = self.socket.recv(65536)
            if not more:
                return b""
            self.ahead += more
        head, self.ahead = self.ahead[:end], self.ahead[end + 4 :]
        return head

    def _answer(self, head: bytes) -> bytes:
        length = _LENGTH.search(head)
        boundary = _BOUNDARY.search(head)
        if _EXPECTS.search(head):
            self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if length is None or boundary is None:
            if length is not None:
                self._take(int(length[1]))
            return _response(_other(head, self.counts))
        files = self._files(int(length[1]), b"--" + boundary[1])
        if self.delay:
            time.sleep(self.delay)
        self.counts.requests += 1
        self.counts.files += len(files)
        return _response(b"[" + b",".join(self._stored(name, size) for name, size in files) + b"]")

    def _stored(self, name: bytes, size: int) -> bytes:
        return b'{"id":"%d","filename":"%s","size":%d}' % (next(self.counts.ids), name, size)

    def _files(self, length: int, delimiter: bytes) -> list[tuple[bytes, int]]:
        """The names and sizes of the files in a body."""
        if length > _READ_BYTES:
            return [self._large(length, delimiter)]
        # Between two delimiters: a line's end, the part's head, the content, a line's end.
        parts = self._take(length).split(delimiter)[1:-1]
        return [(_name(part), len(part) - part.index(_HEAD_END) - 4 - 2) for part in parts]

    def _large(self, length: int, delimiter: bytes) -> tuple[bytes, int]:
        start = self.ahead
        while (end := start.find(_HEAD_END)) < 0:
            start += self.socket.recv(65536)
        self.ahead = b""
        self._discard(length - len(start))
        return _name(start[:end]), length - (end + 4) - len(b"\r\n" + delimiter + b"--\r\n")

    def _take(self, length: int) -> bytes:
        pieces, came = [self.ahead], len(self.ahead)
        while came < length:
            more = self.socket.recv(_WINDOW)
            if not more:
                raise ConnectionError
            pieces.append(more)
            came += len(more)
        whole = b"".join(pieces)
        self.ahead = whole[length:]
        return whole[:length]

    def _discard(self, left: int) -> None:
        window = bytearray(_WINDOW)
        flags = 0 if isinstance(self.socket, ssl.SSLSocket) else socket.MSG_TRUNC
        while left > 0:
            came = self.socket.recv_into(window, min(left, _WINDOW), flags)
            if not came:
                raise ConnectionError
            left -= came


def _name(part: bytes) -> bytes:
    found = _NAME.search(part)
    return found[1] if found else b""


def _other(head: bytes, counts: Counts) -> bytes:
    """The answer to whatever is asked besides uploads."""
    path = head.split(b" ", 2)[1]
    key = _KEY.search(path)
    told: object = {}
    if b"/serverInfo" in path:
        told = {"deploymentType": "Cloud", "version": "1001.0.0", "versionNumbers": [1001, 0, 0]}
    elif b"/myself" in path:
        told = {"accountId": "1", "displayName": "Sink", "active": True}
    elif b"/attachment/meta" in path:
        told = {"enabled": True, "uploadLimit": 1 << 40}
    elif b"/counts" in path:
        told = {"requests": counts.requests, "files": counts.files}
    elif key is not None:
        told = {"id": "1", "key": key[1].decode(), "fields": {"attachment": []}}
    return json.dumps(told).encode()


def _response(body: bytes) -> bytes:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        date,
        len(body),
        body,
    )


def main(words: Sequence[str] | None = None) -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sink", description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0, help="how long each upload takes, in seconds")
    parser.add_argument("--certificate", help="serve TLS with this certificate and --key, both in PEM")
    parser.add_argument("--key")
    options = parser.parse_args(words)
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
    counts, listener = Counts(), socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(f"{'https' if context else 'http'}://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=_serve, args=(peer, context, counts, options.delay), daemon=True).start()


def _serve(peer: socket.socket, context: ssl.SSLContext | None, counts: Counts, delay: float) -> None:
    try:
        Connection(context.wrap_socket(peer, server_side=True) if context else peer, counts, delay).serve()
    except (ConnectionError, ssl.SSLError):
        peer.close()


if __name__ == "__main__":
    main()
