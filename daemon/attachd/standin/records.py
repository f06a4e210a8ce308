"""The values that the stand-in keeps: an attachment, an issue, a part that is arriving, a request that was made."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: Requests remembered in memory; the log on disk has them all.
REQUESTS_KEPT = 200_000


@dataclass(frozen=True, slots=True)
class Attachment:
    """One stored file. ``created`` is in milliseconds since the epoch, ``sha256`` in hexadecimal digits."""

    id: str
    issue: str
    filename: str
    size: int
    sha256: str
    created: int
    author: str
    mime: str
    path: Path


@dataclass(slots=True)
class Issue:
    """One issue under its present key."""

    id: int
    key: str
    summary: str


@dataclass(slots=True)
class Part:
    """One file of a request, as far as it has arrived; its bytes are in ``path`` until they are stored or dropped."""

    path: Path
    filename: str
    mime: str
    size: int = 0
    sha256: str = ""
    whole: bool = False  #: its end has arrived
    too_large: bool = False  #: its bytes were not kept


@dataclass(slots=True)
class Request:
    """One request. It enters the log when its head has arrived, and is completed when it ``ended``."""

    method: str
    path: str
    query: str = ""
    issue: str | None = None
    files: int = 0
    #: None: the connection was cut before a whole reply was sent.
    status: int | None = None
    bytes_received: int = 0
    at: float = field(default_factory=time.monotonic)
    committed: list[str] = field(default_factory=list)
    fault: str | None = None
    complete: bool = False
    ended: bool = False


class RequestLog:
    """Every request in the order in which the heads arrived, for any thread to read and to wait on."""

    def __init__(self) -> None:
        """Start empty."""
        self._requests: deque[Request] = deque(maxlen=REQUESTS_KEPT)
        self._changed = threading.Condition()

    def add(self, request: Request) -> None:
        """Remember *request*, whose head has just arrived."""
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def touch(self) -> None:
        """Wake those who wait: a request has changed."""
        with self._changed:
            self._changed.notify_all()

    def all(self) -> list[Request]:
        """List what was seen so far."""
        with self._changed:
            return list(self._requests)

    def wait(self, enough: Callable[[list[Request]], bool], seconds: float) -> bool:
        """Wait until *enough* says so of the whole log; False if it never did."""
        with self._changed:
            return self._changed.wait_for(lambda: enough(list(self._requests)), seconds)
