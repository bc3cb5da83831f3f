"""What is left: source tensors that no newer code keeps, targets that are another name of what is there."""

from __future__ import annotations

from collections.abc import Iterable

from sdviewer.repair.matching.families import Shape, Side
from sdviewer.repair.matching.names import words_of
from sdviewer.repair.matching.similarity import excluded, name_similarity
from sdviewer.repair.matching.state import State
from sdviewer.repair.matching.words import TRANSIENT

ALIKE = 0.4
"""What names have to say of two tensors that are the last of their shape."""

HEADS = frozenset(
    {"head", "output", "decoder", "proj", "logits", "embed", "embeddings", "embedding", "tokens", "shared"}
)


def dropped(state: State) -> dict[int, str]:
    """Free source tensors that go, with the reason; "" where only no place is left for them."""
    source, target = state.source, state.target
    wanted = {target.shapes[j] for j in state.free_t}
    found = {}
    for i in state.free_s:
        leaf = source.names[i].parts[-1]
        shape = source.shapes[i]
        reason = why_computed_again(leaf, shape)
        if not reason and shape == () and leaf not in ("weight", "bias"):
            reason = "single number that the target does not keep"
        if reason or not state.free_t or (None not in wanted and shape not in wanted):
            found[i] = reason
    return found


def why_computed_again(leaf: str, shape: Shape) -> str:
    """Why newer code does not keep a tensor, by the last component of its key and by its shape; "" where it does."""
    mask = shape is not None and len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]
    return TRANSIENT.get(leaf, "mask, computed again" if mask else "")


def take_ties(state: State) -> None:
    """Targets that are one tensor with another that is filled already."""
    filling = {j: found for found in state.found if len(found.sources) == 1 for j in found.targets}
    for group in state.target.table.ties:
        filled = [j for j in group if j in filling]
        for j in group:
            if filled and j in state.free_t:
                told = (f"The model ties it to {state.target.table.keys[filled[0]]}",)
                one = filling[filled[0]]
                state.take([one.sources[0]], [j], "tie", evidence=one.evidence, by="key", reasons=told)
    filled_by_kind: dict[tuple[Shape, str], list[int]] = {}
    for j in filling:
        if _is_head(state.target.names[j].parts):
            filled_by_kind.setdefault((state.target.shapes[j], state.target.names[j].role), []).append(j)
    for j in list(state.free_t):
        shape, name = state.target.shapes[j], state.target.names[j]
        if shape is None or len(shape) not in (1, 2) or not _is_head(name.parts):
            continue
        same = filled_by_kind.get((shape, name.role), [])
        if len(same) == 1:
            told = (f"Same shape as {state.target.table.keys[same[0]]}, which is filled: often one tensor",)
            state.take([filling[same[0]].sources[0]], [j], "tie", evidence="likely", by="shape", reasons=told)


def take_last_ones(state: State) -> None:
    """Pair what is the last of its shape on either side and named alike, also where only one is called a bias.

    Somebody who edits keys by hand can write `head_b` for `head.bias`.
    """
    some, others = (
        _last_of_their_shapes(side, free) for side, free in ((state.source, state.free_s), (state.target, state.free_t))
    )
    for shape, i in some.items():
        j = others.get(shape, -1)
        if j < 0 or not state.can(i, j):
            continue
        one, two = state.source.templates[i], state.target.templates[j]
        if name_similarity(one, two) >= ALIKE and not excluded(one, two):
            told = ("The last of its shape on both sides", "The words of both keys are the same or mean the same")
            state.take([i], [j], evidence="ambiguous", by="shape", reasons=told)


def _last_of_their_shapes(side: Side, free: Iterable[int]) -> dict[Shape, int]:
    """Shapes of which one tensor is free; what newer code computes anew, and single numbers, do not count."""
    found: dict[Shape, int] = {}
    twice: set[Shape] = set()
    for at in free:
        shape = side.shapes[at]
        if shape and not why_computed_again(side.names[at].parts[-1], shape):
            twice.update({shape} if shape in found else ())
            found[shape] = at
    return {shape: at for shape, at in found.items() if shape not in twice}


def _is_head(parts: tuple[str, ...]) -> bool:
    return len(parts) > 1 and bool(HEADS & set(words_of(parts[-2]))) and not any(part.isdecimal() for part in parts)
