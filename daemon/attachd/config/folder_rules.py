"""The rules of a folder of the inbox: ``[settle]``, changed by the ``[[folder]]`` that fits it best."""

from __future__ import annotations

import fnmatch
import functools
import unicodedata
from collections.abc import Sequence

from attachd.config.schema import Config, Folder, Settle

#: How many folders' rules are cached.
_REMEMBERED = 4096


class Rulebook:
    """Finds the rules of a folder. Threads share it."""

    def __init__(self, config: Config) -> None:
        self._rules = [(each.match, _merged(config.settle, each)) for each in config.folder]
        self._default = config.settle
        self.of = functools.lru_cache(_REMEMBERED)(self._of)

    def _of(self, folder: bytes, key: str) -> Settle:
        """Return the rules of a folder by its name and the *key* of its issue ("" for none), whatever their case.

        The longest pattern that fits wins; of several equally long ones, the first.
        """
        names = [_plain(folder.decode("utf-8", "surrogateescape")), _plain(key)]
        fitting = [(match, rules) for match, rules in self._rules if _fits(match, names)]
        return max(fitting, key=lambda each: len(each[0]))[1] if fitting else self._default


def _merged(settle: Settle, folder: Folder) -> Settle:
    return settle.model_copy(update=folder.overrides())


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()


def _fits(match: str, names: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, _plain(match)) for name in names)
