"""``pause`` and ``resume``: an administrator's hand on what is sent, with the daemon up or down."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from attachd.cli import common
from attachd.journal import database, operating
from attachd.journal.operating import Resumed
from attachd.model import Mistake, Problem, printable
from attachd.service import locks, paused, surveying

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
    as_json: common.AsJson = False,
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
            lane = operating.lane_of(connection, key) if key else ""
            made, known = operating.pause(connection, lane, now, seconds), not lane or operating.knows(connection, lane)
    if as_json:
        common.print_json(surveying.pause(made) | {"running": locks.holder(state / "lock") is not None})
        return
    print(paused.paused_in_words(made, now))
    if not known:
        print(f"No file for {lane} is known yet; if one should be, compare the key.")
    print(_daemon(state))


def resume(
    issue: common.Issue = None,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """End every pause, by hand or not, or those of one issue. What Jira asked attachd to wait is still waited."""
    with common.mistakes_told():
        settings, state = common.prepared(config, instance, check_token=False)
        key = common.issue_key(settings, issue) if issue is not None else ""
        now = time.time()
        with database.changing(state) as connection:
            if connection is None:
                raise common.no_journal(state)
            done = operating.resume(connection, operating.lane_of(connection, key) if key else "", now)
    if as_json:
        common.print_json(described(done, running=locks.holder(state / "lock") is not None))
        return
    for line in paused.resumed_in_words(done, key, now):
        print(line)
    if done != Resumed((), (), (), 0, 0):
        print(_daemon(state))


def described(done: Resumed, *, running: bool) -> dict[str, Any]:
    """What ``resume`` did, as it is printed with ``--json``."""
    pauses = {"ended": done.ended, "tried": done.tried, "kept": done.kept}
    lists = {name: [surveying.pause(each) for each in found] for name, found in pauses.items()}
    return lists | {"believed": done.believed, "again": done.again, "running": running}


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


def _daemon(state: Path) -> str:
    running = locks.holder(state / "lock")
    if running:
        return f"attachd is running (process {running.pid} on {running.host}), and heeds this within a second or two."
    return "attachd is not running: this takes effect when it is started."
