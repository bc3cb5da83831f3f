"""weight_norm, spectral_norm: weights that torch keeps as several tensors, in an old and a new form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from sdviewer.repair.script.parts.checkpoint import Checkpoint, Chosen, Done, Entry, chosen_places, warn
from sdviewer.repair.script.parts.failures import RecipeError
from sdviewer.repair.script.parts.gathering import gathered
from sdviewer.repair.script.parts.tensors import as_float, axis, impossible, made, needs_floats, put_entries


def weight_norm(checkpoint: Checkpoint, *, to: str = "folded", where: Chosen | None = None) -> Done:
    """Fold directions and magnitudes into the weight, or bring their keys into the other form."""
    return reparametrized(
        checkpoint, where, to, ("_v", "_g"), ("original1", "original0"), "weight norm", fold_weight_norm
    )


def spectral_norm(
    checkpoint: Checkpoint, *, to: str = "folded", dim: int | None = None, where: Chosen | None = None
) -> Done:
    """Divide weights by their largest singular value, by the vectors as they are, or bring their keys into a form."""
    old, new = ("_orig", "_u", "_v"), ("original", "0._u", "0._v")
    return reparametrized(
        checkpoint, where, to, old, new, "spectral norm", lambda parts: fold_spectral_norm(parts, dim)
    )


def reparametrized(
    checkpoint: Checkpoint,
    where: Chosen | None,
    to: str,
    old: Sequence[str],
    new: Sequence[str],
    what: str,
    fold: Callable[[Sequence[Entry]], Callable[[], torch.Tensor]],
) -> Done:
    """Fold every weight that is in several tensors, or give these the keys of the form `to`."""
    places = chosen_places(checkpoint, where)
    found = {**dict(old_form(places, old)), **dict(new_form(places, new, what))}
    sought = (f"*{old[0]} with {' and '.join('*' + part for part in old[1:])}",)

    def join(key: str, parts: Mapping[int, Entry]) -> torch.Tensor:
        ordered = [parts[number] for number in range(len(parts))]
        compute = fold(ordered)
        return made(checkpoint, what, [entry.value for entry in ordered], compute)

    if to == "folded":
        return gathered(checkpoint, found, sought, join)
    outputs: list[Sequence[Entry]] = [(entry,) for entry in checkpoint.entries]
    for weight, parts in found.items():
        fold([checkpoint.entries[parts[part]] for part in range(len(parts))])
        module, dot, name = weight.rpartition(".")
        for part, place in parts.items():
            key = weight + old[part] if to == "old" else f"{module}{dot}parametrizations.{name}.{new[part]}"
            outputs[place] = (checkpoint.entries[place]._replace(key=key),)
    matched = sum(map(len, found.values()))
    return Done(matched, put_entries(checkpoint, outputs), () if found else sought)


def old_form(places: Mapping[str, int], old: Sequence[str]) -> Iterator[tuple[str, dict[int, int]]]:
    """Weights with parts such as `weight_g` and `weight_v`."""
    for key in places:
        weight = key.removesuffix(old[0])
        parts = {number: places[weight + part] for number, part in enumerate(old) if weight + part in places}
        if weight not in ("", key) and not weight.endswith(".") and len(parts) == len(old):
            yield weight, parts


def new_form(places: Mapping[str, int], new: Sequence[str], what: str) -> Iterator[tuple[str, dict[int, int]]]:
    """Weights with parts such as `parametrizations.weight.original0`."""
    lists: dict[str, dict[str, int]] = {}
    for key, place in places.items():
        start = 0 if key.startswith("parametrizations.") else key.rfind(".parametrizations.") + 1
        if key.startswith("parametrizations.", start):
            name, _, part = key[start + len("parametrizations.") :].partition(".")
            lists.setdefault(f"{key[:start]}parametrizations.{name}", {})[part] = place
    for prefix, parts in lists.items():
        if parts.keys() >= set(new):
            if len(parts) > len(new):
                raise RecipeError(f"{prefix!r} has further parametrizations besides {what}")
            module, _, name = prefix.rpartition("parametrizations.")
            yield module + name, {number: parts[part] for number, part in enumerate(new)}


def fold_weight_norm(parts: Sequence[Entry]) -> Callable[[], torch.Tensor]:
    """v times g over the norm of v; the dimension of the magnitudes is seen from their shape."""
    v, g = (needs_floats(entry, "cannot fold the weight norm of") for entry in parts)
    ones = [[size if dim == own else 1 for dim, size in enumerate(v.shape)] for own in range(v.dim())]
    dims: list[int | None] = (
        [None] if g.dim() == 0 else [dim for dim, shape in enumerate(ones) if list(g.shape) == shape]
    )
    if g.dtype != v.dtype or not dims:
        raise impossible("cannot fold the weight norm of", parts[1], "these are no magnitudes of the weight")
    dim = dims[0]

    def compute() -> torch.Tensor:
        # NumPy adds up as sdviewer does; torch in an order that depends on the machine.
        wide, size = as_float(v).contiguous(), as_float(g)
        others = tuple([one for one in range(v.dim()) if one != dim])
        squares = np.square(np.abs(wide.numpy()).astype(np.float64)).sum(axis=others, keepdims=dim is not None)
        norm = torch.from_numpy(np.asarray(np.sqrt(squares))).to(size.abs().dtype)
        if dim in (0, v.dim() - 1):
            return (wide * (size / norm)).to(v.dtype)
        ratio = (size / as_float(norm.to(v.dtype))).to(v.dtype)
        return (wide * as_float(ratio)).to(v.dtype)

    return compute


def fold_spectral_norm(parts: Sequence[Entry], dim: int | None) -> Callable[[], torch.Tensor]:
    """The weight over u W v, computed in float64 and rounded once."""
    what = "cannot fold the spectral norm of"
    weight, u, v = (needs_floats(entry, what) for entry in parts)
    shape = list(weight.shape)
    dims = range(len(shape)) if dim is None else [axis(what, parts[0], dim)]
    rest = [math.prod(shape[:one]) * math.prod(shape[one + 1 :]) for one in range(len(shape))]
    fitting = [one for one in dims if [list(u.shape), list(v.shape)] == [[shape[one]], [rest[one]]]]
    if not fitting or not weight.dtype == u.dtype == v.dtype:
        raise impossible(what, parts[1], f"it does not go with {parts[0].key!r}")
    if dim is None and len(shape) > 2 and len(fitting) > 1:
        warn(f"the shapes do not say which dimension the rows of {parts[0].key!r} are: 0 was taken")

    def compute() -> torch.Tensor:
        wide, left, right = (as_float(tensor).contiguous().numpy() for tensor in (weight, u, v))
        exact = np.complex128 if weight.is_complex() else np.float64
        matrix = np.moveaxis(wide, fitting[0], 0).reshape(len(left), -1).astype(exact)
        sigma = np.vdot(left.astype(exact), matrix @ right.astype(exact)).astype(wide.dtype)
        return torch.from_numpy(np.asarray(wide / sigma)).to(weight.dtype)

    return compute
