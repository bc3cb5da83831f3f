"""Many made pairs of tables: whether all is right that is called proved.

python -m tests.benchmarks.matching_proofs PAIRS SEED
"""

from __future__ import annotations

import sys
from collections import Counter

from tests.repair.matching.made import made

SHOWN = 20


def main(pairs: int, first: int) -> int:
    """Match the pairs of so many seeds, print what was proved and what of it is wrong; 1 where something is."""
    found = 0
    proved: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in range(first, first + pairs):
        pair = made(seed)
        matching = pair.matched()
        found += len(matching.found)
        proved.update([one.by for one in pair.proved(matching)])
        wrong += [f"seed {seed}: {one}" for one in pair.wrong(matching)]
    by = ", ".join([f"{count:,} by {what}" for what, count in proved.most_common()])
    print(f"{pairs:,} pairs of tables (seeds from {first}): {found:,} finds, {proved.total():,} proved ({by})")
    print(f"proved and wrong: {len(wrong)}")
    for one in wrong[:SHOWN]:
        print("FAILED: " + one)
    return 1 if wrong or not proved else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
