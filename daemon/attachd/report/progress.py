"""The progress of uploads, for other processes: a small file in the state folder, while an upload takes some time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from attachd.fs.whole_file import write_whole

if TYPE_CHECKING:
    from attachd.delivery.runtime import Runtime

FILE_NAME = "progress.json"


class Progress:
    """Writes the progress file; call ``step`` about once a second. An idle service writes nothing."""

    def __init__(self, runtime: Runtime, state: Path) -> None:
        """Remove the file of a process that was killed."""
        self._runtime, self._path = runtime, state / FILE_NAME
        self._before = frozenset[int]()
        for left in state.glob(f"*{FILE_NAME}*"):
            left.unlink(missing_ok=True)

    def step(self) -> None:
        """Write the progress of uploads that also ran at the last step; remove the file if there are none."""
        under_way = self.now()
        lasting = {number: sent for number, sent in under_way.items() if number in self._before}
        self._before = frozenset(under_way)
        try:
            if lasting:
                content = json.dumps({f"F{number}": sent for number, sent in lasting.items()}).encode()
                write_whole(self._path.parent, FILE_NAME.encode(), content, replace=True, mode=0o666, durable=False)
            else:
                self._path.unlink(missing_ok=True)
        except OSError:
            # On a full disk there is no progress to see; delivery reports the disk.
            return

    def now(self) -> dict[int, int]:
        """Return how many bytes of each request were sent, by the row of each of its files."""
        return {number: sent() for number, sent in [*self._runtime.progress.items()]}


def read(state: Path) -> dict[str, int]:
    """Return how many bytes were sent, by the id of the file; empty if no upload takes long or the file is unreadable."""
    try:
        found = json.loads((state / FILE_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(ident): int(sent) for ident, sent in found.items()} if isinstance(found, dict) else {}
