"""What the page shows of a file. Its name and its claimed type count for nothing: the bytes decide."""

from __future__ import annotations

import codecs
import functools
from pathlib import Path

#: Bytes looked at, and what the page shows of a text.
LOOKED_AT = 4096
LINES = 14
COLUMNS = 120
#: A picture of more bytes is not sent to the browser.
IMAGE_LIMIT = 32 << 20
#: Previews remembered: a stored file never changes.
REMEMBERED = 4096

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_LAYOUT = "\n\r\t\f"


@functools.lru_cache(REMEMBERED)
def image_type(path: Path) -> str | None:
    """Tell which kind of picture a file is, of those that cannot carry a script."""
    head = _head(path)
    if not head or path.stat().st_size > IMAGE_LIMIT:
        return None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for signature, mime in _SIGNATURES if head.startswith(signature)), None)


@functools.lru_cache(REMEMBERED)
def first_lines(path: Path) -> str:
    """Give the first lines of a text; of anything else, nothing."""
    try:
        # The last character may have been cut in the middle.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(_head(path))
    except UnicodeDecodeError:
        return ""
    odd = sum(not c.isprintable() and c not in _LAYOUT for c in text)
    if odd * 50 > len(text):
        return ""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").split("\n")
    return "\n".join(line[:COLUMNS] for line in lines[:LINES]).strip("\n")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LOOKED_AT)
    except FileNotFoundError:
        # Deleted while the page was made.
        return b""
