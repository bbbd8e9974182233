"""The command; see the package."""

from __future__ import annotations

import argparse
import sys
import traceback

from tests.formats.fuzz.messages import Tally
from tests.formats.fuzz.running import Find, feed, shares_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.formats.fuzz")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="NAME", help="one target")
    options = parser.parse_args()
    total, finds = Tally(), 0
    print(f"{'':<14}{'inputs':>10}{'accepted':>10}{'refused':>10}{'seconds':>9}")
    for target, inputs in shares_of(options.inputs):
        if options.only not in (None, target.name):
            continue
        try:
            tally, took_s = feed(target, inputs, options.seed)
        except Find as find:
            finds += 1
            print(f"{target.name:<14} {find}")
            traceback.print_exception(find.__cause__, limit=-6)
            continue
        total += tally
        print(f"{target.name:<14}{tally.inputs:>10}{tally.accepted:>10}{tally.refused:>10}{took_s:>9.1f}", flush=True)
    print(f"{'all':<14}{total.inputs:>10}{total.accepted:>10}{total.refused:>10}  finds: {finds}")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
