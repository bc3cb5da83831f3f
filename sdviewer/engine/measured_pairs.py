"""What was measured of pairs, also of those that are none any more, for when they are pairs again.

After a take, an undo, or in another way of pairing only that is measured of which a side is another one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from sdviewer.stats.pair_table import COLUMNS, NOTHING, PairTable
from sdviewer.stats.table import NOT_YET


class MeasuredPairs:
    """Numbers by what two tensors are; each pair has its row once, however often it was one."""

    def __init__(self) -> None:
        self._place: dict[Hashable, int] = {}
        self._table = PairTable([])

    def keep(self, pairs: Sequence[Hashable], table: PairTable) -> None:
        """Keep what a table knows of its pairs."""
        state = table["state"].tolist()
        new = [at for at, pair in enumerate(pairs) if state[at] not in (NOT_YET, NOTHING) and pair not in self._place]
        if not new:
            return
        before = len(self._table)
        grown = PairTable([""] * (before + len(new)))
        grown.put(np.arange(before), self._table.to_buffers())
        grown.put(np.arange(before, len(grown)), {name: table[name][new] for name in COLUMNS})
        self._place.update({pairs[at]: before + place for place, at in enumerate(new)})
        self._table = grown

    def give(self, pairs: Sequence[Hashable], table: PairTable) -> None:
        """Put what is known into the table of these pairs."""
        found = [(at, place) for at, pair in enumerate(pairs) if (place := self._place.get(pair)) is not None]
        if found:
            new, old = np.array(found, np.int64).T
            table.put(new, {name: self._table[name][old] for name in COLUMNS})
