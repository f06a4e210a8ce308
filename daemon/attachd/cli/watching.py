"""``status --watch``: the same, drawn anew every second, with a bar for each upload that takes long."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from attachd.cli import drawing, tabulating
from attachd.cli.tabulating import coloured
from attachd.config import Config
from attachd.journal.database import Journal
from attachd.report import status, status_text
from attachd.text import clock, span

#: How often it is drawn anew, in seconds.
EVERY = 1.0
#: After how many looks an inbox is asked again whose file system did not answer: each question holds a thread.
_ASK_AGAIN = 30
#: Lines of each part; what is more is counted.
_MOST = 15


class Survey:
    """Collects again and again; an inbox that does not answer is not asked each time."""

    def __init__(self, settings: Config, state: Path, journal: Journal) -> None:
        """Survey what *journal* says."""
        self._settings, self._state, self._journal, self._silent = settings, state, journal, 0

    def step(self, now: float) -> dict[str, Any]:
        """What ``status`` knows now."""
        look = self._silent % _ASK_AGAIN == 0
        found = status.collect(self._settings, self._state, self._journal, now, look=look, trial=False)
        self._silent = self._silent + 1 if found["inbox_there"] is None else 0
        return found


def watch(survey: Survey, console: Console, wait: Callable[[float], None] = time.sleep) -> None:
    """Draw until the user interrupts it."""
    bars = _bars(console)
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            now = time.time()
            live.update(picture(survey.step(now), now, bars, console.height), refresh=True)
            wait(EVERY)


def print_changes(survey: Survey, out: Callable[[str], None], wait: Callable[[float], None] = time.sleep) -> None:
    """One JSON object a line, each time that something has changed besides the age of the oldest file."""
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
        *(drawing.Speed(), TimeRemainingColumn()),
    )
    return Progress(*columns, console=console, expand=True)


def picture(found: dict[str, Any], now: float, bars: Progress, height: int) -> RenderableType:
    """What is drawn, most pressing first, in so many lines at the most that it fits."""
    most = max(3, min(_MOST, (height - 14) // 3))
    head = [Text(line) for line in status_text.heading(found, now)]
    alarms = [Text(status_text.condition_in_words(each), "bold red") for each in status_text.others(found)]
    alarms += [
        Text(f"paused     {status_text.until(each, now)}: {each['reason']}", "bold red") for each in found["pauses"]
    ]
    alarms += [Text(f"not listed {folder}: {why}", "red") for folder, why in found["not_listed"].items()]
    alarms += [Text(f"no issue   {status_text.stray_in_words(s)}", "yellow") for s in found["strays"]]
    _draw(bars, found["sending"])
    parts: list[RenderableType] = [*head, *alarms[:most], Text("")]
    parts += [bars, Text("")] if found["sending"] else []
    parts += list(_queue(found["queue"], now, most)) + list(_files("Waiting, and why", found["waiting_for"], now, most))
    parts += list(_files("Last verdicts", found["last"], now, most))
    return Group(*parts, Text("Ctrl-C ends this.", "dim"))


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
    table = tabulating.table("Queue", "issue", "files", "first waits for")
    for each in queue[:most]:
        table.add_row(each["issue"], str(each["files"]), span(now - each["oldest"]))
    yield table
    yield from _more(len(queue) - most)


def _files(title: str, rows: list[dict[str, Any]], now: float, most: int) -> Iterator[RenderableType]:
    if not rows:
        return
    table = tabulating.table(title, "state", "since", "file", "")
    for row in rows[:most]:
        said = f"attachment {row['attachment']}" if row["word"] == "attached" else row["reason"] or ""
        table.add_row(coloured(row["word"]), clock(row["since"], now), Text(row["file"]), Text(said))
    yield table
    yield from _more(len(rows) - most)


def _more(rest: int) -> Iterator[RenderableType]:
    if rest > 0:
        yield Text(f"and {rest} more", "dim")
