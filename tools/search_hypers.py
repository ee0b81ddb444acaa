"""Find a lambda table: the same as ``mvguide search-hypers``, as a script of a checkout.

python tools/search_hypers.py --sigmas sigmas_50 --num_frames 14 --rule exact --out out/table14.npz
"""

import sys

from mvguide.cli import main

if __name__ == "__main__":
    sys.exit(main(["search-hypers", *sys.argv[1:]]))
