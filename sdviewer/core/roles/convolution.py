"""Convolutions: their filters, and whether they are pointwise, depthwise or transposed, where the shapes tell.

torch.nn.ConvNd keeps (out, in a group, *kernel), torch.nn.ConvTransposeNd (in, out a group, *kernel).
"""

from __future__ import annotations

import re

from sdviewer.core import text
from sdviewer.core.roles.role import Place, Shape, TensorRole, joined

_TURNED = re.compile(r"deconv|transpose|convt|conv_t", re.IGNORECASE)
_UP = re.compile(r"(^|[_.])up", re.IGNORECASE)
"""What a transposed convolution may be called; one that doubles a picture has an even kernel."""
_DEPTHWISE = re.compile(r"(^|[_.])(dw|dwconv|conv_dw|depthwise\w*|dw_conv)($|[_.\d])", re.IGNORECASE)

_NEAR = 12
"""Keys between two convolutions of a block at the most: a norm with its statistics, a bias."""


def guess(place: Place) -> TensorRole | None:
    """The weight or the bias of a convolution."""
    weight = place.beside("weight")
    if place.name not in ("weight", "bias") or weight is None or not 3 <= len(weight) <= 5:
        return None
    if place.name == "bias":
        return _bias(place, weight)
    bias = place.beside("bias")
    if bias is not None and (len(bias) != 1 or bias[0] not in weight[:2]):
        return None
    related = place.related(("bias", "bias"))
    first, second, kernel = weight[0], weight[1], weight[2:]
    if len(weight) == 3 and not _is_convolution(place):
        return None
    size = "×".join(map(str, kernel)) if len(kernel) > 1 else f"of {kernel[0]}"
    if bias is not None and bias[0] != first:
        words = f"transposed convolution {size}, {first:,} in, {second:,} out"
        return TensorRole(words, related=related)
    decided = first != second and bias is not None
    if not decided and (_TURNED.search(place.module) or (_UP.search(place.module) and kernel[0] % 2 == 0)):
        return TensorRole(f"convolution or transposed one {size}, {first:,} × {second:,}", related=related)
    if second == 1 and first > 1 and _is_depthwise(place, first):
        return TensorRole(f"depthwise convolution {size}, {text.count(first)} channels", related=related)
    kind = "pointwise convolution" if all(step == 1 for step in kernel) else f"convolution {size}"
    groups = _groups(place, weight)
    inside = f"{second:,} in a group, {groups} groups" if groups > 1 else f"{second:,} in"
    return TensorRole(f"{kind}, {inside}, {first:,} out", related=related)


def _is_convolution(place: Place) -> bool:
    """A weight with three axes can be many things: its name has to say it."""
    return "conv" in place.module.lower() or place.shape[2] == 1


def _bias(place: Place, weight: Shape) -> TensorRole | None:
    if len(place.shape) != 1 or place.shape[0] not in weight[:2] or (len(weight) == 3 and "conv" not in place.module):
        return None
    return TensorRole(f"bias of a convolution, {place.shape[0]:,} out", related=place.related(("weight", "weight")))


def _is_depthwise(place: Place, channels: int) -> bool:
    """One input a filter: one a channel where the name says so, or what comes before gives as many channels."""
    if _DEPTHWISE.search(place.module):
        return True
    before = _before(place)
    # One that takes one channel itself is a branch beside this one, of a picture or a sound with one channel.
    return before is not None and before[0] == channels and before[1] > 1


def _before(place: Place) -> Shape | None:
    """The last weight with as many axes before this one, in the same block and near to it in the file."""
    block = f"{place.parent.rpartition('.')[0] or place.parent}."
    if block == ".":
        return None
    order, at = place.keys.order, place.keys.position[place.key]
    for key in reversed(order[max(0, at - _NEAR) : at]):
        shape = place.keys.tensors[place.keys.index[key]].shape
        if len(shape) == len(place.shape) and key.endswith(".weight") and key.startswith(block):
            return shape
    return None


def _groups(place: Place, weight: Shape) -> int:
    """More than one where conv2 takes fewer channels than conv1 gives, as in ResNeXt; else 1."""
    number = re.fullmatch(r"conv(\d+)", place.layer)
    if number is None or all(step == 1 for step in weight[2:]):
        return 1
    before = place.at(joined(place.parent, f"conv{int(number[1]) - 1}"), "weight")
    if before is None or len(before) != len(weight) or before[0] % weight[1] or before[0] != weight[0]:
        return 1
    return before[0] // weight[1]
