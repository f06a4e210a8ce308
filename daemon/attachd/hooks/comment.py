"""One comment on an issue for a batch of files that were attached to it, if ``hooks.issue_comment`` is set.

A comment has no idempotency key either. So it names the ids of its files, and before a second try attachd looks for it in
the issue's comments. In Jira Service Management it is internal: customers get no mail.
"""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Sequence
from contextlib import closing

from attachd import text
from attachd.delivery import pause
from attachd.delivery.runtime import Runtime
from attachd.errors import Mistake
from attachd.jira import connection
from attachd.jira.client import Client
from attachd.jira.reply import Broken, Reply
from attachd.journal.outbox import Event
from attachd.journal.rows import Row
from attachd.logger import get_logger
from attachd.model import printable

log = get_logger()

#: How long an issue must have been quiet before its comment, in seconds, and the longest wait for that.
QUIET_SECONDS, LONGEST_SECONDS = 30.0, 300.0
#: So many files are named; the others are counted.
MOST_NAMED = 50


class Comment:
    """Gathers attached files until an issue is quiet, and names them in one comment for each issue."""

    name, at_once = "comment", 1000

    def __init__(self, runtime: Runtime) -> None:
        """Comment with the account that attaches files."""
        self._runtime = runtime
        self._began = runtime.clock.now()
        self._tls: ssl.SSLContext | None = None
        self._named, self._tried = set[str](), set[str]()

    def send(self, waiting: Sequence[Event], ended: threading.Event) -> tuple[int, str]:
        """Comment on all issues of these events; they count as delivered together. A paused issue waits."""
        attached = [event for event in waiting if event.kind == "attached" and event.row]
        if (
            attached
            and not self._runtime.stopping.is_set()
            and not is_ready(attached, self._runtime.clock.now(), self.at_once)
        ):
            return 0, ""
        reasons, gate = list[str](), pause.current(self._runtime)
        for rows, first in batches(attached):
            left = [row for row in rows if row.ident not in self._named]
            if not left:
                continue
            if ended.is_set() or not gate.lets(left[0].issue):
                return 0, ""
            try:
                reason = self._comment(left, first)
            except Mistake as mistake:
                # The token or a certificate cannot be read: delivery pauses for that and reports it.
                reason = str(mistake)
            reasons += [reason] if reason else []
        if reasons:
            return 0, reasons[0]
        self._named.clear()
        self._tried.clear()
        return len(waiting), ""

    def _comment(self, rows: Sequence[Row], first: float) -> str:
        """Comment on one issue. Return why that failed; "" also if Jira refuses it for good."""
        issue = rows[0].issue
        self._tls = self._tls or connection.tls_context(self._runtime.config)
        with closing(connection.make_client(self._runtime.config, self._runtime.credentials, self._tls)) as client:
            # An earlier process, or an earlier try without an answer, may have made the comment.
            if first < self._began or not self._tried.isdisjoint(row.ident for row in rows):
                there = _named(client, issue)
                if isinstance(there, str):
                    return there
                self._named |= there
                rows = [row for row in rows if row.ident not in there]
            if not rows:
                return ""
            self._tried.update(row.ident for row in rows)
            answer = client.comment(issue, words(rows))
        if isinstance(answer, Broken):
            return answer.error
        said = "; ".join(answer.words) or f"Jira answered {answer.status}"
        if answer.status not in (200, 201, 400, 403, 404):
            return said
        self._named.update(row.ident for row in rows)
        if answer.status in (200, 201):
            log.info("hook.commented", issue=issue, files=len(rows))
        else:
            log.warning(
                "hook.not_commented", issue=issue, reason=said, remedy="give the account permission to comment there"
            )
        return ""


def _named(client: Client, issue: str) -> set[str] | str:
    """Return the files that the issue's comments already name, or why they cannot be read."""
    answer = connection.ask(lambda: client.comments(issue))
    if isinstance(answer, Reply) and answer.status in (403, 404):
        return set()
    if not isinstance(answer, Reply) or answer.status != 200 or not isinstance(answer.json, dict):
        return "the issue's comments cannot be read"
    found = answer.json.get("comments")
    bodies = [str(each.get("body")) for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return {ident for body in bodies for ident in idents(body)}


def is_ready(attached: Sequence[Event], now: float, most: int) -> bool:
    """Return True if the comment is due: the issue is quiet, it has waited long enough, or there are many files. Pure."""
    quiet = now - attached[-1].at >= QUIET_SECONDS
    return quiet or now - attached[0].at >= LONGEST_SECONDS or len(attached) >= most


def batches(attached: Sequence[Event]) -> list[tuple[list[Row], float]]:
    """Return the files of each issue, and when the first was attached. Pure."""
    by_issue: dict[str, tuple[list[Row], float]] = {}
    for event in attached:
        assert event.row is not None
        by_issue.setdefault(event.row.issue, ([], event.at))[0].append(event.row)
    return list(by_issue.values())


def words(rows: Sequence[Row]) -> str:
    """Return the comment: names and sizes, as plain text without Jira markup. Pure."""
    count = len(rows)
    lines = [f"- {plain(row.stored_as or row.name)} ({text.size(row.size)})" for row in rows[:MOST_NAMED]]
    if count > MOST_NAMED:
        lines.append(f"- and {count - MOST_NAMED:,} more")
    return "\n".join([f"{'1 file was' if count == 1 else f'{count:,} files were'} attached:", *lines, "", marker(rows)])


def marker(rows: Sequence[Row]) -> str:
    """Return the line by which attachd recognises its comment: the ids of the files, consecutive ones as a range."""
    numbers, parts = sorted(row.id for row in rows), list[str]()
    first = last = numbers[0]
    for number in [*numbers[1:], -1]:
        if number != last + 1:
            parts.append(f"F{first}" if first == last else f"F{first}..F{last}")
            first = number
        last = number
    return f"(attachd {' '.join(parts)})"


def idents(body: str) -> set[str]:
    """Return the ids in a comment of attachd; empty for any other comment. Pure."""
    found = re.search(r"\(attachd ((?:F\d{1,18}(?:\.\.F\d{1,18})? ?)+)\)", body, re.ASCII)
    named = set[str]()
    for part in found[1].split() if found else ():
        first, _, last = part.replace("F", "").partition("..")
        # A comment names at most a thousand files, so a forged range costs nothing.
        named |= {f"F{number}" for number in range(int(first), min(int(last or first), int(first) + 1000) + 1)}
    return named


def plain(name: str) -> str:
    """Return the name with wiki markup and mentions of API version 2 escaped (Jira, "Text Formatting Notation")."""
    shown = printable(name.encode("utf-8", "replace"))
    return "".join(f"\\{c}" if c in "\\{}[]*_-+^~?!|#@" else c for c in shown)
