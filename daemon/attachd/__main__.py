"""The command's way in, as ``attachd`` and as ``python -m attachd``."""

from __future__ import annotations

import gc
import sys

from attachd import __version__


def main() -> None:
    """Run the command line. Nothing that is imported is garbage: to look through it again and again took a sixth of a start."""
    gc.disable()
    from attachd.cli import streams

    streams.prepare()
    if sys.argv[1:] == ["--version"]:  # Asked by scripts on each run, and needs no verb.
        streams.run(lambda: print(f"attachd {__version__}"))
        return
    from attachd.cli import main as command

    app = command.chosen(sys.argv[1:])
    gc.freeze()
    gc.enable()
    streams.run(lambda: command.main(app))


if __name__ == "__main__":
    main()
