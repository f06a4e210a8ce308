"""The connection below a request, which HTTP frameworks hide, so that the stand-in can fail like a real server."""

from __future__ import annotations

import asyncio
import http
import socket
import struct
import typing
from collections.abc import Callable

from starlette.responses import Response
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

#: How often to check whether the client has gone, in seconds.
LOOK_SECONDS = 0.02
#: How long a closed connection still reads what the client sends, in seconds, so that it sees a FIN and no reset.
SWALLOW_SECONDS = 5.0
#: How long to wait before a reset, in seconds, so that the bytes before it arrive.
ARRIVAL_SECONDS = 0.02

_TCP_ESTABLISHED = 1
_CLOSE_AT_ONCE = struct.pack("ii", 1, 0)


class Wire(H11Protocol):
    """One connection. The application finds it in the request's state, under ``wire``."""

    def __init__(self, config: Config, state: ServerState, strike: Callable[[Wire], None]) -> None:
        """Serve *config*'s application; *strike* may cut the connection before anything is read."""
        super().__init__(config, state, {"wire": self})
        self._strike = strike
        self._severed = False

    # --- asyncio's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless a fault cuts the new connection."""
        super().connection_made(transport)
        self._strike(self)

    def data_received(self, data: bytes) -> None:
        """Receive bytes, or discard them after the end."""
        if not self._severed:
            super().data_received(data)

    # --- the application's side ----------------------------------------------------------------------------------

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        self._sever()
        if self.transport.is_closing():
            # The client went first; a closed TLS transport has no socket to ask for.
            return
        raw = self.transport.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_AT_ONCE)
        self.transport.abort()

    def close(self) -> None:
        """Cut the connection with a FIN, and discard for a while what still arrives."""
        self._sever()
        self.flow.resume_reading()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            # A plain close with unread bytes would be a reset.
            self.transport.write_eof()
            self.loop.call_later(SWALLOW_SECONDS, self.transport.abort)
        else:
            self.transport.close()

    def drop(self) -> None:
        """Cut the connection as the end of a process does."""
        self._sever()
        self.transport.abort()

    def _sever(self) -> None:
        self._severed = True
        self._unset_keepalive_if_required()
        if self.cycle is not None:
            # uvicorn then neither answers for the application nor complains that it did not.
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def left_behind(self) -> tuple[bytes, bool]:
        """Give what a client that has gone had sent before, and whether the body was whole with it.

        uvicorn forgets it. A real server does not: a client that is killed after its last byte has uploaded its file.
        """
        rest = bytes(self.cycle.body)
        self.cycle.body.clear()
        return rest, not self.cycle.more_body

    def stop_reading(self) -> None:
        """Read nothing more, so that the client's writes stall when all buffers are full."""
        self.flow.pause_reading()

    def write(self, data: bytes) -> None:
        """Send bytes as they are. From now on uvicorn no longer handles this reply."""
        if not self.transport.is_closing():
            self.transport.write(data)

    @property
    def gone(self) -> bool:
        """Return True if the client has closed or lost the connection, even while nothing is read from it."""
        if self.transport.is_closing():
            return True
        raw = self.transport.get_extra_info("socket")
        info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return bool(info[0] != _TCP_ESTABLISHED)

    async def pause(self, seconds: float | None) -> None:
        """Wait *seconds* (None: for ever), or until the client has gone."""
        end = None if seconds is None else self.loop.time() + seconds
        while not self.gone:
            left = LOOK_SECONDS if end is None else min(LOOK_SECONDS, end - self.loop.time())
            if left <= 0:
                return
            await asyncio.sleep(left)


def rendered(response: Response) -> tuple[bytes, bytes]:
    """Return head and body of a reply as bytes, with "Connection: close"."""
    try:
        phrase = http.HTTPStatus(response.status_code).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {response.status_code} {phrase}".encode()]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*lines, b"connection: close", b"", b""]), bytes(response.body)


def wire_of(state: typing.Any) -> Wire:
    """Find the connection of a request in its state."""
    wire = state.wire
    assert isinstance(wire, Wire)
    return wire
