"""``python -m attachd``."""

from attachd.cli.main import main

if __name__ == "__main__":
    main()
