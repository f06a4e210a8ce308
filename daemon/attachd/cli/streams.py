"""Standard streams that may be closed, full or cut off, or whose encoding may lack a character."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

#: Exit code of a verb whose output cannot be written.
FAILED = 1


class Unwritable(Exception):
    """The output cannot be written. *reason* is the system's, or "" if the reader closed the pipe."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.reason = "" if error.errno == errno.EPIPE else error.strerror or str(error)


def prepare() -> None:
    """Make sure that all three streams and the working folder are usable."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        _have(number, mode)
    sys.stdin = sys.stdin or io.TextIOWrapper(io.FileIO(0, closefd=False), "utf-8")
    sys.stdout = _stream(1, sys.stdout, _Failing(1, "w", closefd=False))
    sys.stderr = _stream(2, sys.stderr, _Silent(2, "w", closefd=False))
    try:
        os.getcwd()
    except FileNotFoundError:
        # The working folder was removed, so no relative path can exist.
        os.chdir("/")


def run(act: Callable[[], object]) -> None:
    """Call *act* and end with its exit code. If its output cannot be written, say so once, without a traceback."""
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
    """Open a closed stream, so that the next file, even the journal, does not get its number.

    A closed stdout still fails on writing.
    """
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, mode)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)


def _leave(number: int) -> None:
    """Discard what is still to be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, number)
    os.close(nowhere)
    with suppress(Unwritable):
        sys.stdout.flush()


def _stream(number: int, given: TextIO | None, raw: io.FileIO) -> TextIO:
    """Return a stream in the same encoding. Characters that it lacks appear as ``\\x..``, so that no file name ends a verb."""
    if given is not None:
        with suppress(OSError, ValueError):
            given.flush()
    encoding = getattr(given, "encoding", None) or "utf-8"
    by_line = number == 2 or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=by_line)


class _Failing(io.FileIO):
    """A stream whose write error ends the verb."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            raise Unwritable(error) from error


class _Silent(io.FileIO):
    """A stream that ignores write errors: nobody reads them, and a service goes on."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError:
            return len(memoryview(content))
