"""The benchmarks still run: on next to nothing, so that no figure means anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = {
    "latency": ["--files", "2", "--rest", "0"],
    "scan": ["--folders", "3", "--files", "10", "--repetitions", "2"],
    "idle": ["--folders", "3", "--seconds", "0.1"],
    "memory": ["--files", "10", "--folders", "3"],
    "storm": ["--files", "20", "--folders", "4"],
}


def run(*words: str) -> str:
    command = [sys.executable, "-W", "error", "-m", "benchmarks.intake", *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("measurement", SMALL)
def test_a_measurement_prints_its_table(measurement: str) -> None:
    assert "┃" in run(measurement, *SMALL[measurement])


def test_help_names_every_measurement() -> None:
    told = run("--help")

    assert [name for name in SMALL if name not in told] == []
