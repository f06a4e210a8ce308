"""Very many small files: attachd beside what a user and an administrator would write, and beside curl that only sends."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import figures, installed, trees

SIZE = 4096
#: As many uploads as attachd makes at once by default (upload.parallel).
PARALLEL = 4
_RIVALS = Path(__file__).parent / "rivals"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many files in so many seconds, in so many requests; ``processor`` is the time that the sender itself took."""

    files: int
    seconds: float
    requests: int
    processor: float = 0.0

    @property
    def each_second(self) -> float:
        """Files per second."""
        return self.files / self.seconds


def measure(files: int, issues: int, delay: float, few: int) -> figures.Table:
    """From the first drop to the last file in its place. Rivals that take long get only *few* files: theirs is a rate too."""
    ours = attachd(files, issues, delay)
    script = _watching([sys.executable, str(_RIVALS / "watch_and_attach.py")], few, issues, delay, "ready")
    curl = _curl_alone(few if delay else files, issues, delay)
    lines = [_line("attachd", ours, script, curl), _line("watchdog and the jira library", script, script, curl)]
    if shutil.which("inotifywait"):
        loop = _watching([str(_RIVALS / "watch-and-curl")], few, issues, delay, "established")
        lines.append(_line("inotifywait and curl", loop, script, curl))
    lines.append(_line(f"curl --parallel --parallel-max {PARALLEL}", curl, script, curl))
    each = ours.processor / files * 1e6
    note = f"attachd: {each:.0f} microseconds of processor time for each file, {ours.requests} requests."
    if delay:
        least = ours.requests * delay / PARALLEL
        note += f" Requests x {delay:g} s / {PARALLEL} is {least:.2f} s; it took {ours.seconds / least:.2f} times that."
    what = f"each request takes {delay * 1000:.0f} ms" if delay else "the server answers at once"
    columns = ["", "files", "files/s", "against the script", "against curl --parallel"]
    return figures.Table(f"{files} files of {SIZE} bytes in {issues} issues, {what}", columns, lines, note)


def _line(name: str, rate: Rate, script: Rate, curl: Rate) -> list[str]:
    others = [figures.times(rate.each_second, other.each_second) for other in (script, curl)]
    return [name, f"{rate.files}", f"{rate.each_second:.0f}", *others]


def attachd(files: int, issues: int, delay: float = 0.0) -> Rate:
    """The service, from the first drop until the last file is in done."""
    with installed.sinking(delay) as site:
        names = trees.keys(issues)
        trees.make_folders(site.inbox, names)
        with site.running() as process:
            installed.wait_until(lambda: figures.watched_folders(process) > issues)
            before, began = figures.cpu_seconds(process), time.monotonic()
            trees.fill(site.inbox, names, files, size=SIZE)
            ended = installed.wait_until(lambda: site.filed() == files, every=0.05)
            used = figures.cpu_seconds(process) - before
            return Rate(files, ended - began, installed.counts(site.url)["requests"], used)


def _watching(words: Sequence[str], files: int, issues: int, delay: float, ready: str) -> Rate:
    """A rival that watches and moves: timed as attachd is."""
    with installed.sinking(delay) as site:
        names = trees.keys(issues)
        trees.make_folders(site.inbox, names)
        with _running([*words, str(site.inbox), str(site.done), site.url], site.home / "rival.log", ready):
            began = time.monotonic()
            trees.fill(site.inbox, names, files, size=SIZE)
            ended = installed.wait_until(lambda: site.filed() == files, every=0.05)
        return Rate(files, ended - began, installed.counts(site.url)["requests"])


@contextlib.contextmanager
def _running(words: Sequence[str], log: Path, ready: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True)
    try:
        installed.wait_until(lambda: ready in log.read_text("utf-8"), 60.0)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait()


def _curl_alone(files: int, issues: int, delay: float) -> Rate:
    """The least that can be done: no watching, no journal, nothing moved, and no answer looked at."""
    with installed.sinking(delay) as site:
        names = trees.keys(issues)
        trees.make_folders(site.inbox, names)
        trees.fill(site.inbox, names, files, size=SIZE)
        orders = [
            f'url = "{site.url}/rest/api/3/issue/{path.parent.name}/attachments"\nform = "file=@{path}"\n'
            f'header = "X-Atlassian-Token: no-check"\noutput = "{os.devnull}"\n'
            for path in sorted(site.inbox.glob("*/*"))
        ]
        (site.home / "orders").write_text("next\n".join(orders))
        words = ["curl", "-s", "--parallel", "--parallel-max", str(PARALLEL), "-K", str(site.home / "orders")]
        took = figures.seconds(lambda: subprocess.run(words, check=True, capture_output=True))
        return Rate(files, took, installed.counts(site.url)["requests"])
