"""add: put a new tensor into the state dict."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places
from sdviewer.repair.script.parts.elements import element
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.tensors import axis, put_entries


def add(
    checkpoint: Checkpoint,
    *,
    key: str,
    fill: Any = "zeros",
    shape: Sequence[int] | None = None,
    like: str = "",
    dtype: str = "",
    after: str = "",
    mean: float = 0.0,
    std: float = 1.0,
    seed: int = 0,
    where: Chosen | None = None,
) -> Done:
    """Put a new tensor behind the key `after`, or at the end.

    It has the `shape` and `dtype` given, or those of the key `like`; "head.weight[0]" is the size of dimension 0 alone.
    """
    places = chosen_places(checkpoint, where)
    if key in places:
        raise RecipeError(f"there is a key {key!r} already")
    if not places or (after and after not in places):
        raise RecipeError(f"cannot add {key!r}: there is no key {after!r}")
    place = places[after] if after else max(places.values())
    target = getattr(torch, dtype or ("int64" if fill == "arange" else "float32"))
    if shape is None:
        shape, found = shape_like(checkpoint, key, like, places)
        target = target if dtype else found
    count = math.prod(shape)
    if fill == "arange":
        for last in range(max(0, count - 2), count):
            element(last, target, rounded=False)
        new = torch.arange(count).to(target)
    elif fill == "normal":
        if not (target.is_floating_point or target.is_complex):
            raise RecipeError(f"cannot add {key!r}: {target} cannot hold random numbers")
        drawn = islice(normal_numbers(seed), 2 * count if target.is_complex else count)
        numbers = torch.tensor(list(drawn), dtype=torch.float64) * std + mean
        new = (torch.view_as_complex(numbers.reshape(-1, 2)) if target.is_complex else numbers).to(target)
    else:
        new = element({"zeros": 0, "ones": 1}.get(fill, fill), target).expand(count).clone()
    outputs: list[Sequence[Entry]] = [(entry,) for entry in checkpoint.entries]
    outputs[place] = (checkpoint.entries[place], Entry(key, new.reshape(list(shape)), ()))
    return Done(1, put_entries(checkpoint, outputs))


def shape_like(
    checkpoint: Checkpoint, key: str, like: str, places: dict[str, int]
) -> tuple[Sequence[int], torch.dtype]:
    """The shape and the dtype of another key, or the sizes of the dimensions named behind it."""
    axes = re.fullmatch(r"(.*)\[\s*(-?\d{1,3}(?:\s*,\s*-?\d{1,3})*)\s*\]", like, re.DOTALL)
    name = axes[1] if axes and like not in places else like
    if name not in places or not isinstance(checkpoint.entries[places[name]].value, torch.Tensor):
        raise RecipeError(f"cannot add {key!r}: there is no tensor {name!r} to be like")
    entry = checkpoint.entries[places[name]]
    if not axes or name == like:
        return entry.value.shape, entry.value.dtype
    dims = [axis("cannot add a tensor like", entry, int(dim)) for dim in axes[2].split(",")]
    return [entry.value.shape[dim] for dim in dims], entry.value.dtype


def normal_numbers(seed: int) -> Iterator[float]:
    """The numbers of NumPy's RandomState(seed).standard_normal: the Mersenne Twister by the polar method."""
    state = [seed]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + i) & 0xFFFFFFFF)
    source = random.Random()
    source.setstate((3, (*state, 624), None))
    while True:
        x, y = 2.0 * source.random() - 1.0, 2.0 * source.random() - 1.0
        square = x * x + y * y
        if 0.0 < square < 1.0:
            factor = math.sqrt(-2.0 * math.log(square) / square)
            yield from (factor * y, factor * x)
