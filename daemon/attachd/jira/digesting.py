"""SHA-256 beside the sending of a large file: both take about as long, and each can have a processor of its own."""

from __future__ import annotations

import hashlib
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor


class Beside:
    """Digests one file after the other in a thread, which is at most one piece behind; hashlib lets others run meanwhile."""

    def __init__(self) -> None:
        """Start no thread before there is something to digest."""
        self._digest = hashlib.sha256()
        self._pool: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        """Digest until the context ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the thread end after the piece that it is at. Nobody waits for that: a body that was left in the middle may
        be cleared away in any thread, also in this one.
        """
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def update(self, piece: bytes) -> None:
        """Digest *piece* as well; returns at once, or when the piece before it is done."""
        if self._pool is None:
            # Only who sends large files needs it.
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1, thread_name_prefix="digest")
        self._wait()
        try:
            self._last = self._pool.submit(self._digest.update, piece)
        except RuntimeError:
            # No thread can be started (a limit of processes, or the end of the program): one after the other, then.
            self._digest.update(piece)

    def conclude(self) -> bytes:
        """The SHA-256 of all that was given since the last conclusion."""
        self._wait()
        digest, self._digest, self._last = self._digest.digest(), hashlib.sha256(), None
        return digest

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()
