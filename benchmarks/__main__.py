"""``python -m benchmarks``: measure ratios side by side and print one table.

A ratio says more than a time: both sides ran on the same machine in the same minutes. A machine that is busy with
something else still makes the absolute rates (tok/s, MB/s) too low.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from benchmarks import aggregation, gates, pretraining, privacy, reading
from benchmarks.table import Row, as_json, print_table


def main() -> None:
    """Run all benchmarks, a few minutes on two cores."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table to this file")
    arguments = parser.parse_args()
    started = time.monotonic()
    rows: list[Row] = []
    for part in (aggregation, gates, reading, pretraining):
        rows += part.rows()
    rows += privacy.rows({name: privacy.SETTINGS[name] for name in ("nano", "nano, 4 records each")})
    print_table(rows)
    print(f"{time.monotonic() - started:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(rows), indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
