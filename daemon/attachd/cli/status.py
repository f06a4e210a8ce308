"""``status``: files, uploads and pauses, for people and for programs, while the daemon runs or not."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from attachd.cli import common
from attachd.config import Config
from attachd.errors import Mistake, Problem
from attachd.journal.database import Journal
from attachd.report import status as report_status
from attachd.report.status_text import lines


def status(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Update every second. With --json: a line for each change.")
    ] = False,
) -> None:
    """Show waiting files, running uploads, pauses and the latest results."""
    with common.session(config, instance) as session, session.reading() as journal:
        settings, state = session.config, session.state
        if watch:
            _watch(settings, state, journal, as_json)
            return
        found = report_status.collect(settings, state, journal, time.time())
    if as_json:
        common.print_json(found)
    else:
        for line in lines(found, time.time()):
            print(line)


def _watch(settings: Config, state: Path, journal: Journal, as_json: bool) -> None:
    # Only --watch needs the module that draws.
    from attachd.cli import terminal

    survey = terminal.Survey(settings, state, journal)
    with suppress(KeyboardInterrupt):
        if as_json:
            terminal.print_changes(survey, lambda line: print(line, flush=True))
        elif not sys.stdout.isatty():
            remedy = "Leave it out, or add --json for a line at each change."
            raise Mistake(Problem("--watch", "needs a terminal.", remedy), exit_code=2)
        else:
            terminal.watch(survey, terminal.wide_console())
