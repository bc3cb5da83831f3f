"""Numbers of a model that the file itself states: hyperparameters beside a state dict, metadata of GGUF files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sdviewer.core.checkpoint import ValueInfo
from sdviewer.core.paths import Step

NAMES: Mapping[str, str] = {
    "num_attention_heads": "heads",
    "attention_heads": "heads",
    "num_heads": "heads",
    "n_heads": "heads",
    "n_head": "heads",
    "nhead": "heads",
    "attention.head_count": "heads",
    "head_dim": "head_size",
    "attention.key_length": "head_size",
}
"""The names under which people keep them: transformers, timm, Meta's Llama, nanoGPT, torch.nn, llama.cpp."""


def stated(values: Sequence[ValueInfo]) -> Mapping[str, int]:
    """`heads` and `head_size` where the file states one number for each; two that differ are none."""
    found: dict[str, set[int]] = {}
    for info in values:
        name = NAMES.get(_name(info.path[-1])) if info.path else None
        if name is not None and type(info.value) is int and info.value > 0:
            found.setdefault(name, set()).add(info.value)
    return {name: numbers.pop() for name, numbers in found.items() if len(numbers) == 1}


def _name(step: Step) -> str:
    name = step if isinstance(step, str) else step.value
    # GGUF puts the architecture before it: llama.attention.head_count
    return name.partition(".")[2] if ".attention." in name else name
