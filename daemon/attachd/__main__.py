"""The command's way in, as ``attachd`` and as ``python -m attachd``."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line. Nothing that is imported is garbage: to look through it again and again took a sixth of a start."""
    gc.disable()
    from attachd.cli.main import main as command

    gc.freeze()
    gc.enable()
    command()


if __name__ == "__main__":
    main()
