"""How much memory the service takes while very many files wait."""

from __future__ import annotations

from benchmarks import figures, installed, trees


def measure(files: int, folders: int) -> figures.Table:
    """The resident memory of the service before and after it knows very many files, none of which is sent."""
    with installed.site() as site:
        site.pause()
        names = trees.keys(folders)
        trees.make_folders(site.inbox, names)
        with site.running() as process:
            installed.wait_until(lambda: figures.watched_folders(process) > folders)
            empty, _ = figures.memory_bytes(process)
            trees.fill(site.inbox, names, files)
            installed.grown(site.known, files)
            resident, highest = figures.memory_bytes(process)
    lines = [
        ["no file waits", f"{empty / figures.MIB:.0f} MiB", ""],
        [f"{files} files wait", f"{resident / figures.MIB:.0f} MiB", f"{highest / figures.MIB:.0f} MiB"],
        ["more for each file", f"{(resident - empty) / files:.0f} bytes", ""],
    ]
    return figures.Table(f"Resident memory, {folders} folders, nothing sent", ["", "now", "at the highest"], lines)
