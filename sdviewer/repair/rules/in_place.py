"""What is done to the elements of a tensor that keeps its key, as the step that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.found import Found
from sdviewer.repair.operations.permute_rope import PAIRS
from sdviewer.repair.rules.steps import Step
from sdviewer.repair.rules.traps import interleaved_rope


def _transposed(found: Found, source: KeyTable, target: KeyTable) -> Step:
    """Two dimensions that change places, those of a matrix unsaid; else the order of all."""
    old, new = source.shapes[found.sources[0]], target.shapes[found.targets[0]]
    dims = list(found.fields.get("dims", ()))
    if old is None or len(old) < 3:
        return {"op": "transpose", "dims": dims} if dims else {"op": "transpose"}
    if len(dims) == len(old):
        moved = [at for at, dim in enumerate(dims) if at != dim]
        return {"op": "transpose", "dims": moved} if len(moved) == 2 else {"op": "permute", "order": dims}
    if dims:
        return {"op": "transpose", "dims": dims}
    for first, second in sorted(combinations(range(len(old)), 2), reverse=True):
        swapped = list(old)
        swapped[first], swapped[second] = old[second], old[first]
        if new is None or tuple(swapped) == tuple(new):
            return {"op": "transpose", "dims": [first, second]}
    return {"op": "transpose"}


def _squeezed(found: Found, source: KeyTable, target: KeyTable) -> Step:
    """The dimensions of size 1 that go; all of them where none is said."""
    return {"op": "squeeze"} | ({"dims": list(found.fields["dims"])} if "dims" in found.fields else {})


def _reshaped(found: Found, source: KeyTable, target: KeyTable) -> Step:
    """To the shape of the target."""
    return {"op": "reshape", "shape": list(target.shapes[found.targets[0]] or ())}


def _permuted(found: Found, source: KeyTable, target: KeyTable) -> Step:
    """The heads of the tensor, and the order that its rows get: pairs in Meta's own names, else halves."""
    meta = interleaved_rope(target.keys[found.targets[0]])
    return {"op": "permute_rope", "heads": found.fields.get("n_heads", 0), **({"to": PAIRS} if meta else {})}


IN_PLACE: Mapping[str, Callable[[Found, KeyTable, KeyTable], Step]] = {
    "transpose": _transposed,
    "squeeze": _squeezed,
    "reshape": _reshaped,
    "permute_rope": _permuted,
}
"""The step for each relation that leaves the key alone, without `keys`."""
