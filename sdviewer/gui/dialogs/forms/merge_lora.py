"""Merge adapters."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "merge_lora",
    "&Merge adapters…",
    "link",
    (
        Entry("scale", "&Scaled by", "decimal", "1"),
        Entry("alpha", "&Alpha", "decimal", "that of the file; without one they are added as they are"),
        Entry("rank", "&Rank", "number", "that of the factors; of LoKr of whole matrices none"),
        Entry("transposed", "&Weights are (in, out), as in GPT-2", "flag"),
    ),
    "Every weight with a LoRA, DoRA, LoHa or LoKr beside it becomes what that makes of it; the adapters go.",
    "weight + B A × alpha / rank → weight",
    group="sizes",
    at_once=True,
    effect="merged",
)
