"""An event for hooks, as data and as a sentence. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from attachd.journal.outbox import Event
from attachd.model import printable, word
from attachd.text import files


def payload(event: Event, instance: str, page: Callable[[str], str]) -> dict[str, Any]:
    """Return an event as JSON; times are seconds since the epoch. ``version`` changes if a field changes its meaning."""
    found: dict[str, Any] = {"version": 1, "id": event.id, "event": event.kind, "at": event.at, "instance": instance}
    if event.row is not None:
        row = event.row
        found["file"] = {
            "id": row.ident,
            "file": printable(row.path),
            "word": str(word(row.state, row.blocked)),
            "folder_key": row.folder_key,
            "issue": row.issue,
            "address": page(row.issue),
            "attachment": row.attachment,
            "stored_as": row.stored_as,
            "bytes": row.size,
            "sha256": row.sha256.hex() if row.sha256 else None,
            "reason": row.said,
        }
    elif event.kind in ("attached", "failed"):
        found["file"] = None  # Its history was deleted meanwhile.
    else:
        found["stuck" if event.kind == "stuck" else "pause"] = dict(event.about)
    return found


def in_words(event: Event) -> str:
    """Return the event as a sentence, for a chat."""
    if event.row is not None:
        name, issue = printable(event.row.path), event.row.issue
        if event.kind == "attached":
            return f"{name} was attached to {issue}."
        return f"{name} was not attached to {issue}: {event.row.said or ''}"
    about = event.about
    subject = f" ({about['subject']})" if about.get("subject") else ""
    match event.kind:
        case "paused":
            return f"Paused{subject}: {about['reason']}"
        case "resumed":
            return f"Resumed{subject}. This is over: {about['reason']}"
        case "stuck":
            count = about.get("files", 1)
            verb = "has" if count == 1 else "have"
            return f"{files(count)} {verb} been waiting for too long: {about.get('reason', about.get('remedy', ''))}"
        case _:
            return f"{event.kind}: the history of this file was deleted."


def encoded(event: Event, instance: str, page: Callable[[str], str]) -> bytes:
    """Return the payload in bytes, with a sentence for people."""
    return json.dumps(payload(event, instance, page) | {"text": in_words(event)}, ensure_ascii=False).encode()
