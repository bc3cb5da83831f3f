"""The field's own words: what stands for the same thing in checkpoints of different codebases.

Every entry is the usage of some published code; none was made up to please an example.
"""

from __future__ import annotations

from collections.abc import Mapping

WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""Components that wrappers put into keys: DataParallel, torch.compile, FSDP, checkpoint_wrapper, DeepSpeed."""

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

ABBREVIATIONS: Mapping[str, tuple[str, ...]] = {
    "ln": ("layer", "norm"),
    "layernorm": ("layer", "norm"),
    "bn": ("batch", "norm"),
    "batchnorm": ("batch", "norm"),
    "gn": ("group", "norm"),
    "groupnorm": ("group", "norm"),
    "rmsnorm": ("rms", "norm"),
    "resblocks": ("res", "blocks"),
    "resnets": ("res", "blocks"),
    "wq": ("q", "proj"),
    "wk": ("k", "proj"),
    "wv": ("v", "proj"),
    "wo": ("o", "proj"),
    "wte": ("token", "embedding"),
    "wpe": ("position", "embedding"),
}
"""Words that are several."""
