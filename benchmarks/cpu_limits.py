# SPDX-License-Identifier: MIT
"""What this CPU can do at most: dot products a second, and bytes read from memory a second.

python benchmarks/cpu_limits.py --threads 2
"""

from __future__ import annotations

import argparse

from aiter_moe.targets.cpu_features import thread_count
from aiter_moe.tuning.limits import limits


def main() -> None:
    """Print one line for each limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=thread_count())
    for threads in sorted({1, parser.parse_args().threads}):
        found = limits(threads)
        print(f"{threads} threads: read {found.read / 1e9:.1f} GB/s")
        for name, rate in found.dots.items():
            print(f"  {name:<15} {rate / 1e9:8.1f} G operations/s")


if __name__ == "__main__":
    main()
