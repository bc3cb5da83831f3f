"""Adapters beside the model that they change: which of its tensors each pair of factors belongs to.

An adapter (LoRA and its kin) holds no key that a model asks for. What it has to fit are the modules of the model: that
is told as a table of the keys that the adapter would have if every pair had its place.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sdviewer.core import text
from sdviewer.core.key_table import KeyTable
from sdviewer.repair.adapter_kinds import (
    LENGTHS,
    AdapterKeys,
    Kind,
    Matrix,
    View,
    adapters,
    fits,
    has_lengths,
    lengths_axis,
    matrix_shape,
    misfit,
    part_of,
    tells_rank,
    view_of,
)
from sdviewer.repair.lora_names import TRAINERS, by_underscores, weights_of
from sdviewer.repair.matching.found import Evidence
from sdviewer.repair.operations import MergeLora, Take
from sdviewer.repair.patterns import literal_pattern
from sdviewer.repair.suggestion import Caution, Suggestion
from sdviewer.repair.wording import listed, quoted

_SIGNS: Final = re.compile(r"lora_|\.lora\.|hada_|lokr_")
"""What stands in one key at least of every adapter."""

KOHYA: Final = tuple([name for name in TRAINERS if name.endswith("_")])
"""What begins names with underscores for dots."""

SAMPLE: Final = 200
"""Layers that are looked at to find what stands before the names of the other side."""
NAMED: Final = 3
WHOLE: Final = "These were trained as a whole beside the adapter: they take the place of those of the model."

Shape = tuple[int, ...]


class Exchange(NamedTuple):
    """What all layers without a place begin with, and what they would begin with to have one."""

    old: str
    new: str

    def of(self, layer: str) -> str:
        """A layer that begins so, by its new name."""
        return self.new + layer[len(self.old) :]


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter and its places in a model.

    `layers` are by layer the key of the weight that it changes, "" where there is none or several could be meant;
    `table` are the keys and shapes of the adapter if each layer had its place, without those that have none.
    `moved` are the layers that have one only by the `exchange`. `pairs` counts the adapters of one layer that have a
    place: pairs of factors where all are LoRA; `kinds` are the names of what they are. `misfits` are layers that cannot
    be merged: their factors do not fit their weight, or are none that are known. `alphas`: each states how much of it
    is added; `ranks`: each tells its rank. `transposed`: weights are `(in_features, out_features)`. `whole` are keys of
    tensors that take the place of one of the model, with its key there (PEFT's `modules_to_save`), `others` those that
    are none of the model's.
    """

    layers: Mapping[str, str]
    table: KeyTable
    pairs: int
    exchange: Exchange | None = None
    moved: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()
    alphas: bool = False
    ranks: bool = True
    transposed: bool = False
    whole: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        """The weights that it changes."""
        return tuple(dict.fromkeys([key for key in self.layers.values() if key]))

    @property
    def homeless(self) -> tuple[str, ...]:
        """The layers that the model has no weight for."""
        return tuple([layer for layer, key in self.layers.items() if not key])

    def sentence(self, whose: str) -> str:
        """What it is to a model, called `whose`: with a capital, without a full stop."""
        changed = text.plural(len(self.changed), "tensor")
        verb = "changes" if self.pairs == 1 else "change"
        more = [kind for kind in self.kinds if kind != "LoRA"]
        what = f"An adapter ({', '.join(self.kinds)})" if more else "An adapter"
        its = text.plural(self.pairs, "layer" if set(more) - {"DoRA"} else "pair")
        said = f"{what}: its {its} {verb} {changed} of {whose}"
        if self.exchange is not None:
            said += f", where {self._exchanged(self.exchange)}"
        if self.homeless:
            has = "has" if len(self.homeless) == 1 else "have"
            said += f"; {text.plural(len(self.homeless), 'layer')} of it {has} no tensor there: {_named(self.homeless)}"
        else:
            said += "; nothing of it is a missing key"
        if self.misfits:
            layers = text.plural(len(self.misfits), "layer")
            said += f"; {layers} of it cannot be merged as {'it is' if len(self.misfits) == 1 else 'they are'}: "
            said += _named(self.misfits)
        return said

    def to_json(self) -> dict[str, Any]:
        """What `fit --json` tells of it: of each layer the key that it changes, null where there is none."""
        layers = {layer: key or None for layer, key in self.layers.items()}
        return {"pairs": self.pairs, "changes": len(self.changed), "layers": layers}

    def _exchanged(self, exchange: Exchange) -> str:
        which = "its keys" if len(self.moved) == len(self.layers) - len(self.homeless) else "some of its keys"
        old, new = map(quoted, exchange)
        if not exchange.old:
            return f"{which} should begin with {new}"
        return f"{which} begin with {old} and should " + (f"begin with {new}" if exchange.new else "not")


def _named(layers: Sequence[str]) -> str:
    return listed(layers[:NAMED]) + (" \N{HORIZONTAL ELLIPSIS}" if len(layers) > NAMED else "")


def adapter_in(adapter: KeyTable, model: KeyTable) -> Adapter | None:
    """What an adapter is to a model; None where the first is no adapter, or the second has factors of its own."""
    layers = _layers(adapter)
    if not layers or any(map(_is_factor, model.keys)):
        return None
    places, underscored = {key: at for at, key in enumerate(model.keys)}, by_underscores(dict.fromkeys(model.keys, 0))
    found = {layer: weights_of(layer, places, underscored) for layer in layers}
    without = [layer for layer, keys in found.items() if not keys]
    exchange = _exchange(without, places, underscored) if without else None
    names = {layer: layer for layer in layers}
    if exchange is not None:
        for layer in without:
            name = exchange.of(layer) if layer.startswith(exchange.old) else layer
            if name not in names:
                names[layer] = name
                found[layer] = weights_of(name, places, underscored)
    homes = {layer: keys[0] if len(keys) == 1 else "" for layer, keys in found.items()}
    return _told(adapter, model, homes, names, exchange)


def _is_factor(key: str) -> bool:
    return _SIGNS.search(key) is not None and part_of(key) is not None


def _layers(table: KeyTable) -> list[str]:
    """The layers of an adapter; none where it is a model, which may have adapters beside its weights."""
    if not any(map(_SIGNS.search, table.keys)):
        return []
    parts = [part for key in table.keys if (part := part_of(key)) is not None]
    layers = list(dict.fromkeys([part.layer for part in parts if part.part != "alpha"]))
    if not layers or 2 * len(parts) < len(table.keys):
        return []
    keys = set(table.keys)
    beside = any(f"{layer}{end}" in keys for layer in layers for end in (".weight", ".base_layer.weight"))
    return [] if beside else layers


def _led(layer: str) -> tuple[str, str]:
    """What a trainer puts before the name of a layer, and that name."""
    lead = next((name for name in TRAINERS if layer.startswith(name)), "")
    return lead, layer[len(lead) :]


def _exchange(
    layers: Sequence[str], places: Mapping[str, int], underscored: Mapping[str, Sequence[str]]
) -> Exchange | None:
    """The exchange that gives most of these layers a place."""
    ending: dict[str, list[list[str]]] = {}
    for key in places:
        if key.endswith(".weight"):
            parts = key.removesuffix(".weight").removesuffix(".base_layer").split(".")
            ending.setdefault(parts[-1], []).append(parts)
    tally: Counter[Exchange] = Counter()
    for layer in layers[:: max(1, len(layers) // SAMPLE)]:
        lead, name = _led(layer)
        if lead.endswith("_"):
            ends = [module for module in underscored if module.endswith(f"_{name}")]
            tally.update([Exchange(lead, lead + module.removesuffix(name)) for module in ends])
            continue
        parts = name.split(".")
        tally.update({
            Exchange(lead + _joined(parts[: len(parts) - same]), lead + _joined(module[: len(module) - same]))
            for module in ending.get(parts[-1], ())
            if (same := _same_end(parts, module))
        })  # fmt: skip
    # (a layer that the model lacks is not one of another number)
    for found in [found for found in tally if any(part.isdecimal() for name in found for part in name.split("."))]:
        del tally[found]
    if not tally:
        return None
    most = max(tally.values())
    return min([one for one, n in tally.items() if n == most], key=lambda one: (len(one.old) + len(one.new), one))


def _joined(parts: Sequence[str]) -> str:
    return "".join([f"{part}." for part in parts])


def _same_end(one: Sequence[str], other: Sequence[str]) -> int:
    same = 0
    while same < min(len(one), len(other)) and one[-1 - same] == other[-1 - same]:
        same += 1
    return same


def _told(
    adapter: KeyTable,
    model: KeyTable,
    homes: Mapping[str, str],
    names: Mapping[str, str],
    exchange: Exchange | None,
) -> Adapter:
    shape_of = dict(zip(model.keys, model.shapes, strict=True))
    own = dict(zip(adapter.keys, adapter.shapes, strict=True))
    placed = [one for one in adapters(adapter.keys) if homes.get(one.layer)]
    turned = _is_transposed(placed, own, homes, shape_of)
    wanted: dict[str, Shape | None] = {}
    misfits: dict[str, None] = {}
    for one in placed:
        wanted |= {key: own[key] for key in one.keys.values()}
        known, weight = _shapes(one, own), shape_of[homes[one.layer]]
        if one.kind is None:
            misfits[one.layer] = None
        elif known is not None and weight is not None and misfit(one.kind, known, weight, turned):
            misfits[one.layer] = None
            right = _wanted(one.kind, known, view_of(one.kind, weight, turned))
            wanted |= {one.keys[part]: shape for part, shape in right.items() if part in one.keys}
    keys, shapes, dtypes = [], [], []
    whole: dict[str, str] = {}
    others = []
    for key, dtype in zip(adapter.keys, adapter.dtypes, strict=True):
        part = part_of(key)
        if part is None:
            name = _led(key)[1]
            if name not in shape_of:
                others.append(key)
                continue
            whole[key] = name
            keys.append(key)
            shapes.append(shape_of[name])
        elif key in wanted:
            # (kohya's loaders know where its names belong)
            keys.append(key if part.layer.startswith(KOHYA) else names[part.layer] + key[len(part.layer) :])
            shapes.append(wanted[key])
        else:
            continue
        dtypes.append(dtype)
    return Adapter(
        homes,
        KeyTable(tuple(keys), shapes, dtypes, adapter.ordered),
        len(placed),
        exchange,
        moved=tuple([layer for layer, home in homes.items() if home and names[layer] != layer]),
        kinds=tuple(dict.fromkeys([one.title for one in placed if one.kind is not None])),
        misfits=tuple(misfits),
        alphas=all("alpha" in one.keys for one in placed),
        ranks=all(one.kind is None or tells_rank(one.kind, one.keys) for one in placed),
        transposed=turned,
        whole=whole,
        others=tuple(others),
    )


def _shapes(adapter: AdapterKeys, own: Mapping[str, Shape | None]) -> dict[str, Shape] | None:
    """The shapes of the parts of an adapter, None where one is not known."""
    shapes = {part: own[key] for part, key in adapter.keys.items()}
    known = {part: shape for part, shape in shapes.items() if shape is not None}
    return known if len(known) == len(shapes) else None


def _wanted(kind: Kind, shapes: Mapping[str, Shape], view: View | None) -> dict[str, Shape]:
    """The shapes that parts would have if they fitted a weight, with the rank that they have."""
    if view is None:
        return {}
    right: dict[str, Shape] = {"alpha": ()}
    if has_lengths(shapes) and lengths_axis(shapes, view) is None:
        (lengths,) = [part for part in LENGTHS if part in shapes]
        # (nobody knows whether a list is of the rows or of the columns of a square)
        right[lengths] = (view.out,) if shapes[lengths] == (view.out,) else (view.out, *[1 for _ in view.inner])
    rows, inner = view.out, view.inner
    for matrix in kind.matrices:
        if kind.joined == "kron" and matrix is kind.matrices[0]:
            # (the first one is kept, unless its sizes divide nothing)
            had = matrix_shape(matrix, shapes) or (1, 1)
            first = max(1, math.gcd(rows, had[0])), max(1, math.gcd(inner[0], had[1]))
            right |= _wanted_of(matrix, shapes, first[0], (first[1],))
            rows, inner = rows // first[0], (inner[0] // first[1], *inner[1:])
        else:
            right |= _wanted_of(matrix, shapes, rows, inner)
    return right


def _wanted_of(matrix: Matrix, shapes: Mapping[str, Shape], rows: int, inner: Shape) -> dict[str, Shape]:
    """The shapes that parts would have if they made a matrix of these rows and columns."""
    if matrix.whole in shapes:
        return {matrix.whole: (rows, *inner)}
    left, right = shapes[matrix.left], shapes[matrix.right]
    rank = right[0] if right else 1
    if matrix.between in shapes:
        return {
            matrix.left: (rank, rows) if matrix.turns else (rows, rank, *left[2:]),
            matrix.between: (rank, rank, *inner[1:]),
            matrix.right: (rank, inner[0], *right[2:]),
        }
    flat = len(right) == 2
    return {matrix.left: (rows, rank, *left[2:]), matrix.right: (rank, math.prod(inner)) if flat else (rank, *inner)}


def _is_transposed(
    placed: Sequence[AdapterKeys],
    own: Mapping[str, Shape | None],
    homes: Mapping[str, str],
    weights: Mapping[str, Shape | None],
) -> bool:
    """Whether the adapters fit their weights only when these lie as `(in_features, out_features)`."""
    straight = turned = 0
    for one in placed:
        shapes, weight = _shapes(one, own), weights[homes[one.layer]]
        if one.kind is not None and not one.kind.turned and shapes is not None and weight is not None:
            straight += fits(one.kind, shapes, view_of(one.kind, weight, transposed=False))
            turned += fits(one.kind, shapes, view_of(one.kind, weight, transposed=True))
    return turned > straight


class Scale(NamedTuple):
    """How much of an adapter is added, where a file beside it says so: `alpha`, and `scale` besides.

    `varies`: it is not the same for all layers. `rank`: of layers that do not tell it.
    """

    alpha: float
    scale: float = 1.0
    varies: bool = False
    rank: int | None = None


def merging(adapter: Adapter, path: str, state_dict: str, scale: Scale | None) -> list[Suggestion]:
    """The steps that take an adapter from a file and merge it into the model that is open."""
    # (a step could name these only by regular expressions)
    special = [layer for layer in adapter.layers if literal_pattern(layer) != layer]
    not_merged = {*adapter.misfits, *special}
    mergeable = [layer for layer, home in adapter.layers.items() if home and layer not in not_merged]
    if not mergeable or any(literal_pattern(name) != name for name in adapter.exchange or () if name):
        return []
    left = [layer for layer, home in adapter.layers.items() if not home or layer in not_merged]
    keys = tuple([f"{layer}.**" for layer in mergeable]) if left or adapter.whole or adapter.others else ()
    take = Take(path=path, state_dict=state_dict, keys=keys, to=_rules(adapter, mergeable))
    alpha, factor, _, rank = (None, 1.0, False, None) if scale is None else scale
    merge = MergeLora(
        alpha=None if adapter.alphas else alpha,
        scale=factor,
        rank=None if adapter.alphas or adapter.ranks else rank,
        transposed=adapter.transposed,
    )
    cautions = []
    if not adapter.alphas and scale is None:
        said = "Nothing says how much of it is meant (alpha): it is added as it is. Edit the step if you know it."
        cautions.append(Caution(code="lora_alpha", keys=(), message=said))
    elif scale is not None and scale.varies and not adapter.alphas:
        said = "adapter_config.json states other ranks or alphas for some layers: they are merged as the others are."
        cautions.append(Caution(code="lora_alpha", keys=(), message=said))
    if left:
        said = f"{text.plural(len(left), 'layer')} of the adapter cannot be merged: {_named(left)}"
        cautions.append(Caution(code="adapter_left", keys=tuple(left[:NAMED]), message=said))
    evidence: Evidence = "ambiguous" if cautions else "likely"
    reasons = (adapter.sentence("this file"),)
    # (the keys of the table have the new names already, but for kohya's)
    moved = {layer for layer in adapter.moved if not layer.startswith(KOHYA)}
    names = {adapter.exchange.of(layer) if adapter.exchange and layer in moved else layer for layer in mergeable}
    n = sum(part is not None and part.layer in names for part in map(part_of, adapter.table.keys))
    made = [Suggestion(take.to_step(), take.label, n, evidence, reasons=reasons)]
    if adapter.whole:
        rules = dict.fromkeys([(f"{_led(key)[0]}**", "**") for key in adapter.whole if _led(key)[0]])
        whole = Take(path=path, state_dict=state_dict, keys=tuple(map(literal_pattern, adapter.whole)), to=tuple(rules))
        made.append(Suggestion(whole.to_step(), whole.label, len(adapter.whole), evidence, reasons=(WHOLE,)))
    n = len({adapter.layers[layer] for layer in mergeable})
    return [*made, Suggestion(merge.to_step(), merge.label, n, evidence, reasons=reasons, cautions=tuple(cautions))]


def _rules(adapter: Adapter, taken: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """What gives the layers that are taken the names that have a place: one rule, unless it would move others too."""
    if adapter.exchange is None:
        return ()
    old, new = adapter.exchange
    moved = set(adapter.moved)
    if all(layer in moved for layer in taken if layer.startswith(old)):
        return ((f"{old}**", f"{new}**"),)
    return tuple([(f"{layer}.**", f"{adapter.exchange.of(layer)}.**") for layer in taken if layer in moved])
