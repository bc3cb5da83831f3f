"""Known traps: what can be wrong although every key has its place and every shape agrees.

Each trap is a function in `TRAPS` that sees keys and shapes alone. That a file loads is no proof: nanoGPT's square
matrices left as they are, or rotary rows left unpermuted, load without a word and compute something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.found import Found, Matching
from sdviewer.repair.operations.permute_rope import PAIRS
from sdviewer.repair.rules.cells import MARK, shape_of
from sdviewer.repair.rules.steps import Step
from sdviewer.repair.suggestion import Caution
from sdviewer.repair.wording import quoted

NAMED = 10
"""Keys that a caution carries."""


MODERN_HEAD, SMALL_HEAD = 128, 64
"""Numbers of a head in the Llamas that Meta published: 128, and 64 in the one of width 2,048 (Llama 3.2 1B)."""

SMALL_WIDTH = 2048


class Trap(NamedTuple):
    """A caution, and the places in the source of all tensors that it is about or that its step changes.

    `fixes` are steps behind all others, by the key of the target that they are for, without `keys`. Where it is `known`
    that such models need them they are proposed, else they go with the caution; `asks` are fields that were guessed.
    """

    caution: Caution
    places: frozenset[int]
    fixes: Mapping[str, Step] = {}
    known: bool = False
    asks: tuple[str, ...] = ()


class Pairs(NamedTuple):
    """A matching with its tables; `head_dim` as of a target."""

    source: KeyTable
    target: KeyTable
    found: Sequence[Found]
    head_dim: int = 0

    def keys(self, found: Found) -> tuple[str, str]:
        """The first key of each side."""
        return self.source.keys[found.sources[0]], self.target.keys[found.targets[0]]


def traps_of(source: KeyTable, target: KeyTable, matching: Matching, head_dim: int = 0) -> list[Trap]:
    """The traps that keys and shapes of a matching show."""
    pairs = Pairs(source, target, matching.found, head_dim)
    return [trap for find in TRAPS for trap in find(pairs)]


_INTERLEAVED_ROPE = re.compile(r"(?:^|\.)attention\.(?:wq|wk)\.(?:weight|bias)$")
_ROPE_TABLE = re.compile(r"(?:^|\.)(?:rope\.freqs|rotary_emb\.inv_freq)$")
_HALVES_ROPE = re.compile(r"(?:^|\.)self_attn\.(?:q_proj|k_proj)\.(?:weight|bias)$")


def interleaved_rope(key: str) -> bool:
    """Whether a key is a query's or a key's of a model whose rotary embedding turns neighbouring numbers."""
    return bool(_INTERLEAVED_ROPE.search(key))


def _rope(pairs: Pairs) -> Iterator[Trap]:
    """Meta's Llama turns neighbouring numbers of a head, transformers one half with the other."""
    # (a vision transformer with such names has no gate, and no rotary embedding)
    gated = [
        {_block(key) for key in table.keys if ".feed_forward.w3." in key} for table in (pairs.source, pairs.target)
    ]
    here: list[Found] = []
    for found in pairs.found:
        old, new = pairs.keys(found)
        one_way = _INTERLEAVED_ROPE.search(old) and _HALVES_ROPE.search(new) and _block(old) in gated[0]
        other_way = _HALVES_ROPE.search(old) and _INTERLEAVED_ROPE.search(new) and _block(new) in gated[1]
        # (where the heads are known the rows are permuted by a step)
        unknown = found.relation == "permute_rope" and not found.fields.get("n_heads")
        if unknown or (found.relation == "rename" and (one_way or other_way)):
            here.append(found)
    if here:
        message = (
            "the rows of these queries and keys stand in another order in the two models (rotary embedding, "
            "interleaved or in halves): renamed alone, the model loads and computes something else"
        )
        keys = _keys(pairs, here)
        size, guessed = _head_size(pairs, here)
        fixes = {pairs.keys(found)[1]: step for found in here if (step := _permutation(pairs, found, size)) is not None}
        if len(fixes) < len(here):
            fixes = {}
            message += ". The step is permute_rope, with the number of heads, which nothing here tells"
        asks = ("heads",) if guessed else ()
        yield Trap(Caution(code="rope_order", keys=keys, message=message), _places(here), fixes, known=True, asks=asks)


def _head_size(pairs: Pairs, here: Sequence[Found]) -> tuple[int, bool]:
    """How many numbers a head has, 0 where nothing tells, and whether it is a guess.

    A rotary table holds one frequency for each two of them.
    """
    if pairs.head_dim:
        return pairs.head_dim, False
    tables = {
        2 * shape[0]
        for table in (pairs.source, pairs.target)
        for key, shape in zip(table.keys, table.shapes, strict=True)
        if _ROPE_TABLE.search(key) and shape is not None and len(shape) == 1
    }
    if len(tables) == 1:
        return tables.pop(), False
    widths = {shape[-1] for found in here if (shape := pairs.source.shapes[found.sources[0]]) and len(shape) == 2}
    if len(widths) != 1 or min(widths) < SMALL_WIDTH:
        return 0, False
    return SMALL_HEAD if min(widths) == SMALL_WIDTH else MODERN_HEAD, True


def _permutation(pairs: Pairs, found: Found, size: int) -> Step | None:
    """The step for one tensor: halves as transformers has them, or pairs as Meta."""
    shape = pairs.source.shapes[found.sources[0]]
    if not size or not shape or shape[0] % size:
        return None
    step: Step = {"op": "permute_rope", "heads": shape[0] // size}
    return step | {"to": PAIRS} if interleaved_rope(pairs.keys(found)[1]) else step


def _square(pairs: Pairs) -> Iterator[Trap]:
    """Where all other matrices of a block are transposed, so is the square one, though its shape does not say so."""
    if all(found.relation != "transpose" for found in pairs.found):
        return
    groups: dict[str, list[Found]] = {}
    for found in pairs.found:
        shape = pairs.source.shapes[found.sources[0]]
        if found.relation in ("rename", "transpose") and shape is not None and len(shape) == 2:
            groups.setdefault(_block(pairs.keys(found)[0]), []).append(found)
    for group in groups.values():
        square = [
            found
            for found in group
            if _is_square(pairs, found) and found.relation == "rename" and found.by != "content"
        ]
        others = [found for found in group if not _is_square(pairs, found)]
        if square and others and all(found.relation == "transpose" for found in others):
            first = quoted(pairs.keys(square[0])[0])
            message = (
                f"the other matrices beside {first} are transposed; it is square, so its shape does not say "
                "whether it has to be"
            )
            keys = _keys(pairs, square)
            fixes: dict[str, Step] = {pairs.keys(found)[1]: {"op": "transpose"} for found in square}
            caution = Caution(code="square_matrix", keys=keys, message=message)
            yield Trap(caution, _places([*square, *others]), fixes, known=True)


_GATE = re.compile(r"(?:^|[._])(?:w1|gate|gate_proj|linear_gate)(?:[._]|$)")
_UP = re.compile(r"(?:^|[._])(?:w3|up|up_proj|linear_up)(?:[._]|$)")


def _gate_up(pairs: Pairs) -> Iterator[Trap]:
    """Which of the two halves of a joined gate and up comes first is seen nowhere."""
    here: list[Found] = []
    for found in pairs.found:
        many = pairs.source.keys if found.relation in ("concat", "stack_concat") else pairs.target.keys
        places = found.sources if found.relation in ("concat", "stack_concat") else found.targets
        if found.relation in ("concat", "stack_concat", "split"):
            names = [many[place] for place in places]
            if any(map(_GATE.search, names)) and any(map(_UP.search, names)):
                here.append(found)
    if here:
        message = "gate and up are alike in shape: some models keep up before gate, which loads and computes wrongly"
        fixes = {pairs.keys(found)[1]: _swapped(found) for found in here if found.relation != "split"}
        yield Trap(Caution(code="gate_up_order", keys=_keys(pairs, here), message=message), _places(here), fixes)


def _swapped(found: Found) -> Step:
    """The step that puts the second half of what was joined before the first."""
    stacked = found.relation == "stack_concat"
    dim = found.fields.get("concat_dim", 0) if stacked else found.fields.get("dim", 0)
    if found.fields.get("transposed"):
        dim = 1 - dim
    dim += stacked
    return {"op": "reorder", "order": [1, 0]} | ({"dim": dim} if dim else {})


_BY_HEADS = re.compile(r"(?:^|[._])(?:query_key_value|linear_qkv|qkv_proj|wqkv|w_pack|in_proj_qkv)(?:[._]|$)", re.I)


def _qkv(pairs: Pairs) -> Iterator[Trap]:
    """Some models store query, key and value one head after the other."""
    here: list[Found] = []
    for found in pairs.found:
        old, new = pairs.keys(found)
        fused = old if found.relation == "split" else new if found.relation == "concat" else ""
        if fused and _BY_HEADS.search(fused):
            here.append(found)
    if here:
        message = (
            "query, key and value can stand one behind the other, or head by head (GPT-NeoX, BLOOM, Megatron): the "
            "shapes are the same. Head by head is `groups` in the step"
        )
        yield Trap(Caution(code="qkv_order", keys=_keys(pairs, here), message=message), _places(here))


def _same_name(pairs: Pairs) -> Iterator[Trap]:
    """A key that both sides have and that stands for two things: Swin's downsample, the layers of SAM."""
    theirs = frozenset(pairs.target.keys)
    here = [
        found
        for found in pairs.found
        if found.relation in ("rename", "transpose", "squeeze", "reshape", "permute_rope")
        and pairs.keys(found)[0] in theirs
        and pairs.keys(found)[0] != pairs.keys(found)[1]
    ]
    if here:
        old, new = pairs.keys(here[0])
        message = (
            f"{quoted(old)} is a key of the target too, and yet it goes to {quoted(new)}: the same names stand for "
            "other tensors there"
        )
        yield Trap(Caution(code="same_name", keys=_keys(pairs, here), message=message), _places(here))


def _weight_norm(pairs: Pairs) -> Iterator[Trap]:
    """torch reads the old form of a weight norm into the new one by itself, but not the new one into the old."""
    here = [found for found in pairs.found if _is_newer_norm(*pairs.keys(found))]
    if here:
        message = (
            "a model with the new weight norm takes the old keys as they are: renaming them is right, but not needed"
        )
        yield Trap(Caution(code="weight_norm_form", keys=_keys(pairs, here), message=message), _places(here))


def _is_newer_norm(old: str, new: str) -> bool:
    return old.endswith((".weight_g", ".weight_v")) and ".parametrizations." in new


Finder: TypeAlias = Callable[[Pairs], Iterator[Trap]]

TRAPS: tuple[Finder, ...] = (_rope, _square, _gate_up, _qkv, _same_name, _weight_norm)


def _block(key: str) -> str:
    """The block of a key, as a kind: what stands before the last component that is a number; the module without one."""
    components = shape_of(key).split(".")
    numbered = [at for at, component in enumerate(components) if component == MARK]
    return ".".join(components[: numbered[-1]] if numbered else components[:-1])


def _is_square(pairs: Pairs, found: Found) -> bool:
    rows, columns = pairs.source.shapes[found.sources[0]] or (0, 1)
    return rows == columns


def _keys(pairs: Pairs, here: Sequence[Found]) -> tuple[str, ...]:
    return tuple([pairs.source.keys[place] for found in here for place in found.sources][:NAMED])


def _places(here: Sequence[Found]) -> frozenset[int]:
    return frozenset([place for found in here for place in found.sources])
