"""Does a file cost the same, however many wait? And how soon does a start with very many of them send the first one?"""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks import figures, installed, many, trees


def backlog(numbers: Sequence[int]) -> tuple[figures.Table, list[float]]:
    """Processor time for each file of backlogs of different sizes, from the drop to its place in done; and the times."""
    rates = [many.attachd(number, max(1, min(1000, number // 100))) for number in numbers]
    costs = [rate.processor / rate.files * 1e6 for rate in rates]
    lines = [
        [f"{rate.files}", f"{cost:.0f} us", f"{cost / costs[0]:.2f}", f"{rate.each_second:.0f}"]
        for rate, cost in zip(rates, costs, strict=True)
    ]
    columns = ["files", "processor time for each", "against the first", "files/s"]
    return figures.Table("Backlogs: all files dropped at once, 100 or more in each issue", columns, lines), costs


def start(files: int, issues: int) -> figures.Table:
    """From the start of the service to its first upload, with so many files waiting that it knows of."""
    with installed.sinking() as site:
        names = trees.keys(issues)
        site.pause()
        trees.make_folders(site.inbox, names)
        trees.fill(site.inbox, names, files, size=many.SIZE)
        with site.running():
            installed.grown(site.known, files)
        site.run("resume")
        before = installed.counts(site.url)["files"]
        began = time.monotonic()
        with site.running():
            first = installed.wait_until(lambda: installed.counts(site.url)["files"] > before, every=0.01)
    lines = [[f"{files}", f"{first - began:.2f} s"]]
    return figures.Table("Start with files that wait", ["files", "until the first is sent"], lines)
