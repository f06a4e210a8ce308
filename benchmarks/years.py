"""What people ask the journal after years: millions of finished files, which are kept for ever by default."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from attachd.journal import rows
from benchmarks import figures, installed

#: Issues that the files are spread over, in so many projects.
ISSUES, PROJECTS = 20_000, 20
_KEY, _UNKNOWN = "P7-401", "P7-401/nothing-of-this-name.pdf"


def measure(files: int, repetitions: int) -> figures.Table:
    """How long each look-up takes as a command, with one file in the journal and with so many."""
    with installed.site() as site:
        _begin(site)
        asked = {
            "why, a name that is unknown": ("why", str(site.inbox / _UNKNOWN)),
            "history of one issue": ("history", "--issue", _KEY),
            "history of an issue without files": ("history", "--issue", "NONE-1"),
            "history of the last hour": ("history", "--since", "1h"),
            "history of what failed": ("history", "--state", "failed"),
            "retry --all, when nothing lies in failed": ("retry", "--all"),
            "status": ("status",),
        }
        before = {what: _seconds(site, repetitions, words) for what, words in asked.items()}
        _fill(site.home / "state" / "journal.db", files)
        after = {what: _seconds(site, repetitions, words) for what, words in asked.items()}
    lines = [
        [what, *map(figures.milliseconds, (before[what], after[what], after[what] - before[what]))] for what in asked
    ]
    columns = ["", "one file", f"{files} files", "more"]
    return figures.Table("Look-ups in a journal that has years of finished files", columns, lines)


def _begin(site: installed.Site) -> None:
    """Have one file attached, so that there is a journal and an example."""
    (site.inbox / _KEY).mkdir()
    (site.inbox / _KEY / "first.txt").write_text("x")
    site.run("once")


def _seconds(site: installed.Site, repetitions: int, words: Sequence[str]) -> float:
    command = [str(installed.ATTACHD), *words, "-c", str(site.config)]
    run = functools.partial(subprocess.run, command, capture_output=True, check=False)
    return statistics.median(figures.seconds(run) for _ in range(repetitions))


def _fill(path: Path, files: int) -> None:
    """Multiply the example: three years, of which 3 % failed and 1 % were taken away again."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as journal:
        journal.execute("PRAGMA synchronous = OFF")
        journal.execute("PRAGMA cache_size = -800000")
        made = journal.execute(
            "SELECT type, name, sql FROM sqlite_master"
            " WHERE tbl_name = 'file' AND sql IS NOT NULL AND type IN ('index', 'trigger')"
        ).fetchall()
        for kind, name, _ in made:
            journal.execute(f"DROP {kind} {name}")
        _multiply(journal, files)
        for _, _, statement in sorted(made, key=lambda each: str(each[0])):
            journal.execute(statement)
        journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _multiply(journal: sqlite3.Connection, files: int) -> None:
    """Write rows that differ from the example in what an index knows."""
    changed = {
        "id": "NULL",
        "path": "CAST(key || '/report-' || n || '.pdf' AS BLOB)",
        "name": "'report-' || n || '.pdf'",
        "size": "1000 + n % 50000",
        "ino": "n % 3000000 + 12",
        **dict.fromkeys(("folder_key", "issue"), "key"),
        **dict.fromkeys(("since", "seen_at", "finished_at"), "at"),
        "verdict_at": "CASE state WHEN 'WITHDRAWN' THEN NULL ELSE at END",
        "state": "state",
        "attempt": "n / 10 + 2",
        "sha256": "randomblob(32)",
        "attachment": "CASE state WHEN 'DONE' THEN CAST(10000000 + n AS TEXT) END",
        "root": "CASE state WHEN 'DONE' THEN 'done' WHEN 'FAILED' THEN 'failed' END",
        "target": "CASE state WHEN 'WITHDRAWN' THEN NULL ELSE CAST(key || '/report-' || n || '.pdf' AS BLOB) END",
        "reason": "CASE state WHEN 'DONE' THEN NULL ELSE 'Jira refused the file (413: too large)' END",
    }
    columns: Sequence[str] = rows.COLUMNS
    values = ", ".join(changed.get(column, f"(SELECT {column} FROM file WHERE id = 1)") for column in columns)
    journal.execute(
        "WITH RECURSIVE counter (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < :files),"
        f" made AS (SELECT n, 'P' || (n % {PROJECTS}) || '-' || (n * 2654435761 % {ISSUES // PROJECTS} + 1) AS key,"
        " :now - 94608000.0 * (1.0 - n * 1.0 / :files) AS at,"
        " CASE WHEN n % 33 = 0 THEN 'FAILED' WHEN n % 97 = 0 THEN 'WITHDRAWN' ELSE 'DONE' END AS state FROM counter)"
        f" INSERT INTO file ({', '.join(columns)}) SELECT {values} FROM made",
        {"files": files, "now": time.time()},
    )
