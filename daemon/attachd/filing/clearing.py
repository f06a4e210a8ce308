"""Deletes a file that was filed, and nothing else that may lie under its name by now."""

from __future__ import annotations

from pathlib import Path

from attachd.filing import places, recognising, returning
from attachd.filing.durability import Dirty
from attachd.filing.recognising import Found, Identity


def clear(root: Path, target: bytes, identity: Identity) -> Found:
    """Delete the file if it is the very one, durably; says what lay there. Repeat it after a crash. Raises OSError.

    What somebody put under the name, be it at the last moment, stays.
    """
    above, name = places.divide(target)
    with places.folder_if_there(root, above) as folder:
        if folder is None:
            return Found.NOTHING
        dirty = Dirty()
        returning.settle(folder, root, target, identity, filed=True, dirty=dirty)
        found, _ = recognising.examine(folder, name, identity, copied=True)
        if found is Found.OURS:
            returning.remove(folder, root, target, identity, dirty)
        dirty.sync()
        return found
