"""Keys that are agreed on, and whose function is not built yet. The table shrinks with time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attachd.model import Problem

#: The key and, where only one of its values is meant, that value. All defaults of the others are false in a condition.
PENDING: Mapping[tuple[str, ...], str | None] = {
    ("hooks",): None,
}


def problems(tables: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield each key that asks for something which would silently not happen."""
    for path, value in PENDING.items():
        given = _value(tables, path)
        if given == value if value else given:
            what = f"“{value}” is not supported" if value else "is not supported"
            yield Problem(".".join(path), f"{what} by this version yet.", "Remove it.")


def _value(tables: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        tables = tables.get(step) if isinstance(tables, Mapping) else None
    return tables
