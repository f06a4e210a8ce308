"""The plain case of a move, for many files that go between the same folders: these are opened once.

Whatever is not plain is left as it stands for ``moving.move``, which judges from what it finds.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

from attachd.filing import places, renaming, sources
from attachd.filing.durability import Dirty
from attachd.filing.moving import Job, Outcome, verify
from attachd.filing.recognising import Identity


class Group(places.Held):
    """One group of moves: the folders between which it goes, and those that it has changed.

    What it moved is durable when ``dirty`` was synchronised. ``fresh`` are those of the caller's files whose target was
    chosen for this very group, so that no earlier run can have left anything of their move.
    """

    def __init__(self) -> None:
        """Begin with no folder."""
        super().__init__()
        self.dirty = Dirty()
        self.fresh: set[int] = set()
        self._kinds: dict[int, str] = {}

    def move(self, inbox: Path, source: bytes, root: Path, target: bytes, identity: Identity) -> Outcome | None:
        """Move a file whose target is fresh: MOVED, CHANGED or SWAPPED. Raises OSError once something was moved.

        None where that is not plain: for ``moving.move``, which judges from what stands at both ends.

        Looked at before and after the rename, which replaces nothing: between look and rename somebody may have put
        another file under the name, or other content into this one.
        """
        (above, name), (over, new) = places.divide(source), places.divide(target)
        with ExitStack() as stack:
            try:
                here = self.folder(inbox, above)
                held = stack.enter_context(sources.opened(here, name, self._kinds))
                if held is None or held.pin.inode != identity.inode or not held.is_proven(identity):
                    return None
                if held.is_open_for_writing():
                    return None
                there = self.folder(root, over, create=True)
                renaming.rename_noreplace(here, name, there, new)
            except OSError:
                return None
            # Somebody may take what was filed at once, or move its folder away: then it vanishes from under the next step.
            with suppress(FileNotFoundError):
                return verify(Job(inbox, source, root, target, identity, self.dirty), here, there, held)
        return None
