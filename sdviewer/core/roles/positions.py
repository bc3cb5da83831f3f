"""Position tables, tokens that a model adds itself, and the indexes that go with tables."""

from __future__ import annotations

import math

from sdviewer.core import text
from sdviewer.core.roles.role import Place, TensorRole, joined

_TABLES: tuple[str, ...] = (
    "pos_embed",
    "pos_embedding",
    "position_embeddings",
    "position_embedding",
    "positional_embedding",
    "wpe",
)
_TABLES += ("embed_positions", "position_embd", "pos_emb", "positional_embeddings")
_TOKENS = {
    "cls_token": "class token",
    "class_embedding": "class token",
    "class_token": "class token",
    "dist_token": "distillation token",
    "mask_token": "mask token",
    "register_tokens": "register tokens",
    "reg_token": "register tokens",
}


def guess(place: Place) -> TensorRole | None:
    """A table of positions, a token of the model, a table or an index of relative positions."""
    return _table(place) or _token(place) or _relative(place) or _rotary(place)


def _table(place: Place) -> TensorRole | None:
    name = place.layer if place.name == "weight" else place.name
    if name not in _TABLES:
        return None
    sizes = tuple(size for size in place.shape if size != 1)
    if len(place.shape) == 3 and place.shape[1] == 1:
        return None  # (positions, 1, features) or (1, 1, features)
    if len(sizes) != 2 or place.shape[-2:] != sizes:
        return None
    positions, features = sizes
    return TensorRole(f"position table, {text.count(positions)} positions{_grid(place, positions)} × {features:,}")


def _grid(place: Place, positions: int) -> str:
    """That a table of an image has a square of places, and how many more: only beside tokens that say so."""
    if not any(place.at(place.module, name) is not None for name in ("cls_token", "class_embedding", "class_token")):
        return ""
    more = 2 if place.at(place.module, "dist_token") is not None else 1
    side = math.isqrt(max(positions - more, 0))
    return f" ({side} × {side} and {more})" if side > 1 and side * side == positions - more else ""


def _token(place: Place) -> TensorRole | None:
    words = _TOKENS.get(place.name)
    if words is None or not place.shape or any(size != 1 for size in place.shape[:-2]):
        return None
    many = place.shape[-2] if len(place.shape) > 1 else 1
    if many > 1 and not words.startswith("register"):
        return None
    count = f"{text.count(many)} × " if many > 1 else ""
    return TensorRole(f"{words}, {count}{text.plural(place.shape[-1], 'feature')}")


def _relative(place: Place) -> TensorRole | None:
    shape = place.shape
    if place.name == "relative_position_bias_table" and len(shape) == 2:
        words = f"relative position biases, {text.count(shape[0])} offsets × {text.plural(shape[1], 'head')}"
        return TensorRole(words, related=place.related(("index", "relative_position_index")))
    if place.name == "relative_position_index":
        words = "index into the relative position biases"
        return TensorRole(words, "buffer", related=place.related(("biases", "relative_position_bias_table")))
    if place.layer == "relative_attention_bias" and place.name == "weight" and len(shape) == 2:
        return TensorRole(f"relative position biases, {text.count(shape[0])} buckets × {text.plural(shape[1], 'head')}")
    if place.name in ("rel_pos_h", "rel_pos_w") and len(shape) == 2:
        way = "rows" if place.name.endswith("h") else "columns"
        related = place.related(("other way", "rel_pos_w" if way == "rows" else "rel_pos_h"))
        return TensorRole(f"relative positions of {way}, {text.count(shape[0])} offsets", related=related)
    of_swin = place.name == "logit_scale" and place.at(joined(place.module, "qkv"), "weight") is not None
    if of_swin and len(shape) == 3 and shape[1:] == (1, 1):
        return TensorRole(f"temperature of {text.plural(shape[0], 'head')}")
    return None


def _rotary(place: Place) -> TensorRole | None:
    if place.name == "inv_freq" and len(place.shape) == 1:
        return TensorRole(f"rotation frequencies of positions, {text.count(place.shape[0])} pairs", "buffer")
    if place.key == "rope.freqs" and len(place.shape) == 1:
        return TensorRole(f"rotation frequencies of positions, {text.count(place.shape[0])} pairs", "buffer")
    if place.name == "position_ids":
        return TensorRole("positions counted up", "buffer")
    return None
