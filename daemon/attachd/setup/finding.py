"""What ``check`` prints: one line for each test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``check``."""

    what: str
    result: Literal["ok", "warning", "failed"]
    detail: str
    remedy: str = ""
