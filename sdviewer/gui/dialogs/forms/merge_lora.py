"""Merge low-rank adapters."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "merge_lora",
    "Merge &LoRA…",
    "link",
    (
        Entry("scale", "&Scaled by", "decimal", "1"),
        Entry("alpha", "&Alpha", "decimal", "that of the file; without one B A as it is"),
        Entry("transposed", "&Weights are (in, out), as in GPT-2", "flag"),
    ),
    "Every weight with lora_A and lora_B, or lora_down and lora_up, beside it becomes their sum; the adapters go.",
    "weight + B A × alpha / rank → weight",
    group="sizes",
    at_once=True,
    effect="merged",
)
