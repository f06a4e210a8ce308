"""The plain case of a move, for many files that go between the same folders: these are opened once.

Whatever is not plain is left as it stands for ``moving.move``, which judges from what it finds.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from attachd.filing import places, recognising, renaming
from attachd.filing.durability import Dirty
from attachd.filing.moving import Job, Outcome, verify
from attachd.filing.recognising import Found, Identity


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

    def move(self, inbox: Path, source: bytes, root: Path, target: bytes, identity: Identity) -> Outcome | None:
        """Move a file whose target is fresh: MOVED or SWAPPED. None where that is not plain: for ``moving.move``, which judges
        from what stands at both ends. Raises OSError once something was moved.

        Looked at before and after the rename, which replaces nothing: between look and rename somebody may have put
        other content under the name.
        """
        (above, name), (over, new) = places.divide(source), places.divide(target)
        try:
            here = self.folder(inbox, above)
            before, pin = recognising.examine(here, name, identity)
            if before is not Found.OURS or pin is None or pin.inode != identity.inode:
                return None
            there = self.folder(root, over, create=True)
            renaming.rename_noreplace(here, name, there, new)
        except OSError:
            return None
        # Somebody may take what was filed at once, or move its folder away: then it vanishes from under the next step.
        with suppress(FileNotFoundError):
            return verify(Job(inbox, source, root, target, identity, self.dirty), here, there, pin)
        return None
