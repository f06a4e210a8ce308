"""A process that lives lives: a ``Death`` in JSON in each line of stdin, what came of it in each line of stdout."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from system.crash import disks
from system.crash.campaign import Death, Grounds


def main(folder: str, url: str, power: str) -> None:
    """Serve until stdin ends."""
    if power:
        disks.apart()
    with tempfile.TemporaryDirectory(dir=folder) as home:
        grounds = Grounds(Path(home), url, power=power == "power")
        try:
            for line in sys.stdin:
                print(json.dumps(asdict(grounds.live(Death(**json.loads(line))))), flush=True)
        finally:
            grounds.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
