"""Numbers of processes, and tables of numbers."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import rich.table
from rich.console import Console

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """Figures in words: its first column says of what, the others hold numbers."""

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    note: str = ""

    def show(self) -> None:
        """Print it."""
        made = rich.table.Table(
            title=self.title, title_justify="left", caption=self.note or None, caption_justify="left"
        )
        for number, column in enumerate(self.columns):
            made.add_column(column, justify="right" if number else "left")
        for line in self.lines:
            made.add_row(*line)
        Console().print(made)

    @property
    def markdown(self) -> str:
        """The same for a document."""
        head = [_row(self.columns), _row(["---", *(["---:"] * (len(self.columns) - 1))])]
        body = [_row(line) for line in self.lines]
        return "\n".join([f"## {self.title}", "", *head, *body, *(["", self.note] if self.note else []), ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def median_and_p99(seconds: Sequence[float]) -> tuple[float, float]:
    """The middle of these, and what one in a hundred is above."""
    ordered = sorted(seconds)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def milliseconds(seconds: float) -> str:
    """A short time in words."""
    return f"{seconds * 1000:.2f} ms"


def times(one: float, other: float) -> str:
    """How many times *other* is in *one*."""
    if not other:
        return "-"
    found = one / other
    return f"{found:.1f} x" if found >= 1 else f"{found:.2f} x"


def seconds(act: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def ratio(one: float, other: float) -> str:
    """A ratio of two times."""
    return f"{one / other:.2f}"


def cpu_seconds(process: int) -> float:
    """User and system time of a process so far (proc(5), stat)."""
    fields = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(process: int) -> tuple[int, int]:
    """Resident memory of a process now, and at its highest (proc(5), status)."""
    lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    found = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return int(found["VmRSS"]) * 1024, int(found["VmHWM"]) * 1024


def wake_ups(process: int) -> int:
    """How often its threads have gone to sleep of themselves so far, and so were woken (proc(5), status)."""
    found = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        lines = (thread / "status").read_text("ascii").splitlines()
        found += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return found


def written_bytes(process: int) -> int:
    """What a process has had written to disks so far (proc(5), io)."""
    lines = Path(f"/proc/{process}/io").read_text("ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def watched_folders(process: int) -> int:
    """How many folders a process watches (proc(5), fdinfo)."""
    return sum(_inotify_lines(path) for path in Path(f"/proc/{process}/fdinfo").iterdir())


def _inotify_lines(path: Path) -> int:
    try:
        return path.read_text("ascii").count("inotify wd:")
    except OSError:
        return 0
