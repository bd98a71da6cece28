"""`cuconv bench` from a clone: `python bench/run.py --quick`; docs/bench.md describes it."""

import sys

from cuconv._cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "bench")  # the record has the command as it would have been typed
    main()
