"""The benchmarks still run: on next to nothing, so that no figure means anything."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SMALL = {
    "latency": ["--files", "2", "--rest", "0"],
    "storm": ["--files", "20", "--folders", "4"],
}
#: What the document has a table of.
TABLES = [
    *("One file of", "Resident memory while 4 files", "the server answers at once", "each request takes 100 ms"),
    *("Latency from close(2)", "Backlogs", "Start with files that wait", "Full scan", "Idle with", "Resident memory, "),
]


def run(module: str, *words: str) -> str:
    command = [sys.executable, "-W", "error", "-m", f"benchmarks.{module}", *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("measurement", SMALL)
def test_a_measurement_prints_its_table(measurement: str) -> None:
    assert "┃" in run("intake", measurement, *SMALL[measurement])


def test_help_names_every_measurement() -> None:
    told = run("intake", "--help")

    assert [name for name in ("latency", "scan", "idle", "memory", "storm") if name not in told] == []


@pytest.mark.timeout(240)
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="curl or openssl is not installed")
def test_the_whole_is_measured_and_written_down(tmp_path: Path) -> None:
    run("performance", "--short", "--write", str(tmp_path / "docs"))

    written = (tmp_path / "docs/performance.md").read_text("utf-8")
    assert [table for table in TABLES if table not in written] == []
    assert "curl --parallel" in written
    assert "nan" not in written
    picture = ElementTree.parse(tmp_path / "docs/backlog.svg")
    assert len(picture.findall(".//{http://www.w3.org/2000/svg}circle")) == 2
