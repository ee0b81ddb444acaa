"""``python -m mvguide``: the command line."""

import sys

from mvguide.cli import main

if __name__ == "__main__":
    sys.exit(main())
