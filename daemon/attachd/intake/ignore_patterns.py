"""What in the inbox is never looked at: unfinished downloads, litter of desktops and file servers, our own files."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence

from attachd import gitignore
from attachd.config import validators
from attachd.errors import Mistake, Problem
from attachd.gitignore import Pattern
from attachd.intake import litter

#: Our own files, wherever they are; nothing re-includes them. Notes are recognised by their first line instead.
OWN = (".attachd", ".attachdignore", "_WHY.txt")

#: Names of our own temporary files. `status` and `why` name a dropped file that has such a name.
KEPT = ".attachd-*"

#: Our own file directly in the inbox.
OWN_STATUS = "_STATUS.txt"

#: Ignored by default.
BUILT_IN = litter.PATTERNS

#: Folders whose answer is remembered.
_REMEMBERED = 512


class Ignoring:
    """The built-in list and the user's patterns, which come later and so may re-include (``!*.tmp``) what it hides."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Take patterns in gitignore syntax. Raises Mistake that names each one that cannot be understood."""
        self._users = gitignore.Patterns(_understood(patterns))
        self._why_folder = functools.lru_cache(_REMEMBERED)(self._why_uncached_folder)

    def why(self, relative: bytes, folder: bool) -> str | None:
        """Return the pattern that hides this path below the inbox, or a folder above it; None for what is looked at.

        As with git, nothing is re-included in a hidden folder: it is not descended into.
        """
        path = text(relative)
        if folder:
            return self._why_folder(path)
        above = path.rpartition("/")[0]
        return (self._why_folder(above) if above else None) or self._why_name(path, folder=False)

    def _why_uncached_folder(self, path: str) -> str | None:
        ends = [at for at, char in enumerate(path) if char == "/"]
        ways = (path[:end] for end in (*ends, len(path)))
        return next(filter(None, (self._why_name(way, folder=True) for way in ways)), None)

    def _why_name(self, path: str, *, folder: bool) -> str | None:
        """Judge one path whose folder is not hidden."""
        name = path.rpartition("/")[2]
        if own := _why_own(path, name):
            return own
        match = self._users.last(path, folder=folder)
        if match is None:
            return _BUILT_IN.first(litter.folded(name))
        return match.line if match.hides else None


def _why_own(path: str, name: str) -> str | None:
    return OWN_STATUS if path.lower() == OWN_STATUS.lower() else _OWN.first(name.lower())


class _Names:
    """Patterns for one name with one star, or one at both ends; what fits none, as nearly all names, costs four questions."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._folded = {pattern: pattern.lower() for pattern in patterns}
        parts = {text: text.partition("*") for text in self._folded.values()}
        self._whole = {text for text, (_, star, _) in parts.items() if not star}
        self._begin = tuple(head for head, star, _ in parts.values() if star and head)
        self._end = tuple(tail for head, star, tail in parts.values() if star and not head and not tail.endswith("*"))
        self._inside = tuple(tail[:-1] for head, star, tail in parts.values() if not head and tail.endswith("*"))

    def first(self, name: str) -> str | None:
        """Return the first pattern that fits a name in small letters."""
        if (
            name not in self._whole
            and not name.startswith(self._begin)
            and not name.endswith(self._end)
            and not any(text in name for text in self._inside)
        ):
            return None
        return next((pattern for pattern, text in self._folded.items() if _fits(text, name)), None)


def _fits(text: str, name: str) -> bool:
    head, star, tail = text.partition("*")
    if not star:
        return name == text
    if tail.endswith("*"):
        return tail[:-1] in name
    return len(name) >= len(head) + len(tail) and name.startswith(head) and name.endswith(tail)


_OWN = _Names((*OWN, KEPT))
_BUILT_IN = _Names(BUILT_IN)


def _understood(patterns: Sequence[str]) -> list[Pattern]:
    if problems := list(validators.ignore(patterns)):
        raise Mistake(*(Problem("ignore", problem.what, problem.remedy) for problem in problems))
    found = (gitignore.parse(unicodedata.normalize("NFC", pattern)) for pattern in patterns)
    return [pattern for pattern in found if isinstance(pattern, Pattern)]


def text(relative: bytes) -> str:
    """Decode any name."""
    return unicodedata.normalize("NFC", relative.decode("utf-8", "surrogateescape"))
