"""`python -m dashboards` writes dashboards/json; `--check` only compares (exit 1 where they differ)."""

from __future__ import annotations

import argparse
import sys

import dashboards


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dashboards", description="Write the Grafana dashboards as JSON.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the committed JSON differs")
    options = parser.parse_args()
    if not options.check:
        for path in dashboards.write():
            print(path.relative_to(dashboards.JSON_DIRECTORY.parent.parent))
        return 0
    found = dashboards.differences()
    for difference in found:
        print(f"dashboards/json: {difference}; run python -m dashboards", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
