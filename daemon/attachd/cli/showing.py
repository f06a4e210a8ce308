"""``status``: how it stands, for people and for programs, with the daemon up or down."""

from __future__ import annotations

import datetime
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attachd.cli import common
from attachd.config import Config
from attachd.filing import guard
from attachd.intake import coverage
from attachd.journal import database, report
from attachd.journal.database import Journal
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.model import Cure, State, printable, word
from attachd.service import expiring, locks
from attachd.service.phrasing import clock, size, span

#: How long `status` waits for the file systems of the inbox and of shares in it, in seconds.
ANSWER_SECONDS = 5.0

_THERE = {True: "", False: "  (is not there)", None: "  (its file system does not answer)"}


def status(config: common.ConfigFile = None, instance: common.Instance = None, as_json: common.AsJson = False) -> None:
    """Show what waits, what is being sent, what is paused and until when, and the last verdicts."""
    with common.mistakes_told():
        settings, state = common.prepared(config, instance, check_token=False)
        journal = open_existing(state)
        try:
            found = collect(settings, state, journal, time.time())
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


def collect(settings: Config, state: Path, journal: Journal, now: float) -> dict[str, Any]:
    """Everything that ``status`` knows, as it is printed with ``--json``; times are seconds since the epoch."""
    summary, events, inbox = report.summary(journal), report.events(journal), settings.folders.inbox
    shares = [mount for mount in events.blind if mount.startswith(f"{inbox}/")]
    there, *answering = _soon([partial(_is_marked, inbox), *(partial(_opens, mount) for mount in shares)])
    silent = [mount for mount, answers in zip(shares, answering, strict=True) if answers is None]
    holder = locks.holder(state / "lock")
    return {
        "config": str(settings.file),
        "state": str(state),
        "inbox": str(inbox),
        "inbox_there": there,
        "site": settings.jira.url,
        "token_expires": str(settings.jira.auth.token_expires) if settings.jira.auth.token_expires else None,
        "running": {"pid": holder.pid, "host": holder.host} if holder else None,
        "files": {str(name): count for name, count in summary.counts.items()},
        "held": summary.held,
        "oldest_waiting": summary.oldest,
        "oldest_waiting_seconds": max(0.0, now - summary.oldest) if summary.oldest is not None else None,
        "events": _events(events),
        "sending": [_file(row) for row in report.sending(journal)],
        "pauses": [_pause(pause) for pause in report.active_pauses(journal, now)],
        "not_listed": report.troubles(journal)
        | {mount.removeprefix(f"{inbox}/"): "its file system does not answer" for mount in silent},
        "strays": [_stray(stray) for stray in report.strays(journal)],
        "waiting_for": [_file(row) for row in report.troubled(journal)],
        "last": [_file(row) for row in report.last_verdicts(journal)],
    }


def _soon(looks: Sequence[Callable[[], bool]]) -> list[bool | None]:
    """What each look finds; None where its file system does not answer, as that of a lost share for minutes or for good."""
    found: dict[int, bool] = {}

    def look(number: int) -> None:
        found[number] = looks[number]()

    threads = [threading.Thread(target=look, args=(number,), daemon=True) for number in range(len(looks))]
    until = time.monotonic() + ANSWER_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [found.get(number) for number in range(len(looks))]


def _is_marked(inbox: Path) -> bool:
    """Whether the inbox carries its marker."""
    return guard.read_marker(inbox) is not None


def _opens(folder: str) -> bool:
    try:
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _events(events: report.Events) -> dict[str, Any]:
    return {"blind": events.blind, "overflows": events.overflows, "found_by_scan": events.found}


def _file(row: Row) -> dict[str, Any]:
    return {
        "id": row.ident,
        "file": printable(row.path),
        "issue": row.asked,
        "resolved": row.lane,
        "word": str(word(row.state, row.blocked)),
        "bytes": row.size,
        "since": row.since,
        "tries": row.tries,
        "attachment": row.attachment,
        "reason": row.blocked or _unmoved(row) or row.said,
        "next": row.due or None,
        "target": printable(row.target) if row.target else None,
    }


def _unmoved(row: Row) -> str | None:
    """What to say of a file whose verdict is known and that still lies in the inbox."""
    root = {State.ATTACHED: "done", State.REFUSED: "failed"}.get(row.state)
    return f"its verdict is known, and it could not be moved to {root} yet" if root else None


def _pause(pause: Pause) -> dict[str, Any]:
    return {
        "scope": str(pause.scope),
        "subject": pause.subject,
        "kind": pause.kind,
        "reason": pause.reason,
        "since": pause.since,
        "until": None if pause.cure is Cure.HAND else pause.until,
        "ends_by": str(pause.cure),
    }


def _stray(stray: report.Stray) -> dict[str, Any]:
    return {
        "folder": printable(stray.folder) or ".",
        "files": stray.files,
        "reason": stray.reason,
        "since": stray.since,
    }


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
