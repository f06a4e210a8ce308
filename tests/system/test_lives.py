"""Lives of a busy share in small, other ones each time. In full, and what is tried: ``scripts/lives``, docs/lives.md."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lives import life, plots
from lives.fake_jira import FakeJira
from lives.house import House
from lives.ledger import Ledger
from lives.people import DEEDS

TESTS = Path(__file__).parent.parent


def test_the_same_seed_makes_the_same_life() -> None:
    assert life.write(7) == life.write(7)
    assert len({life.write(seed).deeds for seed in range(200)}) > 150


def test_every_plot_is_made_of_deeds_that_there_are() -> None:
    assert {name for plot in plots.PLOTS for name, _, _ in plot.deeds} <= DEEDS.keys()


def test_the_document_names_plots_that_there_are() -> None:
    found = (TESTS.parent / "docs/lives.md").read_text().partition("## What it finds")[2]
    rows = [line.split(" | ") for line in found.splitlines() if line.startswith("| ")][1:]

    assert len(rows) > 20
    assert {name for row in rows for name in row[1].split("; ")} <= {plot.name for plot in plots.PLOTS}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home", "attachd", "http://127.0.0.1:9")


@pytest.fixture
def jira() -> Iterator[FakeJira]:
    made = FakeJira()
    yield made
    made.close()


def kinds(ledger: Ledger, house: House, jira: FakeJira, *, told: bool = False) -> list[str]:
    return [each.kind for each in ledger.violations(house, jira, told_that_some_wait=told)]


def lay(root: Path, path: str, content: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)


def test_the_oracle_sees_nothing_wrong_where_nothing_is(house: House, jira: FakeJira) -> None:
    ledger = Ledger()
    ledger.add("TEST-1/a", b"one")
    jira.attach("TEST-1", "a", b"one")
    lay(house.done, "TEST-1/a", b"one")

    assert kinds(ledger, house, jira) == []


def test_the_oracle_sees_what_is_lost_or_twice_or_nowhere_in_jira(house: House, jira: FakeJira) -> None:
    ledger = Ledger()
    for name in ("lost", "twice", "untrue", "stuck", "blamed"):
        ledger.add(f"TEST-1/{name}", name.encode())
    jira.attach("TEST-1", "twice", b"twice")
    jira.attach("TEST-1", "twice", b"twice")
    jira.attach("TEST-1", "half", b"hal")
    jira.attach("TEST-1", "untrue", b"untrue", by_hand=True)
    lay(house.done, "TEST-1/twice", b"twice")
    lay(house.done, "TEST-1/untrue", b"untrue")
    lay(house.inbox, "TEST-1/stuck", b"stuck")
    lay(house.failed, "TEST-1/blamed", b"blamed")

    assert kinds(ledger, house, jira) == ["lost", "untrue", "twice", "half", "stuck", "blamed"]


def test_what_may_stay_must_be_told(house: House, jira: FakeJira) -> None:
    ledger = Ledger()
    ledger.add("TEST-1/deep", b"deep").may_stay = True
    lay(house.inbox, "TEST-1/deep", b"deep")

    assert kinds(ledger, house, jira) == ["silent"]
    assert kinds(ledger, house, jira, told=True) == []


def test_what_was_deleted_by_its_age_must_be_in_jira(tmp_path: Path, jira: FakeJira) -> None:
    house, ledger = House(tmp_path / "home", "attachd", "http://127.0.0.1:9", retention=True), Ledger()
    ledger.add("TEST-1/kept", b"kept")
    ledger.add("TEST-1/deleted", b"deleted")
    jira.attach("TEST-1", "kept", b"kept")
    attachment = jira.attach("TEST-1", "deleted", b"deleted")
    lay(house.done, "TEST-1/kept", b"kept")

    assert kinds(ledger, house, jira) == []

    attachment.content = b"other.."
    assert kinds(ledger, house, jira) == ["lost"]


def test_what_one_issue_has_says_nothing_of_another(tmp_path: Path, jira: FakeJira) -> None:
    house, ledger = House(tmp_path / "home", "attachd", "http://127.0.0.1:9", retention=True), Ledger()
    for key in ("TEST-1", "TEST-2"):
        ledger.add(f"{key}/scan.pdf", b"equal")
    jira.attach("TEST-1", "scan.pdf", b"equal").content = b"other"
    jira.attach("TEST-2", "scan.pdf", b"equal")
    lay(house.done, "TEST-1/scan.pdf", b"equal")

    assert kinds(ledger, house, jira) == []

    (house.done / "TEST-1/scan.pdf").unlink()
    assert kinds(ledger, house, jira) == ["lost"]


@pytest.mark.timeout(600)
def test_fresh_lives_break_no_promise() -> None:
    command = [sys.executable, "-m", "lives", "--lives", "6", "--parallel", "3"]
    ended = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(TESTS)}, capture_output=True, text=True, timeout=590
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "6 lives" in ended.stdout
