"""Gated layers that are fused, and mixtures of experts with their routers."""

from __future__ import annotations

import re

from sdviewer.core import text
from sdviewer.core.roles.role import Part, Place, TensorRole, joined

_EXPERT = re.compile(r"(^|\.)experts\.(\d+)\.")


def guess(place: Place) -> TensorRole | None:
    """Gate and up in one, experts in one, the router."""
    return _fused_gate(place) or _stacked(place) or _router(place)


def _fused_gate(place: Place) -> TensorRole | None:
    """Phi-3 and GLM: all of the gate, then all of up; the layer down tells its size."""
    if place.layer != "gate_up_proj" or place.name not in ("weight", "bias"):
        return None
    down = place.at(joined(place.parent, "down_proj"), "weight")
    if down is None or len(down) != 2 or place.shape[0] != 2 * down[1]:
        return None
    half = down[1]
    parts = (Part(0, "gate", 0, half), Part(0, "up", half, 2 * half))
    bias = "bias of " if place.name == "bias" else ""
    related = place.related_at(("down", joined(place.parent, "down_proj.weight")))
    return TensorRole(f"{bias}fused gate·up, 2 × {text.count(half)}", parts=parts, related=related)


def _stacked(place: Place) -> TensorRole | None:
    """All experts of a layer in one tensor: (experts, out, in), or (experts, in, out), then perhaps interleaved."""
    up, down = place.beside("gate_up_proj"), place.beside("down_proj")
    if up is None or down is None or len(up) != 3 or len(down) != 3 or up[0] != down[0]:
        return None
    count = text.plural(up[0], "expert")
    if place.name == "down_proj":
        return TensorRole(f"down of {count}", related=place.related(("gate·up", "gate_up_proj")))
    if place.name != "gate_up_proj":
        return None
    half = down[2]
    straight = up[1] == 2 * half and up[2] == down[1]
    parts = (Part(1, "gate", 0, half), Part(1, "up", half, 2 * half)) if straight else ()
    return TensorRole(f"fused gate·up of {count}", parts=parts, related=place.related(("down", "down_proj")))


def _router(place: Place) -> TensorRole | None:
    """A layer with one output an expert, beside these."""
    if place.name != "weight" or place.layer not in ("gate", "router") or len(place.shape) != 2:
        return None
    experts = joined(place.parent, "experts")
    count = len([name for name in place.keys.children.get(experts, ()) if name.isdigit()])
    stacked = place.at(experts, "gate_up_proj")
    if place.shape[0] not in (count, stacked[0] if stacked is not None else 0) or place.shape[0] < 2:
        return None
    return TensorRole(f"router to {text.count(place.shape[0])} experts")
