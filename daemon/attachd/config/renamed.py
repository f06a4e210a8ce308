"""Keys that have another name by now. The old one is understood for two minor releases, and each start says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attachd.errors import Mistake, Problem

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Renamed:
    """A key, its new name, and the first version (major, minor) that has it. Two minor releases later the line goes."""

    old: Path
    new: Path
    since: tuple[int, int]


#: So far none.
RENAMED: Sequence[Renamed] = ()


def apply(tables: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The tables with every key under the name that it has now, and what is to be said of that.

    Raises ``errors.Mistake`` (78) where a key is given under both.
    """
    made, notices, problems = dict(tables), list[str](), list[Problem]()
    for each in RENAMED:
        if (value := _take(made, each.old)) is None:
            continue
        old, new = ".".join(each.old), ".".join(each.new)
        if _value(made, each.new) is not None:
            problems.append(Problem(old, f"is called {new} now, and is given under both names.", f"Remove {old}."))
        made = _with(made, each.new, value)
        notices.append(
            f"{old} is called {new} since version {each.since[0]}.{each.since[1]}; the old name will be refused"
        )
    if problems:
        raise Mistake(*problems)
    return made, tuple(notices)


def _value(tables: Any, path: Path) -> Any:
    for step in path:
        tables = tables.get(step) if isinstance(tables, Mapping) else None
    return tables


def _take(tables: dict[str, Any], path: Path) -> Any:
    """Take a key out of the tables, and a table of which nothing is left; the value, or None.

    What is above it is copied, for the caller's tables stay.
    """
    first, *rest = path
    if not rest:
        return tables.pop(first, None)
    if not isinstance(tables.get(first), Mapping):
        return None
    tables[first] = dict(tables[first])
    value = _take(tables[first], tuple(rest))
    if value is not None and not tables[first]:
        del tables[first]
    return value


def _with(tables: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    first, *rest = path
    below = tables.get(first, {}) if rest else {}
    if rest and not isinstance(below, Mapping):
        return tables  # a table that is none: the schema says so
    return {**tables, first: _with(dict(below), tuple(rest), value) if rest else value}
