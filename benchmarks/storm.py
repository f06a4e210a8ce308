"""More files at once than the kernel's queue of events holds."""

from __future__ import annotations

import re
import time

from benchmarks import figures, installed, trees

#: How the log tells that the kernel dropped events, in the service's words or in a library's.
_OVERFLOW = re.compile(r"watch\.overflow|queue overflowed")


def measure(files: int, folders: int) -> None:
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
            trees.fill(site.inbox, filled, files - files // 2)
            for name in moved_in:
                (outside / name).rename(site.inbox / name)
            made = time.monotonic()
            known = installed.grown(site.known, files)
            busy = figures.cpu_seconds(process) - idle
        _print(site, files, folders, [made - began, known - began, busy])


def _print(site: installed.Site, files: int, folders: int, seconds: list[float]) -> None:
    """Compare the journal with the folders, now that the dust has settled."""
    rows = [path for (path,) in site.journal("SELECT path FROM file")]
    there = {bytes(path.relative_to(site.inbox)) for path in site.inbox.glob("TEST-*/*")}
    made, known, busy = seconds
    lines = [
        ["lost", f"{len(there - set(rows))}"],
        ["known more than once", f"{len(rows) - len(set(rows))}"],
        ["made and moved in within", f"{made:.1f} s ({files / made:.0f} files a second)"],
        ["all known after", f"{known:.1f} s ({files / known:.0f} files a second)"],
        ["processor time", f"{busy:.1f} s"],
        ["the kernel's queue overflowed", "yes" if _OVERFLOW.search(site.log) else "no, or it was not told"],
    ]
    figures.table(f"Storm: {files} files in {folders} folders, half of them moved in whole", ["", ""], lines)
