"""``history``: every file and its result, newest first."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attachd import text
from attachd.cli import common
from attachd.journal import lookup
from attachd.journal.rows import Row
from attachd.model import State, Word, printable, word

if TYPE_CHECKING:
    from rich.console import Console

#: How many digits of a checksum the table shows; ``--json`` has all of them.
_DIGITS = 12
#: How many files are listed without --limit: for people one or two screens, for programs all.
_MOST, _EVERYTHING = 50, 2**62
#: A terminal of this width has room for checksums and more.
_WIDE = 160
_HEADINGS = (
    "seen",
    "state",
    "id",
    "issue",
    "file",
    "attachment",
    "size",
    "sha256",
    "verdict",
    "filed",
    "tried",
    "reason",
)


def history(
    issue: common.Issue = None,
    state: Annotated[Word | None, typer.Option("--state", help="Only files in this state.", show_default=False)] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Only files dropped or finished since then: 2h, 7d, 2026-11-22 or 2026-11-22T08:30.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            max=10**9,
            help="At most N files. Default: 50, or all with --json.",
            show_default=False,
        ),
    ] = None,
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    as_json: common.AsJson = False,
) -> None:
    """List files and their results, newest first."""
    with common.session(config, instance) as session:
        key = session.issue(issue)
        moment = common.since(since, "--since", time.time()) if since is not None else None
        most = limit or (_EVERYTHING if as_json else _MOST)
        with session.reading() as journal:
            found = lookup.history(journal, key, state, most + 1, since=moment)
    found, more = found[:most], len(found) > most
    if as_json:
        # One file per line: there may be a million, and indenting takes ten times as long.
        print("[" + ",\n ".join(json.dumps(described(row)) for row in found) + "]")
    elif found and sys.stdout.isatty():
        # Only a terminal needs the module that draws.
        from attachd.cli import terminal

        draw(found, time.time(), terminal.wide_console())
    else:
        for line in table(found, time.time()):
            print(line)
    if more and not as_json and limit is None:
        print(f"There are more than these {most} files. --limit N shows more; --issue, --state and --since filter.")


def described(row: Row) -> dict[str, Any]:
    """Return one file as ``--json`` prints it. Times are seconds since the epoch."""
    return {
        "id": row.ident,
        "file": printable(row.path),
        "word": str(word(row.state, row.blocked)),
        "folder_key": row.folder_key,
        "issue": row.issue,
        "attachment": row.attachment,
        "stored_as": row.stored_as,
        "ground": row.ground,
        "bytes": row.size,
        "sha256": row.sha256.hex() if row.sha256 else None,
        "seen": row.seen_at,
        "verdict": row.verdict_at,
        "filed": row.finished_at,
        "tries": row.tries,
        "reason": row.said,
        "target": f"{row.root}/{printable(row.target)}" if row.target else None,
    }


def table(found: Sequence[Row], now: float) -> Iterator[str]:
    """Yield aligned columns without colour. Columns without any value are left out; only the last may be long."""
    if not found:
        yield "No files."
        return
    cells = [_HEADINGS, *(_cells(row, now) for row in found)]
    shown = [column for column in range(len(_HEADINGS)) if any(line[column] for line in cells[1:])]
    widths = {column: max(len(line[column]) for line in cells) for column in shown}
    for line in cells:
        yield "  ".join(line[column].ljust(widths[column]) for column in shown).rstrip()


def draw(found: Sequence[Row], now: float, console: Console) -> None:
    """Draw a coloured table on a terminal. Long cells wrap, and a wide terminal shows checksums."""
    from attachd.cli import terminal

    more = ("seen", "size", "sha256") if console.width >= _WIDE else ()
    drawn = terminal.empty_table("", "when", "state", "id", "issue", "file", "outcome", *more)
    newest: dict[bytes, str] = {}
    for row in found:
        newer = newest.setdefault(row.path, row.ident)
        said = became(row, newer if newer != row.ident else "")
        cells = dict(zip(_HEADINGS, _cells(row, now), strict=True))
        when = cells["filed"] or cells["verdict"] or cells["seen"]
        words = (
            when,
            terminal.coloured(cells["state"]),
            row.ident,
            cells["issue"],
            cells["file"],
            said,
        )
        drawn.add_row(*words, *(cells[name] for name in more))
    console.print(drawn)


def became(row: Row, later: str = "") -> str:
    """Return what to say of a file beside its state. *later* is the id of a newer file at the same path."""
    parts = [f"attachment {row.attachment}"] if row.attachment else []
    stored_as = printable((row.stored_as or "").encode())
    if stored_as and stored_as != printable(row.path.rpartition(b"/")[2]):
        parts.append(f"named {stored_as}")
    if row.said:
        parts.append(row.said)
    if later and row.state is State.FAILED:
        parts.append(f"(newer file of this name: {later})")
    if row.tries > 1:
        parts.append(f"(tried {row.tries} times)")
    return " ".join(parts)


def _cells(row: Row, now: float) -> tuple[str, ...]:
    return (
        text.clock(row.seen_at, now),
        str(word(row.state, row.blocked)),
        row.ident,
        row.folder_key if row.issue == row.folder_key else f"{row.folder_key} ({row.issue})",
        printable(row.path),
        row.attachment or "",
        text.size(row.size),
        row.sha256.hex()[:_DIGITS] if row.sha256 else "",
        text.clock(row.verdict_at, now) if row.verdict_at else "",
        text.clock(row.finished_at, now) if row.finished_at else "",
        str(row.tries),
        row.said or "",
    )
