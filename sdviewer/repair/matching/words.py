"""The field's own words: what stands for the same thing in checkpoints of different codebases.

Every entry is the usage of some published code; none was made up to please an example.
"""

from __future__ import annotations

from collections.abc import Mapping

WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""Components that wrappers put into keys: DataParallel, torch.compile, FSDP, checkpoint_wrapper, Lightning Fabric."""

ROLES: Mapping[str, str] = {
    "weight": "weight",
    "gamma": "weight",
    "scale": "weight",
    "kernel": "weight",
    "bias": "bias",
    "beta": "bias",
    "offset": "bias",
    "running_mean": "running_mean",
    "moving_mean": "running_mean",
    "running_var": "running_var",
    "moving_variance": "running_var",
    "num_batches_tracked": "num_batches_tracked",
    "weight_g": "weight_g",
    "weight.original0": "weight_g",
    "weight_v": "weight_v",
    "weight.original1": "weight_v",
}
"""The last component of a key (below `parametrizations` the last two) -> what the tensor is to its module."""

PHRASES: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("ln",): ("norm",),
    ("layernorm",): ("norm",),
    ("layer", "norm"): ("norm",),
    ("bn",): ("norm",),
    ("batchnorm",): ("norm",),
    ("batch", "norm"): ("norm",),
    ("gn",): ("norm",),
    ("groupnorm",): ("norm",),
    ("group", "norm"): ("norm",),
    ("rmsnorm",): ("norm",),
    ("rms", "norm"): ("norm",),
    ("normalization",): ("norm",),
    ("layernorms",): ("norm",),
    ("norms",): ("norm",),
    ("feed", "forward"): ("mlp",),
    ("feedforward",): ("mlp",),
    ("ffn",): ("mlp",),
    ("ff",): ("mlp",),
    ("wq",): ("q", "proj"),
    ("wk",): ("k", "proj"),
    ("wv",): ("v", "proj"),
    ("wo",): ("out", "proj"),
    ("w", "1"): ("gate", "proj"),
    ("w", "2"): ("down", "proj"),
    ("w", "3"): ("up", "proj"),
    ("query",): ("q",),
    ("key",): ("k",),
    ("value",): ("v",),
    ("wte",): ("token", "embed"),
    ("wpe",): ("position", "embed"),
    ("crossattention",): ("cross", "attn"),
    ("cross", "attention"): ("cross", "attn"),
    ("encoder", "attn"): ("cross", "attn"),
    ("encdecattention",): ("cross", "attn"),
    ("enc", "dec", "attention"): ("cross", "attn"),
    ("selfattention",): ("self", "attn"),
    ("wqkv",): ("q", "k", "v"),
    ("qkv",): ("q", "k", "v"),
    ("qkvw",): ("q", "k", "v"),
    ("kv",): ("k", "v"),
    ("resblocks",): ("layer",),
    ("resnets",): ("res", "layer"),
    ("vit",): ("backbone",),
    ("patchifier",): ("patch", "embed"),
    ("first",): ("1",),
    ("second",): ("2",),
    ("third",): ("3",),
}
"""Words that are said otherwise: one for one, and those that are several."""

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("attn", "attention", "mha", "att", "attentions"),
    ("mlp", "intermediate", "mlps"),
    ("out", "output", "o", "outputs"),
    ("proj", "projection", "dense", "linear", "lin", "fc", "projections", "projector"),
    ("embed", "embedding", "embeddings", "emb", "embd", "embeds", "embedder", "embeddings"),
    ("pos", "position", "positional", "positions"),
    ("token", "tok", "word", "tokens", "words"),
    ("h", "blocks", "block", "layers", "layer", "resblock", "stages", "stage"),
    ("head", "classifier", "fc", "heads", "score", "output", "logits", "class", "predictor"),
    ("downsample", "shortcut", "down", "downsampler", "downsamplers", "skip", "reduction"),
    ("conv", "convolution", "convs"),
    ("vision", "visual", "image", "img", "vit"),
    ("text", "language", "lang", "txt", "context"),
    ("model", "backbone", "transformer", "encoder", "net", "trunk", "body"),
    ("mid", "middle", "bottleneck"),
    ("final", "f", "last", "post", "out"),
    ("router", "gate", "gating"),
    ("class", "cls"),
    ("patch", "patches", "stem"),
    ("lm", "language"),
    ("type", "segment", "types"),
    ("lambda", "gamma", "scale", "ls"),
    ("dec", "decoder"),
    ("enc", "encoder"),
    ("relative", "rel"),
    ("temperature", "scale"),
    ("time", "timestep", "t"),
    ("res", "residual"),
    ("depthwise", "dw", "dwconv"),
    ("pointwise", "pw", "pwconv"),
    ("expand", "expansion"),
    ("squeeze", "reduce"),
    ("mixer", "attn"),
    ("modulation", "mod", "ada"),
)
"""Words of one line are used for the same thing."""

ATTENTION: Mapping[str, str] = {"q": "q", "k": "k", "v": "v", "o": "out", "out": "out"}
"""Words for the parts of an attention, not said of the same tensor. (They name networks, too: `encoder_q`.)"""

EXCLUSIVE: tuple[Mapping[str, str], ...] = (
    {"encoder": "encoder", "enc": "encoder", "decoder": "decoder", "dec": "decoder"},
    {
        "vision": "vision", "visual": "vision", "image": "vision", "img": "vision",
        "text": "text", "language": "text", "txt": "text",
        "audio": "audio", "speech": "audio", "video": "video",
    },
    {"gate": "gate", "up": "up", "down": "down"},
    {"cross": "cross", "self": "self"},
    {"mean": "mean", "var": "var"},
    {"cls": "cls", "class": "cls", "mask": "mask", "dist": "dist", "distillation": "dist", "register": "register"},
    {"scale": "scale", "shift": "shift"},
    {"pos": "pos", "position": "pos", "positional": "pos", "token": "token", "tok": "token", "word": "token"},
    {"norm": "norm", "conv": "conv", "convolution": "conv"},
    {"attn": "attn", "attention": "attn", "mlp": "mlp"},
    {"start": "start", "end": "end"},
    {"in": "in", "out": "out"},
    {"row": "row", "col": "col", "column": "col"},
    {"h": "h", "w": "w", "height": "h", "width": "w"},
    {"coarse": "coarse", "fine": "fine"},
    {"student": "student", "teacher": "teacher"},
    {"top": "top", "bottom": "bottom"},
    {"left": "left", "right": "right"},
    {"forward": "forward", "backward": "backward", "reverse": "backward"},
)  # fmt: skip
"""Words of one table that say different things are not said of the same tensor."""

ORDINALS: Mapping[str, float] = {
    "before": 1, "input": 1, "pre": 1, "in": 1, "self": 1, "attn": 1, "attention": 1, "intermediate": 1.5,
    "cross": 2, "mlp": 3, "after": 3, "post": 3, "out": 3, "output": 3, "final": 4, "last": 4,
}  # fmt: skip
"""Where words say that something stands in its block: what is called 1 before what is called 2."""

COMPONENT_ORDINALS: Mapping[str, tuple[str, float]] = {
    "layernorm_before": ("norm", 1), "input_layernorm": ("norm", 1), "self_attn_layer_norm": ("norm", 1),
    "attention_norm": ("norm", 1), "attn_norm": ("norm", 1), "attn_ln": ("norm", 1), "norm_attn": ("norm", 1),
    "pre_attention_layernorm": ("norm", 1), "ln_attn": ("norm", 1), "input_norm": ("norm", 1),
    "sa_layer_norm": ("norm", 1),
    "encoder_attn_layer_norm": ("norm", 2), "cross_attn_layer_norm": ("norm", 2), "cross_attn_ln": ("norm", 2),
    "ln_cross": ("norm", 2), "norm_cross": ("norm", 2), "ln_cross_attn": ("norm", 2),
    "layernorm_after": ("norm", 3), "post_attention_layernorm": ("norm", 3), "ffn_norm": ("norm", 3),
    "final_layer_norm": ("norm", 3), "mlp_layer_norm": ("norm", 3), "pre_mlp_layernorm": ("norm", 3),
    "mlp_norm": ("norm", 3), "ln_mlp": ("norm", 3), "mlp_ln": ("norm", 3), "norm_mlp": ("norm", 3),
    "output_layer_norm": ("norm", 3), "norm_ffn": ("norm", 3), "post_attention_norm": ("norm", 3),
    "pre_feedforward_layernorm": ("norm", 4), "post_feedforward_layernorm": ("norm", 5),
    "c_fc": ("linear", 1), "dense_h_to_4h": ("linear", 1), "fc_in": ("linear", 1), "linear_in": ("linear", 1),
    "c_proj": ("linear", 2), "dense_4h_to_h": ("linear", 2), "fc_out": ("linear", 2), "linear_out": ("linear", 2),
    "intermediate_dense": ("linear", 1), "output_dense": ("linear", 2),
}  # fmt: skip
"""Whole components whose words alone would say it wrongly: of what kind they are, and the place in the block."""

PATH_ORDINALS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("attention", "output", "LayerNorm"), 1),
    (("crossattention", "output", "LayerNorm"), 2),
    (("output", "LayerNorm"), 3),
)
"""How BERT names the norms of a block: by the module that they follow."""

REVERSED: frozenset[tuple[str, str]] = frozenset({("up", "up_blocks"), ("up_blocks", "up")})
"""Lists that two codebases number from opposite ends: the decoder of latent-diffusion's autoencoder and diffusers'."""

MEMBERS: Mapping[str, str] = {
    "q": "q", "k": "k", "v": "v",
    "query": "q", "key": "k", "value": "v",
    "gate": "gate", "up": "up", "w1": "gate", "w3": "up", "gate_proj": "gate", "up_proj": "up",
}  # fmt: skip
"""Words (or whole components) that name one part of what others store fused."""

FUSED: tuple[tuple[str, ...], ...] = (("gate", "q", "k", "v"), ("q", "k", "v"), ("gate", "up"), ("k", "v"))
"""Parts that are stored fused, in the order in which they are."""

FUSED_COMPONENTS = frozenset(
    {"in_proj", "in_proj_weight", "in_proj_bias", "c_attn", "fused_proj", "ff_proj", "wi", "w12", "w13"}
)
"""Components that name what is fused otherwise than by its parts."""

STEMS = frozenset({"proj", "to", "w", "linear", "lin", "projection", "layer", "dense"})
"""Words beside that of a part which tell parts not apart: `to_q`, `k_proj` and `v` can be of one attention."""

TRANSIENT: Mapping[str, str] = {
    "inv_freq": "rotary table, computed again",
    "original_inv_freq": "rotary table, computed again",
    "freqs": "rotary table, computed again",
    "freqs_cis": "rotary table, computed again",
    "rope_freqs": "rotary table, computed again",
    "position_ids": "positions, counted again",
    "relative_position_index": "index table, computed again",
    "relative_coords_table": "coordinate table, computed again",
    "attn_mask": "mask, computed again",
    "causal_mask": "mask, computed again",
    "masked_bias": "mask, computed again",
    "num_batches_tracked": "counter that the target does not keep",
    "n_averaged": "counter of an average",
    "total_ops": "counter of a profiler",
    "total_params": "counter of a profiler",
}
"""Last components of what newer code computes anew and no longer stores."""
