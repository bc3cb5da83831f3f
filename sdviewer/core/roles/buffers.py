"""Buffers by the names that libraries give them, or because a pickled module says so."""

from __future__ import annotations

from sdviewer.core.roles.role import Place, TensorRole

_NAMES = {
    "num_batches_tracked": "batches seen by a batch norm",
    "running_mean": "running mean of a norm",
    "running_var": "running variance of a norm",
    "token_type_ids": "token types, all zero",
    "attn_mask": "attention mask",
    "causal_mask": "causal mask",
    "masked_bias": "value where attention is masked",
    "n_averaged": "how many models were averaged",
}


def guess(place: Place) -> TensorRole | None:
    """What is registered and not trained."""
    words = _NAMES.get(place.name)
    if words is not None:
        return TensorRole(words, "buffer")
    shape = place.shape
    # GPT-2 keeps its causal mask as a buffer of that name, square and with two axes before it.
    if place.name == "bias" and len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]:
        return TensorRole(f"causal mask, {shape[2]:,} positions", "buffer")
    return TensorRole("", "buffer") if place.info.kind == "buffer" else None
