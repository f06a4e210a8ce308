"""Credentials that root has read for this process, which systemd has not started and handed nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Handed:
    """What the *file* of a credential holds, or why it could not be read."""

    file: Path
    content: bytes = field(default=b"", repr=False)
    error: str = ""


#: By the credential's name.
known: dict[str, Handed] = {}
