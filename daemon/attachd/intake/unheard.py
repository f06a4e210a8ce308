"""Files that a scan found and of which no event had told: their number shows a mount whose events cannot be trusted."""

from __future__ import annotations

from collections.abc import Collection, Mapping

#: How long an event may be under way, in seconds, before a file counts as one of which none told.
UNDER_WAY_SECONDS = 1.0


class Unheard:
    """Compares what full scans find with the folders that events told of."""

    def __init__(self) -> None:
        """Nothing is compared before the second scan: the first one finds what was there before anything was watched."""
        self._excused = True
        self._suspects: dict[bytes, int] = {}
        self._since = 0.0

    def excuse(self) -> None:
        """The next scan looks for what events are known to have missed: the watch is new, or the queue overflowed."""
        self._excused, self._suspects = True, {}

    def compare(self, found: Mapping[bytes, int], heard: Collection[bytes], boot: float) -> None:
        """A full scan *found* so many new files in each folder; *heard* are the folders that rang since the scan before."""
        if self._excused:
            self._excused = False
            return
        self._suspects = {top: count for top, count in found.items() if top not in heard}
        self._since = boot

    def confirm(self, heard: Collection[bytes], boot: float) -> dict[bytes, int]:
        """What is certain by now, by folder. *heard* are the folders that rang since ``compare``."""
        self._suspects = {top: count for top, count in self._suspects.items() if top not in heard}
        if boot - self._since < UNDER_WAY_SECONDS:
            return {}
        certain, self._suspects = self._suspects, {}
        return certain
