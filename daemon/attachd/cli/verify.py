"""``verify``: checks that every attached file is still in Jira."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from attachd import text
from attachd.cli import common
from attachd.clock import Clock
from attachd.filing import verify as filing_verify
from attachd.filing.verify import Compared, Result
from attachd.model import printable
from attachd.service import start


def verify(
    issue: common.Issue = None,
    content: Annotated[
        bool, typer.Option("--content", help="Download the files from Jira too, and compare their SHA-256.")
    ] = False,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """Compare attached files with Jira, and list those that were deleted, renamed or changed.

    Exit code 1 if there are any.
    """
    with common.session(config, instance, check_token=True) as session:
        key = session.issue(issue)
        with session.reading() as journal:
            who = start.make_credentials(session.config, os.environ, session.state, Clock())
            found = filing_verify.verify(session.config, who, journal, key, content=content, wait=time.sleep)
            counts, wrong = _gather(found, show=not as_json)
    if as_json:
        common.print_json(described(counts, wrong))
    else:
        print(summary(counts, key))
    if wrong:
        raise typer.Exit(1)


def _gather(found: Iterator[Compared], *, show: bool) -> tuple[Counter[Result], list[Compared]]:
    """Count the results, and print each difference as soon as it is known."""
    counts, wrong = Counter[Result](), list[Compared]()
    for each in found:
        counts[each.result] += 1
        if each.result is not Result.SAME:
            wrong.append(each)
            if show:
                print(f"{each.result:<8} {each.row.issue}  {printable(each.row.path)}: {each.detail}", flush=True)
    return counts, wrong


def summary(counts: Counter[Result], key: str = "") -> str:
    """Return how many files were compared, and with what result."""
    if not counts:
        return f"No file has been attached to {key} yet." if key else "No file has been attached yet."
    parts = [f"{counts[result]} {result}" for result in Result if counts[result]]
    return f"{text.files(counts.total())} compared: {', '.join(parts)}."


def described(counts: Counter[Result], wrong: list[Compared]) -> dict[str, Any]:
    """Return the result for programs. Files without a difference are only counted."""
    return {
        "compared": counts.total(),
        "counts": {str(result): counts[result] for result in Result},
        "findings": [
            {
                "id": each.row.ident,
                "file": printable(each.row.path),
                "folder_key": each.row.folder_key,
                "issue": each.row.issue,
                "attachment": each.row.attachment,
                "result": str(each.result),
                "detail": each.detail,
            }
            for each in wrong
        ],
    }
