"""``verify``: whether what was attached is still there."""

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
        bool, typer.Option("--content", help="Read the files in Jira too, and compare their SHA-256.")
    ] = False,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """Compare what was attached with what Jira holds now: what was deleted, renamed or differs. Ends 1 if anything was."""
    with common.session(config, instance, check_token=True) as session:
        key = session.issue(issue)
        with session.reading() as journal:
            who = start.make_credentials(session.config, os.environ, session.state, Clock())
            found = filing_verify.verify(session.config, who, journal, key, content=content, wait=time.sleep)
            counts, wrong = _gather(found, tell=not as_json)
    if as_json:
        common.print_json(described(counts, wrong))
    else:
        print(summary(counts, key))
    if wrong:
        raise typer.Exit(1)


def _gather(found: Iterator[Compared], *, tell: bool) -> tuple[Counter[Result], list[Compared]]:
    """Count what was compared; what is not the same is told as soon as it is known."""
    counts, wrong = Counter[Result](), list[Compared]()
    for each in found:
        counts[each.result] += 1
        if each.result is not Result.SAME:
            wrong.append(each)
            if tell:
                print(f"{each.result:<8} {each.row.issue}  {printable(each.row.path)}: {each.detail}", flush=True)
    return counts, wrong


def summary(counts: Counter[Result], key: str = "") -> str:
    """How many files were compared, and with what result."""
    if not counts:
        return f"Nothing has been attached to {key}." if key else "Nothing has been attached yet."
    parts = [f"{counts[result]} {result}" for result in Result if counts[result]]
    return f"{text.files(counts.total())} compared: {', '.join(parts)}."


def described(counts: Counter[Result], wrong: list[Compared]) -> dict[str, Any]:
    """The same for programs; files that are the same are counted only."""
    return {
        "compared": counts.total(),
        "counts": {str(result): counts[result] for result in Result},
        "findings": [
            {
                "id": each.row.ident,
                "file": printable(each.row.path),
                "issue": each.row.folder_key,
                "resolved": each.row.issue,
                "attachment": each.row.attachment,
                "result": str(each.result),
                "detail": each.detail,
            }
            for each in wrong
        ],
    }
