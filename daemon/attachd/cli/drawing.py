"""The bars of ``once`` on a terminal: how many files have their verdict, how far long uploads are. The log runs above."""

from __future__ import annotations

import io
import sys
import time
from contextlib import ExitStack
from typing import Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from attachd import text as attachd_text
from attachd.delivery.runtime import Desk
from attachd.journal import counts, lookup
from attachd.model import printable

#: How often it is drawn, in seconds.
_EVERY = 0.25
#: A name longer than this is cut in its middle.
_LONGEST = 40


class Log(io.TextIOBase):
    """A stream for the log that writes above what is drawn."""

    def __init__(self, console: Console) -> None:
        """Write to *console*."""
        super().__init__()
        self._console = console

    def write(self, text: str) -> int:
        """Write whole lines, as they are: file names are no markup."""
        self._console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=True)
        return len(text)


class Speed(ProgressColumn):
    """How fast an upload is, in the units in which sizes are said everywhere."""

    def render(self, task: Task) -> Text:
        """Nothing while that is not known."""
        speed = task.finished_speed or task.speed
        return Text(f"{attachd_text.size(speed)}/s" if speed else "", "progress.data.speed")


class Bars:
    """Drawn on stderr from ``start`` to the end of the context; ``step`` brings them up to date."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Draw on *stream*, stderr if not given."""
        self._console = Console(file=stream or sys.stderr)
        self.log = Log(self._console)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[said]}"))
        self._files = Progress(*columns, console=self._console, transient=True)
        self._tasks: dict[int, TaskID] = {}
        self._bytes = (DownloadColumn(binary_units=True), Speed(), TimeRemainingColumn())
        self._total: TaskID | None = None
        self._drawn_at = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._stack.enter_context(self._files)
        self._total = self._files.add_task("files", total=None, said="looking through the inbox")
        return self

    def __exit__(self, *_: object) -> None:
        """Take everything away: the result is printed instead."""
        self._stack.close()

    def step(self, desk: Desk, began: float) -> None:
        """Draw how it stands, a few times a second at the most; *began*: since when verdicts count."""
        if time.monotonic() - self._drawn_at < _EVERY:
            return
        self._drawn_at = time.monotonic()
        journal = desk.reader
        decided = counts.attached_since(journal, began) + counts.failed_since(journal, began)
        standing = counts.standing(journal)
        undecided = standing.left - standing.decided
        assert self._total is not None
        said = f"{decided} of {decided + undecided} have their verdict"
        self._files.update(self._total, completed=decided, total=max(1, decided + undecided), said=said)
        self._draw_uploads(desk)

    def _draw_uploads(self, desk: Desk) -> None:
        rows = {row.id: row for row in lookup.sending(desk.reader)}
        for number in self._tasks.keys() - rows.keys():
            self._files.remove_task(self._tasks.pop(number))
        for number, row in rows.items():
            sent = desk.progress.get(number)
            if sent is None:
                continue
            task = self._tasks.get(number)
            if task is None:
                name = _cut(printable(row.path))
                task = self._tasks[number] = self._files.add_task(name, total=row.size or 1, said="")
            self._files.update(task, completed=min(row.size, sent()))
            drawn = next(each for each in self._files.tasks if each.id == task)
            said = "  ".join(str(column.render(drawn)) for column in self._bytes)
            self._files.update(task, said=said if sent() < row.size else "waiting for Jira's answer")


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2 - 1]}…{name[-_LONGEST // 2 :]}"
