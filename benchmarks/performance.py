"""Everything, in one run: ``python -m benchmarks.performance`` prints it, ``--write docs`` puts it into a document.

Absolute figures are those of one machine at one time; what counts are the ratios of what was measured side by side.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sqlite3
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import curve, figures, growth, idle, large, latency, many, memory, scan, years


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    large: int = 1 << 30
    repetitions: int = 5
    rounds: int = 5
    shapes: tuple[many.Shape, ...] = (
        many.Shape(10_000, 100, few=2_000),
        many.Shape(2_000, 200),
        many.Shape(1_500, 1_500),
        many.Shape(10_000, 100, 0.1, few=200),
        many.Shape(200, 200, 0.1),
    )
    files: int = 10_000
    latency: int = 300
    rest: float = 1.0
    backlogs: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    waiting: int = 100_000
    folders: int = 10_000
    years: int = 5_000_000
    idle: float = 600.0


#: So that nothing rots: minutes, and no figure means anything.
SHORT = Scale(
    large=8 << 20,
    repetitions=1,
    rounds=1,
    shapes=(many.Shape(12, 3), many.Shape(6, 6, 0.1)),
    files=20,
    latency=2,
    rest=0.0,
    backlogs=(20, 40),
    waiting=20,
    folders=3,
    years=2_000,
    idle=0.1,
)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance", description=__doc__)
    parser.add_argument("--short", action="store_true", help="on next to nothing, only to see that it works")
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="write performance.md and its picture into this folder"
    )
    parser.add_argument("--most", type=int, metavar="FILES", help="leave out backlogs of more files than this")
    options = parser.parse_args(words)
    scale = SHORT if options.short else Scale()
    if options.most:
        scale = replace(scale, backlogs=tuple(number for number in scale.backlogs if number <= options.most))
    tables, costs = list[figures.Table](), list[float]()
    for step in _steps(scale, costs):
        tables.append(step())
        tables[-1].show()
    if options.write:
        _write(options.write, tables, scale, costs)


def _steps(scale: Scale, costs: list[float]) -> Iterator[Callable[[], figures.Table]]:
    yield lambda: large.measure(scale.large, scale.repetitions)
    yield lambda: large.memory(scale.large, 4)
    for shape in scale.shapes:
        yield lambda shape=shape: many.measure(shape, scale.rounds)
    yield lambda: latency.measure(scale.latency, many.SIZE, scale.rest)
    yield lambda: _backlog(scale, costs)
    yield lambda: growth.start(scale.waiting, min(1000, scale.waiting))
    yield lambda: scan.measure(min(1000, scale.folders), scale.files, scale.repetitions * 4)
    yield lambda: years.measure(scale.years, scale.repetitions)
    yield lambda: idle.measure(scale.folders, scale.idle)
    yield lambda: memory.measure(scale.backlogs[-1], min(1000, scale.folders))


def _backlog(scale: Scale, costs: list[float]) -> figures.Table:
    table, found = growth.backlog(scale.backlogs)
    costs += found
    return table


def _write(folder: Path, tables: Sequence[figures.Table], scale: Scale, costs: Sequence[float]) -> None:
    picture = curve.svg(
        "Processor time for each file, by the size of the backlog", "microseconds", scale.backlogs, costs
    )
    folder.mkdir(exist_ok=True)
    (folder / "backlog.svg").write_text(picture, "utf-8")
    document = [
        "# Performance",
        "",
        _head(),
        "",
        *(table.markdown for table in tables),
        "![Processor time](backlog.svg)",
        "",
    ]
    (folder / "performance.md").write_text("\n".join(document), "utf-8")


def _head() -> str:
    """On what it was measured."""
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in _lines("/proc/cpuinfo"))}
    model = told.get("model name", "?")
    digests = "with" if "sha_ni" in told.get("flags", "").split() else "without"
    ram = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")) / (1 << 20)
    kernel = ".".join(platform.release().split(".")[:2])
    curl = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("attachd", "httpx", "watchdog", "jira")]
    python = (
        f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION.rsplit(' ', 3)[0]}, SQLite {sqlite3.sqlite_version}"
    )
    return "\n".join(
        [
            f"Measured on {time.strftime('%Y-%m-%d')} by `python -m benchmarks.performance --write docs`:",
            f"{os.cpu_count()} processors ({model}, {digests} instructions for SHA-256), {ram:.0f} GiB of memory,",
            f"Linux {kernel};",
            f"{python}, {', '.join(versions)}, curl {curl}.",
            "Client and server share the machine, over loopback; everything read is in the page cache.",
            "How each figure is taken is said in `benchmarks/README.md`.",
            "Absolute figures differ from machine to machine: the ratios are what counts.",
        ]
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines()


if __name__ == "__main__":
    main()
