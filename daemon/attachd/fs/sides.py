"""On which side of a move a call failed: where the file comes from, or where it goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto


class Side(Enum):
    """One end of a move."""

    SOURCE = auto()  #: reading the file, or taking it out of its folder
    TARGET = auto()  #: writing it where it goes


@contextmanager
def on(side: Side) -> Iterator[None]:
    """Note on an OSError that leaves here which side failed, unless a call within knew better."""
    try:
        yield
    except OSError as error:
        vars(error).setdefault("side", side)
        raise


def of(error: OSError) -> Side | None:
    """Return the side that failed; None where the call concerns both, as a rename does."""
    side = vars(error).get("side")
    return side if isinstance(side, Side) else None
