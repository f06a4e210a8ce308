"""The whole campaign, as ``scripts/crash`` runs it."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence

from system.crash import disks, driving, report
from system.crash.campaign import Told


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for; 1 if anything went wrong."""
    options = _parser().parse_args(arguments)
    dice = random.Random(options.seed)
    parts: list[report.Part] = []
    names = options.workload or driving.names()
    with driving.workers(options.workers) as started:
        calls = driving.lengths(started, names)
        rounds = -(-options.kills // max(1, sum(calls.values())))
        for what, deaths in (
            ("kill", [death for _ in range(rounds) for death in driving.everywhere(calls, "kill")]),
            ("pair", driving.drawn(dice, calls, "pair", options.pairs)),
            ("fail", driving.refused(dice, calls, options.failures)),
        ):
            if deaths:
                dice.shuffle(deaths)
                began = time.monotonic()
                told = driving.live(started, deaths, driving.Progress(what, len(deaths)))
                parts.append(report.Part(what, told, time.monotonic() - began))
    if options.cuts and not disks.lacking():
        with driving.workers(options.workers, power=True) as started:
            calls = driving.lengths(started, names)
            deaths = driving.drawn(dice, calls, "cut", options.cuts)
            began = time.monotonic()
            told = driving.live(started, deaths, driving.Progress("cut", len(deaths)))
            parts.append(report.Part("cut", told, time.monotonic() - began))
    caught = report.seeds(options.workers) if options.seeds else None
    text = report.table(parts, caught, options.seed)
    print(text)
    if options.write:
        report.write(text)
    everything: list[Told] = [each for part in parts for each in part.told]
    return int(any(each.wrong for each in everything) or bool(caught and not all(caught.values())))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/crash", description=main.__doc__)
    parser.add_argument("--kills", type=int, default=10_000, help="at least so many, at every call in turn (10,000)")
    parser.add_argument("--pairs", type=int, default=1_000, help="so many of which the recovery is killed too (1,000)")
    parser.add_argument("--cuts", type=int, default=1_000, help="so many power cuts (1,000); they need root")
    parser.add_argument("--failures", type=int, default=2_000, help="so many calls that fail (2,000)")
    parser.add_argument("--seeds", action="store_true", help="plant the bugs that the oracle must catch")
    parser.add_argument("--workload", action="append", choices=driving.names(), help="only these")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of what is drawn")
    parser.add_argument("--write", action="store_true", help="write docs/crash-matrix.md")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
