"""From the moment when a writer closes a file to the moment when its upload reaches Jira."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import figures, installed, trees

FOLDERS = 50
_CLOSE_WRITE = 0x8  #: inotify(7)


def measure(files: int, size: int, rest: float) -> figures.Table:
    """From the close of a file to its request at Jira: one file after the other, each when the last is filed."""
    ours, processor = _attachd(files, size, rest)
    bare = _bare_inotify(files, size)
    (middle, worst), (least, least_worst) = figures.median_and_p99(ours), figures.median_and_p99(bare)
    lines = [
        ["attachd: until its request reaches Jira", *map(figures.milliseconds, (middle, worst))],
        ["a bare inotify loop: until it hears of the file", *map(figures.milliseconds, (least, least_worst))],
        ["ratio", figures.times(middle, least), figures.times(worst, least_worst)],
    ]
    note = f"{processor * 1000:.1f} ms of processor time for each file{_synchronised(min(files, 50), size)}."
    return figures.Table(f"Latency from close(2), {files} files of {size} bytes", ["", "median", "p99"], lines, note)


def _attachd(files: int, size: int, rest: float) -> tuple[list[float], float]:
    """How long each took to reach Jira, and how much processor time one file cost, without what the service costs idle."""
    with installed.site() as site:
        names = trees.keys(FOLDERS)
        trees.make_folders(site.inbox, names)
        with site.running() as process:
            installed.wait_until(lambda: figures.watched_folders(process) > FOLDERS)
            _delivered(site, "TEST-1/warm-up.txt", size)
            begun = len(site.uploads())
            closed, before = [], figures.cpu_seconds(process)
            for number in range(files):
                time.sleep(rest)
                closed.append(_delivered(site, f"{names[number % FOLDERS]}/{number}.bin", size))
            processor = (figures.cpu_seconds(process) - before) / files
            arrived = site.uploads()[begun:]
    assert len(arrived) == files, "each file is one request"
    return [there - closing for closing, there in zip(closed, arrived, strict=True)], processor


def _synchronised(files: int, size: int) -> str:
    """How often the service waits for a disk, for each file: only where ``strace`` can count it."""
    if not shutil.which("strace"):
        return ""
    with installed.site() as site:
        trees.make_folders(site.inbox, trees.keys(FOLDERS))
        with site.running() as process:
            for number in range(5):
                _delivered(site, f"TEST-1/warm-up-{number}.txt", size)
            with _traced(process, site.home / "calls"):
                for number in range(files):
                    _delivered(site, f"TEST-{number % FOLDERS + 1}/{number}.bin", size)
        lines = (site.home / "calls").read_text("ascii", "replace").splitlines()
    return f", and {sum('sync' in line and 'resumed' not in line for line in lines) / files:.1f} syncs"


@contextlib.contextmanager
def _traced(process: int, calls: Path) -> Iterator[None]:
    """Have each synchronising call of a process written into a file."""
    words = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=fsync,fdatasync,syncfs,sync_file_range",
        "-o",
        calls,
        "-p",
        str(process),
    ]
    tracer = subprocess.Popen(words)
    try:
        tasks = Path(f"/proc/{process}/task")
        installed.wait_until(lambda: all(_is_traced(task) for task in tasks.iterdir()), 60.0)
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def _is_traced(task: Path) -> bool:
    return "TracerPid:\t0\n" not in (task / "status").read_text("ascii")


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
