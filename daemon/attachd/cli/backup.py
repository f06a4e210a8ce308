"""``backup`` and ``restore`` of the journal."""

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

Target = Annotated[Path, typer.Argument(metavar="FILE", help="The new file.")]
Source = Annotated[Path, typer.Argument(metavar="FILE", help="A file from `attachd backup`.")]


def backup(
    target: Target,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """Copy the journal to a file, while the service runs or not.

    The journal says which files were attached. It contains neither the files nor the token.
    """
    target = target.absolute()
    with common.session(config, instance) as session:
        state = session.state
        if not target.parent.is_dir():
            reason = "is not a folder" if target.parent.exists() else "does not exist"
            what = f"cannot be written: {target.parent} {reason}."
            raise Mistake(Problem(str(target), what, "Create that folder, or name another."), exit_code=1)
        try:
            size = journal_backup.backup(state, target)
        except FileNotFoundError:
            raise common.no_journal(state) from None
    if as_json:
        common.print_json({"file": str(target), "bytes": size, "state": str(state)})
    else:
        print(f"Wrote {target} ({text.size(size)}): the journal of {state}.")


def restore(
    source: Source,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """Replace the journal with a copy from `attachd backup`. Stop the service first.

    attachd then looks up each file in Jira before it sends it, because it may have been attached since the backup.
    """
    source = source.absolute()
    with common.session(config, instance) as session:
        state = session.state
        _is_of(source, session.config.folders.inbox)
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            what = f"cannot be created: {error.strerror}."
            raise Mistake(Problem(str(state), what, "Create it by hand."), exit_code=1) from error
        lock = start.take_state(state)
        try:
            # A terminal that closes must not end the process between two renames.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            unfinished, kept = journal_backup.restore(state, source)
        finally:
            lock.release()
    if as_json:
        kept_as = str(kept) if kept is not None else None
        common.print_json({"state": str(state), "unfinished": unfinished, "kept": kept_as})
        return
    files = "1 unfinished file" if unfinished == 1 else f"{unfinished} unfinished files"
    print(f"Restored the journal in {state} with {files}. attachd looks up each file in Jira before it sends it.")
    print("This journal does not know the files that were attached after the backup. They are in done.")
    if kept is not None:
        print(f"The previous journal is now {kept}.")


def _is_of(source: Path, inbox: Path) -> None:
    """Refuse the journal of another inbox, with which every file would wait. Raises ``errors.Mistake`` (1)."""
    known, marker = journal_backup.checked(source), inbox_marker.read_marker(inbox)
    if known and marker and marker.inbox != known:
        what = f"is the journal of another inbox, not of {inbox}."
        remedy = f"Name another backup. If it is the right one, move {inbox}/{inbox_marker.FOLDER} away and use --adopt-inbox."
        raise Mistake(Problem(str(source), what, remedy), exit_code=1)
