"""Standard streams as the process is given them: closed, full, cut off, or of an encoding that lacks a character."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

#: What a verb ends with whose output could not be written, as any operation that failed.
FAILED = 1


class Unwritable(Exception):
    """What was printed cannot be written; *reason* is the system's, "" where the reader has gone."""

    def __init__(self, error: OSError) -> None:
        """Keep what the system said."""
        super().__init__(error.strerror)
        self.reason = "" if error.errno == errno.EPIPE else error.strerror or str(error)


def prepare() -> None:
    """Have all three streams, and a folder to stand in, whatever the process was given."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        _have(number, mode)
    sys.stdin = sys.stdin or io.TextIOWrapper(io.FileIO(0, closefd=False), "utf-8")
    sys.stdout = _stream(1, sys.stdout, _Told(1, "w", closefd=False))
    sys.stderr = _stream(2, sys.stderr, _Untold(2, "w", closefd=False))
    try:
        os.getcwd()
    except FileNotFoundError:
        # It was removed. Nothing can lie below it, and nothing is found by a path that counts from it.
        os.chdir("/")


def run(act: Callable[[], object]) -> None:
    """Do it, and end with its exit code where that is not 0; output that cannot be written is told once, without a traceback."""
    code: object = 0
    try:
        try:
            act()
        except SystemExit as ended:
            code = ended.code
        sys.stdout.flush()
    except Unwritable as lost:
        _leave(1)
        if lost.reason:
            print(f"attachd: the output cannot be written: {lost.reason}.", file=sys.stderr)
        code = code or FAILED
    if code:
        sys.exit(code)  # type: ignore[arg-type]


def _have(number: int, mode: int) -> None:
    """Open what is closed: the next file that is opened, be it the journal, would be taken for the stream.

    A closed stdout fails when it is written to, as it should.
    """
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, mode)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)


def _leave(number: int) -> None:
    """Let whatever is still to be written go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, number)
    os.close(nowhere)
    with suppress(Unwritable):
        sys.stdout.flush()


def _stream(number: int, given: TextIO | None, raw: io.FileIO) -> TextIO:
    """In the encoding that it had; what that lacks is shown as ``\\x..``, and no name ends a verb."""
    if given is not None:
        with suppress(OSError, ValueError):
            given.flush()
    encoding = getattr(given, "encoding", None) or "utf-8"
    by_line = number == 2 or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=by_line)


class _Told(io.FileIO):
    """What cannot be written ends the verb."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            raise Unwritable(error) from error


class _Untold(io.FileIO):
    """What cannot be written is lost: there is nobody to tell, and a service goes on."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError:
            return len(memoryview(content))
