"""``backup`` and ``restore``: the journal, carried away and put back."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from attachd import text
from attachd.cli import common
from attachd.errors import Mistake, Problem
from attachd.journal import backup as journal_backup
from attachd.service import start
from attachd.share import inbox_marker

Target = Annotated[Path, typer.Argument(metavar="FILE", help="A file that is not there yet.")]
Source = Annotated[Path, typer.Argument(metavar="FILE", help="A file that `attachd backup` has made.")]


def backup(
    target: Target,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """Copy the journal, as it is at this moment, to a file; the service may go on working.

    The journal is what says which files were attached. The files are not in it, and neither is the token.
    """
    target = target.absolute()
    with common.session(config, instance) as session:
        state = session.state
        if not target.parent.is_dir():
            reason = "is no folder" if target.parent.exists() else "is not there"
            what = f"cannot be written: {target.parent} {reason}."
            raise Mistake(Problem(str(target), what, "Make that folder, or name another."), exit_code=1)
        try:
            size = journal_backup.backup(state, target)
        except FileNotFoundError:
            raise common.no_journal(state) from None
    if as_json:
        common.print_json({"file": str(target), "bytes": size, "state": str(state)})
    else:
        print(f"{target}: {text.size(size)}, the journal of {state}.")


def restore(
    source: Source,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """Put a copy in the place of the journal, while the service is stopped.

    Every file in the inbox is then looked up in Jira before it is sent: it may have been attached since the copy was made.
    """
    source = source.absolute()
    with common.session(config, instance) as session:
        state = session.state
        _is_of(source, session.config.folders.inbox)
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Mistake(Problem(str(state), f"cannot be made: {error}.", "Make it."), exit_code=1) from error
        lock = start.take_state(state)
        try:
            # Between two renames it must not be torn off by a terminal that is closed.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            unfinished, kept = journal_backup.restore(state, source)
        finally:
            lock.release()
    if as_json:
        kept_as = str(kept) if kept is not None else None
        common.print_json({"state": str(state), "unfinished": unfinished, "kept": kept_as})
        return
    files = "1 unfinished file, which" if unfinished == 1 else f"{unfinished} unfinished files, each of which"
    print(f"Restored into {state}: {files} is looked up in Jira before it is sent.")
    print("What was attached since the copy was made lies in done; this journal knows nothing of it.")
    if kept is not None:
        print(f"The journal that was there is kept as {kept}.")


def _is_of(source: Path, inbox: Path) -> None:
    """See that a copy is not that of another inbox's journal: with it everything would wait. Raises ``errors.Mistake`` (1)."""
    known, marker = journal_backup.checked(source), inbox_marker.read_marker(inbox)
    if known and marker and marker.inbox != known:
        what = f"is a copy of another inbox's journal than that of {inbox}."
        remedy = (
            f"Name another copy; or if this is the one, move {inbox}/{inbox_marker.FOLDER} away and start "
            "with --adopt-inbox."
        )
        raise Mistake(Problem(str(source), what, remedy), exit_code=1)
