"""A full scan of an inbox whose files are all known, against the bare walk that it cannot do without."""

from __future__ import annotations

import logging
import os
import statistics
import tomllib
from pathlib import Path

import structlog

from attachd import config
from attachd.clock import Clock
from attachd.intake.context import Context
from attachd.intake.coverage import Coverage
from attachd.intake.inotify import Changes, Watch
from attachd.intake.scanner import Scanner
from attachd.service import start
from benchmarks import figures, installed, trees


def measure(folders: int, files: int, repetitions: int) -> figures.Table:
    """A full scan of waiting files that are all known, and the bare walk that it cannot do without, in turn."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with installed.folder() as home:
        site = installed.Site(home, "http://127.0.0.1:9")
        trees.make_folders(site.inbox, trees.keys(folders))
        trees.fill(site.inbox, trees.keys(folders), files)
        trees.age(site.inbox, trees.keys(folders))
        first, *others = _timed(site, files, repetitions)
    quiet, full, walk = map(statistics.median, others)
    lines = [
        ["first scan: all files are new", figures.milliseconds(first[0]), figures.times(first[0], walk)],
        ["everything is listed, nothing is new", figures.milliseconds(full), figures.times(full, walk)],
        ["a scan where nothing was added or taken away", figures.milliseconds(quiet), figures.times(quiet, walk)],
        ["bare os.scandir and stat", figures.milliseconds(walk), ""],
    ]
    return figures.Table(
        f"Full scan of {files} waiting files in {folders} folders", ["", "median", "against the bare walk"], lines
    )


def _timed(site: installed.Site, files: int, repetitions: int) -> list[list[float]]:
    settings = config.parse(tomllib.loads(site.config.read_text()), base=site.home)
    held = start.start(settings, clock=Clock(), environ={})
    watch = Watch(Changes())
    try:
        runtime = held.runtime
        coverage = Coverage(site.inbox, watch)
        scanner = Scanner(Context(runtime.journal, runtime.config, runtime.clock, runtime.guard, coverage))
        scanner.remounted()
        coverage.begin(runtime.clock.boot())
        first = [figures.seconds(scanner.scan)]
        scanner.scan()
        assert site.known() == files
        quiet, full, walks = [], [], []
        for _ in range(repetitions):
            walks.append(figures.seconds(lambda: _walk(site.inbox)))
            quiet.append(figures.seconds(scanner.scan))
            full.append(figures.seconds(lambda: scanner.scan(fully=True)))
        return [first, quiet, full, walks]
    finally:
        watch.stop()
        held.release()


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
