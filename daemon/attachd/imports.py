"""Keep libraries from loading modules that attachd never uses: they take most of a start's time, and megabytes of memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without(*names: str, empty: tuple[str, ...] = ()) -> Iterator[None]:
    """Make importing these modules raise ImportError, unless they are loaded already. A library that insists on a module gets
    an *empty* one.

    Python's reference explains ``None`` in ``sys.modules`` ("The module cache").
    """
    absent = [name for name in (*names, *empty) if name not in sys.modules]
    sys.modules |= {name: ModuleType(name) if name in empty else None for name in absent}  # type: ignore[misc]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
