"""One request in the stand-in, with everything that its endpoint and its fault need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest

from attachd.standin.access import Caller
from attachd.standin.faults import Fault, Faults
from attachd.standin.settings import Bucket, IssueWrites
from attachd.standin.store import Request, RequestLog, Store
from attachd.standin.wire import Wire


class Over(Exception):
    """The exchange ended without an ordinary reply: it was cut, or a fault wrote to the connection itself."""


class Struck(Exception):
    """The fault strikes in the middle of the body."""


@dataclass
class Site:
    """What all requests share."""

    store: Store
    faults: Faults
    log: RequestLog
    origin: str  #: scheme, host and port
    writes: IssueWrites = field(init=False)
    bucket: Bucket = field(init=False)
    _later: set[asyncio.TimerHandle] = field(default_factory=set)
    _due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writes = IssueWrites(self.store)
        self.bucket = Bucket(self.store)

    @property
    def base(self) -> str:
        """The address below which the REST paths are."""
        return self.origin + self.store.base_path

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """Call something after *delay* seconds, unless the server stops first."""
        if self.store.own_clock:
            self._due.append((self.store.moment() + delay, act))
            return

        def run() -> None:
            self._later.discard(handle)
            act()

        handle = asyncio.get_running_loop().call_later(delay, run)
        self._later.add(handle)

    def forget_later(self) -> None:
        """Drop all delayed calls, as the end of a process does."""
        for handle in self._later:
            handle.cancel()
        self._later.clear()
        self._due.clear()

    def catch_up(self) -> None:
        """Make the delayed calls that are due on a clock that only its owner moves."""
        now = self.store.moment()
        due = sorted((entry for entry in self._due if entry[0] <= now), key=lambda entry: entry[0])
        for entry in due:
            self._due.remove(entry)
            entry[1]()


@dataclass
class Exchange:
    """One request with its connection, its log entry and its fault."""

    site: Site
    http: HttpRequest
    wire: Wire
    record: Request
    fault: Fault | None
    who: Caller

    @property
    def store(self) -> Store:
        """The store of the site."""
        return self.site.store

    @property
    def declared(self) -> int | None:
        """The number of bytes that the client announced."""
        length = self.http.headers.get("content-length", "")
        return int(length) if length.isdigit() else None

    @property
    def breaks_at(self) -> int | None:
        """The number of body bytes after which the fault strikes, if it does; never after the closing boundary."""
        if self.fault is None or self.fault.kind not in ("reset", "close", "stall") or self.fault.point != "body":
            return None
        return min(self.fault.bytes or 0, max(0, (self.declared or 0) - len("-\r\n")))

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Read and count the body. Raises ``Struck`` if the fault strikes in the middle of it."""
        breaks_at = self.breaks_at
        async with aclosing(self._arriving()) as chunks:
            async for chunk in chunks:
                excess = 0 if breaks_at is None else self.record.bytes_received + len(chunk) - breaks_at
                taken = chunk[: len(chunk) - excess] if excess > 0 else chunk
                self.record.bytes_received += len(taken)
                if taken:
                    yield taken
                if self.record.bytes_received == breaks_at:
                    raise Struck
        self.record.complete = True

    async def _arriving(self) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(self.http.stream()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ClientDisconnect:
            rest, whole = self.wire.left_behind()
            yield rest
            if not whole:
                raise
