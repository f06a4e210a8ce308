"""The token of the page, in the state folder: made once, and read by ``attachd web``."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from attachd.fs.whole_file import write_whole

FILE_NAME = "web-token"


def made(state: Path) -> str:
    """Return the token, and write it (0600) only if there is none. Raises OSError."""
    found = read(state)
    while found is None:
        # An existing token stays, for the pages that are open. A file that a full disk left empty is not a token.
        with suppress(FileExistsError):
            content = f"{secrets.token_urlsafe(32)}\n".encode()
            write_whole(state, FILE_NAME.encode(), content, replace=False, mode=0o600)
        found = read(state)
        if found is None:
            (state / FILE_NAME).unlink(missing_ok=True)
    return found


def read(state: Path) -> str | None:
    """Return the token, or None if there is none yet. Raises OSError if it may not be read."""
    try:
        return (state / FILE_NAME).read_text("ascii").strip() or None
    except (FileNotFoundError, UnicodeDecodeError):
        return None
