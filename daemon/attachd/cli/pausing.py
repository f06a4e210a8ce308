"""``pause`` and ``resume``: an administrator's hand on what is sent, with the daemon up or down."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from attachd.cli import common
from attachd.journal import database, operating
from attachd.journal.operating import Resumed
from attachd.journal.pauses import Pause
from attachd.model import Mistake, Problem, Scope, printable
from attachd.service import locks, phrasing

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: Longer than this is a slip of the finger; without ``--for`` a pause has no end.
_LONGEST_SECONDS = 366 * 86400

For = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="End by itself after 90s, 30m, 2h or 3d.", show_default=False),
]


def pause(
    issue: common.Issue = None,
    length: For = None,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
) -> None:
    """Send nothing, or nothing to one issue, until `attachd resume`.

    What is being sent at this moment is sent to its end. Files may still be dropped; they wait.
    """
    with common.mistakes_told():
        settings, state = common.prepared(config, instance, check_token=False)
        key = common.issue_key(settings, issue) if issue is not None else ""
        seconds = seconds_in(length) if length is not None else None
        now = time.time()
        with database.changing(state) as connection:
            if connection is None:
                raise common.no_journal(state)
            made = operating.pause(connection, operating.lane_of(connection, key) if key else "", now, seconds)
    print(paused_in_words(made, now))
    print(_daemon(state))


def resume(issue: common.Issue = None, config: common.ConfigFile = None, instance: common.Instance = None) -> None:
    """End every pause, by hand or not, or those of one issue. What Jira asked attachd to wait is still waited."""
    with common.mistakes_told():
        settings, state = common.prepared(config, instance, check_token=False)
        key = common.issue_key(settings, issue) if issue is not None else ""
        now = time.time()
        with database.changing(state) as connection:
            if connection is None:
                raise common.no_journal(state)
            done = operating.resume(connection, operating.lane_of(connection, key) if key else "", now)
    for line in resumed_in_words(done, key, now):
        print(line)
    if done != Resumed((), (), (), 0, 0):
        print(_daemon(state))


def seconds_in(text: str) -> float:
    """Read ``90s``, ``30m``, ``2h`` or ``3d``. Raises ``model.Mistake`` (2)."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip(), re.ASCII)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if 0 < seconds <= _LONGEST_SECONDS:
        return float(seconds)
    shown = f"'{printable(text.encode('utf-8', 'surrogateescape'))}'"
    what = f"{shown} is longer than a year." if seconds else f"{shown} is no length of time."
    remedy = "Leave it out to pause until `attachd resume`." if seconds else "Write it like 90s, 30m, 2h or 3d."
    raise Mistake(Problem("--for", what, remedy), exit_code=2)


def paused_in_words(made: Pause, now: float) -> str:
    """Say what is held up now, and until when."""
    what = f"Nothing is sent to {made.subject}" if made.subject else "Nothing is sent to Jira"
    again = f"attachd resume --issue {made.subject}" if made.subject else "attachd resume"
    if made.wait:
        return f"{what} until {phrasing.clock(made.until, now)}, or until `{again}`."
    return f"{what} until `{again}`."


def resumed_in_words(done: Resumed, key: str, now: float) -> Iterator[str]:
    """Say what was ended, a line each, and what was not."""
    for each in done.ended:
        yield f"Ended: {_about(each)} (since {phrasing.clock(each.since, now)})."
    for each in done.tried:
        yield f"Tried again now: {_about(each)} (since {phrasing.clock(each.since, now)}). It ends once the try succeeds."
    if done.believed:
        yield (
            f"Believed: Jira's refusal of {_files(done.believed)}, held until now. They go to the folder failed, each with "
            "a note that says why."
        )
    if done.again:
        yield f"Tried again now: {_files(done.again)} that Jira had refused."
    for each in done.kept:
        until = phrasing.clock(each.until, now)
        yield f"Stays until {until}: {_about(each)}. Jira itself asked for this wait."
    if done == Resumed((), (), (), 0, 0):
        yield f"Nothing of {key} was paused." if key else "Nothing was paused."


def _about(each: Pause) -> str:
    if each.scope is Scope.OPERATOR:
        return f"the pause of {each.subject} by hand" if each.subject else "the pause by hand"
    about = f"the pause of {each.scope} {each.subject}" if each.subject else f"the pause of the {each.scope}"
    return f"{about}: {each.reason.removesuffix('.')}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _daemon(state: Path) -> str:
    running = locks.holder(state / "lock")
    if running:
        return f"attachd is running (process {running.pid} on {running.host}), and heeds this within a second or two."
    return "attachd is not running: this takes effect when it is started."
