"""``status``: how it stands, for people and for programs, with the daemon up or down."""

from __future__ import annotations

import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

from attachd.cli import common
from attachd.intake import coverage
from attachd.journal import database
from attachd.journal.database import Journal
from attachd.service import expiring, surveying
from attachd.service.phrasing import clock, size, span

_THERE = {True: "", False: "  (is not there)", None: "  (its file system does not answer)"}


def status(config: common.ConfigFile = None, instance: common.Instance = None, as_json: common.AsJson = False) -> None:
    """Show what waits, what is being sent, what is paused and until when, and the last verdicts."""
    with common.mistakes_told():
        settings, state = common.prepared(config, instance, check_token=False)
        journal = open_existing(state)
        try:
            found = surveying.collect(settings, state, journal, time.time())
        finally:
            journal.close()
    if as_json:
        json.dump(found, sys.stdout, indent=2)
        print()
    else:
        for line in lines(found, time.time()):
            print(line)


def open_existing(state: Path) -> Journal:
    """Open the journal for reading. Raises ``model.Mistake`` (1) where there is none yet."""
    journal = database.open_for_reading(state)
    if journal is None:
        raise common.no_journal(state)
    return journal


# --- In words ---------------------------------------------------------------------------------------------------


def lines(found: dict[str, Any], now: float) -> list[str]:
    """The same for people, most pressing first."""
    running = found["running"]
    daemon = f"running (process {running['pid']} on {running['host']})" if running else "not running"
    text = [
        f"attachd    {daemon}",
        f"config     {found['config']}",
        f"state      {found['state']}",
        f"inbox      {found['inbox']}{_THERE[found['inbox_there']]}",
        f"site       {found['site']}",
    ]
    if found["token_expires"]:
        expires = datetime.date.fromisoformat(found["token_expires"])
        text.append(f"token      {expiring.words(expires, expiring.today(now))}")
    files = found["files"]
    text.append(
        "files      " + ", ".join(f"{files[name]} {name}" for name in files if files[name] or name == "waiting")
    )
    if found["oldest_waiting"]:
        text.append(f"oldest     waiting for {span(now - found['oldest_waiting'])}")
    text += [
        f"events     {mount}: {reason}; it is looked through every {coverage.POLL_SECONDS:g} s"
        for mount, reason in found["events"]["blind"].items()
    ]
    text += [f"paused     {_until(pause, now)}: {pause['reason']}" for pause in found["pauses"]]
    text += [f"not listed {folder}: {reason}" for folder, reason in found["not_listed"].items()]
    text += [f"no issue   {stray['folder']} ({stray['files']} files): {stray['reason']}" for stray in found["strays"]]
    text += [f"{row['word']:<10} {row['file']}: {row['reason'] or ''}{_next(row, now)}" for row in found["waiting_for"]]
    text += [
        f"sending    {row['file']} ({size(row['bytes'])}, since {span(now - row['since'])})" for row in found["sending"]
    ]
    text += [_last(row, now) for row in found["last"]]
    return text


def _next(row: dict[str, Any], now: float) -> str:
    return f" (until {clock(row['next'], now)})" if row["word"] == "waiting" and (row["next"] or 0) > now else ""


def _until(pause: dict[str, Any], now: float) -> str:
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
