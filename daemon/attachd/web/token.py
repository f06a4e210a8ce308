"""The token of the page, in the state folder: made once, and read by ``attachd web``."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from attachd.fs.whole_file import write_whole

FILE_NAME = "web-token"


def made(state: Path) -> str:
    """The token, which is made (0600) where there is none: only then is anything written. Raises OSError."""
    found = read(state)
    while found is None:
        # Not over one that is there: a page that is open goes on. One that a full disk has left empty is none.
        with suppress(FileExistsError):
            content = f"{secrets.token_urlsafe(32)}\n".encode()
            write_whole(state, FILE_NAME.encode(), content, replace=False, mode=0o600)
        found = read(state)
        if found is None:
            (state / FILE_NAME).unlink(missing_ok=True)
    return found


def read(state: Path) -> str | None:
    """The token; None where there is none yet. Raises OSError where it may not be read."""
    try:
        return (state / FILE_NAME).read_text("ascii").strip() or None
    except (FileNotFoundError, UnicodeDecodeError):
        return None
