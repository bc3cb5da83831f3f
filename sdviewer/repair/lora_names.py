"""Which keys are the two factors of a low-rank adapter, and which weights they belong to, by the names of trainers.

Names: PEFT `layer.lora_A.default.weight`, kohya `lora_unet_layer.lora_down.weight`, diffusers `layer.lora.down.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

A = re.compile(r"(.*)\.(lora_A(?:\.[^.]+)?|lora_down|lora\.down|lora_linear_layer\.down)\.weight")
"""The factor `(rank, in_features)` of a layer."""

TRAINERS = (
    *("base_model.model.", "lora_unet_", "lora_te1_", "lora_te2_", "lora_te_", "lora_transformer_", "lycoris_"),
    *("unet.", "text_encoder.", "text_encoder_2.", "transformer.", "diffusion_model."),
)
"""What stands before the name of a layer: of a trainer, or of the part of a pipeline that an adapter is for."""


class Adapter(NamedTuple):
    """The keys of one adapter: of its factors `(rank, in_features)` and `(out_features, rank)`, of its alpha or ""."""

    layer: str
    down: str
    up: str
    alpha: str


def adapters(places: Mapping[str, int]) -> Iterator[Adapter]:
    """The adapters of which both factors are there, in the order of the keys."""
    for key in places:
        match = A.fullmatch(key)
        if match is not None:
            layer, name = match.groups()
            other = name.replace("lora_A", "lora_B") if name.startswith("lora_A") else name.replace("down", "up")
            up, alpha = f"{layer}.{other}.weight", f"{layer}.alpha"
            if up in places:
                yield Adapter(layer, key, up, alpha if alpha in places else "")


def more_than_factors(layer: str, places: Mapping[str, int]) -> str:
    """The key that makes an adapter more than the product of two factors, ""."""
    for name in ("lora_mid.weight", "dora_scale", "lora_magnitude_vector", "lora_magnitude_vector.weight"):
        if f"{layer}.{name}" in places:
            return f"{layer}.{name}"
    return next((key for key in places if key.startswith(f"{layer}.lora_magnitude_vector.")), "")


def by_underscores(places: Mapping[str, int]) -> dict[str, list[str]]:
    """The weights by the names of their layers with dots as underscores, as kohya writes them."""
    found: dict[str, list[str]] = {}
    for key in places:
        if key.endswith(".weight") and A.fullmatch(key) is None:
            name = key[: -len(".weight")]
            name = name[: -len(".base_layer")] if name.endswith(".base_layer") else name
            found.setdefault(name.replace(".", "_"), []).append(key)
    return found


def weights_of(layer: str, places: Mapping[str, int], underscored: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The keys of the weights that an adapter's layer can mean: one, or none, or several."""
    names = [layer, *[layer[len(before) :] for before in TRAINERS if layer.startswith(before)]]
    for name in names:
        for end in (".base_layer.weight", ".weight"):
            if name + end in places:
                return (name + end,)
    return next((found for name in names if (found := underscored.get(name.replace(".", "_")))), ())
