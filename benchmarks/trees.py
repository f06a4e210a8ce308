"""Folders with files in them, made as fast as it goes."""

from __future__ import annotations

import os
import time
from pathlib import Path


def keys(number: int) -> list[str]:
    """Names of so many issues."""
    return [f"TEST-{each}" for each in range(1, number + 1)]


def make_folders(root: Path, names: list[str]) -> None:
    """Make a folder of each name."""
    for name in names:
        (root / name).mkdir(parents=True)


def fill(root: Path, names: list[str], files: int, *, size: int = 16) -> None:
    """Spread so many files over these folders, evenly, one folder after the other."""
    content = b"x" * size
    share, more = divmod(files, len(names))
    for place, name in enumerate(names):
        for number in range(share + (place < more)):
            with (root / name / f"{number}.txt").open("wb") as file:
                file.write(content)


def age(root: Path, names: list[str]) -> None:
    """Make the folders look as if nothing had been added for an hour: young ones are listed by every scan."""
    for name in names:
        os.utime(root / name, (time.time() - 3600.0,) * 2)
