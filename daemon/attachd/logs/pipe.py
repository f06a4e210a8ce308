"""Write log lines through a bounded queue and one thread, so that no thread waits for the reader of the log.

A pipe blocks its writer while the reader stalls, and raises in it once the reader is gone. Neither may happen to an upload.
Lines are lost only if they cannot be written: while the reader stalls and the queue is full, or after it has gone.
docs/design/decisions/own-log-pipe.md says why this is not the standard library's QueueListener.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

#: Bytes that are kept for a reader that stalls.
CAPACITY_BYTES = 4 * 1024 * 1024
#: How long to wait for a full pipe before looking again.
_POLL_MILLISECONDS = 1000
#: How long lines are gathered: waking a thread for each line would take the interpreter from the workers.
_GATHER_SECONDS = 0.005
#: Lines in one write. If the write fails, all of them count as lost.
_AT_ONCE = 50

Sink = Callable[[bytes], None]


class Pipe:
    """Writes lines in the order in which they were put. No method raises or waits for the reader without a limit."""

    def __init__(self, sink: Sink, notice: Callable[[int], bytes]) -> None:
        """Write to *sink*. *notice* makes the line that says how many were dropped, once a line gets through."""
        self._sink = sink
        self._notice = notice
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._writing = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue *line*, or count it as dropped if the queue is full."""
        with self._changed:
            if self._closed or self._size + len(line) > CAPACITY_BYTES:
                self._dropped += 1
                return
            self._lines.append(line)
            self._size += len(line)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait at most *seconds* until all lines are written. False if they are not."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._writing, seconds)

    def close(self, seconds: float) -> bool:
        """Write the queued lines and end the thread within *seconds*. False if a stalled reader keeps the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            lines, dropped = self._take()
            if not lines:
                return
            lost = dropped + sum(0 if self._written(b"".join(some)) else len(some) for some in _blocks(lines))
            told = lost > 0 and self._written(self._notice(lost))
            self._done(0 if told else lost)

    def _take(self) -> tuple[list[bytes], int]:
        """Wait for lines and take them all, with the number of lines dropped after them. No lines mean the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closed)
            closed = self._closed
        if not closed:
            time.sleep(_GATHER_SECONDS)
        with self._changed:
            taken = list(self._lines), self._dropped
            self._lines.clear()
            self._size = self._dropped = 0
            self._writing = bool(taken[0])
            return taken

    def _done(self, untold: int) -> None:
        with self._changed:
            self._dropped += untold
            self._writing = False
            self._changed.notify_all()

    def _written(self, text: bytes) -> bool:
        try:
            self._sink(text)
        except (OSError, ValueError):  # ValueError: a stream object that was closed.
            return False
        return True


def _blocks(lines: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the lines of each write: a system call for each line would take most of a line's time."""
    for start in range(0, len(lines), _AT_ONCE):
        yield lines[start : start + _AT_ONCE]


def descriptor_sink(descriptor: int) -> Sink:
    """Return a sink that writes whole lines to *descriptor*, even if a program made it non-blocking."""

    def write(line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:
                _wait_for_room(descriptor)

    return write


def stream_sink(stream: TextIO) -> Sink:
    """Return a sink that writes to a stream without a descriptor."""

    def write(line: bytes) -> None:
        stream.write(line.decode())
        stream.flush()

    return write


def _wait_for_room(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll(_POLL_MILLISECONDS)
