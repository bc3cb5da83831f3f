"""Which matrices lie the other way round on the other side: `(in, out)` as Conv1D of GPT-2, `(out, in)` as Linear.

A bias has as many elements as a layer has outputs, so it tells of its weight which way that lies, whatever the names.
Without this the first layer of an MLP has the shape of the second one of the other side.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import replace

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.contents import Contents, View
from sdviewer.repair.matching.found import Found, Matching

LEAST = 2
"""Matrices that have to lie one way, at least."""

_WEIGHT = ".weight"
_BIAS = ".bias"
_TOLD = "Its bias tells which way it lies: (in, out) on one side, (out, in) on the other"


def turned(source: KeyTable, target: KeyTable) -> frozenset[int]:
    """Positions of the source's matrices that lie the other way round than those of the target.

    What both sides call the same is left to their shapes.
    """
    ours, theirs = _lying(source), _lying(target)
    if len(ours) < LEAST or len(theirs) < LEAST or len(set(theirs.values())) > 1:
        return frozenset()
    as_theirs = next(iter(theirs.values()))
    other = {at for at, as_linear in ours.items() if as_linear != as_theirs}
    if len(other) < LEAST or (as_theirs is False and len(other) < len(ours)):
        return frozenset()
    blocks = {_block(source.keys[at]) for at in other}
    shared = set(target.keys)
    squares = {at for at in _with_bias(source) if _is_square(source, at) and _block(source.keys[at]) in blocks}
    return frozenset([at for at in other | squares if source.keys[at] not in shared])


def as_turned(source: KeyTable, these: Collection[int]) -> KeyTable:
    """The source with these matrices turned round."""
    shapes = [shape[::-1] if at in these and shape is not None else shape for at, shape in enumerate(source.shapes)]
    return replace(source, shapes=shapes)


def contents_turned(asked: Contents, these: Collection[int]) -> Contents:
    """Who tells values, for a source with these matrices turned round."""

    def told(of_source: Sequence[View], of_target: Sequence[View]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        views = [view._replace(transposed=view.transposed != (view.at in these)) for view in of_source]
        return asked(views, of_target)

    return told


def turned_back(matching: Matching, source: KeyTable, these: frozenset[int]) -> Matching:
    """A matching with these matrices turned round as one of the source as it is."""
    return replace(matching, found=tuple([_turned_back(one, source, these) for one in matching.found]))


def _turned_back(found: Found, source: KeyTable, these: frozenset[int]) -> Found:
    if these.isdisjoint(found.sources):
        return found
    reasons = (*found.reasons, _TOLD)
    if found.relation == "rename":
        # (of a square one its neighbours tell it)
        weaker = found.evidence == "proved" and found.by != "content" and _is_square(source, found.sources[0])
        return replace(found, relation="transpose", reasons=reasons, evidence="likely" if weaker else found.evidence)
    if found.relation == "transpose":
        return replace(found, relation="rename", reasons=reasons)
    if found.relation in ("split", "concat"):
        fields = {**found.fields, "dim": 1 - found.fields.get("dim", 0), "transposed": True}
        return replace(found, fields=fields, reasons=reasons)
    return replace(found, evidence="ambiguous")


def _with_bias(table: KeyTable) -> dict[int, int]:
    """Positions of matrices -> the elements of the biases beside them."""
    lengths = {
        key.removesuffix(_BIAS): shape[0]
        for key, shape in zip(table.keys, table.shapes, strict=True)
        if key.endswith(_BIAS) and shape is not None and len(shape) == 1
    }
    return {
        at: lengths[module]
        for at, (key, shape) in enumerate(zip(table.keys, table.shapes, strict=True))
        if key.endswith(_WEIGHT)
        and shape is not None
        and len(shape) == 2
        and (module := key.removesuffix(_WEIGHT)) in lengths
    }


def _lying(table: KeyTable) -> dict[int, bool]:
    """Positions of matrices of which their bias tells it -> whether they lie as those of Linear."""
    found = {}
    for at, length in _with_bias(table).items():
        rows, columns = table.shapes[at] or (0, 0)
        if rows != columns and length in (rows, columns):
            found[at] = length == rows
    return found


def _is_square(table: KeyTable, at: int) -> bool:
    rows, columns = table.shapes[at] or (0, 1)
    return rows == columns


def _block(key: str) -> str:
    """What stands before the last number of a key, with it."""
    parts = key.split(".")
    return ".".join(parts[: max([at + 1 for at, part in enumerate(parts) if part.isdecimal()], default=0)])
