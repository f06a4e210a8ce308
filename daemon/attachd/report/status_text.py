"""What `status` says, in lines of text."""

from __future__ import annotations

import datetime
from typing import Any

from attachd import text as attachd_text
from attachd.report import health, token_expiry
from attachd.report.health import Kind
from attachd.text import clock, size, span

#: Conditions that are told in the heading, or in lines of their own.
_OWN_LINES = {Kind.INBOX, Kind.TOKEN, Kind.UNROUTED, Kind.UNLISTED}
#: How many issues are named for which files wait; ``--json`` has more.
_MOST_QUEUES = 5
_THERE = {True: "", False: "  (is not there)", None: "  (its file system does not answer)"}


# --- In words ---------------------------------------------------------------------------------------------------


def lines(found: dict[str, Any], now: float) -> list[str]:
    """The same for people, most pressing first."""
    text = heading(found, now)
    text += [condition_in_words(each) for each in others(found)]
    text += [f"paused     {until(pause, now)}: {pause['reason']}" for pause in found["pauses"]]
    text += [f"not listed {folder}: {reason}" for folder, reason in found["not_listed"].items()]
    text += [f"no issue   {unrouted_in_words(each)}" for each in found["unrouted"]]
    if found["ignored"]:
        what = "1 name is" if found["ignored"] == 1 else f"{found['ignored']} names are"
        text.append(f"ignored    {what} left alone by a pattern; `attachd why FOLDER` says by which")
    text += [f"{row['word']:<10} {row['file']}: {row['reason'] or ''}{_next(row, now)}" for row in found["waiting_for"]]
    text += [_sending(row, now) for row in found["sending"]]
    text += [
        f"queue      {each['issue']}: {attachd_text.files(each['files'])}, the first for {span(now - each['oldest'])}"
        for each in found["queue"][:_MOST_QUEUES]
    ]
    if (rest := len(found["queue"]) - _MOST_QUEUES) > 0:
        text.append(f"queue      and {rest} issues more")
    text += [_last(row, now) for row in found["last"]]
    return text


def others(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The conditions for which there is no other line."""
    pauses = {(each["scope"], each["kind"]) for each in found["pauses"]}
    return [
        each
        for each in found["conditions"]
        if each["kind"] not in _OWN_LINES and (each["scope"], each["kind"]) not in pauses
    ]


def condition_in_words(each: dict[str, Any]) -> str:
    """A line for what has none of its own."""
    remedy = f"; {each['remedy']}" if each["remedy"] else ""
    return f"{health.LABELS[each['kind']]:<10} {each['sentence']}{remedy}"


def heading(found: dict[str, Any], now: float) -> list[str]:
    """Which attachd, and how many files, in lines."""
    running = found["running"]
    daemon = (
        f"running (process {running['pid']} on {running['host']})"
        if running
        else "not running; what was dropped meanwhile is not counted here"
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
        "files      " + ", ".join(f"{files[name]} {name}" for name in files if files[name] or name == "waiting")
    )
    if found["oldest_waiting"]:
        text.append(f"oldest     waiting for {span(now - found['oldest_waiting'])}")
    return text


def _sending(row: dict[str, Any], now: float) -> str:
    of = f"{size(row['sent'])} of " if row["sent"] is not None else ""
    return f"sending    {row['file']} ({of}{size(row['bytes'])}, since {span(now - row['since'])})"


def unrouted_in_words(unrouted: dict[str, Any]) -> str:
    """A folder that is no issue's, and why."""
    where = "the inbox itself" if unrouted["folder"] == "." else unrouted["folder"]
    return f"{where} ({attachd_text.files(unrouted['files'])}): {unrouted['reason']}"


def _next(row: dict[str, Any], now: float) -> str:
    return f" (until {clock(row['next'], now)})" if row["word"] == "waiting" and (row["next"] or 0) > now else ""


def until(pause: dict[str, Any], now: float) -> str:
    """What ends a pause, and of which issue or project it is."""
    about = f"{pause['subject']} " if pause["subject"] else ""
    if pause["until"] is None:
        return f"{about}until `attachd resume`"
    if pause["ends_by"] == "probe" and pause["until"] <= now:
        return f"{about}next try at once"
    moment = clock(pause["until"], now)
    return f"{about}until {moment}" if pause["ends_by"] == "time" else f"{about}next try {moment}"


def _last(row: dict[str, Any], now: float) -> str:
    result = f"attachment {row['attachment']}" if row["word"] == "attached" else row["reason"] or ""
    return f"{row['word']:<10} {clock(row['since'], now)}  {row['file']}  {result}"
