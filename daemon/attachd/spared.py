"""Modules that libraries load at once for what is never used here: most of a start's time, and megabytes of the idle service."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Within it these modules cannot be imported, unless they were before: who tries gets an ImportError, and does without.

    What ``None`` in ``sys.modules`` means is in Python's reference, "The module cache".
    """
    absent = [name for name in names if name not in sys.modules]
    sys.modules |= dict.fromkeys(absent)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
