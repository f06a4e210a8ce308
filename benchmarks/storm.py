"""More files at once than the kernel's queue of events holds."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from benchmarks import figures, installed, trees


def measure(files: int, folders: int) -> figures.Table:
    """Half of the files made where they are watched, the others moved in with their folders: is any of them lost?"""
    names = trees.keys(folders)
    moved_in, filled = names[: folders // 2], names[folders // 2 :]
    with installed.site() as site:
        site.pause()
        outside = site.home / "outside"
        trees.make_folders(outside, moved_in)
        trees.fill(outside, moved_in, files // 2)
        trees.make_folders(site.inbox, filled)
        with site.running() as process:
            installed.wait_until(lambda: figures.watched_folders(process) > len(filled))
            idle, began = figures.cpu_seconds(process), time.monotonic()
            _fill(process, site, filled, files - files // 2)
            for name in moved_in:
                (outside / name).rename(site.inbox / name)
            made = time.monotonic()
            known = installed.grown(site.known, files)
            busy = figures.cpu_seconds(process) - idle
        return _compared(site, files, folders, [made - began, known - began, busy])


def _fill(process: int, site: installed.Site, names: list[str], files: int) -> None:
    """Make the files as fast as possible; the service reads no events until the kernel's queue has run over for certain."""
    each = max(1, files // len(names))
    first = min(len(names), _queued() // each + 1)
    os.kill(process, signal.SIGSTOP)
    try:
        trees.fill(site.inbox, names[:first], first * files // len(names))
    finally:
        os.kill(process, signal.SIGCONT)
    if names[first:]:
        trees.fill(site.inbox, names[first:], files - first * files // len(names))


def _queued() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def _compared(site: installed.Site, files: int, folders: int, seconds: list[float]) -> figures.Table:
    """Compare the journal with the folders, now that the dust has settled."""
    rows = [path for (path,) in site.journal("SELECT path FROM file")]
    there = {bytes(path.relative_to(site.inbox)) for path in site.inbox.glob("TEST-*/*")}
    made, known, busy = seconds
    overflows = site.log.count("watch.overflow")
    lines = [
        ["lost", f"{len(there - set(rows))}"],
        ["known more than once", f"{len(rows) - len(set(rows))}"],
        ["made and moved in within", f"{made:.1f} s ({files / made:.0f} files a second)"],
        ["all known after", f"{known:.1f} s ({files / known:.0f} files a second)"],
        ["processor time", f"{busy:.1f} s"],
        ["the kernel's queue overflowed", f"{overflows} times"],
    ]
    found = figures.Table(f"Storm: {files} files in {folders} folders, half of them moved in whole", ["", ""], lines)
    # Each file made where it is watched is two events: its creation, and the close of its writer.
    if set(rows) != there or len(rows) != len(there) or (files > _queued() and not overflows):
        found.show()
        sys.exit("A file was lost or known twice, or the kernel's queue did not overflow.")
    return found
