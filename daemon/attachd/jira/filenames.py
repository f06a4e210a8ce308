"""The names of attached files: names that Jira stores unchanged, so that attachd recognises them afterwards.

What Jira declines, trims or decodes is in Apache Commons FileUpload (``ParameterParser``) and in the list of characters
that classic Jira forbids; a name beyond a part header's 512 bytes is refused (CVE-2025-48976).
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence

#: The longest stored name, in bytes of UTF-8.
LONGEST = 240

#: The longest extension that a shortened name keeps, in bytes.
_LONGEST_EXTENSION = 32

#: The length of the checksum in a shortened name, in bytes.
_MARK_BYTES = 5

#: The name of a file whose own name has no usable character.
UNNAMED = "unnamed"

#: Forbidden by Jira; C0, DEL, C1; line and paragraph separator; bidirectional controls (UAX #9), which disguise
#: extensions; surrogates, which UTF-8 does not have. Without ``?`` nothing looks like an RFC 2047 encoded word.
_UNWANTED = re.compile(
    '["\\\\/:?*<>|\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]'
)

#: Trimmed like white space, because it is invisible and some programs trim it.
_INVISIBLE = "\u200b\ufeff"

#: Characters that belong to the one before: marks, joiners and variation selectors (Cf, Mn), skin tones.
_EXTENDING = re.compile("[\u200c\u200d\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]")


def stored_name(name: bytes) -> str:
    """Return the name to send for a file of this name or path; the same again for what it returns.

    Base name, NFC, unwanted characters as ``_``, bytes that are no UTF-8 as ``%FF``, trimmed, at most 240 bytes with
    the extension kept.
    """
    base = name.rstrip(b"/").rpartition(b"/")[2]
    return _shortened(comparable(_text(base)))


def stored_path(parts: Sequence[bytes], flat: bytes) -> str:
    """Return the name to send for a file by its path below its issue's folder, whose parts were joined to *flat*.

    One that has to be cut keeps the file's own name rather than those of its folders, and carries a checksum of the whole path:
    different paths that are cut never get one name (but for one in 2^40), and the same path gets the same name again.
    """
    whole = comparable(_text(flat))
    if len(whole.encode()) <= LONGEST:
        return whole
    mark = hashlib.blake2b(b"/".join(parts), digest_size=_MARK_BYTES).hexdigest()
    own, folders = comparable(_text(parts[-1])), comparable(_text(b"-".join(parts[:-1])))
    room = LONGEST - len(own.encode()) - len(mark) - 2
    if len(parts) > 1 and room > 0:
        return comparable(f"{_cut(folders, room)}-{mark}-{own}")
    stem, extension = _split(own)
    return comparable(f"{_cut(stem, LONGEST - len(extension.encode()) - len(mark) - 1)}-{mark}{extension}")


@functools.lru_cache(1024)
def comparable(name: str) -> str:
    """Return the form in which a name that was sent and a name that Jira reports are compared."""
    return _trimmed(_UNWANTED.sub("_", unicodedata.normalize("NFC", name)))


def _text(name: bytes) -> str:
    text = name.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    return "".join(f"%{ord(char) - 0xDC00:02X}" if "\udc80" <= char <= "\udcff" else char for char in text)


def _trimmed(name: str) -> str:
    """Strip both ends. Replace an empty result or a special path."""
    while name != (stripped := name.strip().strip(_INVISIBLE)):
        name = stripped
    return name if name.strip(".") else UNNAMED


def _shortened(name: str) -> str:
    if len(name.encode()) <= LONGEST:
        return name
    stem, extension = _split(name)
    return _trimmed(_cut(stem, LONGEST - len(extension.encode())) + extension)


def _split(name: str) -> tuple[str, str]:
    stem, extension = os.path.splitext(name)
    return (name, "") if len(extension.encode()) > _LONGEST_EXTENSION else (stem, extension)


def _cut(text: str, size: int) -> str:
    """Keep at most *size* bytes, whole characters, and no letter without its marks (unless there is nothing else)."""
    kept = text.encode()[:size].decode("utf-8", "ignore")
    end = len(kept)
    while end and end < len(text) and _extends(text[end]):
        end -= 1
    return kept[:end].rstrip("\u200d") or kept


def _extends(char: str) -> bool:
    return unicodedata.category(char).startswith("M") or _EXTENDING.match(char) is not None
