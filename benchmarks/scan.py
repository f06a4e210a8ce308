"""A full scan of an inbox whose files are all known, against the bare walk that it cannot do without."""

from __future__ import annotations

import logging
import os
import statistics
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import structlog

from attachd import config
from attachd.clock import Clock
from attachd.intake.scanning import Scanner
from attachd.service import starting
from benchmarks import figures, installed, trees


def measure(folders: int, files: int, repetitions: int) -> None:
    """A full scan of waiting files that are all known, and the bare walk that it cannot do without, in turn."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with installed.folder() as home:
        site = installed.Site(home, "http://127.0.0.1:9")
        trees.make_folders(site.inbox, trees.keys(folders))
        trees.fill(site.inbox, trees.keys(folders), files)
        scans, walks = _timed(site, files, repetitions)
    first, scan, walk = scans[0], statistics.median(scans[1:]), statistics.median(walks)
    lines = [
        ["first scan: all files are new", figures.milliseconds(first), figures.times(first, walk)],
        ["scan: all files are known", figures.milliseconds(scan), figures.times(scan, walk)],
        ["bare os.scandir and stat", figures.milliseconds(walk), ""],
    ]
    figures.table(
        f"Full scan of {files} waiting files in {folders} folders", ["", "median", "against the bare walk"], lines
    )


def _timed(site: installed.Site, files: int, repetitions: int) -> tuple[list[float], list[float]]:
    settings = config.parse(tomllib.loads(site.config.read_text()), base=site.home)
    held = starting.start(settings, clock=Clock(), environ={})
    try:
        desk = held.desk
        scanner = Scanner(desk.journal, desk.config, desk.clock, desk.guard)
        scanner.remounted()
        scans = [_seconds(scanner.scan)]
        scanner.scan()
        assert site.known() == files
        walks = []
        for _ in range(repetitions):
            walks.append(_seconds(lambda: _walk(site.inbox)))
            scans.append(_seconds(scanner.scan))
        return scans, walks
    finally:
        held.release()


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _walk(root: Path) -> int:
    """Name and status of every file: what any scan has to ask the system for."""
    count = 0
    with os.scandir(root) as folders:
        for folder in folders:
            with os.scandir(folder) as files:
                for file in files:
                    file.stat(follow_symlinks=False)
                    count += 1
    return count
