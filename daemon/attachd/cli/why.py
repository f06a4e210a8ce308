"""``why``: says in one sentence why a file waits or failed."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import typer

from attachd.cli import common
from attachd.clock import Clock
from attachd.model import printable
from attachd.report import why as report_why
from attachd.report import why_lookup
from attachd.report.why_waiting import Answer
from attachd.share import paths

#: How many files of a folder are explained.
MOST = 50


def why(
    path: Annotated[
        str, typer.Argument(help="A file, a note, a folder, or the id of a file, such as F12.", show_default=False)
    ],
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """Explain why a file waits or failed, since when, and what comes next.

    Exit code 1 if attachd knows nothing of the file.
    """
    with common.session(config, instance) as session, session.reading() as journal:
        settings = session.config
        world = why_lookup.circumstances(settings, session.state, journal, Clock())
        found = why_lookup.Locator(settings, journal).about(why_lookup.meant(journal, path), paths.here())
        some = list(itertools.islice(found, MOST + 1))
    answers = [(name, report_why.explain(printable(name), situation, world)) for name, situation in some[:MOST]]
    if as_json:
        common.print_json([described(printable(name), answer) for name, answer in answers])
    else:
        for _, answer in answers:
            print(answer.sentence)
        if len(some) > MOST:
            print(f"There are more than {MOST} files. Ask about one file, or about a smaller folder.")
    if not any(answer.known for _, answer in answers):
        raise typer.Exit(1)


def described(path: str, answer: Answer) -> dict[str, Any]:
    """Return one answer as ``--json`` prints it. Times are seconds since the epoch."""
    row = answer.row
    return {
        "path": path,
        "word": str(answer.word) if answer.word else None,
        "sentence": answer.sentence,
        "known": answer.known,
        "id": row.ident if row else None,
        "issue": row.issue if row else None,
        "attachment": row.attachment if row else None,
        "since": answer.since,
        "next": answer.next,
    }
