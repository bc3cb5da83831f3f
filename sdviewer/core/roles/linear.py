"""Linear layers that nothing more is known of: inputs and outputs, where a bias or a name tells which."""

from __future__ import annotations

from sdviewer.core.roles.role import Place, TensorRole

_NAMES = frozenset(("gate_proj", "up_proj", "down_proj", "fc1", "fc2", "c_fc", "w1", "w2", "w3", "linear1", "linear2"))
_NAMES |= {"ffn_gate", "ffn_up", "ffn_down", "dense_h_to_4h", "dense_4h_to_h", "wi", "wo", "wi_0", "wi_1", "out_proj"}


def guess(place: Place) -> TensorRole | None:
    """torch keeps (out, in); GPT-2's Conv1D keeps (in, out), which only its bias tells."""
    weight, bias = place.beside("weight"), place.beside("bias")
    if place.name not in ("weight", "bias") or weight is None or len(weight) != 2:
        return None
    if bias is None:
        named = place.layer in _NAMES
        return TensorRole(f"linear layer, {weight[1]:,} in, {weight[0]:,} out") if named else None
    if bias == weight[:1]:
        turned, (outputs, inputs) = False, weight
    elif bias == weight[1:]:
        turned, (inputs, outputs) = True, weight
    else:
        return None
    if place.name == "bias":
        return TensorRole(f"bias of a linear layer, {outputs:,} out", related=place.related(("weight", "weight")))
    words = f"linear layer, {inputs:,} in, {outputs:,} out"
    return TensorRole(f"{words}, kept as in × out" if turned else words, related=place.related(("bias", "bias")))
