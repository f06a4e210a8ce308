"""What the service costs while nothing happens."""

from __future__ import annotations

import time

from benchmarks import figures, installed, trees

#: How long the rest of the first scan may take, in seconds.
_SCANNED = 10.0


def measure(folders: int, seconds: float) -> None:
    """The processor time that the service takes on empty folders."""
    with installed.site() as site:
        trees.make_folders(site.inbox, trees.keys(folders))
        trees.age(site.inbox, trees.keys(folders))
        with site.running() as process:
            installed.wait_until(lambda: figures.watched_folders(process) > folders)
            time.sleep(_SCANNED)
            before, began = figures.cpu_seconds(process), time.monotonic()
            time.sleep(seconds)
            used, period = figures.cpu_seconds(process) - before, time.monotonic() - began
            resident, _ = figures.memory_bytes(process)
    line = [
        f"{folders}",
        f"{period:.0f} s",
        f"{used:.2f} s",
        f"{used / period:.2%}",
        f"{resident / figures.MIB:.0f} MiB",
    ]
    figures.table("Idle", ["folders", "period", "processor time", "of one core", "resident memory"], [line])
