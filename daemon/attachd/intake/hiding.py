"""What is not looked at, by the rules of each folder: patterns, and the markers that release files."""

from __future__ import annotations

import functools

from attachd.config import Config, Rulebook, Settle
from attachd.filing import markers
from attachd.intake import routing
from attachd.intake.ignoring import Ignoring

#: Folders whose rules are remembered.
_REMEMBERED = 4096


class Hiding:
    """Answers for every path below the inbox."""

    def __init__(self, config: Config, rulebook: Rulebook, router: routing.Router) -> None:
        """Take the rules of a configuration."""
        self._rulebook, self._router = rulebook, router
        lists = {config.settle.ignore, *(each.ignore for each in config.folder if each.ignore is not None)}
        self._ignoring = {patterns: Ignoring(patterns) for patterns in lists}
        self._rules = functools.lru_cache(_REMEMBERED)(self._rules_of)

    def why(self, relative: bytes, folder: bool) -> str | None:
        """Return the pattern that hides this path, or a folder above it; None for what is looked at."""
        return self.pattern(relative, folder) or (None if folder else self.marker(relative))

    def pattern(self, relative: bytes, folder: bool) -> str | None:
        """Of the patterns that are built in, and those of the configuration."""
        return self._ignoring[self.rules(relative).ignore].why(relative, folder)

    def marker(self, relative: bytes) -> str | None:
        """For a file whose name says that another one is ready, as ``*.ready``; such a one is never attached itself."""
        suffix = self.rules(relative).ready_suffix
        return f"*{suffix}" if markers.is_name(relative.rpartition(b"/")[2], suffix) else None

    def rules(self, relative: bytes) -> Settle:
        """The rules of the folder of the inbox in which a path lies."""
        return self._rules(relative.partition(b"/")[0])

    def _rules_of(self, top: bytes) -> Settle:
        routed = self._router.route(top)
        return self._rulebook.of(top, routed.key if isinstance(routed, routing.Routed) else "")
