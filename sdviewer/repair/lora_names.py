"""Which weights the layers of adapters belong to, by the names of trainers.

Names: PEFT `base_model.model.layer`, kohya `lora_unet_layer` with underscores for dots, diffusers `unet.layer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sdviewer.repair.adapter_kinds import part_of

TRAINERS = (
    *("base_model.model.", "lora_unet_", "lora_te1_", "lora_te2_", "lora_te_", "lora_transformer_", "lycoris_"),
    *("unet.", "text_encoder.", "text_encoder_2.", "transformer.", "diffusion_model."),
)
"""What stands before the name of a layer: of a trainer, or of the part of a pipeline that an adapter is for."""


def by_underscores(places: Mapping[str, int]) -> dict[str, list[str]]:
    """The weights by the names of their layers with dots as underscores, as kohya writes them."""
    found: dict[str, list[str]] = {}
    for key in places:
        if key.endswith(".weight") and part_of(key) is None:
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
