"""How wrappers, trainers and re-parametrizations write keys: recognised on the source, and called by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.patterns import SEARCH, compile_pattern


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to write keys.

    It is there where each pattern of `marks` matches a key and none of `unless` does. `components` are path components
    that it puts into keys and a plain model lacks. `says` is a sentence for people.
    """

    name: str
    says: str
    marks: tuple[str, ...]
    unless: tuple[str, ...] = ()
    components: tuple[str, ...] = ()


class Recognised(NamedTuple):
    """A dialect of a source, and how many keys show it."""

    dialect: Dialect
    n_keys: int


_WILDCARD = re.compile(r"\.?\*\*\.?|\*|\{[^}]*\}")

DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        "torch.compile",
        "torch.compile puts `_orig_mod` before the keys of what it compiled.",
        ("**._orig_mod.**",),
        components=("_orig_mod",),
    ),
    Dialect(
        "averaged model",
        "An averaged model (torch.optim.swa_utils.AveragedModel) puts `module.` before its keys and counts in "
        "n_averaged.",
        ("**.n_averaged", "module.**"),
        components=("module",),
    ),
    Dialect(
        "DataParallel or DDP",
        "DataParallel and DistributedDataParallel put `module.` before the keys of the model.",
        ("**.module.**",),
        ("**.n_averaged",),
        components=("module",),
    ),
    Dialect(
        "activation checkpointing",
        "The activation checkpoint wrapper puts `_checkpoint_wrapped_module` before the keys of what it wraps.",
        ("**._checkpoint_wrapped_module.**",),
        components=("_checkpoint_wrapped_module",),
    ),
    Dialect(
        "FSDP",
        "FullyShardedDataParallel puts `_fsdp_wrapped_module` before the keys of what it wraps.",
        ("**._fsdp_wrapped_module.**",),
        components=("_fsdp_wrapped_module",),
    ),
    Dialect(
        "FSDP, flat parameters",
        "FullyShardedDataParallel has joined the parameters into flat ones: no renaming brings them back. "
        "Save a full state dict from the training program.",
        ("**._flat_param",),
    ),
    Dialect(
        "PEFT",
        "PEFT puts `base_model.model.` before the keys and its adapters beside them.",
        ("base_model.model.**",),
    ),
    Dialect("LoRA", "Low-rank adapters stand beside the weights.", ("**.lora_A.**", "**.lora_B.**")),
    Dialect(
        "Lightning",
        "A LightningModule puts the name of its attribute before the keys of the model.",
        ("model.**",),
        ("model.embed_tokens.**", "model.layers.**", "model.encoder.**", "model.decoder.**"),
    ),
    Dialect(
        "EMA",
        "Copies of the weights that are averaged over the training steps.",
        ("re:^(?:model_ema|ema_model|ema)\\.",),
    ),
    Dialect(
        "old weight norm",
        "torch.nn.utils.weight_norm keeps a weight as weight_g and weight_v.",
        ("**.weight_g", "**.weight_v"),
    ),
    Dialect(
        "new weight norm",
        "torch.nn.utils.parametrizations.weight_norm keeps a weight as original0 and original1.",
        ("**.parametrizations.weight.original0", "**.parametrizations.weight.original1"),
    ),
    Dialect(
        "old spectral norm",
        "torch.nn.utils.spectral_norm keeps a weight as weight_orig, weight_u and weight_v.",
        ("**.weight_orig", "**.weight_u"),
    ),
    Dialect(
        "new spectral norm",
        "torch.nn.utils.parametrizations.spectral_norm keeps a weight as original, with vectors beside it.",
        ("**.parametrizations.weight.original", "**.parametrizations.weight.0._u"),
    ),
    Dialect(
        "pruning",
        "torch.nn.utils.prune keeps a weight as weight_orig and weight_mask.",
        ("**.weight_orig", "**.weight_mask"),
    ),
    Dialect(
        "quantization-aware training",
        "Observers and fake quantizers stand beside the weights; a model of floats lacks them.",
        ("re:\\.(?:weight_fake_quant|activation_post_process)\\.",),
    ),
    Dialect(
        "quantized int8",
        "Weights are packed for int8 inference and do not go into a model of floats.",
        ("**._packed_params**",),
    ),
    Dialect(
        "TF-ported BERT", "Norms have gamma and beta, as in TensorFlow.", ("**.LayerNorm.gamma", "**.LayerNorm.beta")
    ),
    Dialect(
        "timm ViT",
        "These are the names of a vision transformer of timm.",
        ("blocks.{i}.attn.qkv.weight", "patch_embed.proj.weight"),
    ),
    Dialect(
        "torchvision ResNet",
        "These are the names of a ResNet of torchvision (and of timm).",
        ("layer1.0.conv1.weight", "layer4.0.bn1.weight", "conv1.weight"),
    ),
    Dialect(
        "Llama of Meta",
        "These are the names of Meta's own Llama, whose rotary embedding interleaves.",
        ("**.attention.wq.weight", "**.feed_forward.w1.weight"),
    ),
    Dialect(
        "OpenAI CLIP",
        "These are the names of OpenAI's own CLIP.",
        ("visual.transformer.resblocks.{i}.attn.in_proj_weight",),
    ),
    Dialect(
        "latent diffusion",
        "These are the names of the original latent diffusion code (single-file Stable Diffusion).",
        ("**.input_blocks.{i}.{rest...}",),
    ),
    Dialect(
        "latent diffusion VAE",
        "These are the names of the original latent diffusion code's autoencoder.",
        ("**.encoder.down.{i}.block.{j}.{rest...}",),
    ),
    Dialect(
        "transformers",
        "These are the names of a model of transformers.",
        ("re:^(?:model\\.layers|bert\\.encoder\\.layer|vit\\.encoder\\.layer|transformer\\.h)\\.\\d",),
    ),
    Dialect(
        "diffusers",
        "These are the names of a model of diffusers.",
        ("re:^(?:encoder\\.|decoder\\.)?(?:down|up)_blocks\\.\\d+\\.resnets\\.",),
    ),
)
"""The more special first where two share a mark."""


def recognised(table: KeyTable) -> tuple[Recognised, ...]:
    """The dialects that these keys show, in the order of the table."""
    text = "\n".join(table.keys)
    found: list[Recognised] = []
    for dialect in DIALECTS:
        if not all(_shown(mark, table.keys, text) for mark in dialect.marks):
            continue
        if not any(_shown(pattern, table.keys, text) for pattern in dialect.unless):
            found.append(Recognised(dialect, sum(map(compile_pattern(dialect.marks[0]).matches, table.keys))))
    return tuple(found)


def _shown(pattern: str, keys: Sequence[str], text: str) -> bool:
    """Whether a pattern matches one of the keys; `text` is all of them, in which it is quickly seen what is not."""
    if not pattern.startswith(SEARCH) and any(piece not in text for piece in _WILDCARD.split(pattern)):
        return False
    return any(map(compile_pattern(pattern).matches, keys))
