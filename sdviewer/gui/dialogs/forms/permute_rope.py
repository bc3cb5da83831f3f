"""Put rotary rows into the order of another implementation."""

from __future__ import annotations

from sdviewer.gui.dialogs.forms.form import Entry, Form

FORM = Form(
    "permute_rope",
    "Permute rotar&y rows…",
    "swap",
    (
        Entry("heads", "&Heads", "number", "32; of keys the number of key and value heads"),
        Entry("to", "Rotated &rows", "choice", choices=(("halves", "in two halves"), ("pairs", "as pairs"))),
    ),
    "Of query and key weights and biases. Meta's Llama keeps pairs, transformers halves.",
    "Rows of q_proj and k_proj for rotary positions: pairs ↔ halves",
    group="sizes",
    selected="keys",
    effect="permuted",
)
