"""Fixtures of the system tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import Jira, Place


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder as slow: each test starts the installed command."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def jira(tmp_path: Path) -> Iterator[Jira]:
    made = Jira(tmp_path / "jira")
    yield made
    made.close()


@pytest.fixture
def place(tmp_path: Path, jira: Jira) -> Place:
    home = tmp_path / "place"
    home.mkdir()
    return Place(home, jira.url)
