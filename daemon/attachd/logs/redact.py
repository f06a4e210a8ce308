"""Remove the names that people chose from log lines (``log.file_names = false``): as values and within sentences."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from attachd import model
from attachd.jira.filenames import stored_name, stored_path

#: Keys whose values are names of files; ``folder`` is one too, unless it is an absolute path.
KEYS = frozenset({"file", "path", "target", "name", "was"})
_ISSUE = re.compile(r"[A-Z][A-Z0-9_]*-[1-9][0-9]*|[0-9]+", re.ASCII)
HIDDEN = "-"


def hidden(key: str, value: Any) -> bool:
    """Return True if the value of this key is a name."""
    return key in KEYS or (key == "folder" and not str(value).startswith("/"))


def told(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return *fields* without names, also in the sentences beside them: Jira and the system quote names."""
    shown = {key: HIDDEN if hidden(key, value) else value for key, value in fields.items()}
    names = {name for key, value in fields.items() if hidden(key, value) for name in _names(value)}
    if not names:
        return shown
    # The longest first, so that nothing is left of one around a shorter one. Whole words only, because "a" may be a name.
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)(?:{either})(?!\w)")
    return {key: pattern.sub(HIDDEN, value) if _is_sentence(key, value) else value for key, value in shown.items()}


def _is_sentence(key: str, value: Any) -> bool:
    return isinstance(value, str) and key not in ("event", "level", "timestamp", "id", "issue")


def _names(value: Any) -> Iterator[str]:
    """Yield a path, each part of it except an issue's key, and the name under which its parts are attached."""
    text = model.printable(value) if isinstance(value, bytes) else str(value)
    first, *parts = text.strip("/").split("/")
    if not _ISSUE.fullmatch(first):
        parts = [first, *parts]
    names = [part for part in parts if part not in ("", ".", "..")]
    if names and text != first:
        yield text
    raw = [os.fsencode(name) for name in names]
    if raw:
        yield stored_path(raw, b"-".join(raw))
    for name in [*names, *(["-".join(names)] if len(names) > 1 else [])]:
        # As it is, as errors of the system quote it, and as Jira knows it.
        stored = stored_name(os.fsencode(name))
        yield from {name, repr(name)[1:-1], repr(os.fsencode(name))[2:-1], stored, unicodedata.normalize("NFC", name)}
