"""`python -m lives`."""

import sys

from lives.campaign import main

if __name__ == "__main__":
    sys.exit(main())
