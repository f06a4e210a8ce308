"""Reads the attachments in the ``attachment`` field of an issue."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attachment. ``created`` in seconds since the epoch; ``created`` and ``author`` are None if Jira leaves them out."""

    id: str
    name: str
    size: int
    author: str | None
    created: float | None


@dataclass(frozen=True, slots=True)
class Listing:
    """All attachments of an issue, under the key that Jira answered with; ``issue_id`` is its number, which no move changes."""

    key: str
    attachments: tuple[Attachment, ...]
    issue_id: str = ""


def parse_listing(issue: Any) -> Listing | None:
    """Read ``GET issue/{key}?fields=attachment``; None if it proves nothing.

    A missing ``attachment`` field is not an empty list (JRA-27637), and an entry without id, name or size spoils all.
    """
    if not isinstance(issue, dict) or not isinstance(issue.get("fields"), dict):
        return None
    entries = issue["fields"].get("attachment")
    if not isinstance(entries, list):
        return None
    found = [parse_attachment(entry) for entry in entries]
    if not all(found):
        return None
    return Listing(text(issue.get("key")), tuple(a for a in found if a), text(issue.get("id")))


def parse_attachments(answer: Any) -> Sequence[Attachment] | None:
    """Read the answer to an upload: a list, or one object as the Data Center document has it; None if it is neither."""
    entries = answer if isinstance(answer, list) else [answer]
    found = [parse_attachment(entry) for entry in entries]
    return [a for a in found if a] if found and all(found) else None


def parse_attachment(entry: Any) -> Attachment | None:
    """Read one attachment; None if id, name or size is missing. The id is text or a number, depending on the call."""
    if not isinstance(entry, dict):
        return None
    identity, name, size = text(entry.get("id")), entry.get("filename"), entry.get("size")
    if not identity or not isinstance(name, str) or type(size) is not int:
        return None
    return Attachment(identity, _valid(name), size, account_id(entry.get("author")), parse_time(entry.get("created")))


def account_id(user: Any) -> str | None:
    """Return the id of a user: ``accountId`` on Cloud, ``key`` or ``name`` on Data Center; None without one."""
    if not isinstance(user, dict):
        return None
    return next((said for field in ("accountId", "key", "name") if (said := text(user.get(field)))), None)


def parse_time(value: Any) -> float | None:
    """Read ``created``: ISO 8601 with an offset without colon, or milliseconds since the epoch; both occur."""
    if isinstance(value, str):
        return _parse_iso(value)
    if type(value) not in (int, float):
        return None
    try:
        seconds = float(value) / 1000
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


def _parse_iso(text: str) -> float | None:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else None


def text(value: Any) -> str:
    """Return an id as text, or "" if it is not an id."""
    return _valid(str(value)) if type(value) in (int, str) else ""


def _valid(text: str) -> str:
    """Return the text without lone surrogates, which JSON allows and the journal does not."""
    return text.encode("utf-8", "replace").decode()
