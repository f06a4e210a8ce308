"""What is not looked at, by the rules of each folder: patterns, markers that release files, and ``.attachdignore``."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attachd.config import Config, Rulebook, Settle
from attachd.filing import markers, places
from attachd.intake import ignorefile, routing
from attachd.intake.ignorefile import Broken, Patterns
from attachd.intake.ignoring import Ignoring

#: Folders whose rules are remembered.
_REMEMBERED = 4096


#: More ignore files than this below one folder of the inbox are a mistake, and would fill the memory.
MOST_FILES = 1000


@dataclass(frozen=True, slots=True)
class Listed:
    """A *line* of the ignore *file*, a path below the inbox, hides something."""

    line: str
    file: bytes


class Hiding:
    """Answers for every path below the inbox. One thread uses it.

    Ignore files count from when their folder was entered. They only add to what the configuration hides, and hold for the
    folder of the inbox that was entered last: of the others nothing is kept.
    """

    def __init__(
        self,
        config: Config,
        rulebook: Rulebook,
        router: routing.Router,
        network: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        """Take the rules of a configuration. *network* says of a path whether it lies on a network file system."""
        self._network = network
        self._rulebook, self._router = rulebook, router
        lists = {config.settle.ignore, *(each.ignore for each in config.folder if each.ignore is not None)}
        self._ignoring = {patterns: Ignoring(patterns) for patterns in lists}
        self._files: dict[bytes, Patterns] = {}
        #: The folders of which nothing may be taken, because their ignore files cannot be used, and why.
        self.broken: dict[bytes, str] = {}
        self._rules = functools.lru_cache(_REMEMBERED)(self._rules_of) if config.folder else lambda _: config.settle

    def why(self, relative: bytes, folder: bool) -> str | None:
        """Return the pattern that hides this path, or a folder above it; None for what is looked at."""
        if hidden := self.pattern(relative, folder) or (None if folder else self.marker(relative)):
            return hidden
        listed = self.listed(relative, folder)
        return listed.line if listed else None

    def pattern(self, relative: bytes, folder: bool) -> str | None:
        """Of the patterns that are built in, and those of the configuration."""
        return self._ignoring[self.rules(relative).ignore].why(relative, folder)

    def marker(self, relative: bytes) -> str | None:
        """For a file whose name says that another one is ready, as ``*.ready``; such a one is never attached itself."""
        suffix = self.rules(relative).ready_suffix
        return f"*{suffix}" if markers.is_name(relative.rpartition(b"/")[2], suffix) else None

    # --- Ignore files ---------------------------------------------------------------------------------------------

    def enter(self, folder: int, path: bytes) -> str | None:
        """Heed the ignore file of a folder of an issue, or below one, that is open and about to be listed.

        Returns why nothing of it may be taken: what somebody wanted hidden would be attached for good.
        """
        if b"/" not in path:
            self._files.clear()
            self.broken.clear()
        found = ignorefile.read(folder, network=self._network(path))
        if isinstance(found, Patterns) and len(self._files) >= MOST_FILES:
            found = Broken(f"is one of more than {MOST_FILES}")
        if isinstance(found, Broken):
            self.broken[path] = f"{ignorefile.NAME.decode()} {found.reason}"
            return f"{self.broken[path]}; nothing of this folder is taken until it is mended"
        if found is not None:
            self._files[path] = found
        return None

    def visit(self, inbox: Path, path: bytes) -> None:
        """Enter a folder of the inbox and those on the way to it, without listing any."""
        for above in itertools.accumulate(path.split(b"/"), lambda one, other: one + b"/" + other):
            try:
                with places.folder(inbox, above) as folder:
                    self.enter(folder, above)
            except OSError:
                return

    def listed(self, relative: bytes, folder: bool) -> Listed | None:
        """Of the ignore files that were entered. As with git, nothing is re-included in a hidden folder."""
        if not self._files:
            return None
        parts = relative.split(b"/")
        ends = range(2, len(parts) + 1)
        return next(filter(None, (self._listed(parts[:end], folder or end < len(parts)) for end in ends)), None)

    def _listed(self, parts: list[bytes], folder: bool) -> Listed | None:
        """The innermost file that has a line for a path decides."""
        for depth in range(len(parts) - 1, 0, -1):
            above = b"/".join(parts[:depth])
            patterns = self._files.get(above)
            verdict = patterns.verdict(b"/".join(parts[depth:]), folder) if patterns else None
            if verdict:
                hidden, line = verdict
                return Listed(line, above + b"/" + ignorefile.NAME) if hidden else None
        return None

    # --- The rules of a folder ------------------------------------------------------------------------------------

    def rules(self, relative: bytes) -> Settle:
        """The rules of the folder of the inbox in which a path lies."""
        return self._rules(relative.partition(b"/")[0])

    def _rules_of(self, top: bytes) -> Settle:
        routed = self._router.route(top)
        return self._rulebook.of(top, routed.key if isinstance(routed, routing.Routed) else "")
