"""``retry``: moves failed files back into the inbox."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from attachd.cli import common
from attachd.config import Config
from attachd.errors import Mistake, Problem
from attachd.filing import retry as filing_retry
from attachd.filing.take_back import Left, Returned
from attachd.journal import terms
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.model import printable
from attachd.report import why_lookup
from attachd.share import locks
from attachd.share import paths as share_paths


def retry(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Failed files, or folders of failed files.", show_default=False),
    ] = None,
    issue: common.Issue = None,
    everything: Annotated[bool, typer.Option("--all", help="All failed files.")] = False,
    not_attached: Annotated[
        bool,
        typer.Option(
            "--not-attached", help="You have checked in Jira that these files are not attached. Only with PATH."
        ),
    ] = False,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """Move failed files back into the inbox under their own names, to try them again.

    attachd looks in the issue first for a file that may be attached already.
    If Jira does not show the content, the file fails again, unless you give --not-attached.

    Exit code 1 if a file cannot be moved back.
    """
    with common.mistakes_printed():
        _exactly_one(bool(paths), issue is not None, everything)
        if not_attached and not paths:
            what = "needs the paths of the files that you have looked for in Jira."
            raise Mistake(Problem("--not-attached", what), exit_code=2)
    with common.session(config, instance) as session:
        settings, state, key = session.config, session.state, session.issue(issue)
        os.umask(0o007)
        with session.reading() as journal:
            _inbox_is_there(settings, state, journal)
            chosen = _chosen(settings, journal, paths or (), key)
        results = _all(settings, state, chosen, tell=not as_json, not_attached=not_attached)
    failed = any(isinstance(result, Left) for result in results)
    if as_json:
        common.print_json([described(result) for result in results])
    elif not results:
        print(
            f"attachd knows no failed file of {key}."
            if key
            else f"attachd knows no failed file in {settings.folders.failed}."
        )
    elif locks.holder(state / "lock") is None:
        print("attachd is not running. Start it to send the files.")
    if failed:
        raise typer.Exit(1)


def _exactly_one(*given: bool) -> None:
    if sum(given) != 1:
        what = "needs exactly one of PATH, --issue KEY and --all."
        raise Mistake(Problem("retry", what), exit_code=2)


def _inbox_is_there(settings: Config, state: Path, journal: Journal) -> None:
    """Refuse a folder that only looks like the inbox, because the inbox is not mounted."""
    sight = share_paths.sight(settings, state, terms.known(journal))
    if not sight.there:
        raise Mistake(Problem("", f"{sight.reason}.", "Nothing was moved."), exit_code=1)


def _chosen(settings: Config, journal: Journal, paths: Sequence[str], key: str) -> Sequence[Row | Left]:
    if paths:
        named = [why_lookup.meant(journal, path) for path in paths]
        return filing_retry.named(settings, journal, named, share_paths.here())
    return filing_retry.of_issue(settings, journal, key)


def _all(
    settings: Config, state: Path, chosen: Sequence[Row | Left], *, tell: bool, not_attached: bool
) -> list[Returned | Left]:
    """Move the chosen files back, and print the result of each as soon as it is durable."""
    results: list[Returned | Left] = []
    unknown = [each for each in chosen if isinstance(each, Left)]
    known = [each for each in chosen if isinstance(each, Row)]
    for result in itertools.chain(unknown, filing_retry.retry(settings, state, known, not_attached=not_attached)):
        results.append(result)
        if tell:
            print(filing_retry.in_words(result), flush=True)
    return results


def described(result: Returned | Left) -> dict[str, Any]:
    """Return the result of one file as ``--json`` prints it."""
    if isinstance(result, Left):
        return {"file": printable(result.name), "returned": None, "reason": result.reason, "may_be_attached": None}
    return {
        "file": printable(result.row.target or b""),
        "returned": printable(result.path),
        "reason": None,
        "may_be_attached": bool(result.row.may_be_attached),
    }
