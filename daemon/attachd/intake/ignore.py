"""What is not looked at, by the rules of each folder: patterns, markers that release files, and ``.attachdignore``."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from attachd.config import Config, Rulebook, Settle
from attachd.fs import folders
from attachd.intake import ignore_file
from attachd.intake import router as intake_router
from attachd.intake.ignore_file import Broken, Patterns, Unread
from attachd.intake.ignore_patterns import Ignoring
from attachd.model import printable
from attachd.share import ready_markers

#: Folders whose rules are remembered.
_REMEMBERED = 512

#: What the ignore files below one folder of the inbox may be together, in number and in bytes: all are kept in memory.
MOST_FILES = 1000
MOST_BYTES = 128 * 1024
#: How many may lie on the way to one file, each of which is asked about its name.
MOST_ABOVE = 8


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
        router: intake_router.Router,
        network: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        """Take the rules of a configuration. *network* says of a path whether it lies on a network file system."""
        self._network = network
        self._rulebook, self._router = rulebook, router
        lists = {config.settle.ignore, *(each.ignore for each in config.folder if each.ignore is not None)}
        self._ignoring = {patterns: Ignoring(patterns) for patterns in lists}
        self._files: dict[bytes, Patterns] = {}
        self._bytes = 0
        self._listed_folder = functools.lru_cache(_REMEMBERED)(self._listed_folder_of)
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
        return f"*{suffix}" if ready_markers.is_name(relative.rpartition(b"/")[2], suffix) else None

    # --- Ignore files ---------------------------------------------------------------------------------------------

    def enter(self, folder: int, path: bytes) -> str | None:
        """Heed the ignore file of a folder of an issue, or below one, that is open and about to be listed.

        Returns why nothing of it may be taken: what somebody wanted hidden would be attached for good.
        """
        if b"/" not in path:
            self._files.clear()
            self._bytes = 0
            self.broken.clear()
            self._listed_folder.cache_clear()
        found = ignore_file.read(folder, network=self._network(path))
        match self._bounded(path, found) if isinstance(found, Patterns) else found:
            case Broken(reason):
                self.broken[path] = f"{ignore_file.NAME.decode()} {reason}"
                return f"{self.broken[path]}; nothing of this folder is taken until it is mended"
            case Unread(reason):
                return reason
            case Patterns() as patterns:
                self._files[path] = patterns
                self._bytes += patterns.size
            case None:
                pass
        return None

    def _bounded(self, path: bytes, found: Patterns) -> Patterns | Broken:
        """Refuse a file that is one too many."""
        top = printable(path.partition(b"/")[0])
        if len(self._files) >= MOST_FILES:
            return Broken(f"is one of more than {MOST_FILES} below {top}")
        if self._bytes + found.size > MOST_BYTES:
            return Broken(f"makes the files of this name below {top} larger than {MOST_BYTES} bytes together")
        if sum(above in self._files for above in _ways(path)) >= MOST_ABOVE:
            return Broken(f"is one of more than {MOST_ABOVE} in folders within each other")
        return found

    def visit(self, inbox: Path, path: bytes) -> None:
        """Enter a folder of the inbox and those on the way to it, without listing any."""
        for above in _ways(path):
            try:
                with folders.folder(inbox, above) as folder:
                    self.enter(folder, above)
            except OSError:
                return

    def listed(self, relative: bytes, folder: bool) -> Listed | None:
        """Of the ignore files that were entered. As with git, nothing is re-included in a hidden folder."""
        if not self._files:
            return None
        if folder:
            return self._listed_folder(relative)
        return self._listed_folder(relative.rpartition(b"/")[0]) or self._listed(relative, folder=False)

    def _listed_folder_of(self, folder: bytes) -> Listed | None:
        return next(filter(None, (self._listed(above, folder=True) for above in _ways(folder))), None)

    def _listed(self, path: bytes, *, folder: bool) -> Listed | None:
        """The innermost file that has a line for a path decides."""
        for above in reversed(list(_ways(path.rpartition(b"/")[0]))):
            patterns = self._files.get(above)
            verdict = patterns.verdict(path[len(above) + 1 :], folder) if patterns else None
            if verdict:
                hidden, line = verdict
                return Listed(line, above + b"/" + ignore_file.NAME) if hidden else None
        return None

    # --- The rules of a folder ------------------------------------------------------------------------------------

    def rules(self, relative: bytes) -> Settle:
        """The rules of the folder of the inbox in which a path lies."""
        return self._rules(relative.partition(b"/")[0])

    def _rules_of(self, top: bytes) -> Settle:
        routed = self._router.route(top)
        return self._rulebook.of(top, routed.key if isinstance(routed, intake_router.Routed) else "")


def _ways(path: bytes) -> Iterator[bytes]:
    """Yield the folders on the way to a folder, and itself; none for the inbox."""
    if path:
        yield from itertools.accumulate(path.split(b"/"), lambda one, other: one + b"/" + other)
