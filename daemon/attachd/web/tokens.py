"""The token of the page, in the state folder: made once, and read by ``attachd web``."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

FILE_NAME = "web-token"


def made(state: Path) -> str:
    """The token, which is made (0600) where there is none. Raises OSError."""
    path = state / FILE_NAME
    with suppress(FileExistsError):
        fresh = state / f"{FILE_NAME}.{os.getpid()}"
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            # Not over one that is there: a page that is open goes on.
            os.link(fresh, path)
        finally:
            fresh.unlink()
    return read(state) or made(_emptied(state))


def read(state: Path) -> str | None:
    """The token; None where there is none yet. Raises OSError where it may not be read."""
    try:
        return (state / FILE_NAME).read_text("ascii").strip() or None
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _emptied(state: Path) -> Path:
    """The folder without the file, which a full disk has left empty."""
    (state / FILE_NAME).unlink(missing_ok=True)
    return state
