"""The crash campaign in small: deaths of each sort, drawn each time, and each planted bug. In full: ``scripts/crash``."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from system.crash import disks, driving, oracle, seeding, tracing
from system.crash.campaign import Death, Told

pytestmark = [
    pytest.mark.skipif(bool(tracing.lacking()), reason=tracing.lacking()),
    pytest.mark.timeout(400),
]
needs_disks = pytest.mark.skipif(bool(disks.lacking()), reason=disks.lacking())


@pytest.fixture(scope="module")
def started() -> Iterator[list[Popen[str]]]:
    with driving.workers(2) as workers:
        yield workers


@pytest.fixture(scope="module")
def calls(started: list[Popen[str]]) -> dict[str, int]:
    """How long a life is when nothing happens to it, of half of the kinds, others in each run: that this goes well is half of
    the oracle's proof.
    """
    return driving.lengths(started, random.sample(driving.names(), len(driving.names()) // 2))


def wrong(told: list[Told]) -> list[Told]:
    assert sum(each.reached for each in told) > len(told) // 2, "hardly any death came before the end"
    return [each for each in told if each.wrong]


def test_killed_before_any_call_nothing_is_lost_and_nothing_twice(
    started: list[Popen[str]], calls: dict[str, int]
) -> None:
    assert wrong(driving.live(started, driving.drawn(random.Random(random.random()), calls, "kill", 40))) == []


def test_killed_again_while_it_recovers(started: list[Popen[str]], calls: dict[str, int]) -> None:
    assert wrong(driving.live(started, driving.drawn(random.Random(random.random()), calls, "pair", 16))) == []


def test_a_call_that_fails_loses_nothing(started: list[Popen[str]], calls: dict[str, int]) -> None:
    told = driving.live(started, driving.refused(random.Random(random.random()), calls, 30))

    assert any(each.reached for each in told), "no call was refused"
    assert [each for each in told if each.wrong] == []


@needs_disks
def test_what_was_promised_survives_the_power() -> None:
    with driving.workers(2, power=True) as started:
        names = ["one", "many", "devices", "apart", "arrived"]
        calls = driving.lengths(started, names)
        told = driving.live(started, driving.drawn(random.Random(random.random()), calls, "cut", 16))

    assert wrong(told) == []


@pytest.mark.parametrize("half", [0, 1])
def test_planted_bugs_are_caught(half: int) -> None:
    """Two of each half, others in each run; ``scripts/crash --seeds`` plants them all."""
    possible = [seed for seed in seeding.SEEDS[half::2] if seed.how != "cut" or not disks.lacking()]

    for seed in random.sample(possible, 2):
        assert seeding.caught_by(seed, 1) != "", seed.name


@pytest.mark.parametrize("seed", seeding.SEEDS, ids=lambda seed: seed.name.replace(" ", "-"))
def test_a_planted_bug_is_still_one(seed: seeding.Seed, tmp_path: Path) -> None:
    """What it exchanges is there, and is a program afterwards, in which every name means something."""
    package = seeding.planted(seed, tmp_path) / "attachd"

    files = {str(package / edit.file) for edit in seed.edits}
    ruff = Path(sys.executable).with_name("ruff")
    checked = subprocess.run(
        [ruff, "check", "--isolated", "--no-cache", "--select", "E9,F821", *files], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_every_place_of_the_table_is_used() -> None:
    assert {edit.place for seed in seeding.SEEDS for edit in seed.edits} == set(seeding.PLACES)


def test_the_documented_table_lists_no_bug_that_is_planted_no_longer() -> None:
    document = (seeding.PACKAGE.parents[1] / "docs/crash-matrix.md").read_text("utf-8")
    listed = re.findall(r"^\| (.+?) \|", document.partition("| planted bug |")[2].partition("\n\n")[0], re.MULTILINE)

    assert listed
    assert set(listed) <= {seed.name for seed in seeding.SEEDS}


def test_a_traceback_is_told_by_its_place_and_its_last_line(tmp_path: Path) -> None:
    class Somewhere:
        home = tmp_path

    lines = [
        '{"event": "x"}',
        "Traceback (most recent call last):",
        '  File "/x/attachd/a/b.py", line 7',
        "KeyError: 3",
    ]
    (tmp_path / "log").write_text("\n".join(lines))

    assert oracle.tracebacks(Somewhere()) == ["a/b.py:7 KeyError: 3"]


def test_a_life_of_which_the_worker_died_is_wrong_and_not_left_out() -> None:
    """A campaign that went on without it would call itself clean."""
    dying = Popen(["sh", "-c", "read life"], stdin=PIPE, stdout=PIPE, text=True)
    with dying:
        told = driving.live([dying], [Death("one", "kill", 1), Death("one", "kill", 2)])

    assert [each.wrong for each in told] == [["its worker died, as it says on stderr"]]
