"""What the main thread says of the others: to the service manager, that all is well, only while it is; to people, what hangs."""

from __future__ import annotations

import structlog

from attachd.heartbeat import Beats, Hang
from attachd.service import notify

log = structlog.get_logger()


class Liveness:
    """Looks at the beats of all loops. A hang is told once, and once more when it is over."""

    def __init__(self, beats: Beats) -> None:
        """Nothing hangs yet."""
        self._beats = beats
        self._told: dict[str, Hang] = {}
        self._watchdog = notify.watchdog_seconds()

    def seconds(self, wanted: float) -> float:
        """How often ``step`` is to be called: as *wanted*, and three times while the service manager's watchdog waits."""
        return wanted if self._watchdog is None else min(wanted, self._watchdog / 3)

    def step(self) -> list[Hang]:
        """Look now, tell what is new, and ping the service manager unless a loop is stuck. Returns what hangs."""
        hangs = {hang.loop: hang for hang in self._beats.hangs()}
        for name in self._told.keys() - hangs.keys():
            log.info("service.recovered", loop=name)
        for name, hang in hangs.items():
            if name not in self._told or self._told[name].degraded != hang.degraded:
                _tell(hang)
        self._told = hangs
        if self._watchdog is not None and all(hang.degraded for hang in hangs.values()):
            notify.send(watchdog=True)
        return list(hangs.values())


def _tell(hang: Hang) -> None:
    if hang.degraded:
        log.warning(
            "service.degraded",
            loop=hang.loop,
            reason=str(hang),
            remedy="the file system does not answer; it goes on by itself when that does, and a restart would not help",
        )
    else:
        log.error(
            "service.stuck",
            loop=hang.loop,
            reason=str(hang),
            remedy="the service manager is told no longer that all is well; without one, restart the service",
        )
