"""What the main thread says of the others: it pings the service manager while no loop is stuck, and logs what hangs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping

from attachd.heartbeat import Beats, Hang
from attachd.logger import get_logger

# Words to the service manager by sd_notify(3): a datagram to the socket that $NOTIFY_SOCKET names.

#: How long a service manager that does not read may hold its caller.
_SEND_SECONDS = 1.0
#: What ``systemctl status`` shows in a line, and more.
_MAXIMUM_STATUS = 500


def send(
    *,
    ready: bool = False,
    reloading: bool = False,
    stopping: bool = False,
    watchdog: bool = False,
    status: str | None = None,
    extend_timeout_usec: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Send one datagram to the service manager, if there is one. Never raises."""
    address = environ.get("NOTIFY_SOCKET", "")
    words = "\n".join(_words(ready, reloading, stopping, watchdog, status, extend_timeout_usec))
    if not words or not address.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(_SEND_SECONDS)
            channel.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            channel.send(words.encode())
    except (OSError, ValueError):
        pass  # Only the service manager depends on it, and it has timeouts of its own.


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return how long the service manager waits for a ping; None if it does not wait for this process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 1_000_000 if microseconds > 0 else None


def _words(
    ready: bool, reloading: bool, stopping: bool, watchdog: bool, status: str | None, extend_timeout_usec: int | None
) -> Iterator[str]:
    if ready:
        yield "READY=1"
    if reloading:
        yield "RELOADING=1"
    if stopping:
        yield "STOPPING=1"
    if watchdog:
        yield "WATCHDOG=1"
    if status is not None:
        yield f"STATUS={_one_line(status)[:_MAXIMUM_STATUS]}"
    if extend_timeout_usec is not None:
        yield f"EXTEND_TIMEOUT_USEC={extend_timeout_usec}"


def _one_line(text: str) -> str:
    """Replace line breaks, which would begin another word: a status may contain a file's name."""
    return "".join(c if c.isprintable() else "?" for c in text)


log = get_logger()


class Liveness:
    """Looks at the beats of all loops. It logs a hang once, and once more when it is over."""

    def __init__(self, beats: Beats) -> None:
        self._beats = beats
        self._told: dict[str, Hang] = {}
        self._watchdog = watchdog_seconds()

    def seconds(self, wanted: float) -> float:
        """Return the seconds between two calls of ``step``: *wanted*, or a third of what the service manager waits."""
        return wanted if self._watchdog is None else min(wanted, self._watchdog / 3)

    def step(self) -> list[Hang]:
        """Look now, log what is new, and ping the service manager unless a loop is stuck. Return what hangs."""
        hangs = {hang.loop: hang for hang in self._beats.hangs()}
        for name in self._told.keys() - hangs.keys():
            log.info("service.recovered", loop=name)
        for name, hang in hangs.items():
            if name not in self._told or self._told[name].degraded != hang.degraded:
                _tell(hang)
        self._told = hangs
        if self._watchdog is not None and all(hang.degraded for hang in hangs.values()):
            send(watchdog=True)
        return list(hangs.values())


def _tell(hang: Hang) -> None:
    if hang.degraded:
        log.warning(
            "service.degraded",
            loop=hang.loop,
            reason=str(hang),
            remedy="the file system does not answer; attachd goes on once it does, and a restart would not help",
        )
    else:
        log.error(
            "service.stuck",
            loop=hang.loop,
            reason=str(hang),
            remedy="attachd pings the service manager no longer, which restarts it; without one, restart the service",
        )
