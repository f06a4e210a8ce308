"""What a campaign has shown, as tables."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from system.crash import seeding
from system.crash.campaign import Told
from system.crash.workloads import ALL

_ROOT = Path(__file__).resolve().parents[3]
_TARGET = _ROOT / "docs" / "crash-matrix.md"
_HEADINGS = {
    "kill": "SIGKILL before every system call",
    "pair": "SIGKILL, and again during the recovery",
    "cut": "power cuts (ext4)",
    "fail": "a system call that fails once",
}


@dataclass(frozen=True)
class Part:
    """One part of the campaign, and how long it took in seconds."""

    how: str
    told: Sequence[Told]
    seconds: float

    @property
    def died(self) -> list[Told]:
        """Those in which the death came before the end."""
        return [each for each in self.told if each.reached]


def seeds(workers: int) -> dict[str, str]:
    """Plant each bug, and see what catches it: "" where nothing did."""
    return {seed.name: seeding.caught_by(seed, workers) for seed in seeding.SEEDS}


def table(parts: Sequence[Part], caught: dict[str, str] | None, seed: int) -> str:
    """The whole as Markdown."""
    today = datetime.datetime.now(tz=datetime.UTC)
    machine = f"Linux {platform.release()}, Python {platform.python_version()}"
    lines = [f"{today:%Y-%m-%d}, commit {_commit()}, {machine}, dice {seed}.", ""]
    lines += ["| part | died | wrong | ended with a traceback | minutes |", "|---|---:|---:|---:|---:|"]
    for part in parts:
        wrong, crashed = sum(bool(t.wrong) for t in part.told), sum(bool(t.crashed) for t in part.told)
        lines.append(f"| {_HEADINGS[part.how]} | {len(part.died):,} | {wrong} | {crashed} | {part.seconds / 60:.0f} |")
    lines += ["", *_by_workload(parts), "", *_by_call(parts), "", *_crashes(parts)]
    if caught is not None:
        lines += ["", "| planted bug | caught |", "|---|---|"]
        lines += [f"| {name} | {how or '**not caught**'} |" for name, how in caught.items()]
    return "\n".join(lines) + "\n"


def _by_workload(parts: Sequence[Part]) -> list[str]:
    lines = [
        "| life | " + " | ".join(part.how for part in parts) + " |",
        "|---|" + "---:|" * len(parts),
    ]
    for name, workload in ALL.items():
        counts = [sum(t.death.workload == name for t in part.died) for part in parts]
        lines.append(f"| {name}: {workload.what} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    return lines


def _by_call(parts: Sequence[Part]) -> list[str]:
    counted = [Counter(t.call for t in part.died) for part in parts]
    calls = sorted({call for each in counted for call in each if call})
    lines = ["| before the call | " + " | ".join(part.how for part in parts) + " |", "|---|" + "---:|" * len(parts)]
    return lines + [f"| `{c}` | " + " | ".join(f"{each[c]:,}" for each in counted) + " |" for c in calls]


def _crashes(parts: Sequence[Part]) -> list[str]:
    found = Counter(line for part in parts for told in part.told for line in told.crashed)
    return [f"- {count} x `{line[:150]}`" for line, count in found.most_common(30)]


def _commit() -> str:
    said = subprocess.run(["git", "-C", _ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return said.stdout.strip() or "unknown"


def write(text: str) -> None:
    """Put the tables in the place of those in ``docs/crash-matrix.md``."""
    before, mark, _ = _TARGET.read_text("utf-8").partition("<!-- figures -->\n")
    assert mark, "docs/crash-matrix.md has lost its mark"
    _TARGET.write_text(before + mark + "\n" + text, "utf-8")
