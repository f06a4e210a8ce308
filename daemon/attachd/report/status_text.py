"""The lines that ``status`` prints."""

from __future__ import annotations

import datetime
from typing import Any

from attachd import text as attachd_text
from attachd.model import Cure
from attachd.report import health, token_expiry
from attachd.report import pauses as report_pauses
from attachd.report.health import Kind
from attachd.text import capital, clock, size, span

#: Conditions that stand in the heading, or in lines of their own.
_OWN_LINES = {Kind.INBOX, Kind.TOKEN, Kind.UNROUTED, Kind.UNLISTED}
#: At most so many issues with waiting files are named; ``--json`` has more.
_MOST_QUEUES = 5
_THERE = {True: "", False: "  (not there)", None: "  (its file system does not answer)"}


# --- In words ---------------------------------------------------------------------------------------------------


def lines(found: dict[str, Any], now: float) -> list[str]:
    """Return the lines, the most pressing first."""
    text = heading(found, now)
    text += [condition_in_words(each) for each in others(found)]
    text += [f"paused     {until(pause, now)}: {pause['reason']}" for pause in found["pauses"]]
    text += [f"not listed {folder}: {reason}" for folder, reason in found["not_listed"].items()]
    text += [f"no issue   {unrouted_in_words(each)}" for each in found["unrouted"]]
    if found["ignored"]:
        what = "1 name matches" if found["ignored"] == 1 else f"{found['ignored']:,} names match"
        text.append(f"ignored    {what} an ignore pattern; `attachd why FOLDER` says which")
    text += [f"{row['word']:<10} {row['file']}: {row['reason'] or ''}{_next(row, now)}" for row in found["waiting_for"]]
    text += [_sending(row, now) for row in found["sending"]]
    text += [
        f"queue      {each['issue']}: {attachd_text.files(each['files'])}, the first for {span(now - each['oldest'])}"
        for each in found["queue"][:_MOST_QUEUES]
    ]
    if (rest := len(found["queue"]) - _MOST_QUEUES) > 0:
        text.append(f"queue      and {rest:,} more {'issue' if rest == 1 else 'issues'}")
    text += [_last(row, now) for row in found["last"]]
    return text


def others(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the conditions that have no other line."""
    pauses = {(each["scope"], each["kind"]) for each in found["pauses"]}
    return [
        each
        for each in found["conditions"]
        if each["kind"] not in _OWN_LINES and (each["scope"], each["kind"]) not in pauses
    ]


def condition_in_words(each: dict[str, Any]) -> str:
    """Return the line of a condition that has no other line."""
    remedy = f". {capital(each['remedy'])}" if each["remedy"] else ""
    return f"{health.LABELS[each['kind']]:<10} {each['sentence']}{remedy}"


def heading(found: dict[str, Any], now: float) -> list[str]:
    """Return the lines that say which attachd this is, and how many files it has."""
    running = found["running"]
    daemon = (
        f"running (process {running['pid']} on {running['host']})"
        if running
        else "not running; files dropped meanwhile are not counted"
    )
    text = [
        f"attachd    {daemon}",
        f"config     {found['config']}",
        f"state      {found['state']}",
        f"inbox      {found['inbox']}{_THERE[found['inbox_there']]}",
        *([f"           {found['inbox_reason']}"] if found["inbox_reason"] else []),
        f"site       {found['site']}",
    ]
    if found["token_expires"]:
        expires = datetime.date.fromisoformat(found["token_expires"])
        text.append(f"token      {token_expiry.words(expires, token_expiry.today(now))}")
    files = found["files"]
    text.append(
        "files      " + ", ".join(f"{files[name]:,} {name}" for name in files if files[name] or name == "waiting")
    )
    if found["oldest_waiting"]:
        text.append(f"oldest     waiting for {span(now - found['oldest_waiting'])}")
    return text


def _sending(row: dict[str, Any], now: float) -> str:
    of = f"{size(row['sent'])} of " if row["sent"] is not None else ""
    return f"sending    {row['file']} ({of}{size(row['bytes'])}, for {span(now - row['since'])})"


def unrouted_in_words(unrouted: dict[str, Any]) -> str:
    """Return a folder that is not an issue folder, its number of files, and why."""
    where = "the inbox itself" if unrouted["folder"] == "." else unrouted["folder"]
    return f"{where} ({attachd_text.files(unrouted['files'])}): {unrouted['reason']}"


def _next(row: dict[str, Any], now: float) -> str:
    return f" (until {clock(row['next'], now)})" if row["word"] == "waiting" and (row["next"] or 0) > now else ""


def until(pause: dict[str, Any], now: float) -> str:
    """Return what ends a pause, after the issue or project that it is about."""
    return report_pauses.next_step(pause["subject"], Cure(pause["ends_by"]), pause["until"], now)


def _last(row: dict[str, Any], now: float) -> str:
    result = f"attachment {row['attachment']}" if row["word"] == "attached" else row["reason"] or ""
    return f"{row['word']:<10} {clock(row['since'], now)}  {row['file']}  {result}"
