"""The campaign: `scripts/lives`. Seeds make lives; one that breaks a promise is written down, and cut short if that is asked."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from lives.fake_jira import FakeJira
from lives.life import Outcome, Script, live, of_plot, shrink, write
from lives.plots import PLOTS, Layout
from system.crash import disks

PROGRAM = str(Path(sys.executable).with_name("attachd"))
_DISK_BYTES = 48 * 1024 * 1024


def main() -> int:
    """Live lives; 1 if a promise was broken."""
    options = _arguments()
    scripts = list(_scripts(options))
    broken: Counter[str] = Counter()
    seconds = 0.0
    with multiprocessing.get_context("spawn").Pool(options.parallel, _begin) as pool:
        work = [(script, options.program, options.shrink) for script in scripts]
        for number, outcome in enumerate(pool.imap_unordered(_lived, work), 1):
            seconds += outcome.seconds
            broken.update(outcome.kinds)
            if outcome.violations:
                _tell(outcome, options.keep)
            if number % 50 == 0:
                print(f"{number} of {len(scripts)} lives; broken: {dict(broken) or 'nothing'}", flush=True)
    first = scripts[0].seed if scripts else 0
    said = dict(broken) or "nothing"
    print(f"{len(scripts)} lives, seeds from {first}, {seconds:.0f} s of life: broken: {said}")
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "lives", description="Lives of a busy share, and what the promise is worth in them."
    )
    parser.add_argument("--lives", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=None, help="the first seed; a fresh one otherwise")
    parser.add_argument("--parallel", type=int, default=2 * (os.cpu_count() or 1), help="how many at once")
    parser.add_argument("--program", default=PROGRAM, help="another attachd, of an earlier version say")
    parser.add_argument(
        "--plots", action="store_true", help="each plot by itself, --lives times, instead of made-up lives"
    )
    parser.add_argument("--only", default="", help="plots whose names have this in them")
    parser.add_argument("--shrink", action="store_true", help="cut short what breaks a promise")
    parser.add_argument("--keep", type=Path, help="a folder for the logs of lives that broke a promise")
    parser.add_argument("--script", help="live this one life, as it was written down")
    return parser.parse_args()


def _scripts(options: argparse.Namespace) -> Iterator[Script]:
    seed = options.seed if options.seed is not None else int(time.time()) % 1_000_000 * 1000
    if options.script:
        told = json.loads(options.script)
        layout, deeds = Layout(**told["layout"]), tuple((name, a, b) for name, a, b in told["deeds"])
        for _ in range(options.lives if options.lives != 200 else 1):
            yield Script(told["seed"], layout, deeds)
    elif options.plots or options.only:
        for plot in (plot for plot in PLOTS if options.only in plot.name):
            yield from (of_plot(plot, seed + each) for each in range(options.lives if options.lives != 200 else 1))
    else:
        yield from map(write, range(seed, seed + options.lives))


def _begin() -> None:
    """Let the disks of a worker go with it, however it ends."""
    if os.geteuid() == 0:
        with suppress(OSError):
            disks.apart()


def _lived(work: tuple[Script, str, bool]) -> Outcome:
    script, program, cut = work
    with tempfile.TemporaryDirectory(prefix="lives-") as folder, small_disk(Path(folder), script.layout) as disk:
        jira = FakeJira()
        try:
            outcome = live(script, jira, program, Path(folder), disk)
            if cut and outcome.violations:
                shorter = shrink(script, outcome.kinds, lambda each: live(each, jira, program, Path(folder), disk))
                outcome = Outcome(shorter, outcome.violations, outcome.seconds, outcome.logs)
            return outcome
        finally:
            jira.close()


@contextmanager
def small_disk(folder: Path, layout: Layout) -> Iterator[Path | None]:
    """A small disk that can be filled, where this user may mount one; else None."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = layout.small and os.geteuid() == 0 and (_mount_ext4 if layout.ext4 else _mount_tmpfs)(disk)
    try:
        yield disk if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(disk)], check=True)


def _mount_tmpfs(disk: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "lives", str(disk)]
    return not subprocess.run(command, capture_output=True).returncode


def _mount_ext4(disk: Path) -> bool:
    image = disk.with_name("image")
    with image.open("wb") as file:
        file.truncate(_DISK_BYTES)
    commands = ["mkfs.ext4", "-q", "-m", "0", "-b", "1024", str(image)], ["mount", "-o", "loop", str(image), str(disk)]
    return not disks.lacking() and not any(subprocess.run(each, capture_output=True).returncode for each in commands)


def _tell(outcome: Outcome, keep: Path | None) -> None:
    script = outcome.script
    print(f"seed {script.seed}{script.name and ', '}{script.name} ({outcome.seconds:.0f} s):", flush=True)
    for each in outcome.violations:
        print(f"  {each.kind}: {each.said}")
    print(f"  --script '{json.dumps({'seed': script.seed, 'layout': asdict(script.layout), 'deeds': script.deeds})}'")
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{script.seed}-{zlib.crc32(repr(script).encode()):08x}.log").write_text(outcome.logs)
