"""Numbers of processes, and tables of numbers."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

MIB = 1 << 20


def table(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table, its first column of words and the others of numbers."""
    made = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left")
    for line in lines:
        made.add_row(*line)
    Console().print(made)


def median_and_p99(seconds: Sequence[float]) -> tuple[float, float]:
    """The middle of these, and what one in a hundred is above."""
    ordered = sorted(seconds)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def milliseconds(seconds: float) -> str:
    """A short time in words."""
    return f"{seconds * 1000:.2f} ms"


def times(one: float, other: float) -> str:
    """How many times *other* is in *one*."""
    return f"{one / other:.1f} x" if other else "-"


def cpu_seconds(process: int) -> float:
    """User and system time of a process so far (proc(5), stat)."""
    fields = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(process: int) -> tuple[int, int]:
    """Resident memory of a process now, and at its highest (proc(5), status)."""
    lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    found = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return int(found["VmRSS"]) * 1024, int(found["VmHWM"]) * 1024


def watched_folders(process: int) -> int:
    """How many folders a process watches (proc(5), fdinfo)."""
    return sum(_inotify_lines(path) for path in Path(f"/proc/{process}/fdinfo").iterdir())


def _inotify_lines(path: Path) -> int:
    try:
        return path.read_text("ascii").count("inotify wd:")
    except OSError:
        return 0
