"""``pause`` and ``resume``: an administrator stops and restarts uploads, while the daemon runs or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from attachd import text
from attachd.cli import common
from attachd.journal import by_hand, moved_issues, sites
from attachd.journal.by_hand import Resumed
from attachd.report import pauses as report_pauses
from attachd.report import status
from attachd.share import locks

For = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="End the pause after 90s, 30m, 2h or 3d.", show_default=False),
]


def pause(
    issue: common.Issue = None,
    length: For = None,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """Stop uploads, to all issues or to one, until `attachd resume`.

    Uploads that have begun finish. People can still drop files; the files wait.
    """
    with common.session(config, instance) as session:
        key, state = session.issue(issue), session.state
        seconds = common.length(length, "--for") if length is not None else None
        with session.changing() as (connection, times):
            subject = moved_issues.issue_of(connection, key) if key else ""
            made, known = (
                by_hand.pause(connection, subject, times.now, seconds),
                not subject or by_hand.knows(connection, subject),
            )
    made = times.pause(made)
    if as_json:
        common.print_json(status.pause(made) | {"running": locks.holder(state / "lock") is not None})
        return
    print(report_pauses.paused_in_words(made, times.wall))
    if not known:
        print(f"attachd has seen no file for {subject} yet. Is the key correct?")
    print(_daemon(state))


AdoptSite = Annotated[
    bool,
    typer.Option(
        "--adopt-site", help="jira.url has changed but is the same Jira: look there for files that may have arrived."
    ),
]


def resume(
    issue: common.Issue = None,
    adopt_site: AdoptSite = False,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """End all pauses, or one issue's. Waits that Jira asked for (429) remain.

    With --issue, attachd also forgets that the issue was moved or no longer visible.
    """
    with common.session(config, instance) as session:
        key, state, settings = session.issue(issue), session.state, session.config
        with session.changing() as (connection, times):
            adopted = sites.adopt_site(connection, settings.jira.url) if adopt_site else 0
            done = by_hand.resume(connection, moved_issues.issue_of(connection, key) if key else "", times.now)
    done = by_hand.shown(done, times)
    if as_json:
        common.print_json(described(done, running=locks.holder(state / "lock") is not None) | {"adopted": adopted})
        return
    if adopt_site:
        print(f"{text.files(adopted)} of another jira.url: attachd now looks for them at {settings.jira.url}.")
    for line in report_pauses.resumed_in_words(done, key, times.wall):
        print(line)
    if adopted or done != Resumed((), (), (), 0, 0):
        print(_daemon(state))


def described(done: Resumed, *, running: bool) -> dict[str, Any]:
    """Return what ``resume`` did, as ``--json`` prints it."""
    pauses = {"ended": done.ended, "tried": done.tried, "kept": done.kept}
    lists = {name: [status.pause(each) for each in found] for name, found in pauses.items()}
    counts = {"believed": done.believed, "again": done.again, "forgotten": list(done.forgotten)}
    return lists | counts | {"running": running}


def _daemon(state: Path) -> str:
    running = locks.holder(state / "lock")
    if running:
        return f"attachd is running (process {running.pid} on {running.host}) and follows within two seconds."
    return "attachd is not running. This takes effect when it starts."
