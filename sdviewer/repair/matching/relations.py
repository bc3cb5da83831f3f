"""What makes a tensor of one shape one of another: the elements are the same, and only where they stand differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sdviewer.repair.matching.families import Shape
from sdviewer.repair.matching.found import Relation


def relation_of(shape: Shape, other: Shape) -> tuple[Relation, dict[str, Any]] | None:
    """What makes a tensor of one shape one of the other, with its fields; None where no moving of elements does.

    `dims` of a transpose of more than two axes are those of the one shape in the order of the other.
    """
    if shape is None or other is None or shape == other:
        return "rename", {}
    if len(shape) == len(other) == 2 and shape == other[::-1]:
        return "transpose", {}
    full, full_b = [size for size in shape if size != 1], [size for size in other if size != 1]
    if full == full_b:
        if len(shape) > len(other) and (dims := _squeezed(shape, other)) is not None:
            return "squeeze", {"dims": dims}
        return "reshape", {"shape": list(other)}
    if len(shape) == len(other) and sorted(shape) == sorted(other):
        return "transpose", {"dims": next(permutations_of(shape, other))}
    return None


def _squeezed(shape: tuple[int, ...], other: tuple[int, ...]) -> list[int] | None:
    """The axes of size 1 that go, the last first, so that the others are left."""
    too_many = len(shape) - len(other)
    dims = [at for at, size in enumerate(shape) if size == 1][-too_many:]
    left = tuple([size for at, size in enumerate(shape) if at not in dims])
    return dims if left == other else None


def permutations_of(shape: tuple[int, ...], other: tuple[int, ...]) -> Iterator[list[int]]:
    """For each axis of the other the one that becomes it: first as kernels of TensorFlow and Flax, then in turn.

    Those are (height, width, in, out), where torch has (out, in, height, width). Both shapes have the same sizes.
    """
    count = len(shape)
    kernel = [count - 1, count - 2, *range(count - 2)]
    if [shape[at] for at in kernel] == list(other):
        yield kernel
    free = list(range(count))
    in_turn = []
    for size in other:
        at = next(at for at in free if shape[at] == size)
        free.remove(at)
        in_turn.append(at)
    if in_turn != kernel:
        yield in_turn
