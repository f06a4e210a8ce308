"""What the service costs while nothing happens."""

from __future__ import annotations

import time

from benchmarks import figures, installed, trees

#: How long the rest of the first scan may take, in seconds.
_SCANNED = 10.0


def measure(folders: int, seconds: float) -> figures.Table:
    """What the service costs on empty folders: processor time, as a share of one core, wake-ups, writes to the disk."""
    with installed.site() as site:
        trees.make_folders(site.inbox, trees.keys(folders))
        trees.age(site.inbox, trees.keys(folders))
        with site.running() as process:
            installed.wait_until(lambda: figures.watched_folders(process) > folders)
            time.sleep(_SCANNED)
            before, began = _spent(process), time.monotonic()
            time.sleep(seconds)
            used = [now - then for now, then in zip(_spent(process), before, strict=True)]
            period = time.monotonic() - began
            resident, _ = figures.memory_bytes(process)
    lines = [
        ["processor time", f"{used[0]:.2f} s in {period:.0f} s: {used[0] / period:.2%} of one core"],
        ["wake-ups", f"{used[1] / period:.2f} per second"],
        ["written to the disk", f"{used[2] / 1024:.0f} KiB"],
        ["resident memory", f"{resident / figures.MIB:.0f} MiB"],
    ]
    return figures.Table(f"Idle with {folders} folders", ["", ""], lines)


def _spent(process: int) -> tuple[float, float, float]:
    return figures.cpu_seconds(process), figures.wake_ups(process), figures.written_bytes(process)
