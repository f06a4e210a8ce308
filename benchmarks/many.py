"""Very many small files: attachd beside what a user, a skilled user and an administrator would write, and beside curl alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import figures, installed, trees

SIZE = 4096
#: As many uploads as attachd makes at once by default (upload.parallel).
PARALLEL = 4
_RIVALS = Path(__file__).parent / "rivals"
_SCRIPT, _SKILLED, _LOOP = "watchdog and the jira library", "four threads, 60 files a request", "inotifywait and curl"
_CURL = f"curl --parallel --parallel-max {PARALLEL}"


@dataclass(frozen=True, slots=True)
class Shape:
    """So many files in so many issues; each request takes *delay* seconds. *few* files for rivals that take long."""

    files: int
    issues: int
    delay: float = 0.0
    few: int = 0

    def __str__(self) -> str:
        each = f"{self.files / self.issues:g} an issue"
        how = f"each request takes {self.delay * 1000:.0f} ms" if self.delay else "the server answers at once"
        return f"{self.files} files of {SIZE} bytes, {each}; {how}"

    @property
    def shortened(self) -> Shape:
        """The same with few files, as many in each issue."""
        few = min(self.few or self.files, self.files)
        return Shape(few, max(1, self.issues * few // self.files), self.delay)


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


def measure(shape: Shape, rounds: int) -> figures.Table:
    """From the first drop to the last file in its place, all in turn, so that what else the machine does meets each of them."""
    found: dict[str, list[Rate]] = {}
    for number in range(rounds):
        contestants = list(_contestants(shape).items())
        for name, run in contestants[:: -1 if number % 2 else 1]:
            found.setdefault(name, []).append(run())
    ours = found["attachd"]
    lines = [_line(name, found[name], ours) for name in _contestants(shape)]
    columns = ["", "files", "files/s", "attachd against it"]
    return figures.Table(str(shape), columns, lines, _note(shape, ours))


def _contestants(shape: Shape) -> dict[str, Callable[[], Rate]]:
    short = shape.shortened
    script = [sys.executable, str(_RIVALS / "watch_and_attach.py")]
    skilled = [sys.executable, str(_RIVALS / "pool_and_batch.py")]
    found = {
        "attachd": lambda: attachd(shape.files, shape.issues, shape.delay),
        _SCRIPT: lambda: _watching(script, short, "ready"),
        _SKILLED: lambda: _watching(skilled, shape, "ready"),
        _CURL: lambda: _curl_alone(short if shape.delay else shape),
    }
    if shutil.which("inotifywait"):
        found[_LOOP] = lambda: _watching([str(_RIVALS / "watch-and-curl")], short, "established")
    return found


def _line(name: str, rates: Sequence[Rate], ours: Sequence[Rate]) -> list[str]:
    """The median rate; and the median of what attachd was against it, round by round."""
    middle = statistics.median(rate.each_second for rate in rates)
    pairs = statistics.median(own.each_second / rate.each_second for own, rate in zip(ours, rates, strict=True))
    return [name, f"{rates[0].files}", f"{middle:.0f}", "" if rates is ours else figures.times(pairs, 1.0)]


def _note(shape: Shape, ours: Sequence[Rate]) -> str:
    each = statistics.median(rate.processor / rate.files for rate in ours) * 1e6
    requests = statistics.median(rate.requests for rate in ours)
    note = f"Medians of {len(ours)} rounds. attachd: {each:.0f} microseconds of processor time a file, {requests:.0f} requests."
    if shape.delay:
        least = requests * shape.delay / PARALLEL
        took = statistics.median(rate.seconds for rate in ours)
        note += f" Requests x {shape.delay:g} s / {PARALLEL} is {least:.2f} s; it took {took / least:.2f} times that."
    return note


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


def _watching(words: Sequence[str], shape: Shape, ready: str) -> Rate:
    """A rival that watches and moves: timed as attachd is."""
    with installed.sinking(shape.delay) as site:
        names = trees.keys(shape.issues)
        trees.make_folders(site.inbox, names)
        with _running([*words, str(site.inbox), str(site.done), site.url], site.home / "rival.log", ready):
            began = time.monotonic()
            trees.fill(site.inbox, names, shape.files, size=SIZE)
            ended = _filed(site, shape)
        return Rate(shape.files, ended - began, installed.counts(site.url)["requests"])


def _filed(site: installed.Site, shape: Shape) -> float:
    """Wait until all files are moved. What a rival has lost for half a minute is dropped once more, as its user would."""
    while (at := installed.grown(site.filed, shape.files, 30.0, every=0.05)) and site.filed() < shape.files:
        for path in site.inbox.glob("*/*"):
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
    return at


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


def _curl_alone(shape: Shape) -> Rate:
    """The least that can be done: no watching, no journal, nothing moved, and no answer looked at. The drop counts too."""
    with installed.sinking(shape.delay) as site:
        names = trees.keys(shape.issues)
        trees.make_folders(site.inbox, names)
        began = time.monotonic()
        trees.fill(site.inbox, names, shape.files, size=SIZE)
        orders = [
            f'url = "{site.url}/rest/api/3/issue/{path.parent.name}/attachments"\nform = "file=@{path}"\n'
            f'header = "X-Atlassian-Token: no-check"\noutput = "{os.devnull}"\n'
            for path in sorted(site.inbox.glob("*/*"))
        ]
        (site.home / "orders").write_text("next\n".join(orders))
        words = ["curl", "-s", "--parallel", "--parallel-max", str(PARALLEL), "-K", str(site.home / "orders")]
        subprocess.run(words, check=True, capture_output=True)
        return Rate(shape.files, time.monotonic() - began, installed.counts(site.url)["requests"])
