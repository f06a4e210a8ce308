"""``reload``: the running service reads its configuration anew, and this says what came of it."""

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

#: How long the service is waited for: it may be in the midst of writing to a disk that is slow.
PATIENCE_SECONDS = 30.0


def reload(config: common.ConfigFile = None, instance: common.Instance = None, as_json: common.AsJson = False) -> None:
    """Have the running service read its configuration anew, and wait until it has.

    Where it is wrong the service goes on with the old one, and this ends with 78. Keys that need a restart are named.
    """
    with common.session(config, instance) as session:
        running = _running(session.state)
        with session.reading() as journal:
            if not service_reload.is_by(journal, running.pid):
                what = f"process {running.pid} on this machine is not `attachd run`."
                raise Mistake(Problem("", what, "Only `attachd run` can reload its configuration."), exit_code=1)
            outcome = _ask(journal, running.pid)
        if outcome.problems:
            raise Mistake(*(Problem("", problem) for problem in outcome.problems))
    if as_json:
        common.print_json({"changed": list(outcome.changed), "restart": list(outcome.restart)})
    else:
        _tell(outcome)


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
        what = f"process {process} belongs to another user."
        raise Mistake(Problem("", what, "Run this as root, or as the service's user."), exit_code=1) from error
    while time.monotonic() < until:
        outcome = service_reload.last(journal)
        if outcome.number != before.number:
            return outcome
        time.sleep(0.05)
    what = f"process {process} has not answered within {PATIENCE_SECONDS:g} seconds."
    raise Mistake(Problem("", what, "Its log says what it is doing."), exit_code=1)


def _tell(outcome: Outcome) -> None:
    if outcome.changed:
        print(f"Taken up: {', '.join(outcome.changed)}.")
    if outcome.restart:
        print(f"Stays as it was until attachd is restarted: {', '.join(outcome.restart)}.")
    if not outcome.changed and not outcome.restart:
        print("Nothing in the configuration has changed.")
