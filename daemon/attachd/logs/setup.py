"""Set up structured logs on stderr: for a terminal, for journald or as JSON, without secrets.

Log events, not prose: ``structlog.get_logger().info("file.attached", file=name, issue=key, attachment=id)``. Loggers
can be made when a module is imported: they look at the configuration only when they are used.

A call never raises, and never waits for the reader of the log. Records of libraries that use the standard ``logging`` appear
in the same form from WARNING up; below that, httpx and httpcore log every request with its cookies.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, TextIO

from attachd import config
from attachd.logger import structlog
from attachd.logs import lines as logs_lines
from attachd.logs import pipe as logs_pipe
from attachd.logs.lines import hide, hide_for_now

__all__ = ["close", "configure", "flush", "hide", "hide_for_now", "report_crashes", "set_level"]

#: How long the process waits at its end for a reader that stalls.
FLUSH_SECONDS = 2.0

#: These undo what ``configure`` and ``report_crashes`` set up.
_undo = ExitStack()
_undo_hooks = ExitStack()
_pipe: logs_pipe.Pipe | None = None


def configure(settings: config.Log, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Send the logs of the whole process to *stream* (stderr), in the form that suits it; ``close`` undoes that.

    Everything that was logged is written before the process ends, unless the reader stalls for ``FLUSH_SECONDS``.
    """
    global _pipe
    _undo.close()
    stream = stream or sys.stderr
    descriptor = _descriptor(stream)
    lines = logs_lines.Lines(_render(_format(settings.format, descriptor, environ), environ), settings.file_names)
    _pipe = _open(
        stream, descriptor, lambda dropped: lines.line("warning", {"event": "log.dropped", "dropped": dropped})
    )
    _take_structlog(lines, settings.level, _pipe)
    _take_logging()
    _undo.callback(atexit.unregister, flush)
    atexit.register(flush)


def set_level(level: str) -> None:
    """Log only events of *level* and above from now on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Wait at most *seconds* until everything is written. Only needed before ``os._exit``."""
    if _pipe:
        _pipe.flush(seconds)


def close() -> None:
    """Write what is left, and undo ``configure`` and ``report_crashes``: for tests, and for a process that continues."""
    global _pipe
    _undo_hooks.close()
    _undo.close()
    _pipe = None


# --- Which stream, which format ---------------------------------------------------------------------------------


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return stream.fileno() if stream else None
    except (OSError, ValueError):  # A stream in memory, or one that was closed.
        return None


def _format(wanted: str, descriptor: int | None, environ: Mapping[str, str]) -> str:
    if wanted != "auto":
        return wanted
    if descriptor is not None and os.isatty(descriptor):
        return "colours"
    return "journald" if descriptor is not None and _is_journal(descriptor, environ) else "json"


def _is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Return True if stderr is systemd's stream. A program with a redirected stderr has the variable too (systemd.exec(5))."""
    status = os.fstat(descriptor)
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _render(name: str, environ: Mapping[str, str]) -> logs_lines.Render:
    if name == "json":
        return logs_lines.json_line
    if name == "journald":
        return logs_lines.journal_line
    colours = name == "colours" and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return functools.partial(logs_lines.console_line, colours=colours)


def _open(stream: TextIO | None, descriptor: int | None, notice: Callable[[int], bytes]) -> logs_pipe.Pipe:
    """Write to a duplicate: if stderr is closed, the next file that is opened gets its number."""
    if stream and descriptor is None:
        pipe = logs_pipe.Pipe(logs_pipe.stream_sink(stream), notice)
        _undo.callback(pipe.close, FLUSH_SECONDS)
        return pipe
    own = os.open(os.devnull, os.O_WRONLY) if descriptor is None else os.dup(descriptor)
    pipe = logs_pipe.Pipe(logs_pipe.descriptor_sink(own), notice)
    _undo.callback(lambda: os.close(own) if pipe.close(FLUSH_SECONDS) else None)
    return pipe


# --- Who logs ---------------------------------------------------------------------------------------------------


def _take_structlog(lines: logs_lines.Lines, level: str, pipe: logs_pipe.Pipe) -> None:
    _undo.callback(structlog.configure, **structlog.get_config())
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, lines],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Output(pipe.put),
        cache_logger_on_first_use=False,
    )


class _Output:
    """Takes finished lines from structlog, under the name of their level."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = put


def _take_logging() -> None:
    """Take over the standard ``logging`` and ``warnings``; the root's level keeps out records below WARNING."""
    root, handler, level = logging.getLogger(), Foreign(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    _undo.callback(root.setLevel, level)
    _undo.callback(root.removeHandler, handler)
    _undo.callback(logging.captureWarnings, False)


class Foreign(logging.Handler):
    """Hands the records of libraries to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as an event; if the message does not fit its arguments, without them."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 Arguments are any objects; logging must not fail an upload.
            message = str(record.msg)
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        fields = {"logger": record.name, "message": message, "exc_info": record.exc_info}
        structlog.get_logger().log(level, "library.logged", **fields)


# --- Crashes ----------------------------------------------------------------------------------------------------


def report_crashes(on_crash: Callable[[], None]) -> None:
    """Log uncaught exceptions. In the main thread they end the process as usual; in another, that thread calls *on_crash*."""

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        name = args.thread.name if args.thread else ""
        structlog.get_logger().critical("thread.crashed", thread=name, exc_info=args.exc_value)
        on_crash()

    _undo_hooks.callback(setattr, sys, "excepthook", sys.excepthook)
    _undo_hooks.callback(setattr, threading, "excepthook", threading.excepthook)
    _undo_hooks.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
    sys.excepthook, threading.excepthook, sys.unraisablehook = _in_process, in_thread, _in_finaliser


def _in_process(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger().critical("process.crashed", exc_info=error)
    flush()


def _in_finaliser(unraisable: Any) -> None:
    structlog.get_logger().error("finaliser.failed", exc_info=unraisable.exc_value)
