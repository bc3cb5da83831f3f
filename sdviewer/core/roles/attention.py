"""Queries, keys and values, fused or not, and their heads.

Which way a fused one is laid out is a fact of each code base: torch's `MultiheadAttention`, timm's `qkv`, GPT-2's
`c_attn`, `Wqkv`, `to_qkv` and Phi-3's `qkv_proj` hold all of Q, then K, then V; Megatron's `query_key_value` (GPT-NeoX,
BLOOM, Falcon) and InternLM2's `wqkv` go head by head, and their parts are no runs of rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sdviewer.core import text
from sdviewer.core.roles.role import Heads, Part, Place, Related, TensorRole, joined

FUSED = frozenset({"qkv", "to_qkv", "qkv_proj", "Wqkv", "W_pack", "c_attn", "attn_qkv", "in_proj", "qkv_linear"})
"""Layers whose rows are all of Q, then all of K, then all of V."""
INTERLEAVED = frozenset({"query_key_value", "linear_qkv", "wqkv"})
"""Layers whose rows go head by head."""
FUSED_KV = frozenset({"kv", "kv_proj", "to_kv"})
ALONE: tuple[tuple[str, str, str], ...] = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("query_proj", "key_proj", "value_proj"),
    ("wq", "wk", "wv"),
    ("to_q", "to_k", "to_v"),
    ("q", "k", "v"),
    ("q_lin", "k_lin", "v_lin"),
    ("attn_q", "attn_k", "attn_v"),
    ("q_linear", "k_linear", "v_linear"),
    ("linear_q", "linear_k", "linear_v"),
    ("W_q", "W_k", "W_v"),
)
"""What the three layers are called where they are not fused."""
PACKED = {"in_proj_weight": "in_proj_bias", "in_proj_bias": "in_proj_weight"}
"""torch.nn.MultiheadAttention: the fused projection is no layer of its own."""
OUT: tuple[str, ...] = (
    "proj",
    "out_proj",
    "o_proj",
    "dense",
    "c_proj",
    "to_out.0",
    "to_out",
    "wo",
    "Wo",
    "attn_output",
    "out_lin",
)
OUT += ("o", "out", "linear_out", "output.dense", "W_o", "out_linear", "output_proj")
"""Layers that take what attention gave; below the module of Q, K and V, `output.dense` beside it (BERT)."""
HEAD_NORMS: tuple[str, ...] = (
    "q_norm",
    "k_norm",
    "norm_q",
    "norm_k",
    "query_norm",
    "key_norm",
    "q_layernorm",
    "k_layernorm",
)
HEAD_NORMS += ("norm.query_norm", "norm.key_norm", "q_ln", "k_ln")
USUAL_SIZE = {192: 64, 768: 64, 1024: 64, 4096: 128, 5120: 128, 8192: 128}
"""Head size that nearly all published models of this width have; other widths have none (1,280 is 20 x 64 and 16 x 80).
"""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Rows of Q, of K and of V along an axis; `interleaved` where they are no runs."""

    axis: int
    q: int
    k: int
    v: int
    interleaved: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        if self.interleaved:
            return ()
        stops = (0, self.q, self.q + self.k, self.q + self.k + self.v)
        names = [(name, i) for i, name in enumerate("QKV") if stops[i] < stops[i + 1]]
        return tuple(Part(self.axis, name, stops[i], stops[i + 1]) for name, i in names)


def guess(place: Place) -> TensorRole | None:
    """Q, K, V, fused or alone, and the layer behind attention."""
    return _fused(place) or _fused_kv(place) or _alone(place) or _output(place) or _bias_of_swin(place)


# Fused


def _fused(place: Place) -> TensorRole | None:
    attention, name = _where(place, FUSED | INTERLEAVED)
    if name is None:
        return None
    layout = _layout(place, attention, name)
    if layout is None:
        return None
    axis = layout.axis if len(place.shape) > 1 else 0
    parts = tuple(part._replace(axis=axis) for part in layout.parts)
    heads = _heads(place, attention, layout.q, layout.k)
    words = "bias of the fused Q·K·V" if len(place.shape) == 1 else "fused Q·K·V"
    if layout.interleaved:
        # With fewer keys than queries it goes group by group, or not at all: Falcon has both.
        words += " interleaved head by head" if name in INTERLEAVED and layout.k == layout.q else ""
    elif axis == 1:
        words += " by columns"
    words += _in_words(heads, layout)
    shown = None if heads is None or layout.interleaved else replace(heads, axis=axis)
    return TensorRole(words, parts=parts, heads=shown, related=_partner(place))


def _where(place: Place, layers: frozenset[str]) -> tuple[str, str | None]:
    """The module of the attention and what its fused layer is called, None where this is none."""
    if place.name in PACKED:
        return place.module, "in_proj_weight"
    if place.name in ("weight", "bias") and place.layer in layers:
        return place.parent, place.layer
    return "", None


def _layout(place: Place, attention: str, name: str) -> _Layout | None:
    weight = place.at(attention, name) if name in PACKED else place.at(joined(attention, name), "weight")
    bias = place.at(attention, PACKED[name]) if name in PACKED else place.at(joined(attention, name), "bias")
    if weight is None or len(weight) < 2 or any(size != 1 for size in weight[2:]):
        return None
    rows, columns = weight[:2]
    # Whose code interleaves, or does not: a qkv that is a one-dimensional convolution, and CodeGen's qkv_proj, which
    # unlike Phi-3's has an out_proj and goes by the four parts of the machine that it was trained on.
    unclear = (name == "qkv" and len(weight) == 3) or (
        name == "qkv_proj" and place.at(joined(attention, "out_proj"), "weight") is not None
    )
    interleaved = name in INTERLEAVED or unclear
    if name == "in_proj" and bias is None:
        return None  # a state space model has one too
    if rows == 3 * columns:
        return _Layout(0, columns, columns, columns, interleaved)
    if columns == 3 * rows and name == "c_attn":
        return _Layout(1, rows, rows, rows, interleaved)
    return _grouped(place, attention, rows, columns, interleaved)


def _grouped(place: Place, attention: str, rows: int, columns: int, interleaved: bool) -> _Layout | None:
    """Fewer rows of K and V than of Q, or another width inside than outside: what the layer behind takes tells."""
    for name in OUT:
        out = place.at(joined(attention, name), "weight")
        if out is None or len(out) < 2 or any(size != 1 for size in out[2:]):
            continue
        if out[0] != columns:
            return None
        q = out[1]
        rest = rows - q
        if rest > 0 and rest % 2 == 0 and q % (rest // 2) == 0:
            return _Layout(0, q, rest // 2, rest // 2, interleaved)
        return None
    return None


def _fused_kv(place: Place) -> TensorRole | None:
    attention, name = _where(place, FUSED_KV)
    if name is None or name in PACKED:
        return None
    q = next((at for n in ("q", "to_q", "q_proj") if (at := place.at(joined(attention, n), "weight"))), None)
    weight = place.at(joined(attention, name), "weight")
    if q is None or weight is None or len(q) < 2 or weight[0] != 2 * q[0]:
        return None
    rows = q[0]
    heads = _heads(place, attention, rows, rows)
    words = f"{'bias of the ' if len(place.shape) == 1 else ''}fused K·V"
    parts = (Part(0, "K", 0, rows), Part(0, "V", rows, 2 * rows))
    return TensorRole(
        words + _in_words(heads, _Layout(0, rows, rows, rows)), parts=parts, heads=heads, related=_partner(place)
    )


# Alone


def _alone(place: Place) -> TensorRole | None:
    if place.name not in ("weight", "bias"):
        return _alone_in_torch(place)
    for names in ALONE:
        if place.layer not in names:
            continue
        weights = [place.at(joined(place.parent, name), "weight") for name in names]
        q, k, v = weights
        if q is None or k is None or v is None or not len(q) == len(k) == len(v) > 1:
            continue
        if k[0] > q[0] or q[0] % k[0]:
            return None
        which = "QKV"[names.index(place.layer)]
        rows = (q if which == "Q" else k)[0]
        heads = _heads(place, place.parent, q[0], k[0])
        if which == "V" and v[0] != k[0]:
            heads = None
        own = None if heads is None else replace(heads, count=rows // heads.size)
        words = f"bias of {which}" if place.name == "bias" else f"projection to {which}"
        words += _in_words(own, _Layout(0, rows, rows, rows))
        if which != "Q" and q[0] > k[0]:
            words += f", each for {q[0] // k[0]} of Q"
        others = [
            (f"{'QKV'[i]}", joined(joined(place.parent, name), place.name))
            for i, name in enumerate(names)
            if name != place.layer
        ]
        return TensorRole(words, heads=own, related=(*_partner(place), *place.related_at(*others)))
    return None


def _alone_in_torch(place: Place) -> TensorRole | None:
    """torch.nn.MultiheadAttention with keys or values of other widths: three weights without layers."""
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    if place.name not in names or any(place.beside(name) is None for name in names):
        return None
    which = "QKV"[names.index(place.name)]
    rows = place.shape[0]
    heads = _heads(place, place.module, rows, rows)
    words = f"projection to {which}{_in_words(heads, _Layout(0, rows, rows, rows))}"
    return TensorRole(words, heads=heads, related=place.related(("bias", "in_proj_bias")))


def _output(place: Place) -> TensorRole | None:
    """The layer that takes the heads together again."""
    if place.name not in ("weight", "bias"):
        return None
    for name in OUT:
        if not f".{place.module}".endswith(f".{name}"):
            continue
        attention = place.module[: -len(name) - 1] if place.module != name else ""
        # BERT has the projections in `attention.self`, ViT in `attention.attention`, and this beside it.
        inside = (
            [joined(attention, below) for below in ("self", "attention")] if name == "output.dense" else [attention]
        )
        attention, q = next(((at, rows) for at in inside if (rows := _rows_of_q(place, at))), ("", None))
        weight = place.beside("weight")
        if q is None or weight is None or len(weight) < 2 or weight[1] != q:
            continue
        words = "bias of the attention's output" if place.name == "bias" else "attention output"
        if place.name == "bias" or name == "c_proj":
            return TensorRole(words, related=_partner(place))
        heads = _heads(place, attention, q, q)
        shown = None if heads is None else replace(heads, axis=1)
        words += f" of{_in_words(shown, _Layout(1, q, q, q))[1:]}" if shown is not None else ""
        return TensorRole(words, heads=shown, related=_partner(place))
    return None


def _rows_of_q(place: Place, attention: str) -> int | None:
    """How many elements Q has in this module, None where it has no Q."""
    for name in sorted(FUSED | INTERLEAVED):
        layout = _layout(place, attention, name)
        if layout is not None:
            return layout.q
    packed = place.at(attention, "in_proj_weight")
    if packed is not None and len(packed) == 2:
        return packed[0] // 3
    for names in ALONE:
        shapes = [place.at(joined(attention, name), "weight") for name in names]
        if all(shape is not None and len(shape) > 1 for shape in shapes):
            assert shapes[0] is not None
            return shapes[0][0]
    return None


def _bias_of_swin(place: Place) -> TensorRole | None:
    """Swin V2 and BEiT keep biases of Q and of V, K has none."""
    if place.name in ("q_bias", "v_bias") and len(place.shape) == 1 and place.at(joined(place.module, "qkv"), "weight"):
        return TensorRole(
            f"bias of {place.name[0].upper()} in the fused Q·K·V",
            related=place.related_at(("fused Q·K·V", joined(place.module, "qkv.weight"))),
        )
    return None


def _partner(place: Place) -> tuple[Related, ...]:
    if place.name in PACKED:
        other = PACKED[place.name]
        return place.related(("bias" if other.endswith("bias") else "weight", other))
    return place.related(("bias", "bias")) if place.name == "weight" else place.related(("weight", "weight"))


# Heads


def _in_words(heads: Heads | None, layout: _Layout) -> str:
    if heads is None:
        return ""
    probably = "" if heads.sure else "probably "
    words = f", {probably}{text.plural(heads.count, 'head')} × {text.count(heads.size)}"
    return words if layout.k == layout.q else f"{words}, {text.count(layout.k // heads.size)} for K and V"


def _heads(place: Place, attention: str, q: int, k: int) -> Heads | None:
    """The heads of Q along axis 0, where a table, a norm, a rotation or the file's own words support them."""
    for size, sure in _sizes(place, attention, q):
        if 0 < size <= q and q % size == 0 and k % size == 0:
            return Heads(0, q // size, size, sure)
    return None


def _sizes(place: Place, attention: str, q: int) -> Sequence[tuple[int, bool]]:
    """Head sizes by falling trust, with whether each is supported by the file."""
    found: list[tuple[int, bool]] = []
    for name in HEAD_NORMS:
        for weight in ("weight", "scale"):
            shape = place.at(joined(attention, name), weight)
            if shape is not None and len(shape) == 1 and shape[0] < q:
                found.append((shape[0], True))
    for name in ("rel_pos_h", "rel_pos_w"):
        shape = place.at(attention, name)
        if shape is not None and len(shape) == 2:
            found.append((shape[1], True))
    found += [(q // count, True) for count in _counts(place, attention) if count > 0 and q % count == 0]
    for layer in ("rotary_emb", "rotary_embeddings", "rope"):
        freqs = place.at(joined(attention, layer), "inv_freq")
        # A rotation may turn a part of each head only: small ones prove nothing in a wide model.
        if freqs is not None and len(freqs) == 1 and 2 * freqs[0] >= 64:
            found.append((2 * freqs[0], False))
    freqs = place.at("", "rope.freqs")
    if freqs is not None and len(freqs) == 1:
        found.append((2 * freqs[0], True))  # Meta's Llama
    config = place.keys.config
    heads, size = config.get("heads", 0), config.get("head_size", 0)
    if heads and q % heads == 0 and size in (0, q // heads):
        found.append((q // heads, True))
    if q in USUAL_SIZE:
        found.append((USUAL_SIZE[q], False))
    return found


def _counts(place: Place, attention: str) -> Sequence[int]:
    """Head counts that tables beside the attention have an axis for."""
    found = []
    for module, name, axis, rank in (
        ("", "relative_position_bias_table", 1, 2),
        ("relative_position_bias", "relative_position_bias_table", 1, 2),
        ("rel_pos", "relative_position_bias_table", 1, 2),
        ("relative_attention_bias", "weight", 1, 2),
        ("", "logit_scale", 0, 3),
        ("", "attention_biases", 0, 2),
        ("", "pos_bias_u", 0, 2),
        ("", "sinks", 0, 1),
    ):
        shape = place.at(joined(attention, module) if module else attention, name)
        if shape is not None and len(shape) == rank:
            found.append(shape[axis])
    return found or _of_t5(place, attention)


def _of_t5(place: Place, attention: str) -> Sequence[int]:
    """T5 has one table a stack, in its first block: those of all blocks agree in their heads."""
    stack = re.sub(r"\.\d+\.", ".0.", attention)
    shape = place.at(joined(stack, "relative_attention_bias"), "weight") if stack != attention else None
    if shape is None and "EncDecAttention" in stack:
        # The decoder's table is in its first attention to itself, which has as many heads.
        stack = stack.replace("EncDecAttention", "SelfAttention")
        shape = place.at(joined(stack, "relative_attention_bias"), "weight")
    return [shape[1]] if shape is not None and len(shape) == 2 else []
