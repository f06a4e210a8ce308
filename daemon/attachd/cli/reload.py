"""``reload``: makes the running service read its configuration again, and prints the result."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

from attachd.cli import common
from attachd.errors import Mistake, Problem
from attachd.journal.database import Journal
from attachd.service import reload as service_reload
from attachd.service.reload import Outcome
from attachd.share import locks

#: How long to wait for the service, which may be writing to a slow disk, in seconds.
PATIENCE_SECONDS = 30.0


def reload(config: common.ConfigFile = None, instance: common.Instance = None, as_json: common.AsJson = False) -> None:
    """Make the running service read its configuration again, and wait until it has.

    Prints the keys that need a restart. If the configuration is wrong, the service keeps the old one (exit code 78).
    """
    with common.session(config, instance) as session:
        running = _running(session.state)
        with session.reading() as journal:
            if not service_reload.is_by(journal, running.pid):
                what = f"Process {running.pid} on this machine is not `attachd run`."
                raise Mistake(Problem("", what, "Only `attachd run` can reload its configuration."), exit_code=1)
            outcome = _ask(journal, running.pid)
        if outcome.problems:
            raise Mistake(*(Problem("", problem) for problem in outcome.problems))
    if as_json:
        common.print_json({"changed": list(outcome.changed), "restart": list(outcome.restart)})
    else:
        _print(outcome)


def _running(state: Path) -> locks.Holder:
    """Return the process on this machine that uses the state folder. Raises ``errors.Mistake`` (1)."""
    running = locks.holder(state / "lock")
    if running is None:
        what = f"attachd is not running with the state folder {state}."
        raise Mistake(Problem("", what, "It reads the configuration when it starts."), exit_code=1)
    if running.host != socket.gethostname():
        raise Mistake(Problem("", f"attachd runs on {running.host}.", "Run `attachd reload` there."), exit_code=1)
    return running


def _ask(journal: Journal, process: int) -> Outcome:
    before, until = service_reload.last(journal), time.monotonic() + PATIENCE_SECONDS
    try:
        os.kill(process, signal.SIGHUP)
    except PermissionError as error:
        what = f"Process {process} belongs to another user."
        raise Mistake(Problem("", what, "Run this as root, or as the service's user."), exit_code=1) from error
    while time.monotonic() < until:
        outcome = service_reload.last(journal)
        if outcome.number != before.number:
            return outcome
        time.sleep(0.05)
    what = f"Process {process} has not answered within {PATIENCE_SECONDS:g} seconds."
    raise Mistake(Problem("", what, "Look in its log."), exit_code=1)


def _print(outcome: Outcome) -> None:
    if outcome.changed:
        print(f"Changed: {', '.join(outcome.changed)}.")
    if outcome.restart:
        print(f"Needs a restart of attachd: {', '.join(outcome.restart)}.")
    if not outcome.changed and not outcome.restart:
        print("The configuration has not changed.")
