"""Which issue a folder means, by its name alone."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from attachd.config import Config, validators
from attachd.errors import Mistake, Problem
from attachd.model import printable

#: Upper case by ASCII's rules: Jira keys know no other letters, and a locale's rules would change lengths.
_RAISE = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)

#: What people type between project and number in place of a hyphen, or in place of nothing.
_ALMOST_KEY = re.compile(r"([A-Z][A-Z0-9_]*?)[\s_.#\u2010-\u2015\u2212-]*0*([1-9][0-9]*)", re.ASCII)

#: Characters of a folder's name that a sentence shows.
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Routed:
    """The folder means the issue *key*, upper case and un-aliased (or a numeric id, where these are allowed)."""

    key: str


@dataclass(frozen=True, slots=True)
class Unrouted:
    """The folder means no issue; *reason* says what is wrong and what to do, without a full stop."""

    reason: str


class Router:
    """Routes the folders of an inbox. Pure: the same name always gives the same answer."""

    def __init__(
        self, folders_key_pattern: str, projects: Sequence[str], numeric_ids: bool, aliases: Mapping[str, str]
    ) -> None:
        """Take the keys of ``[folders]`` and the table ``[aliases]``. Raises Mistake for a pattern that is none."""
        self._pattern = _compiled(folders_key_pattern)
        self._projects = [_raised(project) for project in projects]
        self._numeric_ids = numeric_ids
        self._aliases = {unicodedata.normalize("NFC", name): target for name, target in aliases.items()}

    def route(self, folder: bytes) -> Routed | Unrouted:
        """Say which issue the name of a folder in the inbox means. Aliases come before keys."""
        try:
            name = unicodedata.normalize("NFC", folder.decode("utf-8"))
        except UnicodeDecodeError:
            return self._unrouted(folder, "is not written in UTF-8, so it is no issue key")
        if name in self._aliases:
            return self._follow(folder, self._aliases[name])
        if _is_number(name):
            return self._number(folder, name)
        key = self._key_in(name)
        if key is None:
            return self._unrouted(folder, "is not an issue key", self._nearest(name))
        return Routed(key) if self._served(key) else self._foreign(folder, key)

    def _key_in(self, name: str) -> str | None:
        """Return the key with which the name begins, if what follows may follow a key; the longest one."""
        raised = _raised(name)
        return next((raised[:end] for end in _ends_of_key(name) if self._pattern.fullmatch(raised[:end])), None)

    def _number(self, folder: bytes, name: str) -> Routed | Unrouted:
        if not self._numeric_ids:
            return self._unrouted(
                folder, "is only a number, and numeric issue ids are switched off (folders.numeric_ids)"
            )
        if self._projects:
            return self._unrouted(folder, "is only a number, which does not show the project (folders.projects)")
        return Routed(name)

    def _follow(self, folder: bytes, target: str) -> Routed | Unrouted:
        key = _raised(target)
        if self._pattern.fullmatch(key):
            return Routed(key) if self._served(key) else self._foreign(folder, key)
        if _is_number(key):
            return self._number(folder, key)
        return Unrouted(f"'{_shown(folder)}' is an alias for '{target}', which is not an issue key; correct [aliases]")

    def _served(self, key: str) -> bool:
        return not self._projects or _project(key) in self._projects

    def _foreign(self, folder: bytes, key: str) -> Unrouted:
        served = ", ".join(self._projects)
        return Unrouted(
            f"'{_shown(folder)}' means {key}, but only these projects are served here: {served}; move the files to the "
            f"right folder, or have {_project(key)} added (folders.projects)"
        )

    def _unrouted(self, folder: bytes, what: str, nearest: str | None = None) -> Unrouted:
        example = self._example()
        if nearest:
            remedy = f"rename the folder to '{nearest}', if that is the issue"
        else:
            remedy = (
                f"rename the folder to a key such as {example}, or to a key and text such as '{example} Printer jams'"
            )
        return Unrouted(f"'{_shown(folder)}' {what}; {remedy}")

    def _example(self) -> str:
        return f"{self._projects[0]}-123" if self._projects else "TEST-123"

    def _nearest(self, name: str) -> str | None:
        """Guess the key that was meant, where only its writing is wrong (digits of another script, a space, zeros)."""
        almost = _ALMOST_KEY.fullmatch(_raised(unicodedata.normalize("NFKC", name)).strip())
        key = f"{almost[1]}-{almost[2]}" if almost else None
        return key if key and self._pattern.fullmatch(key) and self._served(key) else None


def of(config: Config) -> Router:
    """The router of a configuration."""
    folders = config.folders
    return Router(folders.key_pattern, folders.projects, folders.numeric_ids, config.aliases)


def _ends_of_key(name: str) -> Iterator[int]:
    """Yield where a key could end, longest first: at the end, before a space, before ``-`` or ``_`` and a letter."""
    if len(name) <= validators.LONGEST_KEY:
        yield len(name)
    for end in range(min(len(name) - 1, validators.LONGEST_KEY), 0, -1):
        if name[end] == " " or (name[end] in "-_" and name[end + 1 : end + 2].isalpha()):
            yield end


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.ASCII)
    except re.error as error:
        problem = Problem("folders.key_pattern", f"is not a regular expression: {error}.")
        raise Mistake(problem) from error


def _raised(name: str) -> str:
    return name.translate(_RAISE)


def _project(key: str) -> str:
    return key.rpartition("-")[0]


def _is_number(name: str) -> bool:
    return len(name) <= validators.LONGEST_KEY and re.fullmatch("[1-9][0-9]*", name) is not None


def _shown(folder: bytes) -> str:
    text = printable(folder)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def flatten(parts: Sequence[bytes]) -> bytes:
    """Name a nested file in one: ``a/b.log`` is attached as ``a-b.log``."""
    return b"-".join(parts)
