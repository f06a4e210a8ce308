"""What verbs draw on a terminal: the bars of ``once``, tables, and ``status --watch``."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
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
from rich.table import Table
from rich.text import Text

from attachd import text as attachd_text
from attachd.config import Config
from attachd.delivery.runtime import Runtime
from attachd.journal import counts, lookup
from attachd.journal.database import Journal
from attachd.model import printable
from attachd.report import status, status_text
from attachd.text import clock, span

# The bars of ``once``: how many files have a result, and the progress of long uploads. The log runs above them.

#: How often the bars are drawn, in seconds.
_EVERY = 0.25
#: A longer name is shortened in its middle.
_LONGEST = 40


class Log(io.TextIOBase):
    """A stream for the log that writes above the bars."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def write(self, text: str) -> int:
        """Write whole lines as they are, because file names are not markup."""
        self._console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=True)
        return len(text)


class Speed(ProgressColumn):
    """The speed of an upload, in the same units as all sizes."""

    def render(self, task: Task) -> Text:
        """Return the speed, or nothing while it is unknown."""
        speed = task.finished_speed or task.speed
        return Text(f"{attachd_text.size(speed)}/s" if speed else "", "progress.data.speed")


class Bars:
    """Bars on stderr while the context is open; ``step`` updates them."""

    def __init__(self, stream: TextIO | None = None) -> None:
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
        self._stack.enter_context(self._files)
        self._total = self._files.add_task("files", total=None, said="scanning the inbox")
        return self

    def __exit__(self, *_: object) -> None:
        # Remove the bars: the result takes their place.
        self._stack.close()

    def step(self, runtime: Runtime, began: float) -> None:
        """Draw the present state, at most a few times a second. Results count from *began*."""
        if time.monotonic() - self._drawn_at < _EVERY:
            return
        self._drawn_at = time.monotonic()
        journal = runtime.reader
        decided = counts.attached_since(journal, began) + counts.failed_since(journal, began)
        standing = counts.standing(journal)
        undecided = standing.left - standing.decided
        assert self._total is not None
        said = f"{decided} of {decided + undecided} have their verdict"
        self._files.update(self._total, completed=decided, total=max(1, decided + undecided), said=said)
        self._draw_uploads(runtime)

    def _draw_uploads(self, runtime: Runtime) -> None:
        rows = {row.id: row for row in lookup.sending(runtime.reader)}
        for number in self._tasks.keys() - rows.keys():
            self._files.remove_task(self._tasks.pop(number))
        for number, row in rows.items():
            sent = runtime.progress.get(number)
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


# Tables on a terminal: states in colour, and nothing cut off. For a pipe each verb prints aligned text itself.

#: The colours of states and of results of ``check``.
COLOURS = {
    "attached": "green",
    "failed": "red",
    "blocked": "red",
    "in-doubt": "yellow",
    "sending": "blue",
    "ok": "green",
    "warning": "yellow",
}
#: Columns that never wrap.
_WHOLE = ("state", "since", "when", "id", "size", "seen", "sha256", "result")


def empty_table(title: str, *columns: str, header: bool = True) -> Table:
    """Return an empty table whose long cells wrap within their column."""
    made = Table(
        title=title or None, title_justify="left", title_style="bold", box=None, header_style="dim",
        show_header=header, expand=False, pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for name in columns:
        made.add_column(name, no_wrap=name in _WHOLE, overflow="fold")
    return made


def coloured(word: str) -> Text:
    """Return a word in its colour, if it has one."""
    return Text(word, COLOURS.get(word, ""))


def wide_console() -> Console:
    """Return the terminal."""
    return Console(highlight=False, markup=False, emoji=False)


#: How often ``--watch`` updates, in seconds.
EVERY = 1.0
#: How many updates to skip after the inbox's file system did not answer, because each question holds a thread.
_ASK_AGAIN = 30
#: How many lines each part shows; the rest is counted.
_MOST = 15


class Survey:
    """Collects the status repeatedly, and skips an inbox that does not answer."""

    def __init__(self, settings: Config, state: Path, journal: Journal) -> None:
        self._settings, self._state, self._journal, self._silent = settings, state, journal, 0

    def step(self, now: float) -> dict[str, Any]:
        """Return what ``status`` knows now."""
        look = self._silent % _ASK_AGAIN == 0
        found = status.collect(self._settings, self._state, self._journal, now, look=look, trial=False)
        self._silent = self._silent + 1 if found["inbox_there"] is None else 0
        return found


def watch(survey: Survey, console: Console, wait: Callable[[float], None] = time.sleep) -> None:
    """Draw until the user presses Ctrl-C."""
    bars = _bars(console)
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            now = time.time()
            live.update(picture(survey.step(now), now, bars, console.height), refresh=True)
            wait(EVERY)


def print_changes(survey: Survey, out: Callable[[str], None], wait: Callable[[float], None] = time.sleep) -> None:
    """Print one JSON object per line whenever something changes, except for the age of the oldest file."""
    before: dict[str, Any] = {}
    while True:
        found = survey.step(time.time())
        facts = {name: value for name, value in found.items() if name != "oldest_waiting_seconds"}
        if facts != before:
            before = facts
            out(json.dumps(found))
        wait(EVERY)


def _bars(console: Console) -> Progress:
    columns = (
        *(TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), DownloadColumn(binary_units=True)),
        *(Speed(), TimeRemainingColumn()),
    )
    return Progress(*columns, console=console, expand=True)


def picture(found: dict[str, Any], now: float, bars: Progress, height: int) -> RenderableType:
    """Return the picture, most urgent first, in as many lines as fit."""
    most = max(3, min(_MOST, (height - 14) // 3))
    head = [Text(line) for line in status_text.heading(found, now)]
    alarms = [Text(status_text.condition_in_words(each), "bold red") for each in status_text.others(found)]
    alarms += [
        Text(f"paused     {status_text.until(each, now)}: {each['reason']}", "bold red") for each in found["pauses"]
    ]
    alarms += [Text(f"not listed {folder}: {why}", "red") for folder, why in found["not_listed"].items()]
    alarms += [Text(f"no issue   {status_text.unrouted_in_words(s)}", "yellow") for s in found["unrouted"]]
    _draw(bars, found["sending"])
    parts: list[RenderableType] = [*head, *alarms[:most], Text("")]
    parts += [bars, Text("")] if found["sending"] else []
    parts += list(_queue(found["queue"], now, most)) + list(_files("Waiting", found["waiting_for"], now, most))
    parts += list(_files("Recent", found["last"], now, most))
    return Group(*parts, Text("Press Ctrl-C to end.", "dim"))


def _draw(bars: Progress, sending: list[dict[str, Any]]) -> None:
    known = {task.fields["ident"]: task.id for task in bars.tasks}
    for row in sending:
        task = known.pop(row["id"], None)
        if task is None:
            task = bars.add_task(row["file"], total=row["bytes"] or None, ident=row["id"])
        bars.update(task, completed=row["sent"] or 0, total=row["bytes"] if row["sent"] is not None else None)
    for task in known.values():
        bars.remove_task(task)


def _queue(queue: list[dict[str, Any]], now: float, most: int) -> Iterator[RenderableType]:
    if not queue:
        return
    table = empty_table("Queue", "issue", "files", "oldest")
    for each in queue[:most]:
        table.add_row(each["issue"], str(each["files"]), span(now - each["oldest"]))
    yield table
    yield from _more(len(queue) - most)


def _files(title: str, rows: list[dict[str, Any]], now: float, most: int) -> Iterator[RenderableType]:
    if not rows:
        return
    table = empty_table(title, "state", "since", "file", "")
    for row in rows[:most]:
        said = f"attachment {row['attachment']}" if row["word"] == "attached" else row["reason"] or ""
        table.add_row(coloured(row["word"]), clock(row["since"], now), Text(row["file"]), Text(said))
    yield table
    yield from _more(len(rows) - most)


def _more(rest: int) -> Iterator[RenderableType]:
    if rest > 0:
        yield Text(f"and {rest} more", "dim")
