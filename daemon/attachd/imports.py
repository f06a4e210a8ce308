"""Modules that libraries load at once for what is never used here: most of a start's time, and megabytes of the idle service."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without(*names: str, empty: tuple[str, ...] = ()) -> Iterator[None]:
    """Within it these modules cannot be imported, unless they were before: who tries gets an ImportError, and does without.
    For who does not try, but insists, there are *empty* ones, in which nothing is found when it is looked for.

    What ``None`` in ``sys.modules`` means is in Python's reference, "The module cache".
    """
    absent = [name for name in (*names, *empty) if name not in sys.modules]
    sys.modules |= {name: ModuleType(name) if name in empty else None for name in absent}  # type: ignore[misc]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
