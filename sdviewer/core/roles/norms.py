"""Norm layers: batch norm by its running statistics, layer, group and RMS norm as far as names and shapes tell.

A layer norm and a group norm have the same shapes; a norm without a shift can be an RMS norm or a layer norm without
one. Where no name says which, it is called a norm.
"""

from __future__ import annotations

import re

from sdviewer.core import text
from sdviewer.core.roles.role import Place, TensorRole, joined

_SCALES = ("weight", "gamma", "scale", "g")
_SHIFTS = ("bias", "beta", "shift")
_NAMED = re.compile(r"norm|(^|_)(ln|bn|gn|ln\w?|layrnorm)(_|\d|$)|layrnorm", re.IGNORECASE)
_STATISTICS = {"running_mean": "running mean", "running_var": "running variance"}
_LLAMA = ("mlp.gate_proj", "mlp.gate_up_proj", "mlp.experts.gate_up_proj", "feed_forward.w1", "ffn_gate", "ffn_gate_up")


def guess(place: Place) -> TensorRole | None:
    """Scale, shift and running statistics."""
    mean, variance = place.beside("running_mean"), place.beside("running_var")
    if mean is not None and mean == variance and len(mean) == 1:
        return _batch(place, mean[0])
    return _layer_scale(place) or _scale_or_shift(place)


def _layer_scale(place: Place) -> TensorRole | None:
    """One factor a channel for a whole branch, as in CaiT and ConvNeXt."""
    named = place.name in ("layer_scale_parameter", "layer_scale", "lambda1") or (
        place.name == "gamma" and (re.fullmatch(r"ls\d*", place.layer) or place.beside("beta") is None)
    )
    if not named or sum(size != 1 for size in place.shape) != 1:
        return None
    if place.name == "gamma" and _NAMED.search(_spoken(place)):
        return None
    return TensorRole(f"layer scale, {text.plural(place.info.elements, 'channel')}")


def _batch(place: Place, channels: int) -> TensorRole | None:
    of = f"of a batch norm, {text.plural(channels, 'channel')}"
    names = ("weight", "bias", "running_mean", "running_var")
    words = ("scale", "shift", "running mean", "running variance")
    related = place.related(*((word, name) for word, name in zip(words, names, strict=True) if name != place.name))
    if place.name in _STATISTICS:
        return TensorRole(f"{_STATISTICS[place.name]} {of}", "buffer", related=related)
    if place.name == "num_batches_tracked" and place.info.elements == 1:
        return TensorRole("batches seen by a batch norm", "buffer", related=related)
    if place.shape != (channels,):
        return None
    if place.name == "weight":
        return TensorRole(f"scale {of}", related=related)
    return TensorRole(f"shift {of}", related=related) if place.name == "bias" else None


def _scale_or_shift(place: Place) -> TensorRole | None:
    name, layer = place.name, place.layer
    if len(place.shape) != 1 or name not in (*_SCALES, *_SHIFTS) or not _NAMED.search(_spoken(place)):
        return None
    scale = next((found for found in _SCALES if place.beside(found) is not None), "")
    shift = next((found for found in _SHIFTS if place.beside(found) is not None), "")
    if not scale or place.beside(scale) != place.shape or (shift and place.beside(shift) != place.shape):
        return None
    kind = _kind(place, layer, bool(shift))
    words = f"{'scale' if name == scale else 'shift'} of {kind}, {text.count(place.shape[0])} {_unit(kind)}"
    related = place.related(("shift", shift)) if name == scale and shift else place.related(("scale", scale))
    return TensorRole(words, related=() if name == scale and not shift else related)


def _spoken(place: Place) -> str:
    """The name of the layer; above a number, as in a list of norms, that of the list."""
    parts = place.module.split(".")
    while len(parts) > 1 and parts[-1].isdigit():
        parts.pop()
    return parts[-1]


def _unit(kind: str) -> str:
    return "channels" if "group" in kind else "features"


def _kind(place: Place, layer: str, shifts: bool) -> str:
    name = _spoken(place).lower()
    if shifts:
        if "group" in name or re.match(r"gn\d*$", name):
            return "a group norm"
        if "layer" in name or "layr" in name or re.match(r"ln(_|\d|$)", name):
            return "a layer norm"
        return "a norm"
    if "rms" in name or _is_rms(place):
        return "an RMS norm"
    return "a norm without a shift"


def _is_rms(place: Place) -> bool:
    """A block of Llama's kind: a norm after attention, and a gated layer behind it; none of its norms shifts."""
    two = (
        place.at(joined(place.parent, "post_attention_layernorm"), "weight") is not None
        or place.at(joined(place.parent, "ffn_norm"), "weight") is not None
    )
    if not two or place.at(joined(place.parent, "input_layernorm"), "bias") is not None:
        return False
    gated = any(
        place.at(joined(place.parent, name), "weight") is not None or place.at(place.parent, name) is not None
        for name in _LLAMA
    )
    return gated or place.at(joined(place.parent, "block_sparse_moe.gate"), "weight") is not None
