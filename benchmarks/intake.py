"""Measure the way from the folder to the journal: ``python -m benchmarks.intake --help``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import figures, idle, latency, memory, scan, storm

Measure = Callable[..., figures.Table]

#: Each measurement with the defaults of its options.
MEASUREMENTS: dict[str, tuple[Measure, dict[str, Any]]] = {
    "latency": (latency.measure, {"files": 300, "size": 4096, "rest": 1.0}),
    "scan": (scan.measure, {"folders": 1000, "files": 10_000, "repetitions": 20}),
    "idle": (idle.measure, {"folders": 10_000, "seconds": 120.0}),
    "memory": (memory.measure, {"files": 1_000_000, "folders": 1000}),
    "storm": (storm.measure, {"files": 200_000, "folders": 2000}),
}
OPTIONS = {
    "files": "how many files",
    "folders": "over how many folders they are spread",
    "size": "bytes in each file",
    "rest": "seconds of quiet before each file",
    "repetitions": "how many scans",
    "seconds": "how long it is watched",
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one measurement, and print its table."""
    options = vars(_parser().parse_args(words))
    measure, _ = MEASUREMENTS[options.pop("measurement")]
    measure(**options).show()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intake", description=__doc__)
    verbs = parser.add_subparsers(dest="measurement", required=True)
    for name, (measure, defaults) in MEASUREMENTS.items():
        verb = verbs.add_parser(
            name, help=measure.__doc__, description=measure.__doc__,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )  # fmt: skip
        for option, default in defaults.items():
            verb.add_argument(f"--{option}", type=type(default), default=default, help=OPTIONS[option])
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
