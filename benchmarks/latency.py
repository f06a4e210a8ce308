"""From the moment when a writer closes a file to the moment when its upload reaches Jira."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from benchmarks import figures, installed, trees

FOLDERS = 50
_CLOSE_WRITE = 0x8  #: inotify(7)


def measure(files: int, size: int, rest: float) -> figures.Table:
    """From the close of a file to its request at Jira: one file after the other, each when the last is filed."""
    ours = _attachd(files, size, rest)
    bare = _bare_inotify(files, size)
    (middle, worst), (least, least_worst) = figures.median_and_p99(ours), figures.median_and_p99(bare)
    lines = [
        ["attachd: until its request reaches Jira", *map(figures.milliseconds, (middle, worst))],
        ["a bare inotify loop: until it is told", *map(figures.milliseconds, (least, least_worst))],
        ["ratio", figures.times(middle, least), figures.times(worst, least_worst)],
    ]
    return figures.Table(f"Latency from close(2), {files} files of {size} bytes", ["", "median", "p99"], lines)


def _attachd(files: int, size: int, rest: float) -> list[float]:
    with installed.site() as site:
        names = trees.keys(FOLDERS)
        trees.make_folders(site.inbox, names)
        with site.running() as process:
            installed.wait_until(lambda: figures.watched_folders(process) > FOLDERS)
            _delivered(site, "TEST-1/warm-up.txt", size)
            begun = len(site.uploads())
            closed = []
            for number in range(files):
                time.sleep(rest)
                closed.append(_delivered(site, f"{names[number % FOLDERS]}/{number}.bin", size))
            arrived = site.uploads()[begun:]
    assert len(arrived) == files, "each file is one request"
    return [there - closing for closing, there in zip(closed, arrived, strict=True)]


def _delivered(site: installed.Site, path: str, size: int) -> float:
    """Write a file and wait until it is filed; returns when it was closed."""
    closed = _written(site.inbox / path, size)
    installed.wait_until((site.done / path).exists, 60.0, every=0.005)
    return closed


def _written(path: Path, size: int) -> float:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(file, b"x" * size)
    closed = time.monotonic()
    os.close(file)
    return closed


def _bare_inotify(files: int, size: int) -> list[float]:
    """The least that is possible: a loop that reads the kernel's events and does nothing else."""
    libc = ctypes.CDLL(None, use_errno=True)
    with installed.folder() as home:
        events = libc.inotify_init1(os.O_CLOEXEC)
        libc.inotify_add_watch(events, bytes(home), _CLOSE_WRITE)
        reader, told = os.pipe()
        child = os.fork()
        if child == 0:
            for _ in range(files):
                os.read(events, 4096)
                os.write(told, b"%32.9f" % time.monotonic())
            os._exit(0)
        found = []
        for number in range(files):
            closed = _written(home / f"{number}.bin", size)
            found.append(float(os.read(reader, 32)) - closed)
        os.waitpid(child, 0)
        for descriptor in (events, reader, told):
            os.close(descriptor)
    return found
