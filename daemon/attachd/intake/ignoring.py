"""What in the inbox is never looked at: unfinished downloads, litter of desktops and file servers, our own files."""

from __future__ import annotations

import fnmatch
import functools
import re
import unicodedata
from collections.abc import Sequence

import pathspec

from attachd.model import Mistake, Problem

#: Our own files, wherever they are; nothing re-includes them. Notes are recognised by their first line instead.
OWN = (".attachd", ".attachd-*", ".attachdignore", "_WHY.txt")

#: Our own file directly in the inbox.
OWN_STATUS = "_STATUS.txt"

#: Ignored by default, each a pattern for one name, upper and lower case alike.
BUILT_IN = (
    *("*.part", "*.partial", "*.tmp", "*.crdownload", "*.download", "*.filepart", "*.lck", "~$*", "*.swp", "*.sb-*"),
    *(".~lock*", ".goutputstream-*", ".DS_Store", "._*", "Thumbs.db", "desktop.ini", "@eaDir", "@Recycle", "#recycle"),
    *("$RECYCLE.BIN", "lost+found", ".stfolder", ".nfs*", ".smbdelete*", ".fuse_hidden*", ".Trash-*"),
    *("~snapshot", ".snapshot", "#snapshot", ".zfs", ".*"),
)

#: Folders whose answer is remembered.
_REMEMBERED = 4096


class Ignoring:
    """The built-in list and the user's patterns, which come later and so may re-include (``!*.tmp``) what it hides."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Take patterns in gitignore syntax. Raises Mistake that names each one that cannot be understood."""
        self._patterns = [unicodedata.normalize("NFC", pattern) for pattern in patterns if pattern]
        self._users = _spec(self._patterns)
        self._why_folder = functools.lru_cache(_REMEMBERED)(self._why_uncached_folder)

    def why(self, relative: bytes, folder: bool) -> str | None:
        """Return the pattern that hides this path below the inbox, or a folder above it; None for what is looked at.

        As with git, nothing is re-included in a hidden folder: it is not descended into.
        """
        path = text(relative)
        if folder:
            return self._why_folder(path)
        return self._why_above(path) or self._why_name(path, path)

    def _why_uncached_folder(self, path: str) -> str | None:
        return self._why_above(path) or self._why_name(path, f"{path}/")

    def _why_above(self, path: str) -> str | None:
        above = path.rpartition("/")[0]
        return self._why_folder(above) if above else None

    def _why_name(self, path: str, as_user: str) -> str | None:
        """Judge one path whose folder is not hidden; *as_user* is how gitignore writes it (a folder ends in ``/``)."""
        name = path.rpartition("/")[2]
        if own := _why_own(path, name):
            return own
        verdict = self._users.check_file(as_user) if self._patterns else None
        if verdict is None or verdict.include is None or verdict.index is None:
            return _first(BUILT_IN, _ANY_BUILT_IN, name)
        return self._patterns[verdict.index] if verdict.include else None


def _why_own(path: str, name: str) -> str | None:
    return OWN_STATUS if path.lower() == OWN_STATUS.lower() else _first(OWN, _ANY_OWN, name)


def _any(patterns: Sequence[str]) -> re.Pattern[str]:
    """Join patterns for one name to one expression, so that what matches none, as nearly all do, costs one search."""
    return re.compile("|".join(fnmatch.translate(pattern.lower()) for pattern in patterns))


def _first(patterns: Sequence[str], joined: re.Pattern[str], name: str) -> str | None:
    lower = name.lower()
    if not joined.match(lower):
        return None
    return next(pattern for pattern in patterns if fnmatch.fnmatchcase(lower, pattern.lower()))


_ANY_OWN = _any(OWN)
_ANY_BUILT_IN = _any(BUILT_IN)


def _spec(patterns: Sequence[str]) -> pathspec.GitIgnoreSpec:
    problems = []
    for pattern in patterns:
        try:
            pathspec.GitIgnoreSpec.from_lines([pattern])
        except ValueError:
            problems.append(Problem("ignore", f"{pattern!r} is not a pattern.", "See gitignore(5) for the syntax."))
    if problems:
        raise Mistake(*problems)
    return pathspec.GitIgnoreSpec.from_lines(patterns)


def text(relative: bytes) -> str:
    """Decode any name. A newline, which the library's expressions stop at, becomes another control character."""
    text = relative.decode("utf-8", "surrogateescape").replace("\n", "\0")
    return unicodedata.normalize("NFC", text)
